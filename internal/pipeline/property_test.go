package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// world is one random run: everything that happens in it follows from its fields, so that
// what ought to become of each message can be computed beside the pipeline.
type world struct {
	seed           uint64
	reads          []step
	endless        bool
	stages         int
	workers        int
	ordered        bool
	stop           time.Duration // 0: never
	drain          time.Duration
	inFlight       int
	inFlightBytes  int
	batch, writers int
	eager          bool
	flush          time.Duration
	maxMessage     int
	trouble        int // out of 100 writes
	failureTrouble int
	hang           int // out of 1000 writes hang until they are cut
	deaf           int // out of 1000 writes hang and do not hear that they are cut
	invalidAfter   bool
	attempts       int
	badAcks        bool
	backup         string // "": none; all; failed
}

func drawWorld(t *rapid.T) *world {
	w := &world{
		seed:          rapid.Uint64().Draw(t, "seed"),
		endless:       rapid.Bool().Draw(t, "endless"),
		stages:        rapid.IntRange(0, 3).Draw(t, "stages"),
		workers:       rapid.IntRange(1, 3).Draw(t, "workers"),
		ordered:       rapid.Bool().Draw(t, "ordered"),
		drain:         time.Duration(rapid.IntRange(0, 30).Draw(t, "drain")) * time.Second,
		inFlight:      rapid.SampledFrom([]int{1, 5, 50, 10_000}).Draw(t, "in flight"),
		inFlightBytes: rapid.SampledFrom([]int{1, 100, 1000, 1 << 20}).Draw(t, "in flight bytes"),
		batch:         rapid.IntRange(1, 8).Draw(t, "batch"),
		writers:       rapid.IntRange(1, 4).Draw(t, "writers"),
		eager:         rapid.Bool().Draw(t, "eager"),
		flush:         time.Duration(rapid.IntRange(1, 2000).Draw(t, "flush")) * time.Millisecond,
		maxMessage:    rapid.SampledFrom([]int{0, 12, 1000}).Draw(t, "max message"),
		trouble:       rapid.SampledFrom([]int{0, 20, 60}).Draw(t, "trouble"),
		invalidAfter:  rapid.Bool().Draw(t, "invalid after max"),
		attempts:      rapid.IntRange(0, 4).Draw(t, "attempts"),
		badAcks:       rapid.Bool().Draw(t, "bad acks"),
		backup:        rapid.SampledFrom([]string{"", "all", "failed"}).Draw(t, "backup"),
	}
	if rapid.IntRange(0, 9).Draw(t, "failure target is bad") == 0 {
		w.failureTrouble = 30
	}
	if rapid.IntRange(0, 3).Draw(t, "hangs") == 0 {
		w.hang = 50
	}
	if rapid.IntRange(0, 7).Draw(t, "deaf") == 0 {
		w.deaf = 30
	}
	for i := range rapid.IntRange(0, 20).Draw(t, "reads") {
		s := step{after: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 50, 900}).Draw(t, "pause")) * time.Millisecond}
		switch rapid.IntRange(0, 11).Draw(t, "read") {
		case 0:
			s.err = errTransient
		case 1: // nothing
		case 2:
			s.payloads, s.err = numbered(fmt.Sprintf("r%d.", i), 3), fault.Throttle(errors.New("slow down"), time.Second)
		default:
			s.payloads = numbered(fmt.Sprintf("r%d.", i), rapid.IntRange(0, 12).Draw(t, "messages"))
		}
		for range s.payloads {
			s.keys = append(s.keys, rapid.SampledFrom([]string{"", "k1", "k2", "k3"}).Draw(t, "key"))
		}
		w.reads = append(w.reads, s)
	}
	if w.endless || w.hang+w.deaf > 0 || w.attempts == 0 || rapid.Bool().Draw(t, "stops") {
		w.stop = time.Duration(rapid.IntRange(1, 20_000).Draw(t, "stop")) * time.Millisecond
	}
	return w
}

