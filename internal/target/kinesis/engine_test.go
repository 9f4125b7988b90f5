package kinesistarget

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/retry"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var streams atomic.Int64

// world is a stream of its own on an engine, with a client of the official SDK.
type world struct {
	endpoint, stream string
	client           *kinesis.Client
}

func newWorld(t *testing.T, endpoint string, shards int32) *world {
	t.Helper()
	cfg, err := aws.Load(t.Context(), aws.Access{Region: "us-east-1", Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { aws.Close(cfg) })
	w := &world{endpoint: endpoint, client: kinesis.NewFromConfig(cfg)}
	w.stream = w.create(t, shards)
	return w
}

func (w *world) create(t *testing.T, shards int32) string {
	t.Helper()
	name := fmt.Sprintf("target-%d-%d", time.Now().UnixNano(), streams.Add(1))
	if _, err := w.client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	w.active(t, name)
	return name
}

func (w *world) active(t *testing.T, name string) {
	t.Helper()
	for {
		d, err := w.client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if d.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stored is a record as the engine has it.
type stored struct {
	types.Record
	shard string
}

// read is all records of a stream, by shard and in its order.
func (w *world) read(t *testing.T, name string) []stored {
	t.Helper()
	list, err := w.client.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &name})
	if err != nil {
		t.Fatal(err)
	}
	var all []stored
	for _, s := range list.Shards {
		it, err := w.client.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: &name, ShardId: s.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		if err != nil {
			t.Fatal(err)
		}
		for next, empty := it.ShardIterator, 0; next != nil && empty < 2; {
			out, err := w.client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				t.Fatal(err)
			}
			if empty++; len(out.Records) > 0 {
				empty = 0
			}
			for _, r := range out.Records {
				all = append(all, stored{r, *s.ShardId})
			}
			next = out.NextShardIterator
		}
	}
	return all
}

func (w *world) payloads(t *testing.T) [][]byte {
	t.Helper()
	var out [][]byte
	for _, r := range w.read(t, w.stream) {
		out = append(out, r.Data)
	}
	return out
}

// target is one that writes to the world's stream through endpoint, not opened.
func (w *world) target(t *testing.T, endpoint string, change func(*Config)) *Target {
	t.Helper()
	c := defaults()
	c.StreamName, c.Region, c.CustomAWSEndpoint = w.stream, "us-east-1", endpoint
	if change != nil {
		change(&c)
	}
	k, err := New(t.Context(), connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) open(t *testing.T, endpoint string, change func(*Config)) *Target {
	t.Helper()
	k := w.target(t, endpoint, change)
	if err := k.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close(context.Background()) })
	return k
}

func engines(t *testing.T, f func(t *testing.T, endpoint string)) {
	t.Run("kinesalite", func(t *testing.T) { f(t, enginetest.Kinesalite(t)) })
	t.Run("kinesis-local", func(t *testing.T) { f(t, enginetest.KinesisLocal(t)) })
}

func TestConformance(t *testing.T) {
	engines(t, func(t *testing.T, endpoint string) {
		light := func(*Config) {}
		if endpoint == enginetest.KinesisLocal(t) { // which takes a second for what others do at once
			light = func(c *Config) { c.Batching.MaxConcurrentBatches, c.Batching.MaxMessageBytes = 2, 256<<10 }
		}
		conntest.Target(t, conntest.TargetCase{
			Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
				w := newWorld(t, endpoint, 2)
				return func() connector.Target { return w.target(t, endpoint, light) }, func() [][]byte { return w.payloads(t) }
			},
			Broken: func(t *testing.T) connector.Target {
				w := newWorld(t, endpoint, 1)
				return w.target(t, endpoint, func(c *Config) { c.StreamName = "nobody-made-this" })
			},
			Want: fault.Setup,
			Stuck: func(t *testing.T) connector.Target {
				w := newWorld(t, endpoint, 1)
				p := faultproxy.NewAWS(t, endpoint)
				p.On("PutRecords", faultproxy.Always(faultproxy.Frozen))
				return w.target(t, p.URL, nil)
			},
			Features: conntest.TargetFeatures{Binary: true, Empty: true},
		})
	})
}

