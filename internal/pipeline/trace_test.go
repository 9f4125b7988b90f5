package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
	"github.com/weirdata/weir/internal/trace"
)

// spans keeps what a tracer exports.
type spans struct {
	*tracetest.InMemoryExporter
	tracer *trace.Tracer
}

func (spans) Shutdown(context.Context) error { return nil }

// traceAt has the pipeline of b traced; the share ratio of its messages begins a trace.
func (b *bench) traceAt(t *testing.T, ratio float64) *spans {
	s := &spans{InMemoryExporter: tracetest.NewInMemoryExporter()}
	var err error
	if s.tracer, err = trace.New(context.Background(), trace.Settings{SampleRatio: ratio, Exporter: s}); err != nil {
		t.Fatal(err)
	}
	b.parts.Trace = s.tracer
	return s
}

// all ends the tracer and returns what it exported, as text: the name, the outcome or the
// error, and what else the attributes that are asked for say.
func (s *spans) all(t *testing.T, keys ...string) []string {
	t.Helper()
	if err := s.tracer.Close(context.Background()); err != nil {
		t.Error(err)
	}
	var out []string
	for _, x := range s.GetSpans() {
		text := x.Name
		for _, k := range append([]string{"weir.outcome", "error.type"}, keys...) {
			for _, a := range x.Attributes {
				if string(a.Key) == k {
					text += " " + a.Value.String()
				}
			}
		}
		out = append(out, text)
	}
	return out
}

func wantSpans(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// headersSeen has a target note the trace context of each message it is given.
func headersSeen(f *fakeTarget) map[string]string {
	seen := map[string]string{}
	var mu sync.Mutex
	before := f.before
	f.before = func(ctx context.Context, b event.Batch) error {
		mu.Lock()
		for _, m := range b {
			seen[string(m.Data)] = m.Meta.Headers.Text(trace.Traceparent)
		}
		mu.Unlock()
		if before != nil {
			return before(ctx, b)
		}
		return nil
	}
	return seen
}

// TestTraceFates follows messages of every fate through one pipeline.
func TestTraceFates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"pass", "drop", "bad", "split", "refused", strings.Repeat("large", 10)}})
		b.parts.Steps = []string{"same", "change"}
		b.through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			return append(out, m), nil
		}), transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			switch string(m.Data) {
			case "drop":
				return out, nil
			case "bad":
				return out, fault.New(fault.Invalid, errors.New("bad payload"))
			case "split":
				return append(out, m.Split([]byte("s1"), []byte("s2"))...), nil
			}
			return append(out, m), nil
		}))
		b.parts.Target.Limits.MaxMessageBytes, b.parts.Target.Use = 20, "fake"
		attempt := 0
		b.target.before = func(_ context.Context, batch event.Batch) error {
			if attempt++; attempt == 1 {
				return errTransient
			}
			for i, m := range batch {
				if string(m.Data) == "refused" {
					return &connector.Partial{Failed: map[int]error{i: errInvalid}}
				}
			}
			return nil
		}
		seen, buried, filtered := headersSeen(b.target), headersSeen(b.failure), headersSeen(b.filter)
		s := b.traceAt(t, 1)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSpans(t, s.all(t, "weir.target", "weir.attempt", "messaging.batch.message_count", "weir.messages.failed", "weir.messages.sampled", "weir.transform.messages"),
			"process test delivered", "process test filtered", "process test invalid", "process test delivered",
			"process test invalid", "process test oversized",
			"transform change 0", "transform change invalid 0", "transform change 2",
			"write fake transient fake 1 4 4 4", "write fake invalid fake 2 4 1 4",
			"write filter_target filter_target 1 1 1", "write failure_target failure_target 1 2 2", "write failure_target failure_target 1 1 1")
		ids := map[string]bool{}
		for _, x := range s.GetSpans() {
			if strings.HasPrefix(x.Name, "process") {
				ids["00-"+x.SpanContext.TraceID().String()+"-"+x.SpanContext.SpanID().String()+"-01"] = true
			}
		}
		if len(seen) != 4 || len(buried) != 3 || len(filtered) != 1 || seen["s1"] != seen["s2"] || seen["s1"] == seen["pass"] {
			t.Errorf("contexts at the target %v, the failure target %v, the filter target %v", seen, buried, filtered)
		}
		for _, contexts := range []map[string]string{seen, buried, filtered} {
			for payload, c := range contexts {
				if !ids[c] {
					t.Errorf("%s left with the context %q, which is of no process span", payload, c)
				}
			}
		}
	})
}

