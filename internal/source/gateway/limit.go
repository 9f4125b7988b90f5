package gatewaysource

import (
	"sync"
	"time"
)

// rate is how many events may come in a window of time, and how many of them at once.
type rate struct {
	events, burst int64
	window        time.Duration
}

// cost is the time that n events take up.
func (r rate) cost(n int64) time.Duration {
	return time.Duration(float64(r.window) * float64(n) / float64(r.events))
}

// limiter bounds the events of each workspace over time: the generic cell rate algorithm,
// whose only state is the time at which the workspace will have used up nothing. A request
// is let in whole or not at all; one larger than the burst only when nothing is used.
type limiter struct {
	rate rate            // of workspaces without one of their own; no events: no limit
	of   map[string]rate // by workspace

	mu   sync.Mutex
	free map[string]time.Time // by workspace; there are as many as the configuration names
}

// newLimiter is nil where nothing is limited.
func newLimiter(every rate, of map[string]rate) *limiter {
	if every.events <= 0 && len(of) == 0 {
		return nil
	}
	return &limiter{rate: every, of: of, free: map[string]time.Time{}}
}

// take takes n events of a workspace, or returns how long it is until so many may come.
func (l *limiter) take(workspace string, n int, now time.Time) (wait time.Duration) {
	return l.ask(workspace, n, now, true)
}

// spent is take that takes nothing.
func (l *limiter) spent(workspace string, n int, now time.Time) (wait time.Duration) {
	return l.ask(workspace, n, now, false)
}

func (l *limiter) ask(workspace string, n int, now time.Time, take bool) time.Duration {
	if l == nil {
		return 0
	}
	r, own := l.of[workspace]
	if !own {
		r = l.rate
	}
	if r.events <= 0 {
		return 0
	}
	cost, most := r.cost(int64(n)), r.cost(r.burst)
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.free[workspace]
	if free.Before(now) {
		free = now
	}
	if used := free.Sub(now); used > 0 && used+cost > most {
		return min(used, used+cost-most)
	}
	if take {
		l.free[workspace] = free.Add(cost)
	}
	return 0
}
