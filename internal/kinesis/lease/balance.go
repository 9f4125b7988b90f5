package lease

import (
	"cmp"
	"maps"
	"slices"
)

// standing is what one look at the table says, as one worker sees it.
type standing struct {
	me   string
	rows []Row
	// free says of a row that nobody holds it: no owner, one whose time is over, or this worker
	// under a holding that has ended.
	free map[string]bool
	// stale says of a free row that it was free for a long time.
	stale map[string]bool
	// resting says of a row that this worker has just given it up.
	resting map[string]bool
	max     int // 0: no limit
}

// claim is what a worker is to take: the first want of rows that can be had.
type claim struct {
	rows []Row
	want int
	// steal says that the rows have live owners. One that cannot be had is not replaced by
	// another: somebody else is levelling too, or its owner has moved on.
	steal bool
}

// claims decides what me takes. Shards that have ended are no work and count for nobody.
//
// Everybody is to have an equal share, give or take one. What is free is taken first, up to the
// share; only when nothing is free, what is missing to it is taken from those that have most, so
// that nobody falls below the share and no more moves than has to. Everyone who decides from the
// same rows goes through them in the same order, from a place of its own where they are free, and
// from the same place where they are not: two that come at once and do not know of each other want
// the same ones, and do not take twice as much.
func (s standing) claims() claim {
	counts := map[string]int{s.me: 0}
	var free, stale []Row
	active := 0
	for _, r := range s.rows {
		if r.Ended() {
			continue
		}
		active++
		switch {
		case !s.free[r.Shard]:
			counts[r.Owner]++
		case !s.resting[r.Shard]:
			free = append(free, r)
			if s.stale[r.Shard] {
				stale = append(stale, r)
			}
		}
	}
	mine := counts[s.me]
	most := active
	if s.max > 0 {
		most = s.max
	}
	share := (active + len(counts) - 1) / len(counts)
	switch {
	case len(free) > 0 && mine < min(share, most):
		return claim{rows: s.order(free, counts), want: min(share, most) - mine}
	case len(stale) > 0 && mine < most:
		return claim{rows: s.order(stale, counts), want: most - mine} // others have all they can
	case len(free) > 0:
		return claim{}
	}
	return s.level(counts, active/len(counts), most)
}

// order turns rows so that each worker begins at a place of its own.
func (s standing) order(rows []Row, counts map[string]int) []Row {
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Shard, b.Shard) })
	workers := slices.Sorted(maps.Keys(counts))
	from := slices.Index(workers, s.me) * len(rows) / len(workers)
	return append(slices.Clone(rows[from:]), rows[:from]...)
}

// level takes from those that have most what me lacks to the share that everybody has at least;
// and one when another has two more.
func (s standing) level(counts map[string]int, share, most int) claim {
	held := map[string][]Row{}
	for _, r := range s.rows {
		if !r.Ended() && r.Owner != s.me {
			held[r.Owner] = append(held[r.Owner], r)
		}
	}
	for _, rows := range held {
		slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(b.Shard, a.Shard) })
	}
	c := claim{steal: true}
	workers := slices.Sorted(maps.Keys(held))
	for mine := counts[s.me]; mine < most && (mine < share || len(c.rows) == 0); mine++ {
		from := ""
		for _, w := range workers {
			if n := counts[w]; n > counts[from] && len(held[w]) > 0 {
				from = w
			}
		}
		if from == "" || counts[from] < mine+2 {
			break
		}
		c.rows = append(c.rows, held[from][0])
		held[from] = held[from][1:]
		counts[from]--
	}
	c.want = len(c.rows)
	return c
}