// TestTraceTimes: a span begins when its message was read and ends when it was written, not
// when the slowest of its batch was.
func TestTraceTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"quick", "slow"}})
		b.parts.Target.Limits.MaxBatchMessages = 1
		b.target.before = func(_ context.Context, batch event.Batch) error {
			if string(batch[0].Data) == "slow" {
				time.Sleep(time.Minute)
			}
			return nil
		}
		s := b.traceAt(t, 1)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.all(t)
		var took []time.Duration
		for _, x := range s.GetSpans() {
			if strings.HasPrefix(x.Name, "process") {
				took = append(took, x.EndTime.Sub(x.StartTime))
			}
		}
		if slices.Sort(took); len(took) != 2 || took[0] > time.Second || took[1] < time.Minute {
			t.Errorf("the spans took %s", took)
		}
	})
}

// TestTraceRoutes: a message that several targets get has one span, and each target counts
// its own attempts.
func TestTraceRoutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"m"}})
		b.to(t, "flaky", "").before = failing(1, errTransient)
		b.to(t, "good", "")
		s := b.traceAt(t, 1)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSpans(t, s.all(t, "weir.role", "weir.attempt"), "process test delivered",
			"write target.flaky transient target.flaky 1", "write target.flaky target.flaky 2", "write target.good target.good 1")
	})
}

// TestTraceQueue: a message that its queue delivers again has a span for each delivery, all
// in the trace it came with; moved on in one transaction, it carries the last one's context.
func TestTraceQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		defer closeStore(t, s)
		m, dead := event.New([]byte("m")), event.New([]byte("dead"))
		const came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		m.SetHeader(trace.Traceparent, came)
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "a", Msg: m}, queue.Job{Queue: "a", Msg: dead})
		}); err != nil {
			t.Fatal(err)
		}
		b := between(t, s, nil)
		b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 2}}
		tries := 0
		b.through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			return append(out, m), nil
		}))
		b.parts.Target.Middleware = []connector.Middleware{func(next connector.Write) connector.Write {
			return func(ctx context.Context, batch event.Batch) error {
				failed := map[int]error{}
				var rest event.Batch
				for i, m := range batch {
					if tries++; string(m.Data) != "dead" && tries > 2 {
						rest = append(rest, m)
						continue
					}
					failed[i] = errTransient
					spoil(m)
				}
				if len(rest) > 0 {
					if err := next(ctx, rest); err != nil {
						return err
					}
				}
				return &connector.Partial{Failed: failed}
			}
		}}
		x := b.traceAt(t, 1)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSpans(t, x.all(t, "weir.attempt"), "process test retried transient 1", "process test retried transient 1",
			"process test dead transient 2", "process test delivered 2", "write target 2")
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "b"}, State: queue.Open}, queue.ID{}, 10)
		if err != nil || len(p.Jobs) != 1 {
			t.Fatalf("queue b: %+v, %v", p, err)
		}
		got := p.Jobs[0].Msg.Meta.Headers.Text(trace.Traceparent)
		if !strings.HasPrefix(got, came[:36]) || got == came {
			t.Errorf("the message moved on with the context %q", got)
		}
	})
}

// TestTraceEveryMessageOnce runs random worlds and demands that every sampled message that
// was read has one span, ended, whatever happened, which says what the source was told; and
// that whatever leaves carries the trace of what it was made of.
func TestTraceEveryMessageOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = w.trace(t) })
		if len(wrong) > 0 {
			rt.Fatalf("%s", strings.Join(wrong, "\n"))
		}
	})
}

// sampling is a source whose messages come with the trace contexts of their world.
type sampling struct {
	*fakeSource
	w *world
}

// context is the trace context that a payload comes with; "" is none.
func (w *world) context(payload string) string {
	id := fmt.Sprintf("%032x", 1+w.die(1<<30, "trace of", payload))
	return []string{"", "00-" + id + "-00000000000000aa-00", "00-" + id + "-00000000000000aa-01"}[w.die(3, "context of", payload)]
}

func (s sampling) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	b, ack, err := s.fakeSource.Read(ctx, room)
	for _, m := range b {
		if c := s.w.context(string(m.Data)); c != "" {
			m.SetHeader(trace.Traceparent, c)
		}
	}
	return b, ack, err
}