// die is a random number below n that depends on nothing but the world and what it is for.
func (w *world) die(n int, what ...any) int {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, what)
	return int(h.Sum64()>>7) & (1<<40 - 1) % n
}

// fate is what a transform of the given stage does to a payload.
func (w *world) fate(stage int, payload string) string {
	return []string{"pass", "pass", "pass", "pass", "filter", "invalid", "panic", "split", "split and fail", "clone and panic",
		"split and filter", "replace", "fatal", "new", "twice", "forget"}[w.die(16, stage, payload)]
}

func (w *world) transform(stage int) connector.Worker {
	return transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		s := string(m.Data)
		switch w.fate(stage, s) {
		case "filter":
			return out, nil
		case "invalid":
			return out, errors.New("refused")
		case "panic":
			panic("in transform")
		case "split":
			return append(out, m.Split([]byte(s+"a"), []byte(s+"b"))...), nil
		case "split and fail":
			children := m.Split([]byte(s+"a"), []byte(s+"b"))
			grandchildren := children[1].Split([]byte("x"), []byte("y"), []byte("z"))
			return append(append(out, children[0]), grandchildren...), errors.New("refused")
		case "clone and panic":
			_ = append(out, m, m.Clone())
			panic("in transform")
		case "split and filter":
			m.Split([]byte(s+"a"), []byte(s+"b"))
			return out, nil
		case "replace":
			m.Replace([]byte(s + "'"))
			return append(out, m), nil
		case "fatal":
			return out, errFatal
		case "new":
			return append(out, event.New([]byte(s+"n"))), nil
		case "twice":
			return append(out, m, m), nil
		case "forget":
			return append(out, m.Split([]byte(s+"a"), []byte(s+"b"))[1]), nil
		}
		return append(out, m), nil
	})
}

// leaves is what the transforms make of payload, each with the sink it is meant for.
func (w *world) leaves(payload string) []string {
	type at struct {
		payload string
		stage   int
	}
	var out []string
	todo := []at{{payload, 0}}
	for len(todo) > 0 {
		x := todo[0]
		todo = todo[1:]
		s := x.payload
		if x.stage == w.stages {
			out = append(out, "target "+s)
			continue
		}
		next := func(ps ...string) {
			for _, p := range ps {
				todo = append(todo, at{p, x.stage + 1})
			}
		}
		switch w.fate(x.stage, s) {
		case "filter", "split and filter":
			out = append(out, "filter "+s)
		case "invalid", "panic", "split and fail", "clone and panic", "fatal":
			out = append(out, "failure "+s)
		case "split":
			next(s+"a", s+"b")
		case "replace":
			next(s + "'")
		case "new":
			next(s + "n")
		case "forget":
			next(s + "b")
		case "twice":
			next(s, s)
		default:
			next(s)
		}
	}
	return out
}

