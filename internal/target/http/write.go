package httptarget

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// delivery is the journey of the messages of one request, or of the requests it is split
// into. It is pooled.
type delivery struct {
	t     *Target
	batch event.Batch
	kept  []int // indexes into batch of the messages that can be sent
	vals  []any // their decoded forms, with a template
	// failed holds the error of each message that was not delivered, by its index in
	// batch; nil until there is one.
	failed map[int]error
}

var deliveries = sync.Pool{New: func() any { return new(delivery) }}

// Write sends b in as few requests as its headers and the other side's answers allow.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if len(b) == 0 {
		return nil
	}
	d := deliveries.Get().(*delivery)
	d.t, d.batch = t, b
	for lo := 0; lo < len(b); {
		hi := t.together(b, lo)
		d.send(ctx, lo, hi)
		lo = hi
	}
	failed := d.failed
	clear(d.vals)
	*d = delivery{kept: d.kept[:0], vals: d.vals[:0]}
	deliveries.Put(d)
	return summary(failed, len(b))
}

// summary is the error of a write of n messages.
func summary(failed map[int]error, n int) error {
	switch {
	case len(failed) == 0:
		return nil
	case len(failed) < n:
		return &connector.Partial{Failed: failed}
	}
	for i := 1; i < n; i++ {
		if failed[i] != failed[0] { //nolint:errorlint // whether it is the very same error
			return &connector.Partial{Failed: failed}
		}
	}
	return failed[0]
}

// together is the end of the messages from lo on that can share a request.
func (t *Target) together(b event.Batch, lo int) int {
	if t.c.BodyFormat == raw {
		return lo + 1
	}
	if t.limits.Alone == nil {
		return len(b)
	}
	if t.alone(b[lo]) {
		return lo + 1
	}
	for hi := lo + 1; hi < len(b); hi++ {
		if t.alone(b[hi]) {
			return hi
		}
	}
	return len(b)
}

// fail records err for the kept messages lo to hi.
func (d *delivery) fail(lo, hi int, err error) {
	for _, i := range d.kept[lo:hi] {
		d.refuse(i, err)
	}
}

func (d *delivery) refuse(i int, err error) {
	if d.failed == nil {
		d.failed = make(map[int]error)
	}
	d.failed[i] = err
}

// send delivers the messages lo to hi of the batch in one request, or in several when it
// is refused.
func (d *delivery) send(ctx context.Context, lo, hi int) {
	p := d.prepare(lo, hi)
	n := len(d.kept)
	if n == 0 {
		p.release()
		return
	}
	if d.t.tmpl != nil {
		p.release()
		p = nil
	}
	_, _ = d.deliver(ctx, p, 0, n, 1+8*bits.Len(uint(n-1))) // what failed is in d
}

// prepare fills kept with the messages from lo to hi that are JSON and refuses the others; a
// raw message is taken as it is. Without a template it returns the finished body.
func (d *delivery) prepare(lo, hi int) *payload {
	p := newPayload()
	d.kept, d.vals = d.kept[:0], d.vals[:0]
	if d.t.c.BodyFormat == raw {
		d.kept = append(d.kept, lo)
		p.data = append(p.data, d.batch[lo].Data...)
		return p
	}
	p.data = append(p.data, '[')
	for i := lo; i < hi; i++ {
		data := d.batch[i].Data
		if d.t.tmpl != nil {
			v, err := templateValue(data)
			if err != nil {
				d.refuse(i, templateFault("Message can't be parsed as valid JSON", notJSON(data)))
				continue
			}
			d.vals = append(d.vals, v)
		} else {
			start := len(p.data)
			if len(d.kept) > 0 {
				p.data = append(p.data, ',')
			}
			var ok bool
			if p.data, ok = appendMessage(p.data, data); !ok {
				p.data = p.data[:start]
				d.refuse(i, templateFault("Message can't be parsed as valid JSON", notJSON(data)))
				continue
			}
		}
		d.kept = append(d.kept, i)
	}
	p.data = append(p.data, ']')
	return p
}

// render makes the body of the kept messages lo to hi.
func (d *delivery) render(ctx context.Context, lo, hi int) (*payload, error) {
	p := newPayload()
	if d.t.tmpl != nil {
		if err := p.execute(ctx, d.t.tmpl, d.vals[lo:hi], d.t.maxBody); err != nil {
			p.release()
			if ctx.Err() != nil {
				return nil, fmt.Errorf("make the request body: %w", context.Cause(ctx))
			}
			return nil, templateFault("Could not create request JSON", err)
		}
		return p, nil
	}
	p.data = append(p.data, '[')
	for k, i := range d.kept[lo:hi] {
		if k > 0 {
			p.data = append(p.data, ',')
		}
		p.data = appendCompact(p.data, d.batch[i].Data)
	}
	p.data = append(p.data, ']')
	return p, nil
}

// deliver sends the kept messages lo to hi. When they are refused for what may be one of
// them, it sends them again in halves, left before right, with at most budget requests in
// all. p is their body, or nil to make it. It returns how many requests were used, and an
// error when the other side could not be asked any more, which ends the search.
func (d *delivery) deliver(ctx context.Context, p *payload, lo, hi, budget int) (used int, stop error) {
	divisible, err := d.attempt(ctx, p, lo, hi)
	if err == nil {
		return 1, nil
	}
	// Each half needs one request; what is left over goes to the search on the left,
	// and what that does not use to the right.
	left := budget - 2
	if !divisible || !d.t.c.Bisect || hi-lo == 1 || left < 1 {
		d.fail(lo, hi, err)
		if fault.Of(err) == fault.Invalid {
			return 1, nil
		}
		return 1, err
	}
	mid := lo + (hi-lo+1)/2
	n, stop := d.deliver(ctx, nil, lo, mid, left)
	used = 1 + n
	if stop != nil {
		d.fail(mid, hi, stop)
		return used, stop
	}
	n, stop = d.deliver(ctx, nil, mid, hi, budget-used)
	return used + n, stop
}

// attempt makes one request of the kept messages lo to hi. divisible says that the fault
// may lie with one of the messages.
func (d *delivery) attempt(ctx context.Context, p *payload, lo, hi int) (divisible bool, err error) {
	if p == nil {
		if p, err = d.render(ctx, lo, hi); err != nil {
			return fault.Of(err) == fault.Invalid, err
		}
	}
	if d.t.c.Compression == "gzip" {
		if p, err = p.compressed(); err != nil {
			return false, err
		}
	}
	return d.t.request(ctx, p, d.batch[d.kept[lo]], hi-lo == 1)
}

// templateFault is the error of a message, or of messages, that no body can be made of.
func templateFault(what string, err error) error {
	return fault.Describe(fault.Invalid, fmt.Errorf("%s: %w", what, err), fault.Detail{Type: "template", Safe: what})
}
