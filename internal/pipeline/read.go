package pipeline

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// read is one batch on its way from the source to the sinks. The router takes reads in
// the order they were made and waits for each to be ready.
type read struct {
	batch    event.Batch
	routes   []event.Batch // what each target gets, once decided; batch is empty then
	ready    chan struct{} // closed when the transforms are done; nil without transforms
	filtered event.Batch
	invalid  []rejected
	traced   *traced // nil when no message is sampled
}

// rejected is a message that was refused, and why.
type rejected struct {
	m   *event.Message
	err error
}

// readBackoff bounds the wait after a read that failed.
const readBackoff = 30 * time.Second

// emptyReadPause keeps a source that returns nothing at once from spinning.
const emptyReadPause = 10 * time.Millisecond

// read reads until the source ends, ctx does, or an error ends the pipeline.
func (p *Pipeline) read(ctx, work context.Context, todo, route chan<- *read) {
	failures := 0
	for ctx.Err() == nil {
		room, ok := p.room(ctx)
		if !ok {
			return
		}
		var b event.Batch
		var ack connector.Ack
		var settle connector.SettleIn
		err := guard(func() (err error) {
			if p.joined != nil {
				b, settle, ack, err = p.joined.ReadJobs(ctx, room)
			} else {
				b, ack, err = p.parts.Source.Read(ctx, room)
			}
			return err
		})
		if len(b) > 0 || ack != nil {
			p.admit(work, b, settle, ack, todo, route)
		}
		switch {
		case err == nil:
			failures = 0
			if len(b) == 0 && ack == nil && p.parts.Retry.Wait(ctx, emptyReadPause) != nil {
				return
			}
		case err == io.EOF || ctx.Err() != nil: //nolint:errorlint // a wrapped io.EOF is a connection that broke, not the end
			return
		case fault.Of(err) == fault.Setup || fault.Of(err) == fault.Fatal || fault.Of(err) == fault.Invalid:
			p.fail(fmt.Errorf("read: %w", err))
			return
		default:
			failures++
			p.parts.Meter.ReadErrors.Add(1)
			delay := min(100*time.Millisecond<<min(failures-1, 10), readBackoff)
			delay = max(delay, min(fault.After(err), readBackoff))
			p.parts.Log.Warn("read failed, trying again", meter.KeyError, err, meter.KeyAttempt, failures, meter.KeyDelay, delay)
			if p.parts.Retry.Wait(ctx, delay) != nil {
				return
			}
		}
	}
}

// admit tracks a batch that was read and sends it on, once there is room for it in
// flight. A batch larger than the whole allowance is let in alone.
func (p *Pipeline) admit(work context.Context, b event.Batch, settle connector.SettleIn, ack connector.Ack, todo, route chan<- *read) {
	bytes := b.Bytes()
	messages := min(int64(len(b)), int64(p.parts.InFlightMessages))
	size := min(int64(bytes), int64(p.parts.InFlightBytes))
	m, count := p.parts.Meter, int64(len(b))
	m.Read.Add(count)
	m.ReadBytes.Add(int64(bytes))
	m.InFlight.Add(count)
	m.InFlightBytes.Add(int64(bytes))

	admitted := p.acquire(work, messages, size)
	readAt, created := oldest(b)
	p.acks.Add(1)
	tag, traced := p.begin(b, settle)
	event.TrackTagged(b, tag, func(o event.Outcomes) {
		defer p.acks.Done()
		traced.end(p, o)
		p.acknowledge(work, o, ack)
		m.Settled(readAt, created)
		m.InFlight.Add(-count)
		m.InFlightBytes.Add(-int64(bytes))
		if admitted { // after the ack: what is in flight is what the source holds open
			p.release(messages, size)
		}
	})
	if !admitted {
		p.abandon(b, context.Cause(work))
		return
	}
	r := &read{batch: b, traced: traced}
	if todo != nil {
		r.ready = make(chan struct{})
		todo <- r
	}
	route <- r
}

// oldest is the instant the batch was read and its earliest creation time.
func oldest(b event.Batch) (readAt, created time.Time) {
	for _, m := range b {
		if readAt.IsZero() || m.Times.Read.Before(readAt) {
			readAt = m.Times.Read
		}
		if created.IsZero() || (!m.Times.Created.IsZero() && m.Times.Created.Before(created)) {
			created = m.Times.Created
		}
	}
	return readAt, created
}

// acknowledge tells the source what became of one read. An acknowledgement that fails
// means the source will deliver again what was delivered: the pipeline says so and ends
// with an error when the source says it cannot go on.
func (p *Pipeline) acknowledge(work context.Context, o event.Outcomes, ack connector.Ack) {
	back := int64(0)
	for _, err := range o {
		if err != nil {
			back++
		}
	}
	if back > 0 {
		p.parts.Meter.Unsettled.Add(back)
	}
	if back > 0 && !p.redelivers {
		p.mu.Lock()
		p.unsettled += back
		p.mu.Unlock()
	}
	if ack == nil || p.left.Load() {
		return // what a write that outlived the drain has done, the source delivers again
	}
	// The cut of a drain must not keep a source from learning what was settled.
	ctx, done := context.WithTimeout(context.WithoutCancel(work), 10*time.Second)
	defer done()
	if err := guard(func() error { return ack(ctx, o) }); err != nil {
		err = fmt.Errorf("acknowledge: %w", err)
		if k := fault.Of(err); k == fault.Setup || k == fault.Fatal {
			p.fail(err)
			return
		}
		p.parts.Log.Error("the source may deliver settled messages again", meter.KeyError, err)
	}
}

// abandon gives messages back to the source.
func (p *Pipeline) abandon(b event.Batch, cause error) {
	err := event.ErrUnsettled
	if cause != nil {
		err = fmt.Errorf("%w: %w", event.ErrUnsettled, cause)
	}
	for _, m := range b {
		event.Settle(m, err)
	}
}