func (w *world) trace(t *testing.T) (wrong []string) {
	released := make(chan struct{})
	b := w.bench(released)
	b.parts.Source = sampling{b.source, w}
	x := b.traceAt(t, 0)
	var mu sync.Mutex
	for _, target := range []*fakeTarget{b.target, b.filter, b.failure} {
		before := target.before
		target.before = func(ctx context.Context, batch event.Batch) error {
			mu.Lock()
			for _, m := range batch {
				payload, _, _ := strings.Cut(strings.TrimPrefix(string(m.Data), refusedBackup), "|")
				came, leaves := w.context(strings.TrimRight(payload, "abn'")), m.Meta.Headers.Text(trace.Traceparent)
				sampled := strings.HasSuffix(came, "-01")
				if made := strings.Contains(payload, "n"); !sampled && leaves != came && !made || sampled && (leaves == came || !strings.HasPrefix(leaves, came[:36])) {
					wrong = append(wrong, fmt.Sprintf("%s came with the context %q and leaves with %q", payload, came, leaves))
				}
			}
			mu.Unlock()
			return before(ctx, batch)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if w.stop > 0 {
		time.AfterFunc(w.stop, stop)
	}
	_ = b.run(ctx) // what it ought to be is TestAtLeastOnce's
	ended := x.all(t)
	close(released)
	synctest.Wait()
	time.Sleep(time.Hour) // whatever was left behind ends
	mu.Lock()
	defer mu.Unlock()
	got := map[string]int{}
	for _, s := range ended {
		if name, ok := strings.CutPrefix(s, "process test "); ok {
			outcome, _, _ := strings.Cut(name, " ")
			if slices.Contains([]string{"delivered", "filtered", "invalid", "oversized"}, outcome) {
				outcome = "handled"
			}
			got[outcome]++
		}
	}
	want := map[string]int{}
	for n, payloads := range b.source.payloads {
		for i, p := range payloads {
			if !strings.HasSuffix(w.context(p), "-01") {
				continue
			}
			switch err := b.source.outcome(n, i); {
			case err == nil:
				want["handled"]++
			case errors.Is(err, event.ErrUnsettled), errors.Is(err, errNotAcked):
				want["unsettled"]++
			default:
				want["failed"]++
			}
		}
	}
	if w.deaf > 0 { // what outlives the drain may be settled, and the source not told
		return append(wrong, compareSums(want, got)...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		wrong = append(wrong, "spans by outcome (-want +got):\n"+diff)
	}
	return wrong
}

func compareSums(want, got map[string]int) []string {
	sum := func(m map[string]int) (n int) {
		for _, x := range m {
			n += x
		}
		return n
	}
	if sum(want) != sum(got) {
		return []string{fmt.Sprintf("%d spans have ended of %d messages: %v, want about %v", sum(got), sum(want), got, want)}
	}
	return nil
}

// TestTraceStuck: a message in a write that never returns ends with the pipeline, and what the
// write comes to later changes nothing.
func TestTraceStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"stuck"}})
		released := make(chan struct{})
		b.target.before = func(context.Context, event.Batch) error { <-released; return nil }
		b.source.endless = true
		s := b.traceAt(t, 1)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := b.run(ctx); !errors.Is(err, ErrDrained) {
			t.Errorf("Run returned %v", err)
		}
		wantSpans(t, s.all(t), "process test unsettled")
		close(released)
		synctest.Wait()
		if n := len(s.GetSpans()); n != 1 {
			t.Errorf("%d spans in the end", n)
		}
	})
}

// TestTraceKeepsTransactions: a read that is traced is settled in the transaction of a move,
// and spoiled, as any other.
func TestTraceKeepsTransactions(t *testing.T) {
	t.Parallel()
	for _, ratio := range []float64{0, 1} {
		b := newBench()
		s := b.traceAt(t, ratio)
		p := New(b.parts)
		var settled, spoiled []int
		settle := func(tx queue.Tx, index []int) error {
			if tx == nil {
				spoiled = append(spoiled, index...)
			} else {
				settled = append(settled, index...)
			}
			return nil
		}
		batch := event.NewBatch(time.Now(), [][]byte{[]byte("a"), []byte("b")})
		tag, traced := p.begin(batch, settle)
		if (traced != nil) != (ratio == 1) {
			t.Fatalf("ratio %v: traced is %v", ratio, traced)
		}
		event.TrackTagged(batch, tag, func(o event.Outcomes) { traced.end(p, o) })
		how, index := complete(batch)
		if how == nil || how(struct{ queue.Tx }{}, index) != nil || !slices.Equal(settled, []int{0, 1}) {
			t.Errorf("ratio %v: %v are settled in the transaction", ratio, settled)
		}
		if spoil(batch[1]); !slices.Equal(spoiled, []int{1}) {
			t.Errorf("ratio %v: %v are spoiled", ratio, spoiled)
		}
		p.abandon(batch, nil)
		if n := len(s.all(t)); n != int(2*ratio) {
			t.Errorf("ratio %v: %d spans", ratio, n)
		}
	}
}

// TestTraceOffKeepsHeaders: without a tracer, what came in the headers passes on as it was.
func TestTraceOffKeepsHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"m"}})
		w := &world{}
		for w.context("m") == "" {
			w.seed++
		}
		b.parts.Source = sampling{b.source, w}
		seen := headersSeen(b.target)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if seen["m"] != w.context("m") {
			t.Errorf("came with %q, left with %q", w.context("m"), seen["m"])
		}
	})
}
