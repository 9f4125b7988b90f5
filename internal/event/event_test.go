package event_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
)

var errBad = errors.New("bad")

// node is what the model knows of one message: which read messages wait for it.
type node struct {
	m     *event.Message
	roots map[int]bool
}

// TestTrees grows random trees of splits, clones and joins over several read batches and
// settles their leaves in random order: done runs once for each batch, as soon as its last
// descendant is settled, and says what became of each message.
func TestTrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var open []*node
		batchOf := []int{}        // of each root
		want := map[int]error{}   // by root
		left := map[int]int{}     // open descendants, by root
		done := []int{}           // calls, by batch
		got := []event.Outcomes{} // by batch
		first := []int{}          // first root, by batch
		for k := range rapid.IntRange(1, 3).Draw(t, "batches") {
			b := make(event.Batch, rapid.IntRange(0, 6).Draw(t, "size"))
			done, got, first = append(done, 0), append(got, nil), append(first, len(batchOf))
			for i := range b {
				b[i] = event.New([]byte{byte(i)})
				open = append(open, &node{b[i], map[int]bool{len(batchOf): true}})
				left[len(batchOf)] = 1
				batchOf = append(batchOf, k)
			}
			event.Track(b, func(o event.Outcomes) { done[k]++; got[k] = o })
			if len(b) == 0 && done[k] != 1 {
				t.Fatal("an empty batch is done at once")
			}
		}
		take := func(what string) *node {
			i := rapid.IntRange(0, len(open)-1).Draw(t, what)
			n := open[i]
			open = append(open[:i], open[i+1:]...)
			return n
		}
		add := func(m *event.Message, roots map[int]bool) {
			open = append(open, &node{m, roots})
			for r := range roots {
				left[r]++
			}
		}
		gone := func(n *node) {
			for r := range n.roots {
				left[r]--
			}
		}
		for step := 0; len(open) > 0; step++ {
			op := rapid.IntRange(0, 6).Draw(t, "op")
			if step > 40 {
				op = 6
			}
			switch op {
			case 0: // split
				n := take("split")
				ps := make([][]byte, rapid.IntRange(1, 4).Draw(t, "pieces"))
				for _, c := range n.m.Split(ps...) {
					add(c, n.roots)
				}
				gone(n)
			case 1: // clone
				n := open[rapid.IntRange(0, len(open)-1).Draw(t, "clone")]
				add(n.m.Clone(), n.roots)
			case 2: // join
				var ms event.Batch
				roots := map[int]bool{}
				var ns []*node
				for range rapid.IntRange(1, len(open)).Draw(t, "joined") {
					n := take("join")
					ns = append(ns, n)
					ms = append(ms, n.m)
					for r := range n.roots {
						roots[r] = true
					}
				}
				add(event.Join([]byte("joined"), ms), roots)
				for _, n := range ns {
					gone(n)
				}
			case 3: // split and take it back
				n := open[rapid.IntRange(0, len(open)-1).Draw(t, "unsplit")]
				n.m.Split(make([][]byte, rapid.IntRange(1, 4).Draw(t, "pieces"))...)
				event.Unsplit(n.m)
			default: // settle
				n := take("settle")
				var err error
				if rapid.IntRange(0, 2).Draw(t, "fails") == 0 {
					err = fmt.Errorf("step %d: %w", step, errBad)
				}
				event.Settle(n.m, err)
				gone(n)
				for r := range n.roots {
					if want[r] == nil {
						want[r] = err
					}
				}
			}
			for k := range done {
				ended := true
				for r, b := range batchOf {
					ended = ended && (b != k || left[r] == 0)
				}
				if (done[k] == 1) != ended || done[k] > 1 {
					t.Fatalf("batch %d: done ran %d times, everything settled is %t", k, done[k], ended)
				}
			}
		}
		for r, k := range batchOf {
			var outcome error
			if got[k] != nil {
				outcome = got[k][r-first[k]]
			}
			if outcome != want[r] {
				t.Fatalf("outcome of message %d is %v, want %v", r, outcome, want[r])
			}
		}
	})
}

