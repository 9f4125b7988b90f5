package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// fleet is workers that decide by claims alone, one after the other or all from one look.
type fleet struct {
	rows []Row
	dead map[string]bool
	max  int
}

func newFleet(shards int) *fleet {
	f := &fleet{dead: map[string]bool{}}
	for i := range shards {
		f.rows = append(f.rows, Row{Shard: fmt.Sprintf("s%03d", i), Position: TrimHorizon})
	}
	return f
}

func (f *fleet) look(me string) standing {
	s := standing{me: me, rows: slices.Clone(f.rows), free: map[string]bool{}, stale: map[string]bool{}, resting: map[string]bool{}, max: f.max}
	for _, r := range f.rows {
		s.free[r.Shard] = r.Owner == "" || f.dead[r.Owner]
	}
	return s
}

// round has workers decide from what all of them have seen, and write in the order given; a row
// that has changed since cannot be taken. It returns how many changed their owner.
func (f *fleet) round(workers []string) int {
	claims := make([]claim, len(workers))
	seen := slices.Clone(f.rows)
	for i, w := range workers {
		claims[i] = f.look(w).claims()
	}
	moves := 0
	for i, w := range workers {
		got := 0
		for n, r := range claims[i].rows {
			if got == claims[i].want || claims[i].steal && n == claims[i].want {
				break
			}
			at := slices.IndexFunc(f.rows, func(x Row) bool { return x.Shard == r.Shard })
			if f.rows[at].Counter != seen[at].Counter {
				continue
			}
			f.rows[at].Owner = w
			f.rows[at].Counter++
			got++
			moves++
		}
	}
	return moves
}

func (f *fleet) counts(workers []string) (least, most int) {
	n := map[string]int{}
	for _, r := range f.rows {
		if !r.Ended() {
			n[r.Owner]++
		}
	}
	least = 1 << 30
	for _, w := range workers {
		least, most = min(least, n[w]), max(most, n[w])
	}
	return least, most
}

func names(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("weir/w%02d", i))
	}
	return list
}

// TestJoinMovesFew (L8): a worker that comes takes no more than its share, and after two rounds
// nothing moves any more.
func TestJoinMovesFew(t *testing.T) {
	t.Parallel()
	for shards := 1; shards <= 60; shards++ {
		for n := 1; n <= 9; n++ {
			f := newFleet(shards)
			before := names(n)
			for range 4 {
				for i := range before {
					f.round(before[i : i+1])
				}
			}
			if least, most := f.counts(before); most-least > 1 {
				t.Fatalf("%d shards, %d workers: between %d and %d each", shards, n, least, most)
			}
			after := names(n + 1)
			moves := f.round(after) + f.round(after)
			if need := (shards + n) / (n + 1); moves > need {
				t.Errorf("%d shards: worker %d moved %d of them, more than %d", shards, n+1, moves, need)
			}
			if least, most := f.counts(after); most-least > 1 {
				t.Errorf("%d shards, %d workers: between %d and %d each after two rounds", shards, n+1, least, most)
			}
			if moves := f.round(after); moves > 0 {
				t.Errorf("%d shards, %d workers: %d moved in the third round", shards, n+1, moves)
			}
		}
	}
}

// TestBalanceOfAnyFleet: from any owners, with any workers gone, come and at their limits, all is
// taken and level soon, and then nothing moves.
func TestBalanceOfAnyFleet(t *testing.T) {
	t.Parallel()
	for seed := range 3000 {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		f := newFleet(1 + r.IntN(50))
		workers := names(1 + r.IntN(8))
		gone := names(12)[len(workers):]
		for _, g := range gone {
			f.dead[g] = true
		}
		everybody := append(slices.Clone(workers), gone...)
		for i := range f.rows {
			if r.IntN(4) > 0 {
				f.rows[i].Owner = everybody[r.IntN(len(everybody))]
			}
			if r.IntN(5) == 0 {
				f.rows[i].Position = End
			}
		}
		if r.IntN(3) == 0 {
			f.max = 1 + len(f.rows)/len(workers) + r.IntN(3)
		}
		rounds := 0
		for ; rounds < 20; rounds++ {
			r.Shuffle(len(workers), func(i, j int) { workers[i], workers[j] = workers[j], workers[i] })
			if f.round(workers) == 0 {
				break
			}
		}
		for _, row := range f.rows {
			if !row.Ended() && (row.Owner == "" || f.dead[row.Owner]) {
				t.Errorf("seed %d: nobody took %s", seed, row.Shard)
			}
		}
		if least, most := f.counts(workers); most-least > 1 || rounds > 8 {
			t.Errorf("seed %d: between %d and %d each after %d rounds", seed, least, most, rounds)
		}
	}
}

// TestEndedLeasesCountForNobody (K5): shards that have ended are no work.
func TestEndedLeasesCountForNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(12)
	workers := names(2)
	for i := range f.rows {
		f.rows[i].Owner = workers[i%2]
		if i%2 == 0 {
			f.rows[i].Position = End
		}
	}
	f.round(workers)
	f.round(workers)
	if least, most := f.counts(workers); least != 3 || most != 3 {
		t.Errorf("of six shards that are read one has %d and one %d", least, most)
	}
}

// TestTwoThatComeAtOnce do not know of each other, and still do not take twice as much.
func TestTwoThatComeAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(12)
	f.round(names(1))
	all := names(3)
	if moves := f.round(all[1:]); moves > 6 {
		t.Errorf("two that came moved %d of twelve at once", moves)
	}
	f.round(all)
	if least, most := f.counts(all); least != 4 || most != 4 {
		t.Errorf("between %d and %d each", least, most)
	}
}

func TestWhatOthersCannotHoldIsTaken(t *testing.T) {
	t.Parallel()
	f := newFleet(10)
	for i := range 2 {
		f.rows[i].Owner = "java" // and no more: it is at its limit
	}
	s := f.look("weir/a")
	c := s.claims()
	if c.want != 5 {
		t.Fatalf("takes %d of ten, its share is 5", c.want)
	}
	for i := 2; i < 7; i++ {
		f.rows[i].Owner = "weir/a"
	}
	s = f.look("weir/a")
	if c := s.claims(); c.want != 0 {
		t.Errorf("takes %d beyond its share at once", c.want)
	}
	for id := range s.free {
		s.stale[id] = s.free[id]
	}
	if c := s.claims(); len(c.rows) != 3 || c.want < 3 {
		t.Errorf("takes %d of the three that nobody took for long", c.want)
	}
	s.max = 6
	if c := s.claims(); c.want != 1 {
		t.Errorf("takes %d, its limit leaves room for one", c.want)
	}
}
