package machine

import (
	"slices"
	"strconv"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// parallel starts all branches.
func (r *run) parallel(f *frame, s *scope) outcome {
	input := s.input
	if f.state.parameters != nil {
		var fail *failure
		if input, fail = f.state.parameters.eval(s); fail != nil {
			return failedOutcome(fail)
		}
	}
	if fail := r.fits(f, input); fail != nil {
		return failedOutcome(fail)
	}
	n := len(f.state.branches)
	if r.frames()+n > r.d.limits.Frames {
		return failedOutcome(tooManyFrames(r.d.limits.Frames))
	}
	r.record(f, HistoryEvent{Type: "ParallelStateStarted"})
	f.phase = inBranches
	f.fan = &fan{input: hold(input), count: n, concurrency: n, left: n, next: n, results: make([]jsonvalue.Value, n)}
	for i, b := range f.state.branches {
		f.children = append(f.children, &frame{state: b.start, ordinal: i, input: hold(input), parent: f, chain: f.chain})
	}
	r.schedule(f.children)
	return blockedOutcome
}

// schedule puts frames up to be run, the first of them first: they are taken from the end.
func (r *run) schedule(frames []*frame) {
	for _, f := range slices.Backward(frames) {
		r.runnable = append(r.runnable, f)
	}
}

// fits refuses a value that is too large to be kept: paths and templates can repeat what they
// find, so that a value outgrows the input it comes from.
func (r *run) fits(f *frame, v jsonvalue.Value) *failure {
	if v.Size() <= r.d.limits.Payload {
		return nil
	}
	return dataLimit("The state/task '%s' has an input with a size exceeding the maximum number of bytes service limit.", f.state.name)
}

func tooManyFrames(most int) *failure {
	return raise(errorRuntime, "The execution has more than %d branches and iterations at the same time.", most)
}

// frames counts the branches and iterations that are open.
func (r *run) frames() int {
	n := 0
	r.x.root.each(func(*frame) { n++ })
	return n
}

// mapped starts the first iterations of a Map.
func (r *run) mapped(f *frame, s *scope) outcome {
	m := f.state.mapping
	items := s.input
	if m.itemsPath != nil {
		var fail *failure
		if items, fail = m.itemsPath.orInvalid(s); fail != nil {
			return failedOutcome(fail)
		}
		if items.Kind() != jsonvalue.Array {
			return failedOutcome(raise(errorRuntime, "Reference path \"%s\" must point to array.", m.itemsPath.path))
		}
	}
	if items.Kind() != jsonvalue.Array {
		return failedOutcome(raise(errorRuntime, "Map state input must be an array but was: %s", quoted(items)))
	}
	limit, fail := r.concurrency(m, s)
	for _, v := range [...]jsonvalue.Value{s.input, items} {
		if fail == nil {
			fail = r.fits(f, v)
		}
	}
	if fail != nil {
		return failedOutcome(fail)
	}
	n := items.Len()
	r.record(f, HistoryEvent{Type: "MapStateStarted", Length: n})
	f.phase = inBranches
	f.fan = &fan{input: hold(s.input), items: items, count: n, concurrency: limit, left: n, results: make([]jsonvalue.Value, n), size: 2}
	if n == 0 {
		return r.joined(f, f.chain)
	}
	return r.iterate(f, f.chain)
}

func (r *run) concurrency(m *mapFields, s *scope) (int, *failure) {
	n := m.concurrency
	if m.concurrencyPath != nil {
		v, fail := m.concurrencyPath.orInvalid(s)
		if fail != nil {
			return 0, fail
		}
		var ok bool
		if n, ok = v.Int(); !ok {
			parsed, err := strconv.ParseInt(v.Text(), 10, 32)
			if n, ok = parsed, err == nil && v.Kind() == jsonvalue.String; !ok {
				return 0, raise(errorRuntime, "The MaxConcurrencyPath field refers to value \"%s\" which is not a valid integer: %s", quoted(v), m.concurrencyPath.text)
			}
		}
		if n < 0 {
			return 0, raise(errorRuntime, "MaxConcurrency cannot be negative.")
		}
	}
	if n == 0 || n > int64(r.d.limits.Concurrency) {
		n = int64(r.d.limits.Concurrency)
	}
	return int(n), nil
}

// iterate starts iterations while there are items and room. after is the event that the
// first of them follows.
func (r *run) iterate(f *frame, after uint64) outcome {
	n := f.fan
	open := r.frames()
	var begun []*frame
	for n.next < n.count && len(f.children) < n.concurrency {
		if open >= r.d.limits.Frames {
			if len(f.children) > 0 {
				break // goes on when one of them has ended
			}
			return failedOutcome(tooManyFrames(r.d.limits.Frames))
		}
		item := r.item(n, n.next)
		input := item.value
		if sel := f.state.mapping.selector; sel != nil {
			var fail *failure
			if input, fail = sel.eval(&scope{r: r, f: f, later: &n.input, item: item}); fail == nil {
				fail = r.fits(f, input)
			}
			if fail != nil {
				r.stopBranches(f)
				return failedOutcome(fail)
			}
		}
		c := &frame{state: f.state.branches[0].start, ordinal: n.next, input: hold(input), item: item, parent: f}
		c.chain = r.recordAfter(after, HistoryEvent{Type: "MapIterationStarted", State: f.state.name, Index: n.next})
		n.next++
		open++
		f.children = append(f.children, c)
		begun = append(begun, c)
	}
	r.schedule(begun)
	return blockedOutcome
}

// item is an item of a Map.
func (r *run) item(n *fan, index int) *mapItem {
	if n.number == 0 {
		return &mapItem{index: index, value: n.items.Item(index)}
	}
	return &mapItem{index: index, value: r.piece(n.number, index, n.each), number: n.number, each: n.each}
}

// stopBranches ends the branches of f that are open.
func (r *run) stopBranches(f *frame) {
	for _, c := range f.children {
		r.cancel(c)
	}
	kept := r.runnable[:0]
	for _, t := range r.runnable {
		if !t.below(f) {
			kept = append(kept, t)
		}
	}
	r.runnable = kept
	f.children = nil
}

func (f *frame) below(other *frame) bool {
	for f = f.parent; f != nil; f = f.parent {
		if f == other {
			return true
		}
	}
	return false
}

// branchDone takes the output of a branch or iteration.
func (r *run) branchDone(c *frame, output jsonvalue.Value) {
	f := c.parent
	n := f.fan
	before := c.chain
	f.removeChild(c)
	if f.state.broken != "" {
		r.stopBranches(f)
		r.leave(f, failedOutcome(r.unusable(f.state)))
		return
	}
	if n.number == 0 {
		n.results[c.ordinal] = output
	} else {
		n.fresh = append(n.fresh, result{c.ordinal, output})
	}
	n.left--
	n.size += output.Size() + 1
	if f.state.kind == mapState {
		c.chain = r.recordAfter(before, HistoryEvent{Type: "MapIterationSucceeded", State: f.state.name, Index: c.ordinal})
	}
	switch {
	case n.size > r.d.limits.Payload:
		r.stopBranches(f)
		r.leave(f, failedOutcome(dataLimit(resultTooLarge, f.state.name)))
	case n.left == 0:
		r.leave(f, r.joined(f, c.chain))
	case f.state.kind == mapState:
		r.leave(f, r.iterate(f, before))
	}
}

func (f *frame) removeChild(c *frame) {
	kept := make([]*frame, 0, len(f.children))
	for _, other := range f.children {
		if other != c {
			kept = append(kept, other)
		}
	}
	f.children = kept
}

// joined ends a Parallel or Map whose branches have all ended; after is the last event.
func (r *run) joined(f *frame, after uint64) outcome {
	r.recordAfter(after, HistoryEvent{Type: f.state.kind.String() + "StateSucceeded"})
	results := r.results(f.fan)
	f.chain, f.phase, f.fan = after, ready, nil
	return r.result(f, jsonvalue.OfArray(results))
}

// branchFailed ends a Parallel or Map because of one of its branches.
func (r *run) branchFailed(c *frame, fail *failure) {
	f := c.parent
	before := c.chain
	if f.state.kind == mapState {
		r.recordAfter(before, HistoryEvent{Type: "MapIterationFailed", State: f.state.name, Index: c.ordinal})
	} else if c.state.kind == taskState || c.state.kind == parallelState || c.state.kind == mapState {
		r.recordAfter(before, HistoryEvent{Type: c.state.kind.String() + "StateAborted"})
	}
	r.stopBranches(f)
	f.chain = before
	r.leave(f, failedOutcome(fail))
}
