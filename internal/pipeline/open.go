package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/retry"
)

// open opens the connectors, targets first, so that nothing is read that cannot be
// written; a patient pipeline has its messages wait in their queue, and opens later.
func (p *Pipeline) open(ctx context.Context) error {
	if err := p.hire(); err != nil {
		return err
	}
	type opener interface {
		Open(context.Context) error
		Close(context.Context) error
	}
	type part struct {
		what string
		opener
		late **unopened // where to note that it could not be opened; nil: it must be
	}
	all := []part{{what: "failure target", opener: p.parts.Failure.Target}, {what: "filter target", opener: p.parts.Filter.Target}}
	if o := &p.parts.Overflow; o.Target != nil {
		if to, stored := o.Target.(connector.StoreTarget); stored && to.Store() == nil {
			o.Target = nil // the store is only for the overflow, and could not be opened
		} else {
			all = append([]part{{what: "overflow of the failure target", opener: o.Target}}, all...)
		}
	}
	patient := p.patient()
	if b := &p.parts.Backup; b.Target != nil {
		one := part{what: "backup target", opener: b.Target}
		if patient {
			one.late = &b.late
		}
		all = append(all, one)
	}
	if r, ok := p.parts.Source.(connector.Refuser); ok {
		r.RefuseWhile(p.full.now)
	}
	for i := range p.routes {
		r := &p.routes[i]
		one := part{what: "target", opener: r.Target}
		if len(p.routes) > 1 {
			one.what += " " + r.Name
		}
		if patient {
			one.late = &r.late
		}
		all = append(all, one)
	}
	for _, c := range append(all, part{what: "source", opener: p.parts.Source}) {
		p.closers = append([]closer{{c.what, c.Close}}, p.closers...)
		if c.late != nil {
			late := &unopened{what: c.what, target: c.opener}
			if err := late.ready(ctx); err != nil {
				p.parts.Log.Warn("cannot open, each write tries again", meter.KeyComponent, c.what, meter.KeyError, err)
				*c.late = late
			}
			continue
		}
		policy := p.parts.Retry
		policy.Notify = func(a retry.Attempt) {
			p.parts.Log.Warn("cannot open, trying again", meter.KeyComponent, c.what, meter.KeyAttempt, a.Number, meter.KeyDelay, a.Delay, meter.KeyError, a.Err)
		}
		var held *connector.Held // by somebody who may have it for long: whoever runs the pipeline waits
		err := policy.Do(ctx, func(ctx context.Context) error {
			err := guard(func() error { return c.Open(ctx) })
			if errors.As(err, &held) {
				return nil
			}
			return err
		})
		if held != nil {
			err = held
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", c.what, err)
		}
	}
	return nil
}

// guard turns a panic of f into a fatal error with the place it came from.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.Fatal, fmt.Errorf("panic: %v\n%s", r, stack()))
		}
	}()
	return f()
}
