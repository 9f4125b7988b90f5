package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/enginetest"
)

// kinesisGroup is what an event costs from a Kinesis stream into another.
func kinesisGroup() group {
	return group{
		name:  "kinesis",
		title: "Kinesis to Kinesis",
		intro: `Events of 500 bytes wait in four shards, and are read and written into a stream of as many,
by Weir and by the limit in turn. CPU is user plus system time of the process, of Weir from the
moment at which it begins to take leases; the engine (kinesalite, with dynalite for the leases) is
not counted. The limit is
a loop over the same SDK: GetRecords of 10,000, PutRecords of 500 with the partition keys as they
came, a goroutine for each shard, nothing between and nothing kept.`,
		notes: `Both spend most of it in the SDK: JSON, base64 and signatures. Memory is the peak without pages of
files, such as the program's own; the size of an answer of GetRecords decides it, and not how much waits. With few events what is done once,
and the leases' renewals while the engine is slow, count for more.`,
		run: kinesisSections,
	}
}

const (
	kinesisShards = 4
	kinesisBatch  = 500
	kinesisRegion = "eu-central-1"
)

func kinesisSections(b *bench) ([]section, error) {
	s := section{head: []string{"case", "us CPU/event", "limit", "ratio", "peak MB", "limit, peak MB", "aim"}}
	for _, c := range []struct {
		name   string
		events int
		writes bool
		aim    string
	}{
		{"kinesis to kinesis, 100,000 wait", 100_000, true, "1.3 times"},
		{"kinesis to silent, 100,000 wait", 100_000, false, "-"},
		{"kinesis to silent, 25,000 wait", 25_000, false, "-"},
	} {
		if !b.wanted(c.name) {
			continue
		}
		events := b.scaled(c.events) / kinesisBatch * kinesisBatch
		ours, limit, err := b.kinesis(events, c.writes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		ratio := float64(ours.cpu) / float64(limit.cpu)
		b.say("%s: %.2f us CPU an event, %.2f times the limit", c.name, ours.perEvent(events), ratio)
		s.rows = append(s.rows, []string{
			c.name, fmt.Sprintf("%.2f", ours.perEvent(events)), fmt.Sprintf("%.2f", limit.perEvent(events)), fmt.Sprintf("%.2f", ratio),
			strconv.FormatInt(ours.own/1024, 10), strconv.FormatInt(limit.own/1024, 10), c.aim,
		})
	}
	return []section{s}, nil
}

// engines starts those of these names.
func engines(ctx context.Context, names ...string) (addresses []string, stop func() error, err error) {
	var running []*enginetest.Running
	stop = func() error {
		var all error
		for _, r := range running {
			all = errors.Join(all, r.Stop())
		}
		return all
	}
	for _, name := range names {
		all := enginetest.Engines()
		i := slices.IndexFunc(all, func(e enginetest.Engine) bool { return e.Name == name })
		if i < 0 {
			return nil, stop, fmt.Errorf("there is no engine %s", name)
		}
		r, err := all[i].Start(ctx)
		if errors.Is(err, enginetest.ErrMissing) {
			if err = all[i].Install(ctx, os.Stderr); err == nil {
				r, err = all[i].Start(ctx)
			}
		}
		if err != nil {
			return nil, stop, fmt.Errorf("start %s: %w", name, err)
		}
		running, addresses = append(running, r), append(addresses, r.Address)
	}
	return addresses, stop, nil
}

func kinesisClient(endpoint string) *kinesis.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * kinesisShards}
	return kinesis.New(kinesis.Options{
		Region: kinesisRegion, BaseEndpoint: &endpoint, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("bench", "bench", ""),
	})
}

// kinesis measures one case.
func (b *bench) kinesis(events int, writes bool) (ours, limit cost, err error) {
	ctx := context.Background()
	at, stop, err := engines(ctx, "kinesalite", "dynalite")
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return ours, limit, err
	}
	client := kinesisClient(at[0])
	if err := fill(ctx, client, "from", events); err != nil {
		return ours, limit, err
	}
	var all, limits []cost
	for round := range b.rounds {
		to := [2]string{}
		for i, who := range []string{"limit", "weir"} {
			if to[i] = ""; writes {
				to[i] = fmt.Sprintf("to-%s-%d", who, round)
				if err := makeStream(ctx, client, to[i]); err != nil {
					return ours, limit, err
				}
			}
		}
		l, err := child(b.command("consume", b.self, at[0], "from", strconv.Itoa(events), to[0]), b.dir, os.DevNull)
		if err != nil {
			return ours, limit, err
		}
		w, err := b.replicate(at[0], at[1], to[1], round, events)
		if err != nil {
			return ours, limit, err
		}
		all, limits = append(all, w), append(limits, l)
		for _, name := range to {
			if name != "" {
				if _, err := client.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &name}); err != nil {
					return ours, limit, err
				}
			}
		}
	}
	return median(all, cpuOf), median(limits, cpuOf), nil
}

