package gatewaysource

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/queue"
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

	shared atomic.Pointer[shared] // nil: only what comes here is counted

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
	r, limits := l.rateOf(workspace)
	if !limits {
		return 0
	}
	if s := l.shared.Load(); s != nil {
		return s.take(r, workspace, int64(n), func(part rate) time.Duration { return l.ask(part, workspace, n, now, true) })
	}
	return l.ask(r, workspace, n, now, true)
}

// spent is take that takes nothing.
func (l *limiter) spent(workspace string, n int, now time.Time) (wait time.Duration) {
	r, limits := l.rateOf(workspace)
	if !limits {
		return 0
	}
	if s := l.shared.Load(); s != nil {
		return s.spent(r, workspace)
	}
	return l.ask(r, workspace, n, now, false)
}

// rateOf is the rate of a workspace; false when it has none.
func (l *limiter) rateOf(workspace string) (r rate, limits bool) {
	if l == nil {
		return r, false
	}
	r, own := l.of[workspace]
	if !own {
		r = l.rate
	}
	return r, r.events > 0
}

// share has the limits hold over all gateways of s, where others have it, too.
func (l *limiter) share(s queue.Store, log *slog.Logger) {
	if l != nil && s != nil {
		l.shared.Store(newShared(s, log))
	}
}

// ask asks by what came here.
func (l *limiter) ask(r rate, workspace string, n int, now time.Time, take bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.free[workspace]
	if free.Before(now) {
		free = now
	}
	if wait := r.short(free, now, int64(n)); wait > 0 {
		return wait
	}
	if take {
		l.free[workspace] = free.Add(r.cost(int64(n)))
	}
	return 0
}
