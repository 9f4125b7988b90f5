package postgres

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
)

// How work is shared out, without a database: what a process sees, and what follows from it.

// member is a process that lives and leases.
type member struct {
	id     int64
	name   string
	queues []string // it leases from, sorted
	// whole is a process of a version that takes partitions with all of their queues, and
	// does not say which it leases from.
	whole bool
}

func (m *member) reads(q string) bool {
	_, found := slices.BinarySearch(m.queues, q)
	return m.whole || found
}

// share is the queues of one partition that a process leases from.
type share struct {
	process int64
	queues  []string // sorted
}

// partState is a partition as it is in the database. Of its shares only those are there that
// hold under its epoch; their processes may be gone.
type partState struct {
	id     int
	keeper int64 // writes checkpoints; 0 for nobody
	epoch  int64
	pos    int64 // of its checkpoint
	shares []share
}

// cluster is all that a process sees of the others.
type cluster struct {
	members map[int64]*member
	parts   []partState
}

// kept reports whether somebody who lives keeps a partition.
func (v *cluster) kept(p *partState) bool { return v.members[p.keeper] != nil }

// holder is who leases from a queue in a partition; 0 for nobody who lives.
func (v *cluster) holder(p *partState, q string) int64 {
	if k := v.members[p.keeper]; k != nil && k.whole {
		return k.id
	}
	for i := range p.shares {
		if _, has := slices.BinarySearch(p.shares[i].queues, q); has && v.members[p.shares[i].process] != nil {
			return p.shares[i].process
		}
	}
	return 0
}

// of is the queues that a process has in a partition.
func (p *partState) of(process int64) []string {
	for i := range p.shares {
		if p.shares[i].process == process {
			return p.shares[i].queues
		}
	}
	return nil
}

// dead is the processes that have shares, or keep partitions, and are gone.
func (v *cluster) dead() []int64 {
	gone := map[int64]struct{}{}
	for i := range v.parts {
		p := &v.parts[i]
		if p.keeper != 0 && !v.kept(p) {
			gone[p.keeper] = struct{}{}
		}
		for k := range p.shares {
			if v.members[p.shares[k].process] == nil {
				gone[p.shares[k].process] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(gone))
}

// quota is how many partitions process self is to lease from queue q in, where count says how
// many each process does now. The quotas of all who lease from q sum up to the number of
// partitions, and differ by one at most; those who have more keep more. Processes that take
// partitions whole follow a rule of their own, and the others share what that leaves.
func (v *cluster) quota(self int64, q string, count map[int64]int) int {
	old := 0
	var readers []int64
	for id, m := range v.members {
		switch {
		case m.whole:
			old++
		case m.reads(q):
			readers = append(readers, id)
		}
	}
	slices.SortFunc(readers, func(a, b int64) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	rank := slices.Index(readers, self)
	if rank < 0 {
		return 0
	}
	rest := len(v.parts)
	if old > 0 {
		rest = max(0, rest-old*((rest+len(v.members)-1)/len(v.members)))
	}
	n := rest / len(readers)
	if rank < rest%len(readers) {
		n++
	}
	return n
}

// standing is what a process has of a partition in its memory.
type standing struct {
	queues  []string // it leases from
	leaving bool     // it is about to give up some of them: nothing is decided meanwhile
}

// plan is what process self, which is a member, is to do, given what it has of each
// partition: take says all that it is to have of a partition that it takes something of, give
// all that it is to keep of one that it gives something of.
func (v *cluster) plan(self int64, has map[int]standing) (take, give map[int][]string) {
	take, give = map[int][]string{}, map[int][]string{}
	next := map[int][]string{}
	for part, st := range has {
		if st.leaving {
			continue
		}
		next[part] = slices.Clone(st.queues)
		for _, q := range st.queues {
			if m := v.members[self]; m == nil || !m.reads(q) {
				next[part] = without(next[part], q)
				give[part] = nil
			}
		}
	}
	if m := v.members[self]; m != nil {
		for _, q := range m.queues {
			v.balance(self, q, has, next, take, give)
		}
	}
	for i := range v.parts {
		// Its keeper has gone, and nobody may want what that had.
		if p := &v.parts[i]; len(next[p.id]) > 0 && (!v.kept(p) || len(p.of(p.keeper)) == 0) {
			take[p.id] = nil
		}
	}
	for part := range give {
		give[part] = next[part]
		delete(take, part) // what is left of it is taken anew
	}
	for part := range take {
		take[part] = next[part]
	}
	return take, give
}

// balance plans for one queue.
func (v *cluster) balance(self int64, q string, has map[int]standing, next, take, give map[int][]string) {
	count := map[int64]int{}
	var mine, free []int
	for i := range v.parts {
		p := &v.parts[i]
		holder := v.holder(p, q)
		if _, mineNow := slices.BinarySearch(next[p.id], q); mineNow {
			holder = self
			mine = append(mine, p.id)
		} else if holder == self || holder == 0 {
			holder = 0 // what it has lost the memory of it takes again
			if !has[p.id].leaving {
				free = append(free, p.id)
			}
		}
		count[holder]++
	}
	quota := v.quota(self, q, count)
	// Partitions of which it has more already come first, so that few processes follow each. The
	// jobs of a scope lie in neighbours, so those are dealt out to different processes.
	start := int(self % int64(len(v.parts)))
	place := func(part int) uint32 { return bits.Reverse32(uint32((part - start + len(v.parts)) % len(v.parts))) }
	slices.SortFunc(free, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(next[b]), len(next[a])), cmp.Compare(place(a), place(b)))
	})
	slices.SortFunc(mine, func(a, b int) int {
		return cmp.Or(cmp.Compare(len(next[a]), len(next[b])), cmp.Compare(place(b), place(a)))
	})
	for _, part := range free[:max(0, min(len(free), quota-len(mine)))] {
		next[part] = with(next[part], q)
		take[part] = nil
	}
	for _, part := range mine[:max(0, len(mine)-quota)] {
		next[part] = without(next[part], q)
		give[part] = nil
	}
}

