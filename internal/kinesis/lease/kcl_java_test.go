//go:build unix

package lease

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/enginetest"
)

// flow is a stream in a Kinesis, and how often each of its records was read.
type flow struct {
	*kinesis.Client
	t    *testing.T
	name string
	mu   sync.Mutex
	put  int
	read map[string]int
}

func newFlow(t *testing.T, endpoint string, shards int32) *flow {
	t.Helper()
	f := &flow{t: t, name: newName(t), read: map[string]int{}, Client: kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})}
	if _, err := f.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &f.name, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	f.active()
	return f
}

func (f *flow) active() {
	f.t.Helper()
	until(f.t, "the stream is active", func() bool {
		out, err := f.DescribeStreamSummary(f.t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &f.name})
		return err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
	})
}

// Shards implements [Stream].
func (f *flow) Shards(ctx context.Context, _ time.Time) ([]Shard, error) {
	out, err := f.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &f.name})
	if err != nil {
		return nil, err
	}
	var list []Shard
	for _, s := range out.Shards {
		shard := Shard{
			ID: *s.ShardId, Range: HashRange{From: *s.HashKeyRange.StartingHashKey, To: *s.HashKeyRange.EndingHashKey},
			First: *s.SequenceNumberRange.StartingSequenceNumber, Closed: s.SequenceNumberRange.EndingSequenceNumber != nil,
		}
		for _, p := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
			if p != nil {
				shard.Parents = append(shard.Parents, *p)
			}
		}
		list = append(list, shard)
	}
	return list, nil
}

// pour puts n records, spread over the shards, and waits until all that were put were read.
func (f *flow) pour(n int) {
	f.t.Helper()
	for range n {
		f.mu.Lock()
		f.put++
		data := fmt.Sprintf("r%d", f.put)
		f.read[data] += 0
		f.mu.Unlock()
		_, err := f.PutRecord(f.t.Context(), &kinesis.PutRecordInput{StreamName: &f.name, Data: []byte(data), PartitionKey: &data})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	until(f.t, "all records were read", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, n := range f.read {
			if n == 0 {
				return false
			}
		}
		return true
	})
}

func (f *flow) got(data string) {
	f.mu.Lock()
	f.read[data]++
	f.mu.Unlock()
}

// consume reads what a coordinator is given, until ctx ends.
func (f *flow) consume(ctx context.Context, c *Coordinator, all *sync.WaitGroup) {
	for {
		l, err := c.Next(ctx)
		if err != nil {
			return
		}
		all.Go(func() {
			if err := f.shard(ctx, l); err != nil && ctx.Err() == nil {
				f.t.Errorf("read %s: %v", l.Shard().ID, err)
			}
		})
	}
}

func (f *flow) shard(ctx context.Context, l *Lease) error {
	id, p := l.Shard().ID, l.Position()
	in := &kinesis.GetShardIteratorInput{StreamName: &f.name, ShardId: &id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if p.IsRecord() {
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &p.Sequence
	}
	first, err := f.GetShardIterator(ctx, in)
	if err != nil {
		return err
	}
	for at := first.ShardIterator; ; {
		out, err := f.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: at})
		if err != nil {
			return err
		}
		if !l.Held() {
			return nil
		}
		for _, r := range out.Records {
			f.got(string(r.Data))
		}
		if n := len(out.Records); n > 0 {
			if err := l.Save(ctx, Position{Sequence: *out.Records[n-1].SequenceNumber}); errors.Is(err, ErrLost) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if at = out.NextShardIterator; at == nil {
			if err := l.Finish(ctx, nil); !errors.Is(err, ErrLost) {
				return err
			}
			return nil
		}
		select {
		case <-l.Lost():
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// java is a running worker of the library.
type java struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	held map[string]bool
}

func (f *flow) java(classes, kinesisAt, dynamoAt, app, worker string, failover time.Duration) *java {
	f.t.Helper()
	j := &java{done: make(chan struct{}), held: map[string]bool{}}
	j.cmd = exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classes,
		"testdata/Worker.java", kinesisAt, dynamoAt, f.name, app, worker, fmt.Sprint(failover.Milliseconds()))
	errs := &syncBuffer{}
	j.cmd.Stderr = errs
	out, err := j.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := j.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		defer close(j.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			words := strings.Split(lines.Text(), " ")
			j.mu.Lock()
			switch words[0] {
			case "hold":
				j.held[words[1]] = true
			case "lost":
				delete(j.held, words[1])
			case "read":
				f.got(words[2])
			}
			j.mu.Unlock()
		}
	}()
	f.t.Cleanup(func() {
		j.kill()
		if f.t.Failed() {
			f.t.Logf("%s said %s", worker, errs)
		}
	})
	return j
}