// TestPass does to a message, in any order, what a careless transform may do, and then
// demands that exactly the messages it returned hold the claim.
func TestPass(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := event.Batch{event.New([]byte("a")), event.New([]byte("b"))}
		calls := 0
		event.Track(b, func(event.Outcomes) { calls++ })
		m := b[0]
		place := event.PlaceOf(m)
		known := event.Batch{m}
		for range rapid.IntRange(0, 6).Draw(t, "steps") {
			x := known[rapid.IntRange(0, len(known)-1).Draw(t, "of")]
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				known = append(known, x.Split(make([][]byte, rapid.IntRange(0, 3).Draw(t, "n"))...)...)
			case 1:
				known = append(known, x.Clone())
			case 2:
				known = append(known, event.New([]byte("new")))
			case 3:
				known = append(known, event.Join(nil, event.Batch{x}))
			}
		}
		var out event.Batch
		for range rapid.IntRange(0, 4).Draw(t, "returned") {
			out = append(out, known[rapid.IntRange(0, len(known)-1).Draw(t, "which")])
		}
		place.Pass(m, out)
		event.Settle(b[1], nil)
		if len(out) == 0 {
			out = event.Batch{m}
		}
		seen := map[*event.Message]bool{}
		for i, x := range out {
			if calls != 0 {
				t.Fatalf("done before message %d of %d was settled", i, len(out))
			}
			if seen[x] {
				t.Fatal("one message is returned twice")
			}
			seen[x] = true
			event.Settle(x, nil)
		}
		if calls != 1 {
			t.Fatalf("done ran %d times after everything was settled", calls)
		}
	})
}

func TestPassKeepsUntracked(t *testing.T) {
	t.Parallel()
	m := event.New([]byte("x"))
	event.PlaceOf(m).Pass(m, event.Batch{m, m})
	event.PlaceOf(m).Pass(m, nil)
	if event.Tracked(m) {
		t.Error("a message nobody waits for is tracked now")
	}
}

// TestJoinAcrossBatches settles two read batches by one message.
func TestJoinFailsAllWithOneOutcome(t *testing.T) {
	t.Parallel()
	var one, two event.Outcomes
	a, b := event.Batch{event.New(nil), event.New(nil)}, event.Batch{event.New(nil)}
	event.Track(a, func(o event.Outcomes) { one = o })
	event.Track(b, func(o event.Outcomes) { two = o })
	j := event.Join([]byte("j"), event.Batch{a[1], b[0]})
	event.Settle(a[0], nil)
	for _, part := range j.Split([]byte("1"), []byte("2")) {
		event.Settle(part, errBad)
	}
	if one[0] != nil || one[1] != errBad || two[0] != errBad {
		t.Errorf("outcomes %v and %v", one, two)
	}
	if one.Err() != errBad || event.Outcomes(nil).Err() != nil {
		t.Error("Err is not the first error")
	}
}

// TestSettleFromManyGoroutines is for the race detector.
func TestSettleFromManyGoroutines(t *testing.T) {
	t.Parallel()
	b := event.NewBatch(time.Now(), make([][]byte, 100))
	done := make(chan event.Outcomes, 2)
	event.Track(b, func(o event.Outcomes) { done <- o })
	for i, m := range b {
		for _, c := range m.Split(nil, nil, nil) {
			go func() {
				var err error
				if i%2 == 0 {
					err = errBad
				}
				event.Settle(c, err)
			}()
		}
	}
	o := <-done
	for i, err := range o {
		if (i%2 == 0) != (err == errBad) {
			t.Fatalf("outcome %d is %v", i, err)
		}
	}
	if len(done) != 0 {
		t.Error("done ran twice")
	}
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	m := event.New([]byte("read"))
	m.Keep(42)
	if m.View() != 42 {
		t.Error("the parsed form is lost")
	}
	m.Replace([]byte("made"))
	if m.View() != nil || string(m.Data) != "made" || string(m.Raw()) != "read" {
		t.Errorf("view %v, data %q, raw %q", m.View(), m.Data, m.Raw())
	}
	m.Keep(43)
	m.Data = []byte("made") // assigned without Replace: equal bytes, another slice
	if m.View() != nil {
		t.Error("a parsed form outlived its payload")
	}
	for _, c := range append(m.Split([]byte("child")), m.Clone()) {
		if string(c.Raw()) != "read" {
			t.Errorf("raw of a descendant is %q", c.Raw())
		}
	}

	tombstone := &event.Message{}
	if tombstone.Raw() != nil {
		t.Error("no payload is nil")
	}
	tombstone.Replace([]byte("made"))
	if len(tombstone.Raw()) != 0 {
		t.Errorf("raw of a message read without payload is %q", tombstone.Raw())
	}
	if n := (event.Batch{m, tombstone}).Bytes(); n != 8 {
		t.Errorf("%d bytes, want 8", n)
	}
}

