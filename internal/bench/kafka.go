package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/enginetest"
)

// kafkaGroup is what it costs to read and to write topics of Kafka.
func kafkaGroup() group {
	return group{
		name:  "kafka",
		title: "What it costs to move events of Kafka",
		intro: fmt.Sprintf(`Events of 500 bytes in %d partitions, on a broker of Apache Kafka of the same machine, whose CPU is
not counted. The bare loop is the same client library without a pipeline: it polls, produces what it
has polled, waits for all of it and commits, with fetches of 8 MiB at most (the library's own limit is
50 MiB); it is a child process that runs in turn with Weir.
Events lie in the topic before either starts, so that the peak of the memory is that of one with a
lag of all of them. It is the memory of the process without pages of files: those of the program are
shared, and the kernel takes them back. CPU counts from the start of the process; "once started" is
the ratio without what it costs to start either program with nothing to read.`, kafkaPartitions),
		notes: "A broker of Apache Kafka has to be installed: `go run ./internal/testrun` does so.",
		run:   kafkaSections,
	}
}

const kafkaPartitions = 6

// kafkaCase is a config of Weir that moves the events of a topic.
type kafkaCase struct {
	name   string
	events int
	target string // with %s for the brokers, and for the topic
	bare   bool   // beside the bare loop
	aim    string
}

var kafkaCases = []kafkaCase{
	{"kafka to kafka", 500_000, kafkaTarget, true, "<= 1.3"},
	{"kafka to kafka, a lag of a fifth of it", 100_000, kafkaTarget, true, "the same peak"},
	{"kafka to stdout", 500_000, `use "stdout" {
      data_only_output = true
    }`, false, "<= 3 us"},
}

const kafkaTarget = `use "kafka" {
      brokers    = %q
      topic_name = %q
      batching {
        max_batch_messages = 2000
        max_batch_bytes    = 2000000
        max_message_bytes  = 1000000
      }
    }`

func kafkaSections(b *bench) (_ []section, err error) {
	s := section{head: []string{"case", "us CPU/event", "bare loop", "ratio", "once started", "events/s", "peak MB", "of the bare loop", "aim"}}
	ctx := context.Background()
	var broker *enginetest.Running
	for _, e := range enginetest.Engines() {
		if e.Name == "Apache Kafka" {
			if broker, err = e.Start(ctx); err != nil {
				return nil, err
			}
		}
	}
	if broker == nil {
		return nil, errors.New("there is no engine called Apache Kafka")
	}
	defer func() { err = errors.Join(err, broker.Stop()) }()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Address))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	k := kafkaBench{bench: b, brokers: broker.Address, client: client, admin: kadm.NewClient(client)}
	for _, c := range kafkaCases {
		if !b.wanted(c.name) {
			continue
		}
		c.events = b.scaled(c.events)
		row, err := k.measure(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		s.rows = append(s.rows, row)
	}
	return []section{s}, nil
}

type kafkaBench struct {
	*bench
	brokers string
	client  *kgo.Client
	admin   *kadm.Client
	topics  int
}

// topic makes an empty topic.
func (k *kafkaBench) topic(ctx context.Context) (string, error) {
	k.topics++
	name := fmt.Sprintf("bench-%d", k.topics)
	_, err := k.admin.CreateTopic(ctx, kafkaPartitions, 1, nil, name)
	return name, err
}

func (k *kafkaBench) measure(ctx context.Context, c kafkaCase) ([]string, error) {
	from, err := k.topic(ctx)
	if err != nil {
		return nil, err
	}
	if err := k.fill(ctx, from, c.events); err != nil {
		return nil, err
	}
	var ours, bare, start, bareStart []cost
	for range k.rounds {
		if c.bare {
			one, err := child(k.command("kafka", k.self, k.brokers, from, from, "0"), k.dir, os.DevNull)
			if err != nil {
				return nil, err
			}
			bareStart = append(bareStart, one)
			if one, err = child(k.command("", k.weir, "version"), k.dir, os.DevNull); err != nil {
				return nil, err
			}
			start = append(start, one)
			to, err := k.topic(ctx)
			if err != nil {
				return nil, err
			}
			if one, err = child(k.command("kafka", k.self, k.brokers, from, to, strconv.Itoa(c.events)), k.dir, os.DevNull); err != nil {
				return nil, err
			}
			bare = append(bare, one)
		}
		one, err := k.weirs(ctx, c, from)
		if err != nil {
			return nil, err
		}
		ours = append(ours, one)
	}
	o := median(ours, cpuOf)
	row := []string{c.name, fmt.Sprintf("%.2f", o.perEvent(c.events)), "-", "-", "-", fmt.Sprintf("%.0f", float64(c.events)/o.wall.Seconds()), strconv.FormatInt(o.own/1024, 10), "-", c.aim}
	if c.bare {
		l := median(bare, cpuOf)
		row[2], row[3], row[7] = fmt.Sprintf("%.2f", l.perEvent(c.events)), fmt.Sprintf("%.2f", float64(o.cpu)/float64(l.cpu)), strconv.FormatInt(l.own/1024, 10)
		row[4] = fmt.Sprintf("%.2f", float64(o.cpu-median(start, cpuOf).cpu)/float64(l.cpu-median(bareStart, cpuOf).cpu))
	}
	k.say("%s: %.2f us CPU an event, bare loop %s, ratio %s, once started %s, peak %s MB", c.name, o.perEvent(c.events), row[2], row[3], row[4], row[6])
	return row, nil
}

