// Package throttle limits how fast a target is written to, as middleware around Write.
//
// The limit is the generic cell rate algorithm: one atomic word holds the instant at
// which the next message may leave if all were evenly spaced; a message may be early by
// the burst. No goroutine and no lock.
package throttle

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// Limiter allows a number of messages per period, evenly spaced, with a burst.
type Limiter struct {
	interval int64        // nanoseconds between messages
	burst    int64        // nanoseconds a message may be early
	tat      atomic.Int64 // theoretical arrival time, in nanoseconds since start
	start    time.Time
}

// slowest is the longest time between two messages that a Limiter keeps to.
const slowest = float64(24 * time.Hour)

// New allows perSecond messages each second, burst of them at once (at least one).
// perSecond is greater than zero; less than one a day counts as one a day.
func New(perSecond float64, burst int) *Limiter {
	interval := int64(slowest)
	if d := float64(time.Second) / perSecond; d >= 0 && d < slowest {
		interval = max(int64(d), 1)
	}
	return &Limiter{interval: interval, burst: cost(max(burst, 1), interval), start: time.Now()}
}

// cost is the time n messages take up, at most a quarter of what the clock can hold.
func cost(n int, interval int64) int64 {
	return min(int64(n), math.MaxInt64/4/interval) * interval
}

// Reserve takes n messages from the allowance and returns how long to wait before
// sending them. A group larger than the burst waits until its first message may leave.
func (l *Limiter) Reserve(n int) time.Duration {
	for {
		now := int64(time.Since(l.start))
		tat := l.tat.Load()
		base := max(min(tat, math.MaxInt64/2), now)
		next := base + cost(n, l.interval)
		if !l.tat.CompareAndSwap(tat, next) {
			continue
		}
		// The group may leave once its last message is early by no more than the burst,
		// or, if it is larger than the burst, once nothing is owed any more.
		return time.Duration(max(min(next-l.burst, base)-now, 0))
	}
}

// Middleware waits before each write until its messages are allowed to leave.
func (l *Limiter) Middleware() connector.Middleware {
	return func(next connector.Write) connector.Write {
		return func(ctx context.Context, b event.Batch) error {
			if d := l.Reserve(len(b)); d > 0 {
				t := time.NewTimer(d)
				select {
				case <-t.C:
				case <-ctx.Done():
					t.Stop()
					return context.Cause(ctx)
				}
			}
			return next(ctx, b)
		}
	}
}
