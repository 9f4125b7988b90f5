package postgres

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// world is a database and the processes that share it, as far as ownership goes: what each
// has in memory, and what the tables say.
type world struct {
	t     *testing.T
	r     *rand.Rand
	parts []partState
	procs map[int64]*actor
	next  int64
	calm  bool // nothing fails any more, and nobody acts on what it saw long ago
}

// actor is a process of a world.
type actor struct {
	id     int64
	queues []string
	whole  bool // of the version before
	has    map[int]*memory
	seen   *cluster // of a round that has read and not acted
}

type memory struct {
	queues  []string
	epoch   int64
	leaving bool
	keep    []string
}

func (w *world) cluster() *cluster {
	v := &cluster{members: map[int64]*member{}}
	for id, a := range w.procs {
		if a.whole || len(a.queues) > 0 || len(a.has) > 0 {
			v.members[id] = &member{id: id, queues: a.queues, whole: a.whole}
		}
	}
	for _, p := range w.parts {
		p.shares = slices.Clone(p.shares)
		v.parts = append(v.parts, p)
	}
	return v
}

func (w *world) fails() bool { return !w.calm && w.r.IntN(6) == 0 }

// act ends a round of a process that leases by queue: as Store.round does, on what it has seen.
func (w *world) act(a *actor) {
	v := a.seen
	a.seen = nil
	has := map[int]standing{}
	free := map[int][]string{}
	for i := range v.parts {
		p := &v.parts[i]
		m := a.has[p.id]
		switch {
		case m == nil && (len(p.of(a.id)) > 0 || p.keeper == a.id):
			free[p.id] = nil
		case m == nil || p.epoch < m.epoch:
		case !contains(p.of(a.id), m.queues):
			delete(a.has, p.id)
		default:
			m.epoch = p.epoch
			has[p.id] = standing{m.queues, m.leaving}
			if !contains(m.queues, p.of(a.id)) && !m.leaving {
				free[p.id] = m.queues
			}
		}
	}
	take, give := v.plan(a.id, has)
	for part, keep := range give {
		a.has[part].leaving, a.has[part].keep = true, keep
	}
	for part, keep := range free {
		_, more := take[part]
		_, less := give[part]
		if !more && !less && !w.fails() {
			w.yield(a, part, keep)
		}
	}
	for part, want := range take {
		if w.fails() {
			continue
		}
		next, ok := w.cluster().grant(&w.parts[part], a.id, want)
		if !ok {
			continue
		}
		before := w.parts[part].of(a.id)
		w.parts[part] = next
		m := a.has[part]
		if m != nil && !contains(before, m.queues) {
			delete(a.has, part)
			m = nil
		}
		if m != nil {
			m.epoch = next.epoch
		}
		if w.fails() {
			continue // it could not be read
		}
		if m == nil {
			m = &memory{epoch: next.epoch}
			a.has[part] = m
		}
		m.queues = next.of(a.id)
	}
}

func (w *world) yield(a *actor, part int, keep []string) {
	p := &w.parts[part]
	mine := p.of(a.id)
	if len(mine) == 0 && p.keeper != a.id || !contains(mine, keep) {
		return
	}
	w.parts[part] = w.cluster().yield(p, a.id, keep)
}

// leave ends the giving up of a partition.
func (w *world) leave(a *actor, part int) {
	m := a.has[part]
	delete(a.has, part)
	if w.fails() {
		return // the memory is gone, and the database does not know
	}
	if a.whole {
		if p := &w.parts[part]; p.keeper == a.id && p.epoch == m.epoch {
			p.keeper = 0
		}
		return
	}
	w.yield(a, part, m.keep)
}

// whole is a round of the version before.
func (w *world) whole(a *actor) {
	v := a.seen
	a.seen = nil
	mine := 0
	var free []int
	for _, p := range v.parts {
		m := a.has[p.id]
		if m != nil && p.keeper == a.id && p.epoch == m.epoch {
			mine++
			continue
		}
		delete(a.has, p.id)
		if p.keeper == 0 || p.keeper == a.id || v.members[p.keeper] == nil {
			free = append(free, p.id)
		}
	}
	live := len(v.members)
	if v.members[a.id] == nil {
		live++
	}
	quota := (len(v.parts) + live - 1) / live
	if want := min(quota-mine, len(free)); want > 0 {
		for _, part := range free[:want] {
			p := &w.parts[part]
			if k := w.procs[p.keeper]; w.fails() || k != nil && k != a && w.cluster().members[k.id] != nil {
				continue
			}
			*p = partState{id: part, keeper: a.id, epoch: p.epoch + 1}
			if !w.fails() {
				a.has[part] = &memory{epoch: p.epoch}
			}
		}
		return
	}
	for part := len(v.parts) - 1; part >= 0 && mine > quota; part-- {
		if m := a.has[part]; m != nil {
			m.leaving = true
			mine--
		}
	}
}

var modelQueues = []string{"a", "b", "c"}