// fill writes n events of 500 bytes.
func (k *kafkaBench) fill(ctx context.Context, topic string, n int) error {
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	wg.Add(n)
	for i := range n {
		text := fmt.Sprintf(`{"event":"page_view","number":%d,"user":"user-%d","text":"`, i, i%1000)
		text += strings.Repeat("x", 500-len(text)-2) + `"}`
		k.client.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte("user-" + strconv.Itoa(i%1000)), Value: []byte(text)}, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
			wg.Done()
		})
	}
	wg.Wait()
	return failed
}

// weirs is what Weir needs for all events of a topic.
func (k *kafkaBench) weirs(ctx context.Context, c kafkaCase, from string) (used cost, err error) {
	target, to := c.target, ""
	if strings.Contains(target, "%q") {
		if to, err = k.topic(ctx); err != nil {
			return cost{}, err
		}
		target = fmt.Sprintf(target, k.brokers, to)
	}
	consumer := "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	work, err := k.fresh(map[string]string{"bench.hcl": fmt.Sprintf(`pipeline "bench" {
  source {
    use "kafka" {
      brokers         = %q
      topic_name      = %q
      consumer_name   = %q
      offsets_initial = -2
      partition_key   = "source"
    }
  }
  target {
    %s
  }
}
`, k.brokers, from, consumer, target)})
	if err != nil {
		return cost{}, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return cost{}, err
	}
	defer func() { err = errors.Join(err, null.Close()) }()
	cmd := k.command("", k.weir, "run", "--no-progress", "bench.hcl")
	var stderr output
	cmd.Dir, cmd.Stdout, cmd.Stderr = work, null, &stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return cost{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	peak := watchPeak(cmd.Process.Pid)
	if err := k.moved(ctx, consumer+"-"+from, c.events, ended); err != nil {
		peak()
		return cost{}, errors.Join(fmt.Errorf("%w: %s", err, stderr.String()), cmd.Process.Kill())
	}
	wall := time.Since(begin)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		peak()
		return cost{}, err
	}
	err = <-ended
	most, own := peak()
	used = cost{cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall, most, own}
	if err != nil {
		return cost{}, fmt.Errorf("%w: %s", err, stderr.String())
	}
	if to != "" {
		ends, err := k.admin.ListEndOffsets(ctx, to)
		if err != nil {
			return cost{}, err
		}
		if n := sumOf(ends); n != int64(c.events) {
			return cost{}, fmt.Errorf("%d events have arrived, not %d", n, c.events)
		}
	}
	return used, nil
}

func sumOf(offsets kadm.ListedOffsets) (n int64) {
	offsets.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// moved waits until a group has committed n events.
func (k *kafkaBench) moved(ctx context.Context, of string, n int, ended <-chan error) error {
	tick, end := time.NewTicker(50*time.Millisecond), time.After(10*time.Minute)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("weir has ended: %w", err)
		case <-end:
			return errors.New("the events are not moved after ten minutes")
		case <-tick.C:
		}
		offsets, err := k.admin.FetchOffsets(ctx, of)
		if err != nil {
			continue // nobody has joined it yet
		}
		sum := int64(0)
		offsets.Each(func(o kadm.OffsetResponse) { sum += max(o.At, 0) })
		if sum == int64(n) {
			return nil
		}
	}
}

// bareKafka is a child that does what Weir does between two topics, with nothing between: it
// is told the brokers, the topics and how many events there are.
func bareKafka(args []string) (err error) {
	ctx := context.Background()
	brokers, from, to := args[0], args[1], args[2]
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumerGroup("bare-"+to), kgo.ConsumeTopics(from), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(8<<20),
		kgo.DefaultProduceTopic(to), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for n > 0 {
		f := cl.PollRecords(ctx, 2000)
		if err := f.Err(); err != nil {
			return err
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var failed error
		done := func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
			wg.Done()
		}
		f.EachRecord(func(r *kgo.Record) {
			wg.Add(1)
			n--
			cl.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}, done)
		})
		wg.Wait()
		if failed != nil {
			return failed
		}
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
	}
	return nil
}
