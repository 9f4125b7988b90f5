package machine

import (
	"fmt"
	"time"
)

// Standing is where a thread of an execution is: the execution itself, a branch or an iteration.
type Standing struct {
	State string
	// Depth is how many Parallel and Map states are around it, and Branch its place among those of the
	// innermost, from 0; -1 without one.
	Depth, Branch int
	// Phase is "ready", "task", "waiting", "retrying" or "branches".
	Phase   string
	Entered time.Time
	// Retries of the state since it was entered.
	Retries int
	// Of a Parallel or Map: how many branches or items there are, how many have begun, and how many have
	// not ended.
	Count, Begun, Left int
}

var phaseNames = [...]string{ready: "ready", inTask: "task", waiting: "waiting", retrying: "retrying", yielded: "ready", inBranches: "branches"}

// Standings are where the threads of x are, outer before inner, up to a number of them.
func (x *Execution) Standings(most int) (all []Standing) {
	x.root.each(func(f *frame) {
		if len(all) == most {
			return
		}
		s := Standing{State: f.state.name, Branch: -1, Phase: phaseNames[f.phase], Retries: int(f.retries)}
		if f.entered != 0 {
			s.Entered = time.Unix(0, f.entered).UTC()
		}
		for p := f.parent; p != nil; p = p.parent {
			s.Depth++
		}
		if f.parent != nil {
			s.Branch = f.ordinal
		}
		if f.fan != nil {
			s.Count, s.Begun, s.Left = f.fan.count, f.fan.next, f.fan.left
		}
		all = append(all, s)
	})
	return all
}

// InputText is what x was started with, as JSON; it is read where it is at rest.
func (x *Execution) InputText() (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			u, is := p.(unread)
			if !is {
				panic(p)
			}
			text, err = nil, fmt.Errorf("read the input: %w", u.err)
		}
	}()
	r := run{x: x}
	v := r.executionInput()
	if !v.Defined() {
		return nil, nil
	}
	return v.Append(nil), nil
}
