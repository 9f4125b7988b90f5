package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// TestMain fails when a goroutine is left, or when any message of any test was forgotten.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	for range 3 {
		collect()
	}
	if n := event.Lost(); n != 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d read batches were forgotten before they were settled\n", n)
		code = 1
	}
	os.Exit(code)
}

// collect runs the garbage collector until it has called a clean-up.
func collect() {
	called := make(chan struct{})
	runtime.AddCleanup(new([64]byte), func(c chan struct{}) { close(c) }, called)
	for {
		runtime.GC()
		select {
		case <-called:
			return
		default:
			runtime.Gosched()
		}
	}
}

// step is one thing that reading from a fakeSource leads to.
type step struct {
	after    time.Duration
	payloads []string
	keys     []string // by index; may be shorter
	err      error
	panics   any
	noAck    bool
}

// fakeSource reads what its script says, and then ends, or blocks until it is told to stop.
type fakeSource struct {
	script  []step
	endless bool                                // block at the end instead of io.EOF
	onRead  func()                              // at the beginning of every read
	onAck   func(n int, o event.Outcomes) error // n counts reads from 0

	mu       sync.Mutex
	next     int
	read     []event.Batch
	payloads [][]string
	acks     []ackSeen
	open     map[int]int // messages of reads not acknowledged
	closed   int
	closedAt time.Time
}

type ackSeen struct {
	n        int
	outcomes event.Outcomes
	at       time.Time
}

func (s *fakeSource) Open(context.Context) error { return nil }

func (s *fakeSource) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	s.closedAt = time.Now()
	return nil
}

func (s *fakeSource) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	if s.onRead != nil {
		s.onRead()
	}
	if s.next == len(s.script) {
		if !s.endless {
			return nil, nil, io.EOF
		}
		<-ctx.Done()
		return nil, nil, context.Cause(ctx)
	}
	st := s.script[s.next]
	s.next++
	if st.after > 0 {
		select {
		case <-time.After(st.after):
		case <-ctx.Done():
			s.next--
			return nil, nil, context.Cause(ctx)
		}
	}
	if st.panics != nil {
		panic(st.panics)
	}
	if st.payloads == nil {
		return nil, nil, st.err
	}
	b := make(event.Batch, len(st.payloads))
	for i, p := range st.payloads {
		b[i] = event.New([]byte(p))
		if i < len(st.keys) {
			b[i].Key = st.keys[i]
		}
	}
	s.mu.Lock()
	n := len(s.read)
	s.read, s.payloads = append(s.read, b), append(s.payloads, st.payloads)
	if s.open == nil {
		s.open = map[int]int{}
	}
	s.open[n] = len(b)
	s.mu.Unlock()
	if st.noAck {
		return b, nil, st.err
	}
	return b, func(_ context.Context, o event.Outcomes) error {
		s.mu.Lock()
		s.acks = append(s.acks, ackSeen{n, o, time.Now()})
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.open, n)
			s.mu.Unlock()
		}()
		if s.onAck != nil {
			return s.onAck(n, o)
		}
		return nil
	}, st.err
}

// outcome is what became of message i of read n: nil, an error, or errNotAcked.
func (s *fakeSource) outcome(n, i int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.acks {
		if a.n == n {
			if a.outcomes == nil {
				return nil
			}
			return a.outcomes[i]
		}
	}
	return errNotAcked
}

// payloadsOf is what read n returned.
func (s *fakeSource) payloadsOf(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.payloads[n]
}

var errNotAcked = errors.New("the read was not acknowledged")

// fakeTarget keeps what it is given, unless before says otherwise. It keeps the messages
// that before's error, if it is a *connector.Partial, does not name.
type fakeTarget struct {
	before func(ctx context.Context, b event.Batch) error
	open   error

	mu       sync.Mutex
	got      []kept
	batches  [][]string
	writing  int
	maxWrite int // most writes at once
	closed   int
}

type kept struct {
	payload, key string
	at           time.Time
}

func (t *fakeTarget) Open(context.Context) error { return t.open }

func (t *fakeTarget) Close(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed++
	return nil
}

