package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// runUntil runs b and asks it to stop after d.
func (b *bench) runUntil(d time.Duration) (took time.Duration, err error) {
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	begin := time.Now()
	err = b.run(ctx)
	return time.Since(begin), err
}

func TestStopFinishesWorkInProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"good", "drop", "bad"}})
		b.source.endless = true
		slow := func(context.Context, event.Batch) error { time.Sleep(3 * time.Second); return nil }
		b.target.before, b.filter.before, b.failure.before = slow, slow, slow
		for _, s := range []*Sink{&b.parts.Target, &b.parts.Filter, &b.parts.Failure} {
			s.Limits.FlushPeriod = time.Hour // only the stop flushes
		}
		took, err := b.through(1, dropping("drop")).runUntil(time.Second)
		if err != nil {
			t.Error(err)
		}
		if took != 7*time.Second { // target and filter target at once, then the failure target
			t.Errorf("took %s, want 7s", took)
		}
		if err := b.source.outcome(0, 0); err != nil || len(b.target.got)+len(b.filter.got)+len(b.failure.got) != 3 {
			t.Errorf("outcome %v, %d %d %d messages", err, len(b.target.got), len(b.filter.got), len(b.failure.got))
		}
	})
}

func TestDrainDeadlineCutsWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"good", "drop", "bad"}}, step{payloads: []string{"drop"}})
		b.source.endless = true
		b.parts.Filter.Limits.FlushPeriod = time.Hour
		b.target.before = func(ctx context.Context, _ event.Batch) error {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrDrained) {
				t.Errorf("cut with cause %v, want ErrDrained", context.Cause(ctx))
			}
			return context.Cause(ctx)
		}
		took, err := b.through(1, dropping("drop")).runUntil(time.Second)
		if !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "1 messages were read but not settled") {
			t.Errorf("Run returned %v, want ErrUnfinished for one message", err)
		}
		if took != 16*time.Second { // stop after 1s, three quarters of 20s
			t.Errorf("took %s, want 16s", took)
		}
		if o := b.source.outcome(0, 0); !errors.Is(o, event.ErrUnsettled) || !errors.Is(o, ErrDrained) {
			t.Errorf("outcome of the message in the cut write: %v", o)
		}
		for _, x := range [][2]int{{0, 1}, {0, 2}, {1, 0}} {
			if o := b.source.outcome(x[0], x[1]); o != nil {
				t.Errorf("outcome of message %v: %v", x, o)
			}
		}
	})
}

// A target that does not hear that it is cut holds up neither Run nor the closing of the
// other connectors; what its write does afterwards is acknowledged to nobody.
func TestTargetThatIgnoresTheCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "drop"}}, step{after: 10 * time.Millisecond, payloads: []string{"b"}}, step{payloads: []string{"bad"}})
		b.source.endless = true
		b.parts.Filter.Limits.FlushPeriod, b.parts.Failure.Limits.FlushPeriod = time.Hour, time.Hour
		released := make(chan struct{})
		b.target.before = func(context.Context, event.Batch) error { <-released; return nil }
		b.parts.Target.Limits.MaxBatchMessages = 1
		p := New(b.through(1, dropping("drop")).parts)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		begin := time.Now()
		err := p.Run(ctx)
		if !errors.Is(err, ErrDrained) {
			t.Errorf("Run returned %v, want ErrDrained", err)
		}
		if took := time.Since(begin); took > 22*time.Second {
			t.Errorf("took %s", took)
		}
		if b.source.closed != 1 || b.target.closed != 1 || b.failure.closed != 1 {
			t.Error("not everything was closed")
		}
		if o := b.source.outcome(1, 0); !errors.Is(o, event.ErrUnsettled) {
			t.Errorf("outcome of the message that was not being written: %v", o)
		}
		if o := b.source.outcome(2, 0); !errors.Is(o, event.ErrUnsettled) {
			t.Errorf("outcome of the message that waited for the failure target: %v", o)
		}
		if p.State() != Ended {
			t.Errorf("the state is %s", p.State())
		}
		acks := len(b.source.acks)
		close(released)
		synctest.Wait()
		if len(b.source.acks) != acks {
			t.Error("a closed source was told of an outcome")
		}
	})
}

type connectors struct {
	connector.Target
	open, close func(context.Context) error
}

func (c connectors) Open(ctx context.Context) error {
	if c.open != nil {
		return c.open(ctx)
	}
	return c.Target.Open(ctx)
}

func (c connectors) Close(ctx context.Context) error {
	if c.close != nil {
		return c.close(ctx)
	}
	return c.Target.Close(ctx)
}

