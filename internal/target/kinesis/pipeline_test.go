package kinesistarget

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
)

// source gives out messages, and knows which were acknowledged.
type source struct {
	left  event.Batch
	acked atomic.Int64
}

func (s *source) Open(context.Context) error  { return nil }
func (s *source) Close(context.Context) error { return nil }

func (s *source) Read(_ context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	n, _ := room.Within(min(100, len(s.left)), 1<<20)
	if len(s.left) == 0 {
		return nil, nil, io.EOF
	}
	b := s.left[:n:n]
	s.left = s.left[n:]
	return b, func(_ context.Context, o event.Outcomes) error {
		for i := range b {
			if o == nil || o[i] == nil {
				s.acked.Add(1)
			}
		}
		return nil
	}, nil
}

// failures counts what comes to the failure target.
type failures struct {
	mu   sync.Mutex
	seen []string
}

func (f *failures) Open(context.Context) error  { return nil }
func (f *failures) Close(context.Context) error { return nil }
func (f *failures) Write(_ context.Context, b event.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range b {
		f.seen = append(f.seen, string(m.Data))
	}
	return nil
}

type cause struct{}

func (cause) Format(f pipeline.Failure, _ int) ([]byte, error) { return []byte(f.Cause.Error()), nil }

// run runs a pipeline from s to k, and returns what came to the failure target.
func run(t *testing.T, s *source, k *Target, policy retry.Policy, ordered bool) []string {
	t.Helper()
	f := &failures{}
	small := connector.Limits{MaxBatchMessages: 100, MaxConcurrentBatches: 1, FlushPeriod: 10 * time.Millisecond}
	p := pipeline.New(pipeline.Parts{
		Name: "test", Source: s, Target: pipeline.Sink{Target: k, Limits: k.Limits()},
		Filter: pipeline.Sink{Target: f, Limits: small}, Failure: pipeline.Sink{Target: f, Limits: small},
		Format: cause{}, Drain: 2 * time.Minute, Retry: policy, Ordered: ordered,
	})
	if err := p.Run(t.Context()); err != nil {
		t.Errorf("the pipeline: %v", err)
	}
	return f.seen
}

// spread is n messages of which every fourth has a key that belongs to the first half of the
// hashes, and the others to the second.
func spread(n int) event.Batch {
	b := make(event.Batch, 0, n)
	for k := 0; len(b) < n; k++ {
		key := strconv.Itoa(k)
		if cold := partOf(aggregate.HashOf(key)) >= 512; cold == (len(b)%4 != 0) {
			m := event.New([]byte(fmt.Sprintf("hot%d", len(b))))
			if m.Key = key; cold {
				m.Replace([]byte(fmt.Sprintf("cold%d", len(b))))
			}
			b = append(b, m)
		}
	}
	return b
}

// TestHotShard (P4): while a shard takes nothing, everything that belongs to the others is
// written, whether order is kept or not, and no attempt is counted for what waits.
func TestHotShard(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprint("ordered ", ordered), func(t *testing.T) {
			t.Parallel()
			hotShard(t, ordered)
		})
	}
}

func hotShard(t *testing.T, ordered bool) {
	const n = 4000
	w := newWorld(t, enginetest.Kinesalite(t), 2)
	p := faultproxy.NewAWS(t, w.endpoint)
	// The hot shard takes something when all others have been taken, and not before.
	cold := make(chan struct{})
	p.On("PutRecords", faultproxy.Always(faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
		if strings.HasPrefix(string(e.Data), "hot") {
			select {
			case <-cold:
			default:
				return faultproxy.TooMuch
			}
		}
		return nil
	})))
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for len(p.Accepted()) < n*3/4 {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
		close(cold)
	})
	k := w.open(t, p.URL, nil)
	k.ordered = ordered
	s := &source{left: spread(n)}
	failed := run(t, s, k, retry.Default(), ordered)
	close(stop)
	watch.Wait()
	if s.acked.Load() != n || len(failed) > 0 {
		t.Errorf("%d of %d acknowledged, %d failed", s.acked.Load(), n, len(failed))
	}
	for data, times := range counts(p.Accepted()) {
		if times != 1 {
			t.Errorf("%s was taken %d times", data, times)
		}
	}
	if got := len(w.read(t, w.stream)); got != n {
		t.Errorf("the stream has %d records", got)
	}
}