// messages are n messages with the given number of keys.
func messages(n, keys int) event.Batch {
	b := make(event.Batch, n)
	for i := range b {
		b[i] = event.New([]byte(strconv.Itoa(i)))
		b[i].Key = "key " + strconv.Itoa(i%keys)
	}
	return b
}

// quick is a policy that tries often and for a long time.
func quick() retry.Policy {
	c := retry.Class{Delay: 5 * time.Millisecond, MaxDelay: 20 * time.Millisecond}
	return retry.Policy{Transient: c, Throttle: c, Setup: c}
}

// deliver writes b as the engine does, in batches.
func deliver(t *testing.T, k connector.Target, p retry.Policy, b event.Batch, size int) {
	t.Helper()
	write := p.Middleware()(k.Write)
	for i := 0; i < len(b); i += size {
		if err := write(t.Context(), b[i:min(i+size, len(b))]); err != nil {
			t.Fatal(err)
		}
	}
}

func counts(es []faultproxy.Entry) map[string]int {
	n := map[string]int{}
	for _, e := range es {
		n[string(e.Data)]++
	}
	return n
}

// noise is a number that looks random and is the same for the same input.
func noise(parts ...int) uint32 {
	h := uint32(2166136261)
	for _, p := range parts {
		h = (h ^ uint32(p)) * 16777619
	}
	return h ^ h>>13
}

// TestPartialFailures (P1, P2): what failed is sent again until it is taken, what was taken never.
func TestPartialFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 4)
	p := faultproxy.NewAWS(t, w.endpoint)
	p.On("PutRecords", faultproxy.Always(faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
		switch noise(e.Call, e.Index) % 4 {
		case 0:
			return faultproxy.TooMuch
		case 1:
			return &faultproxy.EntryError{Code: "InternalFailure", Message: "Internal service failure."}
		}
		return nil
	})))
	k := w.open(t, p.URL, nil)
	deliver(t, k, quick(), messages(600, 100), 200)
	n := counts(p.Accepted())
	for i := range 600 {
		if n[strconv.Itoa(i)] != 1 {
			t.Errorf("message %d was taken %d times", i, n[strconv.Itoa(i)])
		}
	}
	if got := len(w.payloads(t)); got != 600 {
		t.Errorf("the stream has %d records", got)
	}
}

// TestOrderByKey (P3): per key, sequence numbers are in the order of the messages, whatever fails.
func TestOrderByKey(t *testing.T) {
	t.Parallel()
	for _, aggregated := range []bool{false, true} {
		t.Run(fmt.Sprint("aggregate ", aggregated), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, enginetest.Kinesalite(t), 3)
			p := faultproxy.NewAWS(t, w.endpoint)
			p.On("PutRecords", func(c *faultproxy.Call) faultproxy.Action {
				if noise(c.N)%7 == 0 {
					return faultproxy.Cut
				}
				return faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
					switch noise(e.Call, e.Index) % 5 {
					case 0:
						return faultproxy.TooMuch
					case 1:
						return &faultproxy.EntryError{Code: "InternalFailure", Message: "Internal service failure."}
					}
					return nil
				})
			})
			k := w.open(t, p.URL, func(c *Config) {
				c.Aggregate, c.AggregateMaxBytes = aggregated, 1024
			})
			k.ordered = true
			deliver(t, k, quick(), messages(200, 23), 50)
			last, total := map[string]int{}, 0
			for _, r := range w.read(t, w.stream) {
				for _, user := range users(r) {
					n, err := strconv.Atoi(string(user.Data))
					if err != nil {
						t.Fatal(err)
					}
					if before, has := last[user.Key]; has && before >= n {
						t.Errorf("%s has %d after %d", user.Key, n, before)
					}
					last[user.Key] = n
					total++
				}
			}
			if total != 200 {
				t.Errorf("the stream has %d messages", total)
			}
		})
	}
}

