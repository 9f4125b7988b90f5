package pipeline

import (
	"context"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
)

const (
	// lagEvery is how often the source is asked how far it is behind.
	lagEvery = 15 * time.Second
	// lagPatience is how long its answer may take.
	lagPatience = 10 * time.Second
)

// watchLag asks the source, if it knows, how far it is behind, until ctx ends. The function it
// returns waits for the end.
func (p *Pipeline) watchLag(ctx context.Context) (wait func()) {
	l, ok := p.parts.Source.(connector.Lagger)
	if !ok {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(lagEvery)
		defer tick.Stop()
		for told := false; ctx.Err() == nil; {
			told = p.askLag(ctx, l, told)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() {
		stop()
		within(done, closeTimeout) // one that does not return is left behind, like a Close
		p.parts.Meter.Behind.Set(connector.Unknown, connector.Unknown, connector.Unknown)
	}
}

// askLag notes what the source says. told is whether the last answer was an error, which is
// logged once.
func (p *Pipeline) askLag(ctx context.Context, l connector.Lagger, told bool) bool {
	asking, done := context.WithTimeout(ctx, lagPatience)
	defer done()
	var lags []connector.Lag
	err := guard(func() (err error) {
		lags, err = l.Lag(asking)
		return err
	})
	if ctx.Err() != nil {
		return told
	}
	if err != nil {
		p.parts.Meter.Behind.Set(connector.Unknown, connector.Unknown, connector.Unknown)
		if !told {
			p.parts.Log.Warn("the source does not say how far it is behind", meter.KeyError, err)
		}
		return true
	}
	p.parts.Meter.Behind.Set(total(lags))
	return false
}

// total is how far a source is behind in all partitions: the sum, and the age of the oldest.
// What is not known of one of them is not known.
func total(lags []connector.Lag) (messages, bytes int64, age time.Duration) {
	for _, l := range lags {
		messages, bytes = sum(messages, l.Messages), sum(bytes, l.Bytes)
		if age < 0 || l.Age < 0 { // one that is not known may be greater than all that are
			age = connector.Unknown
		} else {
			age = max(age, l.Age)
		}
	}
	return messages, bytes, age
}

func sum(a, b int64) int64 {
	if a < 0 || b < 0 {
		return connector.Unknown
	}
	return a + b
}
