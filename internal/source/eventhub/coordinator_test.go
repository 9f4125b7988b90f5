package eventhubsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestSharesBecomeEven: E4, whatever owned what before, instances that look one after the other
// come to shares that differ by one at most; from then on nothing moves, and a newcomer moves no
// more than its share.
func TestSharesBecomeEven(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "partitions")
		instances := rapid.IntRange(1, 6).Draw(t, "instances")
		var partitions []string
		owner := map[string]string{}
		for p := range n {
			name := fmt.Sprint(p)
			partitions = append(partitions, name)
			if o := rapid.IntRange(-1, instances-1).Draw(t, "owner"); o >= 0 {
				owner[name] = fmt.Sprint("i", o)
			}
		}
		rounds := func(k int) (moved int) {
			for range k {
				for i := range instances {
					me := fmt.Sprint("i", i)
					for _, p := range wanted(me, partitions, func(p string) string { return owner[p] }) {
						if owner[p] == me {
							t.Fatalf("%s claims %s, which it has", me, p)
						}
						owner[p] = me
						moved++
					}
				}
			}
			return moved
		}
		even := func() {
			has := map[string]int{}
			for i := range instances {
				has[fmt.Sprint("i", i)] = 0
			}
			for _, p := range partitions {
				if owner[p] == "" {
					t.Fatalf("nobody owns %s: %v", p, owner)
				}
				has[owner[p]]++
			}
			counts := slices.Sorted(maps.Values(has))
			if counts[len(counts)-1]-counts[0] > 1 {
				t.Fatalf("shares %v", has)
			}
		}
		rounds(2)
		even()
		if moved := rounds(3); moved > 0 {
			t.Fatalf("%d partitions moved after all was even", moved)
		}
		instances++
		if moved := rounds(2); moved > (n+instances-1)/instances {
			t.Fatalf("%d of %d partitions moved for instance %d", moved, n, instances)
		}
		even()
	})
}

// shelf is a ledger in memory with what a real one does: conditions, and answers that are lost or late.
type shelf struct {
	mu      sync.Mutex
	own     map[string]ownership
	at      map[string]time.Time
	cps     map[string]mark
	version int
	fails   func() error // before and after a call
}

func newShelf() *shelf {
	return &shelf{own: map[string]ownership{}, at: map[string]time.Time{}, cps: map[string]mark{}, fails: func() error { return nil }}
}

func (s *shelf) open(context.Context) error { return nil }