// TestLostAnswers: an answer that is lost leaves nothing out, and twice at most what it was about.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 2)
	p := faultproxy.NewAWS(t, w.endpoint)
	p.On("PutRecords", faultproxy.Times(1, faultproxy.Lost))
	p.On("PutRecords", func(c *faultproxy.Call) faultproxy.Action {
		if c.N == 4 {
			return faultproxy.Lost
		}
		return nil
	})
	k := w.open(t, p.URL, nil)
	err := k.Write(t.Context(), messages(1, 1))
	if err == nil || fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), "may have been taken") {
		t.Errorf("a lost answer: %v", err)
	}
	deliver(t, k, quick(), messages(300, 10), 100)
	n, twice := counts(p.Accepted()), 0
	for i := range 300 {
		if n[strconv.Itoa(i)] == 0 {
			t.Errorf("message %d is lost", i)
		}
		twice += n[strconv.Itoa(i)] - 1
	}
	if twice != 101 {
		t.Errorf("%d messages are there twice, with lost answers about 101", twice)
	}
}

// TestHotShard (P4) is in pipeline_test.go: it is the engine's and the target's together.

// TestSizes (P5): the key counts; a record of exactly what the stream takes is taken, and one
// byte more is invalid, alone: whether the target knows the limit or learns it from the answer.
func TestSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	p := faultproxy.NewAWS(t, w.endpoint)
	p.Check(faultproxy.KinesisSizes)
	for _, most := range []int{1 << 20, 10 << 20} {
		k := w.open(t, p.URL, func(c *Config) { c.Batching.MaxMessageBytes, c.Batching.MaxBatchBytes = most, most })
		key := strings.Repeat("ü", 128) // counts in bytes
		b := messages(4, 2)
		b[1].Replace(make([]byte, 1<<20-len(key)))
		b[1].Key = key
		b[2].Replace(make([]byte, 1<<20-len(key)+1))
		b[2].Key = key
		if size := k.Limits().Size(b[1]); size != 1<<20 {
			t.Errorf("the record counts %d", size)
		}
		before := len(p.Accepted())
		err := k.Write(t.Context(), b)
		var partial *connector.Partial
		if !errors.As(err, &partial) || len(partial.Failed) != 1 || fault.Of(partial.Failed[2]) != fault.Invalid {
			t.Errorf("with max_message_bytes %d: %v", most, err)
		}
		if n := len(p.Accepted()) - before; n != 3 {
			t.Errorf("%d records were taken", n)
		}
	}
}

// TestRequestSizes: a batch may be larger than a request.
func TestRequestSizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	p := faultproxy.NewAWS(t, w.endpoint)
	p.Check(faultproxy.KinesisSizes)
	k := w.open(t, p.URL, nil)
	if err := k.Write(t.Context(), messages(1201, 1201)); err != nil {
		t.Error(err)
	}
	if n := p.Calls("PutRecords"); n != 3 || len(p.Accepted()) != 1201 {
		t.Errorf("%d records in %d requests", len(p.Accepted()), n)
	}
	p.Check(faultproxy.Sizes{Record: 1 << 20, Request: 1 << 20, Records: 500}) // an older stand-in takes less
	b := messages(8, 8)
	for _, m := range b {
		m.Replace(make([]byte, 300<<10))
	}
	if err := k.Write(t.Context(), b); err != nil || len(p.Accepted()) != 1209 {
		t.Errorf("%d records: %v", len(p.Accepted()), err)
	}
}

// TestInvalid: a message that Kinesis would never take fails alone, and without a request.
func TestInvalid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	k := w.open(t, w.endpoint, func(c *Config) { c.ExplicitHashKeyHeader = "x-hash" })
	b := messages(6, 6)
	b[1].Key = strings.Repeat("k", 257)
	b[2].Key = "\xff\xfe"
	b[3].SetHeader("X-Hash", "340282366920938463463374607431768211456")
	b[4].SetHeader("x-hash", "340282366920938463463374607431768211455")
	b[5].SetHeader("x-hash", "-1")
	err := k.Write(t.Context(), b)
	var partial *connector.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 4 {
		t.Fatal(err)
	}
	for i, e := range partial.Failed {
		if fault.Of(e) != fault.Invalid || i == 0 || i == 4 || strings.Contains(fault.DetailOf(e).Safe, "34028") {
			t.Errorf("message %d: %v", i, e)
		}
	}
	if n := len(w.payloads(t)); n != 2 {
		t.Errorf("the stream has %d records", n)
	}
}

