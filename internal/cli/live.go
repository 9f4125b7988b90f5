package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// progress shows a live line on standard error while a person looks at it.
type progress struct {
	quit, ended chan struct{}
	shown       bool
}

// decide says whether there is a live line: wherever standard error is a terminal, unless the
// user wants none, or events run over it, which are a sign of life themselves. Failures may be
// printed there: they take the line's place.
func (r *runner) decide(plan *config.Plan) {
	ours := terminal(r.s.Err) && terminal(r.s.Out)
	r.live = terminal(r.s.Err) && !r.quiet && !(ours && delivers(plan, "stdout"))
	if r.live && ours {
		r.builder.Stdout = printed{r.s.Out}
	}
}

// delivers reports whether messages of a plan are delivered to a target of that name.
func delivers(plan *config.Plan, name string) bool {
	return slices.ContainsFunc(plan.Pipelines, func(p *config.Pipeline) bool {
		return slices.ContainsFunc(p.Targets, func(t *config.Route) bool { return t.Use.Name == name })
	})
}

// progress starts the live line, where there is one.
func (r *runner) progress() progress {
	p := progress{quit: make(chan struct{}), ended: make(chan struct{})}
	if !r.live {
		close(p.ended)
		return p
	}
	p.shown = true
	go func() {
		defer close(p.ended)
		showLive(&r.screen, r.meter, r.queued, p.quit)
	}()
	return p
}

// stop ends the live line, which then says what the run came to, and reports whether there was
// one.
func (p progress) stop() (shown bool) {
	close(p.quit)
	<-p.ended
	return p.shown
}

// screen is standard error while it has a live line: what is logged takes the line's place,
// and the line comes back below it.
type screen struct {
	w        io.Writer
	terminal io.Writer // behind w

	mu    sync.Mutex
	shown bool // the cursor stands behind a live line
}

const (
	clearLine = "\r\x1b[K"
	// A line that is longer than the terminal is wide is cut, since only one can be repainted.
	wrapOff, wrapOn = "\x1b[?7l", "\x1b[?7h"
)

// Write writes whole lines in place of the live line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown {
		s.shown = false
		if _, err := io.WriteString(s.w, clearLine); err != nil {
			return 0, err
		}
	}
	return s.w.Write(p)
}

// printed is standard output where it is the terminal of the live line: what is written takes
// the line's place, and the line comes back below it.
type printed struct{ w io.Writer }

// Write writes whole lines. What it returns counts those alone.
func (e printed) Write(p []byte) (int, error) {
	n, err := e.w.Write(append([]byte(clearLine), p...))
	return max(n-len(clearLine), 0), err
}

// paint shows line as the live line; it stays there when it is the last.
func (s *screen) paint(line string, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = !last
	if last {
		fmt.Fprintf(s.w, "%s%s\n", clearLine, line)
		return
	}
	fmt.Fprintf(s.w, "%s%s%s%s", clearLine, wrapOff, line, wrapOn)
}

// showLive repaints the line each half second until quit is closed.
func showLive(s *screen, pipelines *meter.Registry, queued func() string, quit <-chan struct{}) {
	const period = 500 * time.Millisecond
	const countEvery = 4 // periods between two counts of the queues, which may ask a database
	tick := time.NewTicker(period)
	defer tick.Stop()
	begin := time.Now()
	var last totals
	waiting := ""
	for n := 0; ; n++ {
		final := false
		select {
		case <-quit:
			final = true
		case <-tick.C:
		}
		now := sum(pipelines)
		if final {
			elapsed := time.Since(begin)
			s.paint(strings.Join(now.parts(totals{}, elapsed, elapsed), between), true) // the store is closed
			return
		}
		if n%countEvery == 0 {
			waiting = queued()
		}
		s.paint(fit(now.parts(last, period, time.Since(begin)), waiting, columns(s.terminal)), false)
		last = now
	}
}

// queued is how many messages wait in the queues, for the end of the live line; empty
// without a store, or while it cannot be asked.
func (r *runner) queued() string {
	open, dead, ok := r.inQueues()
	if !ok {
		return ""
	}
	return fmt.Sprintf("  queued %s  dead %d", short(float64(open)), dead)
}

// inQueues is how many messages wait in the queues of the store, and how many are dead; false
// without queues, or while they cannot be asked.
func (r *runner) inQueues() (open, dead int64, ok bool) {
	s, _, queues := r.app.Store()
	if s == nil || len(queues) == 0 {
		return 0, 0, false
	}
	ctx, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	for _, q := range queues {
		st, err := s.Stats(ctx, queue.Filter{Queue: q.Name})
		if err != nil {
			return 0, 0, false
		}
		open, dead = open+st.Open(), dead+st.Dead
	}
	return open, dead, true
}

// totals is the sum over all pipelines at one instant.
type totals struct {
	read, written, filtered, failed, flying int64
	lag                                     time.Duration
}

func sum(pipelines *meter.Registry) totals {
	var t totals
	for _, p := range pipelines.Pipelines() {
		t.read += p.Read.Load()
		t.written += p.Target.Written.Load()
		t.filtered += p.Filtered.Load()
		t.failed += p.Invalid.Load() + p.Oversized.Load()
		t.flying += p.InFlight.Load()
		t.lag = max(t.lag, p.CurrentLag())
	}
	return t
}

// between are the parts of the live line.
const between = "  "

// fit is the live line for a terminal of width columns: its parts, and what waits in queues,
// without those that matter least where there is no room. 0 columns are any number.
func fit(parts []string, waiting string, width int) string {
	whole := func() string { return strings.Join(parts, between) + waiting }
	if width == 0 {
		return whole()
	}
	for _, least := range []string{"total ", "lag ", "filtered "} {
		if len(whole()) < width {
			break
		}
		parts = slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return strings.HasPrefix(s, least) })
	}
	return whole()
}

// parts are those of the live line: rates over the last period, and totals of what needs
// attention.
func (t totals) parts(last totals, over, elapsed time.Duration) []string {
	rate := func(now, before int64) string {
		if now < before {
			before = 0 // a reload begins to count anew
		}
		return short(float64(now-before)/over.Seconds()) + "/s"
	}
	return []string{
		"in " + rate(t.read, last.read),
		"out " + rate(t.written, last.written),
		"filtered " + rate(t.filtered, last.filtered),
		fmt.Sprintf("failed %d", t.failed),
		fmt.Sprintf("in flight %d", t.flying),
		"lag " + t.lag.Round(time.Millisecond).String(),
		fmt.Sprintf("total %s in %s", short(float64(t.read)), elapsed.Round(time.Second)),
	}
}

// short is a number with at most four significant characters: 950, 12.4k, 3.1M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.1fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}
