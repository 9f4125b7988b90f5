package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// progress shows a live line on standard error while a person looks at it.
type progress struct {
	quit, ended chan struct{}
}

// progress starts the live line, unless standard error is no terminal, standard output is
// the same terminal and in use by events, or the user wants none.
func (r *runner) progress() progress {
	p := progress{quit: make(chan struct{}), ended: make(chan struct{})}
	if r.quiet || !terminal(r.s.Err) || terminal(r.s.Out) && r.printsEvents {
		close(p.ended)
		return p
	}
	go func() {
		defer close(p.ended)
		live(r.s.Err, r.meter, p.quit)
	}()
	return p
}

func (p progress) stop() {
	close(p.quit)
	<-p.ended
}

// live repaints the line each half second until quit is closed.
func live(w io.Writer, pipelines *meter.Registry, quit <-chan struct{}) {
	const period = 500 * time.Millisecond
	tick := time.NewTicker(period)
	defer tick.Stop()
	begin := time.Now()
	var last totals
	for {
		final := false
		select {
		case <-quit:
			final = true
		case <-tick.C:
		}
		now := sum(pipelines)
		if final {
			elapsed := time.Since(begin)
			fmt.Fprintf(w, "\r\x1b[K%s\n", now.line(totals{}, elapsed, elapsed))
			return
		}
		fmt.Fprintf(w, "\r\x1b[K%s", now.line(last, period, time.Since(begin)))
		last = now
	}
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

// line is the text of the live line: rates over the last period, and totals of what
// needs attention.
func (t totals) line(last totals, over, elapsed time.Duration) string {
	rate := func(now, before int64) string {
		return short(float64(now-before)/over.Seconds()) + "/s"
	}
	parts := []string{
		"in " + rate(t.read, last.read),
		"out " + rate(t.written, last.written),
		"filtered " + rate(t.filtered, last.filtered),
		fmt.Sprintf("failed %d", t.failed),
		fmt.Sprintf("in flight %d", t.flying),
		"lag " + t.lag.Round(time.Millisecond).String(),
		fmt.Sprintf("total %s in %s", short(float64(t.read)), elapsed.Round(time.Second)),
	}
	return strings.Join(parts, "  ")
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
