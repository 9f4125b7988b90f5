package queue

import (
	"context"
	"time"
)

// Census is a store that can be counted as a whole.
type Census interface {
	// Lanes are the lanes that have open or dead jobs, those of one queue and scope together.
	// It costs no more when many jobs wait; a store that several processes share says the same
	// to all of them, but for Oldest.
	Lanes(ctx context.Context) ([]LaneState, error)
	// Shared reports whether other processes may use the store at the same time.
	Shared() bool
}

// LaneState is what a queue holds for one scope.
type LaneState struct {
	Queue string
	Scope Scope
	// Open jobs are neither done nor dead; of those, Retrying ones wait for their next attempt.
	Open, Retrying, Dead int64
	Bytes                int64
	// Oldest is when the oldest open job was appended; zero without one, and when it is not
	// known: of a shared store a process knows it for those parts that it keeps, so that the
	// earliest of what all processes say is right.
	Oldest time.Time
}

// join adds the lanes of another shard of the same queue and scope.
func (l *LaneState) join(o LaneState) {
	l.Open, l.Retrying, l.Dead, l.Bytes = l.Open+o.Open, l.Retrying+o.Retrying, l.Dead+o.Dead, l.Bytes+o.Bytes
	if !o.Oldest.IsZero() && (l.Oldest.IsZero() || o.Oldest.Before(l.Oldest)) {
		l.Oldest = o.Oldest
	}
}

// JoinLanes puts those of one queue and scope together, and leaves out what is empty.
func JoinLanes(lanes []LaneState) []LaneState {
	type place struct {
		queue string
		scope Scope
	}
	at := map[place]int{}
	out := lanes[:0]
	for _, l := range lanes {
		if l.Open <= 0 && l.Dead <= 0 {
			continue
		}
		p := place{l.Queue, l.Scope}
		if i, known := at[p]; known {
			out[i].join(l)
			continue
		}
		at[p] = len(out)
		out = append(out, l)
	}
	return out
}