// grant has process self have these queues of a partition, but for those that another who
// lives has, and nothing else of it; false when that is none.
func (v *cluster) grant(p *partState, self int64, want []string) (next partState, ok bool) {
	if k := v.members[p.keeper]; k != nil && k.whole {
		return *p, false
	}
	next = partState{id: p.id, epoch: p.epoch + 1, pos: p.pos}
	mine := slices.Clone(want)
	for _, sh := range p.shares {
		if sh.process == self || v.members[sh.process] == nil {
			continue
		}
		next.shares = append(next.shares, sh)
		for _, q := range sh.queues {
			mine = without(mine, q)
		}
	}
	if len(mine) == 0 {
		return *p, false
	}
	next.shares = append(next.shares, share{self, mine})
	if next.keeper = p.keeper; len(next.of(p.keeper)) == 0 {
		next.keeper = self
	}
	return next, true
}

// yield has process self keep these queues of a partition only. What goes to nobody is free.
// Who takes it raises the epoch.
func (v *cluster) yield(p *partState, self int64, keep []string) partState {
	next := partState{id: p.id, keeper: p.keeper, epoch: p.epoch, pos: p.pos}
	most := 0
	var heir int64
	for _, sh := range p.shares {
		if sh.process == self {
			continue
		}
		next.shares = append(next.shares, sh)
		if v.members[sh.process] != nil && len(sh.queues) > most {
			heir, most = sh.process, len(sh.queues)
		}
	}
	if len(keep) > 0 {
		next.shares = append(next.shares, share{self, keep})
	} else if p.keeper == self {
		next.keeper = heir
	}
	return next
}

// with and without change sorted names, and leave the slice that they are given as it is.
func with(names []string, q string) []string {
	at, there := slices.BinarySearch(names, q)
	if there {
		return names
	}
	return slices.Insert(slices.Clone(names), at, q)
}

func without(names []string, q string) []string {
	at, there := slices.BinarySearch(names, q)
	if !there {
		return names
	}
	return slices.Delete(slices.Clone(names), at, at+1)
}

// contains reports whether all of part are among names; both are sorted.
func contains(names, part []string) bool {
	for _, q := range part {
		if _, there := slices.BinarySearch(names, q); !there {
			return false
		}
	}
	return true
}
