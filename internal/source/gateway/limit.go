package gatewaysource

import (
	"sync"
	"time"
)

// limiter bounds the events of each workspace over time: the generic cell rate algorithm,
// whose only state is the time at which the workspace will have used up nothing. A request
// is let in whole or not at all; one larger than the limit only when nothing is used.
type limiter struct {
	events int64
	window time.Duration

	mu   sync.Mutex
	free map[string]time.Time // by workspace; there are as many as the configuration names
}

func newLimiter(events int, window time.Duration) *limiter {
	if events <= 0 {
		return nil
	}
	return &limiter{events: int64(events), window: window, free: map[string]time.Time{}}
}

// allow takes n events of a workspace; false when they are too many now.
func (l *limiter) allow(workspace string, n int, now time.Time) bool {
	if l == nil {
		return true
	}
	cost := time.Duration(float64(l.window) * float64(n) / float64(l.events))
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.free[workspace]
	if free.Before(now) {
		free = now
	}
	if used := free.Sub(now); used > 0 && used+cost > l.window {
		return false
	}
	l.free[workspace] = free.Add(cost)
	return true
}
