//go:build invariants || race

package event

import (
	"runtime"
	"sync/atomic"
)

var lost atomic.Int64

// watched is what a cleanup needs to know of a tracker without keeping it alive.
type watched struct{ done atomic.Bool }

func watch(t *tracker) {
	w := &watched{}
	done := t.done
	t.done = func(o Outcomes) {
		w.done.Store(true)
		done(o)
	}
	runtime.AddCleanup(t, func(w *watched) {
		if !w.done.Load() {
			lost.Add(1)
		}
	}, w)
}

func settledTwice(m *Message) {
	if len(m.Data) > 64 {
		panic("event: message settled twice: " + string(m.Data[:64]) + "...")
	}
	panic("event: message settled twice: " + string(m.Data))
}

// Lost is the number of read batches that were forgotten before all of their messages
// were settled: each is a message that would never be acknowledged. Counted by the
// garbage collector, so call runtime.GC before reading it.
func Lost() int64 { return lost.Load() }