// TestRate: with shards that take so much in a second, all is written, and only what came too
// early is asked for again.
func TestRate(t *testing.T) {
	t.Parallel()
	const n = 1500
	w := newWorld(t, enginetest.Kinesalite(t), 2)
	p := faultproxy.NewAWS(t, w.endpoint)
	p.Limit(faultproxy.Rate{Records: 300, Bytes: 1 << 20})
	k := w.open(t, p.URL, nil)
	s := &source{left: spread(n)}
	failed := run(t, s, k, retry.Default(), false)
	if n := counts(p.Accepted()); len(n) != 1500 || len(failed) > 0 {
		t.Errorf("%d were taken, %d failed", len(n), len(failed))
	}
}

// TestFaults: whatever happens to requests, everything comes in, and twice only what was on its
// way when an answer was lost.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprint("ordered ", ordered), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, enginetest.Kinesalite(t), 3)
			p := faultproxy.NewAWS(t, w.endpoint)
			var lost atomic.Int64
			p.On("PutRecords", func(c *faultproxy.Call) faultproxy.Action {
				switch noise(c.N, 77) % 12 {
				case 0:
					lost.Add(int64(strings.Count(string(c.Body), "PartitionKey")))
					return faultproxy.Lost
				case 1:
					return faultproxy.Cut
				case 2:
					return faultproxy.Throttled
				case 3:
					return faultproxy.Error(500, "InternalFailure", "")
				case 4, 5, 6:
					return faultproxy.Some(func(e faultproxy.Entry) *faultproxy.EntryError {
						if noise(e.Call, e.Index)%3 == 0 {
							return faultproxy.TooMuch
						}
						return nil
					})
				case 7:
					return faultproxy.Late(20*time.Millisecond, faultproxy.Pass)
				}
				return nil
			})
			k := w.open(t, p.URL, func(c *Config) { c.Batching.MaxBatchMessages, c.Batching.FlushPeriodMillis = 40, 10 })
			k.ordered = ordered
			b := messages(1200, 60)
			s := &source{left: b}
			failed := run(t, s, k, quick(), ordered)
			n, twice := counts(p.Accepted()), int64(0)
			for i := range b {
				times := n[strconv.Itoa(i)]
				if times == 0 {
					t.Errorf("message %d is lost", i)
				}
				twice += int64(times - 1)
			}
			if twice > lost.Load() || len(failed) > 0 || s.acked.Load() != 1200 {
				t.Errorf("%d are there twice, with lost answers about %d; %d failed, %d acknowledged", twice, lost.Load(), len(failed), s.acked.Load())
			}
			if !ordered {
				return
			}
			first, at := map[string]int{}, map[string]bool{}
			for _, r := range w.read(t, w.stream) {
				i, _ := strconv.Atoi(string(r.Data))
				if at[string(r.Data)] {
					continue // a second time
				}
				at[string(r.Data)] = true
				if before, has := first[*r.PartitionKey]; has && i < before {
					t.Errorf("%s: %d comes first after %d", *r.PartitionKey, i, before)
				}
				first[*r.PartitionKey] = i
			}
		})
	}
}

// TestOutage: a service that is away for a while is written to when it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enginetest.Kinesalite(t), 1)
	p := faultproxy.NewTCP(t, strings.TrimPrefix(w.endpoint, "http://"))
	k := w.open(t, "http://"+p.Address, func(c *Config) { c.RequestTimeoutInMillis = 500 })
	s := &source{left: messages(1000, 100)}
	p.CutAfter(faultproxy.ToClient, 2000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		opened := p.Opened()
		for p.Opened() <= opened { // it was cut, and comes again
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
		p.Freeze()
		p.Refuse()
		time.Sleep(600 * time.Millisecond)
		p.Cut()
		p.Accept()
		p.Thaw()
	}()
	failed := run(t, s, k, quick(), false)
	<-done
	seen := map[string]int{}
	for _, r := range w.read(t, w.stream) {
		seen[string(r.Data)]++
	}
	if len(seen) != 1000 || len(failed) > 0 || s.acked.Load() != 1000 {
		t.Errorf("the stream has %d, %d failed, %d acknowledged", len(seen), len(failed), s.acked.Load())
	}
}