// TestWhere: the partition key decides about the shard, an explicit hash key before it, and a
// header about the stream.
func TestWhere(t *testing.T) {
	engines(t, func(t *testing.T, endpoint string) {
		w := newWorld(t, endpoint, 2)
		other := w.create(t, 1)
		k := w.open(t, endpoint, func(c *Config) { c.ExplicitHashKeyHeader, c.StreamHeader = "x-hash", "x-stream" })
		b := messages(6, 1)
		for _, m := range b[2:4] {
			m.SetHeader("x-hash", "340282366920938463463374607431768211455")
		}
		b[4].SetHeader("x-hash", "0")
		b[5].SetHeader("x-stream", other)
		if g := k.Limits().Group; g(b[0]) != w.stream || g(b[5]) != other {
			t.Errorf("groups %q and %q", g(b[0]), g(b[5]))
		}
		if err := k.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		where := map[string]string{}
		for _, r := range w.read(t, w.stream) {
			where[string(r.Data)] = r.shard
			if *r.PartitionKey != "key 0" {
				t.Errorf("%s has the key %s", r.Data, *r.PartitionKey)
			}
		}
		if len(where) != 5 || where["0"] != where["1"] || where["2"] != where["3"] || where["2"] == where["4"] {
			t.Errorf("records are in %v", where)
		}
		if rs := w.read(t, other); len(rs) != 1 || string(rs[0].Data) != "5" {
			t.Errorf("the other stream has %d records", len(rs))
		}
		none := messages(3, 1)
		none[1].SetHeader("x-stream", "nobody-made-this")
		none[2].SetHeader("x-stream", "no name!")
		var partial *connector.Partial
		if err := k.Write(t.Context(), none); !errors.As(err, &partial) || len(partial.Failed) != 2 || fault.Of(partial.Failed[1]) != fault.Invalid || fault.Of(partial.Failed[2]) != fault.Invalid {
			t.Errorf("streams that are not there: %v", err)
		}
	})
}

func TestRandomKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	k := w.open(t, w.endpoint, func(c *Config) { c.PartitionKey = random })
	b := messages(20, 1)
	if n := k.Limits().Size(b[0]); n != 1+36 {
		t.Errorf("the record counts %d", n)
	}
	if err := k.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range w.read(t, w.stream) {
		seen[*r.PartitionKey] = true
	}
	if len(seen) != 20 || b[0].Key != "key 0" {
		t.Errorf("%d keys, and the message has %q", len(seen), b[0].Key)
	}
}

// TestErrors: what a whole request fails with, and whether it says what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	p := faultproxy.NewAWS(t, w.endpoint)
	k := w.open(t, p.URL, nil)
	for _, row := range []struct {
		action faultproxy.Action
		kind   fault.Kind
		says   string
	}{
		{faultproxy.Throttled, fault.Throttled, "Rate exceeded"},
		{faultproxy.Error(0, "KMSDisabledException", "off"), fault.Setup, "KMS key"},
		{faultproxy.Error(0, "AccessDeniedException", "you may not"), fault.Setup, "allow kinesis:PutRecords"},
		{faultproxy.Error(0, "ResourceNotFoundException", "not found"), fault.Setup, "make it"},
		{faultproxy.Error(0, "ValidationException", "1 validation error detected: Value 'x' at 'streamName' failed to satisfy constraint"), fault.Setup, ""},
		{faultproxy.Error(500, "InternalFailure", ""), fault.Transient, ""},
		{faultproxy.Error(0, "InvalidArgumentException", "record"), fault.Invalid, "record"},
		{faultproxy.Cut, fault.Transient, "may have been taken"},
	} {
		p.Heal()
		p.On("PutRecords", faultproxy.Always(row.action))
		err := k.Write(t.Context(), messages(3, 3))
		var partial *connector.Partial
		if !errors.As(err, &partial) || len(partial.Failed) != 3 {
			t.Fatalf("%v: %v", row.action, err)
		}
		for _, e := range partial.Failed {
			if fault.Of(e) != row.kind || fault.Paced(e) || !strings.Contains(e.Error(), row.says) || !strings.Contains(e.Error(), w.stream) {
				t.Errorf("%v is %s: %v", row.action, fault.Of(e), e)
			}
		}
	}
}

