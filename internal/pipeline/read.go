package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/tap"
)

// read is one batch on its way from the source to the sinks.
type read struct {
	flow     *flow
	batch    event.Batch
	next     int           // where the transforms are in batch
	out      event.Batch   // what they made of it so far
	routes   []event.Batch // what each target gets, once decided; batch is empty then
	ready    bool          // the transforms are done; guarded by the flow
	copies   event.Batch   // for the backup
	filtered event.Batch
	leftOut  []event.LeftOut // destinations that got nothing of a message
	invalid  []rejected
	traced   *traced  // nil when no message is sampled
	taps     tap.Taps // nil while nobody listens
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
func (p *Pipeline) read(ctx, work context.Context, todo *rota) {
	var failures readFailures
	for ctx.Err() == nil {
		room, reserved, ok := p.room(ctx)
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
		p.parts.Process.giveBack(reserved)
		if len(b) > 0 || ack != nil {
			p.admit(work, b, settle, ack, todo)
		}
		if !p.goOn(ctx, err, &failures) {
			return
		}
		if err == nil && len(b) == 0 && ack == nil && p.parts.Retry.Wait(ctx, emptyReadPause) != nil {
			return
		}
	}
}

// ReadError is why a pipeline cannot read on.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read: " + e.Err.Error() }

// Unwrap is what the source said.
func (e *ReadError) Unwrap() error { return e.Err }

// Final reports whether there is no use in connecting again.
func (e *ReadError) Final() bool { return fault.Of(e.Err) != fault.Setup }

// readFailures counts the reads that failed in a row.
type readFailures int

// goOn decides after a read whether to read on, and waits before it if the read failed.
func (p *Pipeline) goOn(ctx context.Context, err error, failures *readFailures) bool {
	switch {
	case err == nil:
		if *failures = 0; p.reads.Passing() {
			p.reads.Well("")
		}
		return true
	case err == io.EOF: //nolint:errorlint // a wrapped io.EOF is a connection that broke, not the end
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		return false
	case ctx.Err() != nil:
		return false
	case fault.Of(err) == fault.Setup || fault.Of(err) == fault.Fatal || fault.Of(err) == fault.Invalid:
		p.fail(&ReadError{err})
		return false
	}
	*failures++
	p.parts.Meter.ReadErrors.Add(1)
	delay := min(100*time.Millisecond<<min(*failures-1, 10), readBackoff)
	delay = max(delay, min(fault.After(err), readBackoff))
	p.reads.NoteAs(readAgain, "", fault.Of(err).String(), 1, err, slog.Int(meter.KeyAttempt, int(*failures)), slog.Duration(meter.KeyDelay, delay))
	return p.parts.Retry.Wait(ctx, delay) == nil
}

// admit tracks a batch that was read and sends it on, once there is room for it in
// flight. A batch larger than the whole allowance is let in alone.
func (p *Pipeline) admit(work context.Context, b event.Batch, settle connector.SettleIn, ack connector.Ack, todo *rota) {
	messages := min(int64(len(b)), int64(p.parts.InFlightMessages))
	size := min(int64(b.Bytes()), int64(p.parts.InFlightBytes))
	count := p.counted(b)
	admitted := p.acquire(work, messages, size)
	r := p.track(work, p.flows.whole, connector.Portion{Batch: b, Settle: settle, Ack: ack}, func() {
		if admitted { // after the ack: what is in flight is what the source holds open
			p.release(messages, size)
		}
		count() // last: it wakes whoever waits for the process, which asks what is held
	})
	if !admitted {
		p.abandon(b, context.Cause(work))
		return
	}
	p.begun(work, r, todo)
}

// admitValue tracks what was read of one value and sends it on. There was room when it was
// read.
func (p *Pipeline) admitValue(work context.Context, part connector.Portion, todo *rota) {
	messages, size := int64(len(part.Batch)), int64(part.Batch.Bytes())
	if messages == 0 {
		return
	}
	count := p.counted(part.Batch)
	v := p.flows.admit(part.Value, len(p.routes), messages, size)
	r := p.track(work, v, part, func() {
		p.flows.release(v, messages, size)
		count()
	})
	p.begun(work, r, todo)
}

// counted counts what was read; the function it returns, that it is settled.
func (p *Pipeline) counted(b event.Batch) (settled func()) {
	m, messages, bytes := p.parts.Meter, int64(len(b)), int64(b.Bytes())
	flight := m.Begin(messages, bytes)
	p.parts.Process.add(bytes)
	readAt, created := oldest(b)
	return func() {
		m.Settled(readAt, created)
		m.Done(flight, messages, bytes)
		p.parts.Process.add(-bytes)
	}
}

// track gives the messages of a read their claims. settled is called after the source knows
// what became of them.
func (p *Pipeline) track(work context.Context, v *flow, part connector.Portion, settled func()) *read {
	p.acks.Add(1)
	tag, traced := p.begin(part.Batch, part.Settle)
	n := len(part.Batch)
	event.TrackTagged(part.Batch, p.remember(part.Batch, tag), func(o event.Outcomes) {
		traced.end(p, o)
		toldOf(tag).say(nil, true)
		ack := func() {
			defer p.acks.Done()
			p.acknowledge(work, n, o, part.Ack)
			settled()
		}
		if p.divided != nil {
			p.acker.run(ack)
			return
		}
		ack()
	})
	r := &read{flow: v, batch: part.Batch, traced: traced, taps: p.parts.Tap.Live()}
	if r.taps != nil {
		r.taps.Read(part.Batch)
	}
	return r
}

// begun sends a read on, to the workers or to the sinks.
func (p *Pipeline) begun(work context.Context, r *read, todo *rota) {
	p.copyRead(r)
	r.sort()
	if todo == nil {
		p.route(work, r)
		return
	}
	r.flow.enter(r)
	todo.add(r)
}

// sort sets aside what the source could make no message of: it goes to the failure target
// without passing a transform.
func (r *read) sort() {
	for i, m := range r.batch {
		if m.Refused() == nil {
			continue
		}
		good := slices.Clone(r.batch[:i])
		for _, m := range r.batch[i:] {
			if why := m.Refused(); why != nil {
				r.invalid = append(r.invalid, rejected{m, why})
			} else {
				good = append(good, m)
			}
		}
		r.batch = good
		return
	}
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

// acknowledge tells the source what became of one read of n messages. An acknowledgement that fails
// means the source will deliver again what was delivered: the pipeline says so and ends
// with an error when the source says it cannot go on.
func (p *Pipeline) acknowledge(work context.Context, n int, o event.Outcomes, ack connector.Ack) {
	back := int64(0)
	for _, err := range o {
		if err != nil {
			back++
		}
	}
	handedBack := back
	if back > 0 {
		p.parts.Meter.Unsettled.Add(back)
	}
	if p.refuses() {
		back -= refused(o) // whoever sent them has been told, and still has them
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
	err := guard(func() error { return ack(ctx, o) })
	if err == nil && p.doubts.Passing() {
		p.doubts.Well("")
	}
	if err != nil {
		doubtful := n - int(handedBack)
		if u, ok := errors.AsType[*connector.Unconfirmed](err); ok {
			doubtful = u.Messages
			p.parts.Meter.Unconfirmed.Add(int64(u.Messages))
		}
		err = fmt.Errorf("acknowledge: %w", err)
		if k := fault.Of(err); k == fault.Setup || k == fault.Fatal {
			p.fail(err)
			return
		}
		p.doubts.Note(unsure, "", max(doubtful, 1), err)
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