func TestCloseThatFailsIsReported(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	for name, c := range map[string]struct {
		close func(context.Context) error
		want  string
	}{
		"error": {func(context.Context) error { return errors.New("broken pipe") }, "close target: broken pipe"},
		"panic": {func(context.Context) error { panic("boo") }, "close target: panic: boo"},
		"hang":  {func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, "close target: context deadline exceeded"},
		"deaf":  {func(context.Context) error { <-released; return nil }, "close target: no answer within 10s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			released = make(chan struct{})
			b := newBench(step{payloads: []string{"a"}})
			b.parts.Target.Target = connectors{Target: b.target, close: c.close}
			err := b.run(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: Run returned %v, want %s", name, err, c.want)
			}
			if b.failure.closed != 1 || b.source.closed != 1 {
				t.Errorf("%s: the other connectors were not closed", name)
			}
			close(released)
		})
	}
}

type closingTransform struct {
	transform
	closed *int
}

func (c closingTransform) Close() error { *c.closed++; return nil }

func TestOpenThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		b := newBench(step{payloads: []string{"a"}}).through(2, closingTransform{dropping("x"), &closed})
		b.target.open = errSetup
		err := b.run(t.Context())
		if !errors.Is(err, errSetup) || !strings.Contains(err.Error(), `pipeline "test": open target: no such topic`) {
			t.Errorf("Run returned %v", err)
		}
		if len(b.source.read) != 0 || b.target.closed != 1 || b.failure.closed != 1 || closed != 2 {
			t.Errorf("%d reads; closed target %d, failure target %d, transforms %d times", len(b.source.read), b.target.closed, b.failure.closed, closed)
		}
	})
}

func TestOpenIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a"}})
		tries := 0
		b.parts.Target.Target = connectors{Target: b.target, open: func(context.Context) error {
			if tries++; tries < 3 {
				return errTransient
			}
			return nil
		}}
		p := New(b.parts)
		if err := p.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tries != 3 || b.source.closed != 1 {
			t.Errorf("%d tries, source closed %d times", tries, b.source.closed)
		}
		wantPayloads(t, "target", b.target, "a")
	})
}

func TestDiscardClosesWhatWasOpened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		p := New(b.parts)
		if err := p.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Discard(t.Context())
		if b.source.closed != 1 || b.target.closed != 1 || b.filter.closed != 1 || b.failure.closed != 1 || p.State() != Ended {
			t.Error("something is still open")
		}
	})
}

// Reads that fail are tried again, ever later, and what comes afterwards is delivered.
func TestBadReadsBackOffAndRecover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		for range 12 {
			b.source.script = append(b.source.script, step{err: errTransient})
		}
		b.source.script = append(b.source.script, step{payloads: []string{"a"}}, step{err: fmt.Errorf("read tcp: %w", io.EOF)},
			step{err: fault.Throttle(errors.New("slow down"), 7*time.Second)}, step{payloads: []string{"b"}})
		b.parts.Retry.Jitter = 0
		var at []time.Time
		b.source.onRead = func() { at = append(at, time.Now()) }
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "a", "b")
		want := []string{"100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s", "6.4s", "12.8s", "25.6s", "30s", "30s", "30s", "0s", "100ms", "7s", "0s"}
		for i, w := range want {
			if got := at[i+1].Sub(at[i]).String(); got != w {
				t.Errorf("wait %d was %s, want %s", i, got, w)
			}
		}
	})
}

func TestReadThatCannotGoOnEndsThePipeline(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]step{
		"read: no such topic": {err: errSetup},
		"read: cannot go on":  {err: errFatal},
		"read: panic: boo":    {panics: "boo"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(step{payloads: []string{"a"}}, s)
			err := b.run(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Run returned %v, want %s", err, want)
			}
			if o := b.source.outcome(0, 0); o != nil {
				t.Errorf("what was read before has outcome %v", o)
			}
			wantPayloads(t, "target", b.target, "a")
		})
	}
}

// A source that returns nothing at once does not keep a processor busy.
func TestEmptyReadsDoNotSpin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(make([]step, 1000)...)
		begin := time.Now()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 5*time.Second {
			t.Errorf("1000 empty reads took %s", took)
		}
	})
}

func TestEmptyPayloads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"", "x", ""}}, step{payloads: []string{}})
		var sawNil, sawEmpty bool
		b.through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			if string(m.Data) == "x" {
				m.Data = nil
			}
			return append(out, m), nil
		}))
		b.target.before = func(_ context.Context, batch event.Batch) error {
			for _, m := range batch {
				sawNil = sawNil || m.Data == nil
				sawEmpty = sawEmpty || (m.Data != nil && len(m.Data) == 0)
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(b.target.got) != 3 || !sawNil || !sawEmpty {
			t.Errorf("%d messages, nil %t, empty %t", len(b.target.got), sawNil, sawEmpty)
		}
		if len(b.source.acks) != 2 {
			t.Errorf("%d acks, want 2: the empty read has one too", len(b.source.acks))
		}
	})
}

func TestAckThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ack  func() error
		want string
	}{
		"transient": {func() error { return errTransient }, ""},
		"setup":     {func() error { return errSetup }, "acknowledge: no such topic"},
		"panic":     {func() error { panic("boo") }, "acknowledge: panic: boo"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(step{payloads: []string{"a"}}, step{after: time.Second, payloads: []string{"b"}}, step{after: time.Second, payloads: []string{"c"}})
			b.source.onAck = func(n int, _ event.Outcomes) error {
				if n == 0 {
					return c.ack()
				}
				return nil
			}
			err := b.run(t.Context())
			if c.want == "" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				wantPayloads(t, "target", b.target, "a", "b", "c")
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: Run returned %v, want %s", name, err, c.want)
			}
		})
	}
}

// A message larger than all that may be in flight passes, alone.
func TestMessagesLargerThanTheByteBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		large := strings.Repeat("x", 10<<20)
		b := newBench(step{payloads: []string{large}}, step{payloads: []string{"small"}}, step{payloads: []string{large, large}})
		b.parts.InFlightBytes = 1 << 20
		b.parts.Target.Limits.MaxMessageBytes, b.parts.Target.Limits.MaxBatchBytes = 20<<20, 20<<20
		most := int64(0)
		p := New(b.parts)
		b.target.before = func(context.Context, event.Batch) error {
			b.source.mu.Lock()
			defer b.source.mu.Unlock()
			most = max(most, int64(len(b.source.open)))
			return nil
		}
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(b.target.got) != 4 || most > 2 { // one in flight, one read and waiting for room
			t.Errorf("%d messages written, up to %d reads open", len(b.target.got), most)
		}
		if m := p.Meter(); m.InFlight.Load() != 0 || m.InFlightBytes.Load() != 0 {
			t.Errorf("%d messages and %d bytes left in flight", m.InFlight.Load(), m.InFlightBytes.Load())
		}
	})
}

// A batch that wants more messages than may be in flight leaves when there is no room for
// more, not when its time is over.
func TestBatchLargerThanTheBudgetDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		script := make([]step, 20)
		for i := range script {
			script[i] = step{payloads: numbered(fmt.Sprintf("%d-", i), 5)}
		}
		b := newBench(script...)
		b.parts.InFlightMessages = 10
		b.parts.Target.Limits.MaxBatchMessages = 1000
		b.parts.Target.Limits.FlushPeriod = time.Hour
		began := time.Now()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Minute || len(b.target.got) != 100 {
			t.Errorf("%d of 100 messages written in %s", len(b.target.got), took)
		}
	})
}

// A transform that returns a batch of its own would drop what others put into out.
func TestTransformThatDropsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "own", "b", "none"}})
		b.through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			switch string(m.Data) {
			case "own":
				return event.Batch{m}, nil
			case "none":
				return nil, nil
			}
			return append(out, m), nil
		}))
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "a", "b")
		if got := b.failure.payloads(); len(got) != 2 || !strings.HasPrefix(got[0], "own|the transform returned") {
			t.Errorf("failure target has %q", got)
		}
	})
}

// An acknowledgement that was not confirmed is counted, by messages, and ends nothing.
func TestUnconfirmedAcksAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b", "c"}}, step{payloads: []string{"d"}}, step{payloads: []string{"e"}})
		b.source.onAck = func(n int, _ event.Outcomes) error {
			switch n {
			case 0:
				return fmt.Errorf("subscription: %w", &connector.Unconfirmed{Messages: 2, Err: errors.New("too late")})
			case 1:
				return errors.New("of another kind")
			}
			return nil
		}
		p := New(b.parts)
		if err := p.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if n := p.Meter().Unconfirmed.Load(); n != 2 {
			t.Errorf("%d messages are counted, want 2", n)
		}
		wantPayloads(t, "target", b.target, "a", "b", "c", "d", "e")
	})
}

// TestAcksThatFailAreOneLine: what a source cannot be told while what it stands on is away is one
// line with how many messages that are, and one when it is told again.
func TestAcksThatFailAreOneLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const reads = 20
		steps := make([]step, 0, reads+2)
		for range reads {
			steps = append(steps, step{payloads: []string{"a", "b"}})
		}
		b := newBench(append(steps, step{after: 5 * time.Second, payloads: []string{"c"}}, step{after: 5 * time.Second, payloads: []string{"d"}})...)
		var text bytes.Buffer
		b.parts.Log = slog.New(slog.NewTextHandler(&text, nil))
		b.source.onAck = func(n int, _ event.Outcomes) error {
			if n < reads {
				return errors.New("the database has failed over")
			}
			return nil
		}
		if err := New(b.parts).Run(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(text.String(), "may deliver settled messages again"); n != 1 {
			t.Errorf("%d lines, want one:\n%s", n, &text)
		}
		if n := strings.Count(text.String(), "the source knows again what is settled"); n != 1 || !strings.Contains(text.String(), fmt.Sprintf("messages=%d", 2*reads)) {
			t.Errorf("%d lines say that it is well again, want one with %d messages:\n%s", n, 2*reads, &text)
		}
	})
}