func TestHeadersAreNotShared(t *testing.T) {
	t.Parallel()
	m := event.New(nil)
	m.SetHeader("a", "1")
	c := m.Clone()
	c.SetHeader("b", "2")
	if len(m.Meta.Headers) != 1 || c.Meta.Headers.Text("a") != "1" || c.Meta.Headers.Text("b") != "2" {
		t.Errorf("headers %v and %v", m.Meta.Headers, c.Meta.Headers)
	}
	if k := m.PartitionKey(); len(k) != 36 || m.PartitionKey() != k {
		t.Errorf("partition key %q then %q", k, m.PartitionKey())
	}
}

// lose forgets a batch in a frame of its own.
//
//go:noinline
func lose() {
	b := event.NewBatch(time.Now(), make([][]byte, 3))
	event.Track(b, func(event.Outcomes) {})
	event.Settle(b[0], nil)
}

//go:noinline
func keepNothing() {
	b := event.NewBatch(time.Now(), make([][]byte, 3))
	event.Track(b, func(event.Outcomes) {})
	for _, m := range b {
		event.Settle(m, nil)
	}
}

// TestLostIsCounted: a forgotten batch is found by the collector, in builds that look for it.
func TestLostIsCounted(t *testing.T) {
	if !watched {
		if event.Lost() != 0 {
			t.Error("counted in a build that does not look")
		}
		return
	}
	settleLost := func(want int64) int64 {
		var n int64
		for range 100 {
			// A clean-up runs on a goroutine of the runtime, some time after a collection.
			called := make(chan struct{})
			runtime.AddCleanup(new([64]byte), func(c chan struct{}) { close(c) }, called)
			for waiting := true; waiting; {
				runtime.GC()
				select {
				case <-called:
					waiting = false
				default:
					runtime.Gosched()
				}
			}
			if n = event.Lost(); n >= want {
				break
			}
		}
		return n
	}
	before := settleLost(1 << 30)
	for range 5 {
		lose()
		keepNothing()
	}
	if n := settleLost(before+5) - before; n != 5 {
		t.Errorf("%d lost batches were counted, want 5", n)
	}
}

// TestSettledTwice: harmless in production, a panic where invariants are checked.
func TestSettledTwice(t *testing.T) {
	t.Parallel()
	b := event.Batch{event.New([]byte("once")), event.New(nil)}
	calls := 0
	event.Track(b, func(event.Outcomes) { calls++ })
	event.Settle(b[0], nil)
	func() {
		defer func() {
			if r := recover(); (r != nil) != watched {
				t.Errorf("settling twice: panic %v, invariants are checked: %t", r, watched)
			}
		}()
		event.Settle(b[0], errBad)
	}()
	if calls != 0 {
		t.Error("settled twice counts for the other message")
	}
	event.Settle(b[1], nil)
	if calls != 1 {
		t.Errorf("done ran %d times", calls)
	}
}

func trackAndSettle(n int) func() {
	b := event.NewBatch(time.Now(), make([][]byte, n))
	done := func(event.Outcomes) {}
	return func() {
		event.Track(b, done)
		for _, m := range b {
			event.Settle(m, nil)
		}
	}
}

// TestTrackAllocates: two allocations a batch, whatever its size.
func TestTrackAllocates(t *testing.T) {
	if watched {
		return // the race detector and the watch allocate themselves
	}
	if n := testing.AllocsPerRun(100, trackAndSettle(100)) / 100; n > 0.05 {
		t.Errorf("%.3f allocations per message, want at most 0.05", n)
	}
}

func BenchmarkTrackSettle(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			f := trackAndSettle(n)
			for b.Loop() {
				f()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
		})
	}
}