// write is what a target does before it keeps a batch.
func (w *world) write(role string, trouble int, released <-chan struct{}) func(context.Context, event.Batch) error {
	var mu sync.Mutex
	n := 0
	return func(ctx context.Context, b event.Batch) error {
		mu.Lock()
		n++
		mine := n
		mu.Unlock()
		time.Sleep(time.Duration(w.die(20, role, "time", mine)) * time.Millisecond)
		if w.die(1000, role, "hang", mine) < w.hang {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if w.die(1000, role, "deaf", mine) < w.deaf {
			<-released
		}
		if w.die(100, role, "trouble", mine) >= trouble {
			return nil
		}
		failed := map[int]error{}
		for i := range b {
			switch w.die(12, role, mine, i) {
			case 0:
				failed[i] = fmt.Errorf("wrapped: %w", errInvalid)
			case 1:
				failed[i] = fault.Throttle(errors.New("slow down"), 2*time.Second)
			case 2:
				failed[i] = errSetup
			case 3, 4:
				failed[i] = errors.New("unknown")
			}
		}
		switch w.die(10, role, "kind", mine) {
		case 0:
			panic("in target")
		case 1:
			return errTransient
		case 2:
			return errSetup
		case 3:
			return errInvalid
		case 4:
			if mine > 5 {
				return errFatal
			}
		}
		return &connector.Partial{Failed: failed}
	}
}

func (w *world) bench(released <-chan struct{}) *bench {
	b := newBench(w.reads...)
	b.source.endless = w.endless
	b.source.onAck = func(n int, _ event.Outcomes) error {
		time.Sleep(time.Duration(w.die(10, "ack takes", n)) * time.Millisecond)
		if !w.badAcks {
			return nil
		}
		switch w.die(8, "ack", n) {
		case 0:
			return errTransient
		case 1:
			panic("in ack")
		}
		return nil
	}
	b.target.before = w.write("target", w.trouble, released)
	b.filter.before = w.write("filter", w.trouble/2, released)
	b.failure.before = w.write("failure", w.failureTrouble, released)
	if w.stages > 0 {
		var chain []connector.Worker
		for i := range w.stages {
			chain = append(chain, w.transform(i))
		}
		b.through(w.workers, chain...)
	}
	class := retry.Class{Delay: 500 * time.Millisecond, MaxAttempts: w.attempts, MaxDelay: 4 * time.Second, InvalidAfterMax: w.invalidAfter}
	b.parts.Retry = retry.Policy{Transient: class, Throttle: class, Setup: class, Jitter: 10 * time.Millisecond}
	b.parts.Ordered, b.parts.Drain = w.ordered, w.drain
	b.parts.InFlightMessages, b.parts.InFlightBytes = w.inFlight, w.inFlightBytes
	for _, s := range []*Sink{&b.parts.Target, &b.parts.Filter} {
		s.Limits = connector.Limits{MaxBatchMessages: w.batch, MaxConcurrentBatches: w.writers, FlushPeriod: w.flush,
			Eager: w.eager, MaxMessageBytes: w.maxMessage, MaxBatchBytes: 4 * w.maxMessage}
	}
	if w.backup != "" {
		b.backup.before = w.write("backup", w.trouble, released)
		b.parts.Backup, b.parts.BackUpFailed = Sink{Target: b.backup, Limits: b.parts.Filter.Limits}, w.backup == "failed"
	}
	b.parts.Target.Limits.Alone = func(m *event.Message) bool { return w.die(5, "alone", string(m.Data)) == 0 }
	return b
}

// TestAtLeastOnce runs random worlds in virtual time and demands of each what a pipeline
// promises. That it never deadlocks is part of it: the bubble would report that.
func TestAtLeastOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = w.run() })
		if len(wrong) > 0 {
			rt.Fatalf("%s", strings.Join(wrong, "\n"))
		}
	})
}

func (w *world) run() (wrong []string) {
	var mu sync.Mutex
	wrongf := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}
	released := make(chan struct{})
	b := w.bench(released)
	b.source.onRead = func() {
		if over := w.overBudget(b.source); over != "" {
			wrongf("%s", over)
		}
	}
	ack := b.source.onAck
	b.source.onAck = func(n int, o event.Outcomes) error {
		for _, leaf := range w.missing(b, n, o) {
			wrongf("read %d was acknowledged before %s was written", n, leaf)
		}
		return ack(n, o)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if w.stop > 0 {
		time.AfterFunc(w.stop, stop)
	}
	begin := time.Now()
	err := b.run(ctx)
	took := time.Since(begin)
	if w.stop > 0 && took > w.stop+w.drain+2*time.Second {
		wrongf("stopping was asked after %s, with %s to drain, and took until %s", w.stop, w.drain, took)
	}
	w.checkOutcomes(b, err, wrongf)
	acks := len(b.source.acks)
	if b.source.closed != 1 || b.target.closed != 1 || b.filter.closed != 1 || b.failure.closed != 1 {
		wrongf("closed %d, %d, %d, %d times", b.source.closed, b.target.closed, b.filter.closed, b.failure.closed)
	}
	close(released)
	synctest.Wait()
	time.Sleep(time.Hour) // whatever was left behind ends
	if len(b.source.acks) != acks {
		wrongf("%d acks after the source was closed", len(b.source.acks)-acks)
	}
	return wrong
}

