package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/failures"
)

// raiseAtOnce is how many dead messages one request has wait again.
const raiseAtOnce = 10_000

// raise has the chosen dead messages wait in their queues again, and says how many; with
// --dry-run it says so only. Each is dead or waits, whenever the process ends: the same command
// goes on with those that are still dead.
func (r *failureReader) raise(ctx context.Context) (int, error) {
	if !r.store || r.flags.from != "" || r.flags.through != "" || r.flags.payload != "" || r.flags.failedTo != "" {
		return 0, nil
	}
	all, err := r.lookDead(ctx)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	if r.flags.dry {
		n := 0
		for _, d := range all {
			fmt.Fprintf(r.s.Out, "%s would be put back into %s\n", deadMessages(len(d.ids), d.at), d.at)
			n += len(d.ids)
		}
		return n, nil
	}
	done := 0
	err = r.operate(ctx, func(o admin.Operator) error {
		for _, d := range all {
			n, err := r.putBack(ctx, o, d)
			if done += n; err != nil {
				return fmt.Errorf("have dead messages of %s wait again (%d of %d do): %w", d.at, n, len(d.ids), err)
			}
			fmt.Fprintf(r.s.Out, "%s put back into %s: %s\n", deadMessages(n, d.at), d.at, d.at.next())
			if left := len(d.ids) - n; left > 0 {
				fmt.Fprintf(r.s.Out, "%s left out: they are not dead any more\n", plural(left))
			}
		}
		return nil
	})
	return done, err
}

// dead is chosen dead messages of one queue.
type dead struct {
	at  *failurePlace
	ids []string
}

// lookDead finds the chosen dead messages; with --dry-run it prints them.
func (r *failureReader) lookDead(ctx context.Context) ([]*dead, error) {
	var all []*dead
	n := 0
	t := newFailureTable(r.s.Out)
	look := *r
	look.places, look.without = nil, true
	p := begin(r.s, "looking for dead messages")
	err := look.scan(ctx, func(at *failurePlace, f *failures.Failure, replayed bool) error {
		if len(all) == 0 || all[len(all)-1].at != at {
			all = append(all, &dead{at: at})
		}
		last := all[len(all)-1]
		last.ids = append(last.ids, f.ID)
		if n++; r.flags.dry && n <= tableRows {
			t.add(at, f, replayed)
		}
		if n%1000 == 0 {
			p.say("looking for dead messages: %d found", n)
		}
		if r.flags.limit > 0 && n >= r.flags.limit {
			return errEnough
		}
		return nil
	})
	p.stop()
	if r.unasked = look.unasked; err != nil {
		return nil, err
	}
	return all, t.flush()
}

// putBack has dead messages wait again, and says how many.
func (r *failureReader) putBack(ctx context.Context, o admin.Operator, d *dead) (int, error) {
	if sel, ok := r.whole(); ok {
		return o.Retry(ctx, d.at.queue, sel)
	}
	n := 0
	for ids := range slices.Chunk(d.ids, raiseAtOnce) {
		m, err := o.Retry(ctx, d.at.queue, admin.Selection{Dead: true, IDs: ids})
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// whole is a selection of a queue's dead messages by which the store finds them itself, all of
// those that are chosen; false when it needs their IDs.
func (r *failureReader) whole() (admin.Selection, bool) {
	s := r.sel
	cause, plain := s.Cause.Text()
	if !plain || len(s.Scope) > 1 || len(s.IDs) > 0 || s.MinSize > 0 || s.MaxSize > 0 || !s.Since.IsZero() || !s.Until.IsZero() || r.flags.limit > 0 {
		return admin.Selection{}, false
	}
	out := admin.Selection{Dead: true, Cause: cause}
	for axis, value := range s.Scope {
		out.By, out.Value = axis, value
	}
	out.All = out.Empty()
	return out, true
}

// deadMessages is "1 dead message", or "2 executions that failed".
func deadMessages(n int, at *failurePlace) string {
	what := "dead message"
	if at.machine != "" {
		what = "execution that failed"
	}
	if n == 1 {
		return "1 " + what
	}
	if at.machine != "" {
		return fmt.Sprintf("%d executions that failed", n)
	}
	return fmt.Sprintf("%d dead messages", n)
}

// next is what becomes of what waits again there.
func (p *failurePlace) next() string {
	switch {
	case p.machine != "":
		return fmt.Sprintf("machine %q starts with the same input again when it runs", p.machine)
	case len(p.pipelines) == 1:
		return fmt.Sprintf("pipeline %q delivers when it runs", p.pipelines[0])
	case len(p.pipelines) > 1:
		return "the pipelines that read it deliver when they run"
	}
	return "no pipeline of this config reads it"
}