// TestOpen: what the stream says is used where it may be asked, and not needed where not.
func TestOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	p := faultproxy.NewAWS(t, w.endpoint)
	p.On("DescribeStreamSummary", faultproxy.Times(2, faultproxy.Error(0, "AccessDeniedException", "you may not")))
	k := w.open(t, p.URL, nil)
	if err := k.Write(t.Context(), messages(3, 3)); err != nil {
		t.Error(err)
	}
	if err := k.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "allow kinesis:DescribeStreamSummary") || !strings.Contains(err.Error(), "kinesis:PutRecords") {
		t.Errorf("check: %v", err)
	}
	if err := k.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	missing := w.target(t, p.URL, func(c *Config) { c.StreamName = "nobody-made-this" })
	if err := missing.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "aws kinesis create-stream --stream-name nobody-made-this") {
		t.Errorf("check: %v", err)
	}
	if err := missing.Open(t.Context()); fault.Of(err) != fault.Setup {
		t.Errorf("open: %v", err)
	}
	arn := w.target(t, w.endpoint, func(c *Config) { c.StreamName = "arn:aws:kinesis:us-east-1:000000000000:stream/" + w.stream })
	if name, a := (&stream{name: arn.c.StreamName}).names(); name != nil || *a != arn.c.StreamName {
		t.Error("an ARN is sent as a name")
	}
}

// TestReshard: a stream is split while it is written to; it has everything, each key in its
// order, parents before children.
func TestReshard(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, endpoint string) {
		w := newWorld(t, endpoint, 1)
		k := w.open(t, endpoint, nil)
		k.ordered = true
		begun, stop := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		written := 0
		wg.Go(func() {
			policy := quick()
			write := policy.Middleware()(k.Write)
			for after := 10; after > 0; { // so many batches when it is split
				b := make(event.Batch, 10)
				for i := range b {
					b[i] = event.New([]byte(strconv.Itoa(written + i)))
					b[i].Key = strconv.Itoa(i % 7)
				}
				if err := write(t.Context(), b); err != nil {
					t.Error(err)
					if written == 0 {
						close(begun)
					}
					return
				}
				if written == 0 {
					close(begun)
				}
				written += len(b)
				select {
				case <-stop:
					after--
				default:
				}
			}
		})
		<-begun
		if _, err := w.client.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &w.stream, ShardToSplit: sdk.String("shardId-000000000000"), NewStartingHashKey: sdk.String("170141183460469231731687303715884105728")}); err != nil {
			t.Error(err)
		}
		w.active(t, w.stream)
		close(stop)
		wg.Wait()
		seen, last, shards := map[string]bool{}, map[string]int{}, map[string]bool{}
		for _, r := range w.read(t, w.stream) {
			n, _ := strconv.Atoi(string(r.Data))
			if before, has := last[*r.PartitionKey]; has && !seen[string(r.Data)] && n < before {
				t.Errorf("key %s has %d after %d", *r.PartitionKey, n, before)
			}
			last[*r.PartitionKey] = max(last[*r.PartitionKey], n)
			seen[string(r.Data)], shards[r.shard] = true, true
		}
		if len(seen) != written || len(shards) != 3 {
			t.Errorf("the stream has %d of %d, in %d shards", len(seen), written, len(shards))
		}
	})
}
