package app

import (
	"context"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/order"
)

// operateEvery is how often a process looks for orders that are to be carried out, and at what is
// paused.
const operateEvery = 2 * time.Second

// operate carries out, until stop is called, what operators have decided about open messages, also
// what another process began, or this one before it ended; and it tells what is paused.
func (a *App) operate(ctx context.Context) (stop func()) {
	s := a.Builder.Store
	if s == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(operateEvery)
		defer tick.Stop()
		failed := ""
		for {
			err := a.operateOnce(ctx, s)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				failed = ""
			case err.Error() != failed:
				failed = err.Error()
				a.Log.Warn("what operators have decided about queues could not be carried out; it will be tried again", meter.KeyError, err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (a *App) operateOnce(ctx context.Context, s queue.Store) error {
	pauses, err := queue.PausesOf(ctx, s)
	if err != nil {
		return err
	}
	a.tellPauses(pauses)
	return admin.Worker(s).Continue(ctx, func(o *order.Order, jobs int, left bool) {
		a.Log.Info("an order about open messages goes on", "operation", string(o.Kind), "queue", o.Search.Queue, "order", o.ID, "by", o.Who,
			meter.KeyMessages, jobs, "left", left)
	})
}

// tellPauses keeps what is paused for [App.Degraded], and tells what has changed.
func (a *App) tellPauses(now []queue.Pause) {
	a.mu.Lock()
	was := a.pauses
	a.pauses = now
	a.mu.Unlock()
	before := map[queue.Filter]bool{}
	for i := range was {
		before[was[i].Filter] = true
	}
	for i := range now {
		if p := &now[i]; !before[p.Filter] {
			a.Log.Warn("the work on a queue is paused", "fix", resume(p), "queue", p.Queue, "axis", string(p.By), "value", p.Value, "since", p.Since, "by", p.Who, "why", p.Why)
		}
		delete(before, now[i].Filter)
	}
	for f := range before {
		a.Log.Info("the work on a queue is not paused any more", "queue", f.Queue, "axis", string(f.By), "value", f.Value)
	}
}

// resume is the command that ends a pause.
func resume(p *queue.Pause) string {
	text := "weir queue resume " + outage.Quote(p.Queue)
	if p.By != queue.None {
		text += " --" + string(p.By) + " " + outage.Quote(p.Value)
	}
	return text + " goes on with it"
}

// paused are the lines of what is paused, for those who ask how the process does.
func (a *App) paused() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := make([]string, len(a.pauses))
	for i := range a.pauses {
		p := &a.pauses[i]
		part := ""
		if p.By != queue.None {
			part = fmt.Sprintf(" of %s %q", p.By, p.Value)
		}
		lines[i] = fmt.Sprintf("queue %q: the work%s is paused since %s", p.Queue, part, p.Since.Format(time.RFC3339))
		if p.Why != "" {
			lines[i] += fmt.Sprintf(": %q", p.Why)
		}
	}
	return lines
}