func (s *shelf) owners(ctx context.Context) (map[string]ownership, error) {
	time.Sleep(3 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(); err != nil {
		return nil, err
	}
	os := maps.Clone(s.own)
	for p, o := range os {
		o.age = -1
		if s.version%2 == 0 { // as one that knows, to the second, and as one that does not
			o.age = max(time.Since(s.at[p]).Truncate(time.Second)-time.Second, 0)
		}
		os[p] = o
	}
	return os, ctx.Err()
}

func (s *shelf) claim(ctx context.Context, now, next ownership) (ownership, error) {
	time.Sleep(3 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(); err != nil {
		return ownership{}, err
	}
	if s.own[next.partition].version != now.version {
		return ownership{}, errLost
	}
	s.version++
	next.version = fmt.Sprint(s.version)
	s.own[next.partition], s.at[next.partition] = next, time.Now()
	if err := s.fails(); err != nil { // done, and nobody is told
		return ownership{}, err
	}
	return next, ctx.Err()
}

func (s *shelf) checkpoint(context.Context, string) (mark, error) { return mark{}, nil }

func (s *shelf) save(context.Context, ownership, mark, position) (mark, error) { return mark{}, nil }

// node is an instance in a test.
type node struct {
	c     *coordinator
	stop  context.CancelFunc
	ended chan struct{}

	mu   sync.Mutex
	held map[string]*holding
}

func (n *node) holds(p string) bool { _, holds := n.epoch(p); return holds }

func (n *node) epoch(p string) (int64, bool) {
	n.mu.Lock()
	h := n.held[p]
	n.mu.Unlock()
	if h == nil {
		return 0, false
	}
	claim, holds := h.current()
	return claim.epoch, holds
}

const (
	testEvery = 2 * time.Second
	testLasts = 6 * time.Second
)

func start(t *testing.T, name string, s ledger, partitions []string) *node {
	n := &node{held: map[string]*holding{}, ended: make(chan struct{})}
	n.c = &coordinator{ledger: s, me: name, every: testEvery, lasts: testLasts, log: slog.New(slog.DiscardHandler),
		list: func(context.Context) ([]string, error) { return partitions, nil },
		gained: func(h *holding, p string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.held[p] = h
		}}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(t.Context())
	go func() {
		defer close(n.ended)
		n.c.run(ctx, func(error) {})
	}()
	return n
}

// TestOneOwner: through instances that die, come back and leave, and a ledger that fails and loses
// answers, the service can always tell owners apart by their epoch, who has lost a partition knows
// within the time that a claim lasts, each has an owner within that time and some looks, and shares
// are even then.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.SliceOfN(rapid.IntRange(0, 4), 3, 10).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			var partitions []string
			for p := range int(seed%13) + 1 {
				partitions = append(partitions, fmt.Sprint(p))
			}
			s := newShelf()
			nodes := []*node{start(t, "first", s, partitions)}
			var gone []*node
			type claim struct {
				partition string
				epoch     int64
			}
			since := map[claim]time.Time{} // there has been a later one
			two := func() {
				for _, p := range partitions {
					epochs := map[int64]int{}
					for _, n := range append(slices.Clone(nodes), gone...) {
						if e, holds := n.epoch(p); holds {
							if epochs[e]++; epochs[e] > 1 {
								t.Fatalf("partition %s has two owners with the epoch %d", p, e)
							}
						}
					}
					newest := slices.Max(append(slices.Collect(maps.Keys(epochs)), 0))
					for e := range epochs {
						switch first := since[claim{p, e}]; {
						case e == newest:
						case first.IsZero():
							since[claim{p, e}] = time.Now()
						case time.Since(first) > testLasts:
							t.Fatalf("partition %s has been lost for %s, and its owner does not know", p, time.Since(first))
						}
					}
				}
			}
			pass := func(d time.Duration) {
				for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(37 * time.Millisecond) {
					two()
				}
			}
			trouble := uint64(1)
			for i, step := range steps {
				switch {
				case step == 0 || len(nodes) == 0:
					nodes = append(nodes, start(t, fmt.Sprint("node", i), s, partitions))
				case step == 1: // killed: nothing is given back, and what was held is not worked on
					n := nodes[0]
					n.stop()
					<-n.ended
					nodes = nodes[1:]
				case step == 2: // stopped by the system for a while: it still believes in what it holds
					n := nodes[len(nodes)-1]
					n.stop()
					<-n.ended
					nodes, gone = nodes[:len(nodes)-1], append(gone, n)
				case step == 3: // leaves
					n := nodes[0]
					n.stop()
					<-n.ended
					_ = n.c.close(context.Background()) // what it cannot give back expires
					nodes = nodes[1:]
				case step == 4:
					s.mu.Lock()
					s.fails = func() error {
						if trouble = trouble*6364136223846793005 + seed + 1; trouble>>61 == 0 {
							return errors.New("not now")
						}
						return nil
					}
					s.mu.Unlock()
				}
				pass(time.Duration(seed>>(i%20)%5) * time.Second)
			}
			s.mu.Lock()
			s.fails = func() error { return nil }
			s.mu.Unlock()
			if len(nodes) == 0 {
				nodes = append(nodes, start(t, "last", s, partitions))
			}
			pass(testLasts + 4*testEvery)
			has := map[*node]int{}
			for _, p := range partitions {
				owned := false
				for _, n := range nodes {
					if n.holds(p) {
						has[n]++
						owned = true
					}
				}
				if !owned {
					t.Errorf("nobody reads partition %s", p)
				}
			}
			for _, n := range nodes {
				if d := len(partitions)/len(nodes) - has[n]; d > 0 || -d > 1 {
					t.Errorf("%d of %d partitions are with one of %d instances", has[n], len(partitions), len(nodes))
				}
			}
			before := s.epochs()
			pass(10 * testEvery)
			if after := s.epochs(); !maps.Equal(before, after) {
				t.Errorf("E4: partitions moved after all was even: %v, then %v", before, after)
			}
			for _, n := range nodes {
				n.stop()
				<-n.ended
			}
		})
	})
}