func makeStream(ctx context.Context, client *kinesis.Client, name string) error {
	if _, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: sdk.Int32(kinesisShards)}); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		out, err := client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		if err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("stream %s is not active: %w", name, err)
		}
	}
}

// fill makes a stream of so many events.
func fill(ctx context.Context, client *kinesis.Client, name string, events int) error {
	if err := makeStream(ctx, client, name); err != nil {
		return err
	}
	for n := 0; n < events; {
		entries := make([]types.PutRecordsRequestEntry, kinesisBatch)
		for i := range entries {
			data := []byte(eventText)
			entries[i] = types.PutRecordsRequestEntry{Data: data[:500], PartitionKey: sdk.String(fmt.Sprint("user-", (n+i)%users))}
		}
		if err := putAll(ctx, client, name, entries); err != nil {
			return err
		}
		n += len(entries)
	}
	return nil
}

func putAll(ctx context.Context, client *kinesis.Client, name string, entries []types.PutRecordsRequestEntry) error {
	out, err := client.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &name, Records: entries})
	if err != nil {
		return err
	}
	if n := sdk.ToInt32(out.FailedRecordCount); n > 0 {
		return fmt.Errorf("%d records of stream %s failed", n, name)
	}
	return nil
}

// replicate is what Weir uses until it has written every event.
func (b *bench) replicate(endpoint, tables, to string, round, events int) (used cost, err error) {
	admin, err := freeAddress()
	if err != nil {
		return used, err
	}
	target := "silent\" {"
	if to != "" {
		target = fmt.Sprintf("kinesis\" {\n    stream_name = %q\n    region = %q\n    custom_aws_endpoint = %q", to, kinesisRegion, endpoint)
	}
	config := fmt.Sprintf(`admin {
  address = %q
}
source {
  use "kinesis" {
    stream_name = "from"
    region = %q
    app_name = "bench-%d"
    custom_aws_endpoint = %q
    custom_dynamodb_endpoint = %q
    leases = "dynamodb"
    partition_key = "source"
  }
}
target {
  use "%s
  }
}
`, admin, kinesisRegion, time.Now().UnixNano()+int64(round), endpoint, tables, target)
	work, err := b.fresh(map[string]string{"bench.hcl": config})
	if err != nil {
		return used, err
	}
	c := b.command("", b.weir, "run", "--no-progress", "bench.hcl")
	c.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_EC2_METADATA_DISABLED=true")
	s, err := serve(c, work)
	if err != nil {
		return used, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.listening(admin); err != nil {
		return used, err
	}
	profiled := b.profiled("kinesis", admin)
	peak := watchPeak(s.cmd.Process.Pid)
	var o outcome
	err = b.window(s, &o, func() error {
		for end := time.Now().Add(10 * time.Minute); ; <-time.After(time.Second) { // asking costs what is measured
			n, err := written(admin)
			if err != nil || n >= events {
				return err
			}
			if time.Now().After(end) {
				return fmt.Errorf("%d of %d events are written", n, events)
			}
		}
	})
	_, o.own = peak()
	return o.cost, errors.Join(err, profiled())
}

// written is how many messages a target has taken.
func written(admin string) (int, error) {
	ask, err := http.NewRequest(http.MethodGet, "http://"+admin+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	ask.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(ask)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "weir_written_messages_total{") && strings.Contains(line, `role="target"`) {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.IndexByte(line, '}')+1:]), 64)
			return int(v), err
		}
	}
	return 0, nil
}

// consume is the limit: it reads so many records, and writes them where there is a stream.
func consume(args []string) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	c := bareConsumer{client: kinesisClient(args[0]), from: args[1], to: args[3]}
	c.left.Store(int64(n))
	listed, err := c.client.ListShards(context.Background(), &kinesis.ListShardsInput{StreamName: &c.from})
	if err != nil {
		return err
	}
	errs := make([]error, len(listed.Shards))
	var busy sync.WaitGroup
	for i := range listed.Shards {
		busy.Go(func() { errs[i] = c.shard(*listed.Shards[i].ShardId) })
	}
	busy.Wait()
	return errors.Join(errs...)
}

type bareConsumer struct {
	client   *kinesis.Client
	from, to string
	left     atomic.Int64
}

func (c *bareConsumer) shard(id string) error {
	ctx := context.Background()
	found, err := c.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: &c.from, ShardId: &id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	if err != nil {
		return err
	}
	for iterator := found.ShardIterator; c.left.Load() > 0; {
		out, err := c.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator})
		if err != nil {
			return err
		}
		if c.to != "" {
			for some := range slices.Chunk(out.Records, kinesisBatch) {
				entries := make([]types.PutRecordsRequestEntry, len(some))
				for i, r := range some {
					entries[i] = types.PutRecordsRequestEntry{Data: r.Data, PartitionKey: r.PartitionKey}
				}
				if err := putAll(ctx, c.client, c.to, entries); err != nil {
					return err
				}
			}
		}
		if c.left.Add(-int64(len(out.Records))) > 0 {
			<-time.After(250 * time.Millisecond)
		}
		iterator = out.NextShardIterator
	}
	return nil
}