func (w *world) step() {
	ids := slices.Sorted(maps.Keys(w.procs))
	if len(ids) == 0 || w.r.IntN(40) == 0 && len(ids) < 6 {
		w.next++
		a := &actor{id: w.next, has: map[int]*memory{}, whole: w.r.IntN(4) == 0}
		w.procs[a.id] = a
		ids = append(ids, a.id)
	}
	a := w.procs[ids[w.r.IntN(len(ids))]]
	switch n := w.r.IntN(20); {
	case n == 0 && w.r.IntN(6) == 0: // it dies, or counts as dead
		delete(w.procs, a.id)
	case n < 3 && !a.whole: // its config is another
		a.queues = nil
		for _, q := range modelQueues {
			if w.r.IntN(2) == 0 {
				a.queues = append(a.queues, q)
			}
		}
	case n < 8:
		for part, m := range a.has {
			if m.leaving {
				w.leave(a, part)
				break
			}
		}
	case a.seen == nil:
		a.seen = w.cluster()
	case a.whole:
		w.whole(a)
	default:
		w.act(a)
	}
}

// safe holds that no two processes could settle jobs of one queue in one partition.
func (w *world) safe() {
	w.t.Helper()
	for i := range w.parts {
		p := &w.parts[i]
		could := map[string]int64{}
		for _, a := range w.procs {
			m := a.has[p.id]
			if m == nil || m.epoch != p.epoch {
				continue
			}
			queues := m.queues
			if a.whole {
				queues = modelQueues
			}
			for _, q := range queues {
				if other := could[q]; other != 0 {
					w.t.Fatalf("partition %d: processes %d and %d have queue %s: %+v", p.id, other, a.id, q, *p)
				}
				could[q] = a.id
			}
		}
	}
}

// settle runs rounds until nothing changes.
func (w *world) settle() {
	w.t.Helper()
	w.calm = true
	for _, a := range w.procs {
		a.seen = nil
	}
	same := 0
	for range 200 {
		before := w.print()
		ids := slices.Sorted(maps.Keys(w.procs))
		w.r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		for _, id := range ids {
			a := w.procs[id]
			for part, m := range a.has {
				if m.leaving {
					w.leave(a, part)
				}
			}
			if a.seen = w.cluster(); a.whole {
				w.whole(a)
			} else {
				w.act(a)
			}
			w.safe()
		}
		if same++; w.print() != before {
			same = 0
		}
		if same == 3 {
			return
		}
	}
	w.t.Fatalf("the processes never come to rest:\n%s", w.print())
}

func (w *world) print() string {
	out := ""
	for _, id := range slices.Sorted(maps.Keys(w.procs)) {
		a := w.procs[id]
		out += fmt.Sprintf("process %d leases from %v, whole %v\n", id, a.queues, a.whole)
	}
	for _, p := range w.parts {
		out += fmt.Sprintf("%+v\n", p)
	}
	return out
}

// rested holds that every queue that somebody leases from is leased from in every partition,
// by processes that live, and that its partitions are shared out evenly.
func (w *world) rested() {
	w.t.Helper()
	v := w.cluster()
	old := 0
	for _, m := range v.members {
		if m.whole {
			old++
		}
	}
	for _, q := range modelQueues {
		count := map[int64]int{}
		for id, m := range v.members {
			if !m.whole && m.reads(q) {
				count[id] = 0
			}
		}
		if len(count) == 0 {
			continue
		}
		for i := range v.parts {
			holder := v.holder(&v.parts[i], q)
			if holder == 0 && old == 0 {
				w.t.Fatalf("nobody has queue %s in partition %d:\n%s", q, i, w.print())
			}
			if a := w.procs[holder]; a != nil && !a.whole {
				if m := a.has[i]; m == nil || !slices.Contains(m.queues, q) || m.epoch != v.parts[i].epoch {
					w.t.Fatalf("process %d has queue %s in partition %d, and does not know:\n%s", holder, q, i, w.print())
				}
				count[holder]++
			}
		}
		least, most := len(v.parts), 0
		for _, n := range count {
			least, most = min(least, n), max(most, n)
		}
		if old == 0 && most-least > 1 {
			w.t.Fatalf("queue %s is shared out as %v:\n%s", q, count, w.print())
		}
	}
	for i := range v.parts {
		p := &v.parts[i]
		lives := slices.ContainsFunc(p.shares, func(sh share) bool { return v.members[sh.process] != nil })
		if m := v.members[p.keeper]; m == nil && lives || m != nil && !m.whole && len(p.of(m.id)) == 0 {
			w.t.Fatalf("partition %d has no keeper that leases from it:\n%s", i, w.print())
		}
	}
}

// TestSharing runs random histories of processes that come, change what they lease from, see
// late, fail half way and die, beside such that take partitions whole. At no time could two
// settle the same jobs, and once nothing more happens, all work has somebody who does it, and
// is shared out evenly.
func TestSharing(t *testing.T) {
	t.Parallel()
	runs := 400
	if n, err := strconv.Atoi(os.Getenv("WEIR_MODEL_RUNS")); err == nil {
		runs = n
	}
	for seed := range uint64(runs) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), procs: map[int64]*actor{}, next: int64(seed) * 31}
		for i := range 1 + w.r.IntN(9) {
			w.parts = append(w.parts, partState{id: i})
		}
		for range 3 {
			for range 150 {
				w.step()
				w.safe()
			}
			if seed%2 == 0 {
				for id, a := range w.procs {
					if a.whole {
						delete(w.procs, id)
					}
				}
			}
			w.settle()
			w.rested()
			w.calm = false
		}
	}
}
