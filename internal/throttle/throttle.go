// Package throttle limits how fast a target is written to, as middleware around Write.
//
// The limit is the generic cell rate algorithm: one atomic word holds the instant at
// which the next message may leave if all were evenly spaced; a message may be early by
// the burst. No goroutine and no lock.
package throttle

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
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
		tat := l.tat.Load()
		next, wait := l.after(tat, n)
		if l.tat.CompareAndSwap(tat, next) {
			return wait
		}
	}
}

// Take is Reserve for those who do not wait here: it takes n messages if they may leave now,
// and otherwise none, and returns how long it is until they may.
func (l *Limiter) Take(n int) (wait time.Duration) {
	for {
		tat := l.tat.Load()
		next, wait := l.after(tat, n)
		if wait > 0 || l.tat.CompareAndSwap(tat, next) {
			return wait
		}
	}
}

// after is what the word becomes when n messages are taken at tat, and how long they wait.
func (l *Limiter) after(tat int64, n int) (next int64, wait time.Duration) {
	now := int64(time.Since(l.start))
	base := max(min(tat, math.MaxInt64/2), now)
	next = base + cost(n, l.interval)
	// The group may leave once its last message is early by no more than the burst, or, if it
	// is larger than the burst, once nothing is owed any more.
	return next, time.Duration(max(min(next-l.burst, base)-now, 0))
}

// Allowance is how many messages may leave now, one by one, and how long it is until more may.
func (l *Limiter) Allowance() (messages int, more time.Duration) {
	now := int64(time.Since(l.start))
	owed := max(l.tat.Load()-now, 0)
	messages = int(min(max(l.burst-owed, 0)/l.interval, math.MaxInt32))
	return messages, time.Duration(max(owed+int64(messages+1)*l.interval-l.burst, 1))
}

// idle reports whether a new limiter would answer as l does.
func (l *Limiter) idle() bool { return l.tat.Load() <= int64(time.Since(l.start)) }

// ByValue is one limiter for each value of something, such as a destination, all with the
// same rate. A value that has used up nothing of its allowance is forgotten, so that there
// are no more limiters than values with traffic. Nil limits nothing.
type ByValue struct {
	perSecond float64
	burst     int

	mu    sync.Mutex
	of    map[string]*Limiter
	sweep int // size of the map at which idle limiters are forgotten
}

// PerValue makes limiters with a rate and burst as [New] takes them.
func PerValue(perSecond float64, burst int) *ByValue {
	return &ByValue{perSecond: perSecond, burst: burst, of: map[string]*Limiter{}, sweep: leastSweep}
}

const leastSweep = 1024

// Of is the limiter of a value.
func (b *ByValue) Of(value string) *Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of[value]
	if l == nil {
		if len(b.of) >= b.sweep {
			for v, l := range b.of {
				if l.idle() {
					delete(b.of, v)
				}
			}
			b.sweep = max(2*len(b.of), leastSweep)
		}
		l = New(b.perSecond, b.burst)
		b.of[value] = l
	}
	return l
}

// ErrWait is the error of a write that was not made, because its messages may not leave yet.
// It is paced, with the time until they may.
var ErrWait = errors.New("the pipeline's own throttle")

// Hand is middleware for messages that a queue takes back until they may leave: nothing waits.
func (l *Limiter) Hand() connector.Middleware {
	return func(next connector.Write) connector.Write {
		return func(ctx context.Context, b event.Batch) error {
			if d := l.Take(len(b)); d > 0 {
				return fault.Pace(ErrWait, d)
			}
			return next(ctx, b)
		}
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