// overBudget says how the reads that are open exceed what may be in flight, if they do.
func (w *world) overBudget(s *fakeSource) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, bytes := 0, 0
	for n, open := range s.open {
		messages += min(open, w.inFlight)
		size := 0
		for _, p := range s.payloads[n] {
			size += len(p)
		}
		bytes += min(size, w.inFlightBytes)
	}
	if messages > w.inFlight || bytes > w.inFlightBytes {
		return fmt.Sprintf("%d messages and %d bytes in flight at a read, allowed are %d and %d", messages, bytes, w.inFlight, w.inFlightBytes)
	}
	return ""
}

// written is the payloads that t has; failure payloads by what they were made of.
func written(t *fakeTarget) map[string]bool {
	has := map[string]bool{}
	for _, p := range t.payloads() {
		p, _, _ = strings.Cut(p, "|")
		has[p] = true
	}
	return has
}

// missing is what was made of read n, and is nowhere although it counts as handled.
func (w *world) missing(b *bench, n int, o event.Outcomes) (leaves []string) {
	target, filter, failure, backup := written(b.target), written(b.filter), written(b.failure), written(b.backup)
	for i, p := range b.source.payloadsOf(n) {
		if o != nil && o[i] != nil {
			continue
		}
		due := w.backup == "all"
		for _, leaf := range w.leaves(p) {
			_, name, _ := strings.Cut(leaf, " ")
			due = due || w.backup == "failed" && failure[name]
		}
		if due && !backup[p] && !failure[refusedBackup+p] {
			leaves = append(leaves, "backup "+p)
		}
		for _, leaf := range w.leaves(p) {
			_, name, _ := strings.Cut(leaf, " ")
			if !target[name] && !filter[name] && !failure[name] {
				leaves = append(leaves, leaf)
			}
		}
	}
	return leaves
}

func (w *world) checkOutcomes(b *bench, err error, wrongf func(string, ...any)) {
	s := b.source
	s.mu.Lock()
	acked := map[int]int{}
	for _, a := range s.acks {
		acked[a.n]++
		if acked[a.n] > 1 {
			wrongf("read %d was acknowledged %d times", a.n, acked[a.n])
		}
	}
	s.mu.Unlock()
	target, filter, failure := written(b.target), written(b.filter), written(b.failure)
	settled := true
	for n, payloads := range s.payloads {
		for i, p := range payloads {
			outcome := s.outcome(n, i)
			settled = settled && outcome == nil
			leaves := w.leaves(p)
			for _, leaf := range leaves {
				meant, name, _ := strings.Cut(leaf, " ")
				places := 0
				for _, has := range []bool{target[name], filter[name], failure[name]} {
					if has {
						places++
					}
				}
				single := !slices.ContainsFunc(leaves, func(l string) bool { return strings.HasSuffix(l, " "+name) && l != leaf }) && count(leaves, leaf) == 1
				switch {
				case outcome == nil && places == 0:
					wrongf("%s, a part of %s, was acknowledged and is nowhere; it was meant for the %s", name, p, meant)
				case places > 1 && single:
					wrongf("%s, a part of %s, has %d verdicts", name, p, places)
				case meant == "failure" && (target[name] || filter[name]) && single:
					wrongf("%s was invalid and was delivered", name)
				}
			}
		}
	}
	for n := range s.payloads {
		settled = settled && acked[n] == 1
	}
	ackPanicked := false
	for n := range acked {
		ackPanicked = ackPanicked || (w.badAcks && w.die(8, "ack", n) == 1)
	}
	if (err == nil) != settled && !(settled && ackPanicked) {
		wrongf("Run returned %v, and everything settled is %t", err, settled)
	}
}

func count(in []string, s string) int {
	n := 0
	for _, x := range in {
		if x == s {
			n++
		}
	}
	return n
}