func (t *fakeTarget) Write(ctx context.Context, b event.Batch) error {
	t.mu.Lock()
	t.writing++
	t.maxWrite = max(t.maxWrite, t.writing)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.writing--
		t.mu.Unlock()
	}()
	var err error
	if t.before != nil {
		err = t.before(ctx, b)
	}
	var partial *connector.Partial
	if err != nil && !errors.As(err, &partial) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var payloads []string
	for i, m := range b {
		if partial == nil || partial.Failed[i] == nil {
			t.got = append(t.got, kept{string(m.Data), m.Key, time.Now()})
			payloads = append(payloads, string(m.Data))
		}
	}
	t.batches = append(t.batches, payloads)
	return err
}

func (t *fakeTarget) payloads() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]string, len(t.got))
	for i, k := range t.got {
		out[i] = k.payload
	}
	return out
}

// transform is a function as a transform.
type transform func(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error)

func (f transform) Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	return f(ctx, out, m)
}

// refusedBackup is what failure payloads begin with of what the backup refused.
const refusedBackup = "backup of "

// fakeFormat makes failure payloads "payload|cause", cut to the limit.
type fakeFormat struct{ err error }

func (f fakeFormat) Format(x Failure, limit int) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	s := fmt.Sprintf("%s|%v", x.Message.Data, x.Cause)
	if x.ofBackup {
		return []byte(refusedBackup + s), nil
	}
	if x.Oversized {
		s = fmt.Sprintf("%s|oversized: %d > %d|%v", x.Message.Data[:min(len(x.Message.Data), 100)], len(x.Message.Data), x.Limit, x.Cause)
	}
	if limit > 0 && len(s) > limit {
		s = s[:limit]
	}
	return []byte(s), nil
}

// bench is a pipeline with fake ends, ready to be changed and run.
type bench struct {
	source                          *fakeSource
	target, filter, failure, backup *fakeTarget
	parts                           Parts
}

// limits are small and quick.
func limits() connector.Limits {
	return connector.Limits{MaxBatchMessages: 10, MaxBatchBytes: 1 << 20, MaxMessageBytes: 1 << 20, MaxConcurrentBatches: 1, FlushPeriod: 100 * time.Millisecond}
}

func newBench(script ...step) *bench {
	b := &bench{source: &fakeSource{script: script}, target: &fakeTarget{}, filter: &fakeTarget{}, failure: &fakeTarget{}, backup: &fakeTarget{}}
	b.parts = Parts{
		Name: "test", Source: b.source,
		Target:  Sink{Target: b.target, Limits: limits()},
		Filter:  Sink{Target: b.filter, Limits: limits()},
		Failure: Sink{Target: b.failure, Limits: limits()},
		Format:  fakeFormat{},
		Drain:   20 * time.Second,
		Retry:   retry.Default(),
	}
	return b
}

// through gives the pipeline n workers with the given transforms.
func (b *bench) through(n int, ts ...connector.Worker) *bench {
	b.parts.Workers = n
	for _, w := range ts {
		b.parts.Transforms = append(b.parts.Transforms, connector.Stateless(w))
	}
	return b
}

func (b *bench) run(ctx context.Context) error { return New(b.parts).Run(ctx) }

// numbered is n payloads: prefix0, prefix1, ...
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func wantPayloads(t *testing.T, what string, got *fakeTarget, want ...string) {
	t.Helper()
	if g := strings.Join(got.payloads(), " "); g != strings.Join(want, " ") {
		t.Errorf("%s has [%s], want [%s]", what, g, strings.Join(want, " "))
	}
}

// failing is a before function that fails the first n writes with err.
func failing(n int, err error) func(context.Context, event.Batch) error {
	var mu sync.Mutex
	return func(context.Context, event.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		if n > 0 {
			n--
			return err
		}
		return nil
	}
}

var (
	errTransient = fault.New(fault.Transient, errors.New("connection reset"))
	errInvalid   = fault.New(fault.Invalid, errors.New("not accepted"))
	errSetup     = fault.New(fault.Setup, errors.New("no such topic"))
	errFatal     = fault.New(fault.Fatal, errors.New("cannot go on"))
)
