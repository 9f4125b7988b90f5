package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
)

// standingAgain is how long is waited after a failure to look at what waits.
const standingAgain = 5 * time.Second

// watchStandings has what waits for a destination fare by what the target says of it now, from the
// start on and after each change, until ctx ends. The function it returns waits for the end.
func (p *Pipeline) watchStandings(ctx context.Context) (end func()) {
	source, can := p.parts.Source.(connector.Hastener)
	judges := p.judges()
	if !can || len(judges) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for _, j := range judges {
		all.Go(func() { p.followStanding(ctx, source, j) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// judges are the targets that say how they treat destinations.
func (p *Pipeline) judges() (all []connector.Judge) {
	sinks := []Sink{p.parts.Target}
	for _, r := range p.parts.Routes {
		sinks = append(sinks, r.Sink)
	}
	for _, s := range sinks {
		if j, can := s.Target.(connector.Judge); can {
			all = append(all, j)
		}
	}
	return all
}

func (p *Pipeline) followStanding(ctx context.Context, source connector.Hastener, judge connector.Judge) {
	held := map[string]bool{} // destinations with open messages, at the last look
	for ctx.Err() == nil {
		changed := judge.Changed()
		again := time.Duration(-1)
		if err := p.hasten(ctx, source, judge, held); err != nil && ctx.Err() == nil {
			p.parts.Log.Warn("what waits for destinations that have changed cannot be looked at now; it is tried again", meter.KeyError, err)
			again = standingAgain
		}
		p.flows.signal() // a value that rested may go on
		if !waitFor(ctx, changed, again) {
			return
		}
	}
}

// hasten looks at the destinations that have open messages: what waits for one that is closed, or
// held no more, is delivered again at once.
func (p *Pipeline) hasten(ctx context.Context, source connector.Hastener, judge connector.Judge, held map[string]bool) error {
	destinations, err := source.Destinations(ctx)
	if err != nil {
		return err
	}
	now := map[string]bool{}
	for _, d := range destinations {
		switch standing := judge.Standing(d); {
		case standing == connector.StandsHeld:
			now[d] = true
		case standing == connector.StandsClosed, held[d]:
			n, err := source.Hasten(ctx, d)
			if err != nil {
				return err
			}
			if n > 0 && standing == connector.StandsClosed {
				p.parts.Log.Info("messages that waited for a destination that is gone or off are given up now", "destination", d, meter.KeyMessages, n)
			}
		}
	}
	clear(held)
	for d := range now {
		held[d] = true
	}
	return nil
}

// waitFor waits for a change, or for a time if it is not negative; false when ctx ends first.
func waitFor(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-timer:
	case <-ctx.Done():
		return false
	}
	return true
}