func (j *java) kill() {
	_ = j.cmd.Process.Signal(syscall.SIGKILL)
	<-j.done
	_ = j.cmd.Wait()
}

func (j *java) holds() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.held)
}

// TestBesideTheLibrary: a worker of Amazon's own library in Java and ours on one table. Ours takes
// its share and, when it is killed, all of it, from where it was; it takes its share from ours and,
// when ours stops, all of it; a shard is split while both read. Every record is read.
func TestBesideTheLibrary(t *testing.T) {
	if os.Getenv("WEIR_TEST_KCL") == "" && !enginetest.InCI() {
		t.Skip("takes a minute: runs with CI=true, and where the test runner sets WEIR_TEST_KCL")
	}
	t.Parallel()
	classes, kinesisAt, dynamo := enginetest.KinesisClientLibrary(t), enginetest.KinesisLocal(t), enginetest.DynamoDB(t)
	const failover = 4 * time.Second // of the library, which renews three times in it
	f := newFlow(t, kinesisAt, 4)
	app := newName(t)
	first := f.java(classes, kinesisAt, dynamo, app, "java-1", failover)
	until(t, "the library has every shard", func() bool { return first.holds() == 4 })
	f.pour(40)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	k := NewKCL(dynamoAt(dynamo), KCLOptions{Name: app})
	c, err := New(Settings{Table: k, Stream: f, Name: "ours", Start: Start{Position: TrimHorizon}, Failover: failover, ForeignFailover: failover, Scan: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Open(ctx); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { f.consume(ctx, c, &readers) })
	until(t, "both have two", func() bool { return len(c.Held()) == 2 && first.holds() == 2 })
	f.pour(40)
	f.mu.Lock()
	repeated := 0
	for _, n := range f.read {
		repeated += n - 1
	}
	f.mu.Unlock()
	t.Logf("%d records were read again so far", repeated)

	first.kill()
	began := time.Now()
	until(t, "ours has every shard of one that was killed", func() bool { return len(c.Held()) == 4 })
	t.Logf("taken over %s after kill -9", time.Since(began).Round(100*time.Millisecond))
	f.pour(40)

	second := f.java(classes, kinesisAt, dynamo, app, "java-2", failover)
	until(t, "the library has taken two of ours", func() bool { return len(c.Held()) == 2 && second.holds() == 2 })
	f.pour(40)
	shards, err := f.Shards(ctx, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	split := shards[slices.IndexFunc(shards, func(s Shard) bool { return slices.Contains(c.Held(), s.ID) })]
	if _, err := f.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: &f.name, ShardToSplit: &split.ID, NewStartingHashKey: aws.String(middle(split.Range))}); err != nil {
		t.Fatal(err)
	}
	f.active()
	until(t, "the children are read", func() bool { return len(c.Held())+second.holds() == 5 })
	f.pour(40)

	stop()
	readers.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	until(t, "the library has every shard of ours, which has stopped", func() bool { return second.holds() == 5 })
	f.pour(40)
	rows, err := k.Scan(t.Context(), true)
	if err != nil || len(rows.Broken) > 0 {
		t.Fatalf("the table has %+v (%v)", rows, err)
	}
	for _, r := range rows.Rows {
		if r.Shard == split.ID && (!r.Ended() || len(r.Children) != 2) {
			t.Errorf("the shard that was split is %+v", r)
		}
		if slices.Contains(r.Parents, split.ID) && (r.Position == Latest || r.Range == (HashRange{})) {
			t.Errorf("a child is %+v", r)
		}
	}
}