func (s *shelf) epochs() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	es := map[string]int64{}
	for p, o := range s.own {
		es[p] = o.epoch
	}
	return es
}

// TestForeignOwnersHaveTheirTime: a claim of another SDK, which says nothing of how long it means
// it to last, is left alone for a minute.
func TestForeignOwnersHaveTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.own["0"], s.at["0"] = ownership{partition: "0", owner: "java", version: "v"}, time.Now()
		n := start(t, "ours", s, []string{"0"})
		time.Sleep(foreignExpiry - 5*time.Second)
		if n.holds("0") {
			t.Error("it was taken before its time")
		}
		time.Sleep(10 * time.Second)
		if !n.holds("0") {
			t.Error("it was not taken after its time")
		}
		n.stop()
		<-n.ended
	})
}

// TestHoldingEndsByItself: an instance whose ledger is away stops in time, before anybody else may
// begin.
func TestHoldingEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		n := start(t, "ours", s, []string{"0"})
		time.Sleep(testEvery)
		if !n.holds("0") {
			t.Fatal("it has not begun")
		}
		s.mu.Lock()
		s.fails = func() error { return errors.New("away") }
		s.mu.Unlock()
		time.Sleep(testLasts + testEvery)
		if n.holds("0") {
			t.Error("it goes on without a claim")
		}
		select {
		case <-n.held["0"].lost:
		default:
			t.Error("its reader was not told")
		}
		n.stop()
		<-n.ended
	})
}

// TestLateRenewal: a holding that has ended because nobody renewed it in time does not come back
// with a renewal that was under way: events of it may have been let go of, and would be missed.
func TestLateRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		o, err := s.claim(t.Context(), ownership{}, ownership{partition: "0", owner: "ours", epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		h := &holding{lasts: testLasts, lost: make(chan struct{}), claim: o, renewed: time.Now()}
		c := &coordinator{ledger: s, me: "ours", every: testEvery, lasts: testLasts, log: slog.New(slog.DiscardHandler)}
		s.fails = func() error { time.Sleep(2 * testLasts); return nil } // an answer that takes its time
		renewed := make(chan error, 1)
		go func() { renewed <- c.renewOne(context.WithoutCancel(t.Context()), h) }()
		time.Sleep(testLasts + time.Second)
		if _, holds := h.current(); holds {
			t.Error("it holds though it was not renewed")
		}
		t.Logf("the renewal: %v", <-renewed)
		if _, holds := h.current(); holds {
			t.Error("it came back")
		}
	})
}

// TestGivesBackWhatWasCutOff: whenever an instance stops, in the middle of a claim or of a renewal too
// whose answer nobody waits for any more, nothing is its own afterwards.
func TestGivesBackWhatWasCutOff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		after := time.Duration(rapid.IntRange(0, 5000).Draw(rt, "stopped after ms")) * time.Millisecond
		var left map[string]ownership
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			n := start(t, "one", s, []string{"0", "1", "2"})
			time.Sleep(after)
			n.stop()
			<-n.ended
			if err := n.c.close(context.Background()); err != nil {
				t.Error(err)
			}
			left = s.own
		})
		for p, o := range left {
			if o.owner != "" {
				rt.Fatalf("partition %s is still of %q", p, o.owner)
			}
		}
	})
}
