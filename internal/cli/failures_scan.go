package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/queue"
)

// errEnough ends a scan.
var errEnough = errors.New("enough")

// found is called with a failed event, where it is, and whether the journal of its file has it.
type found func(p *failurePlace, f *failures.Failure, replayed bool) error

// scan calls fn with each chosen event of every place, those of the store first. It ends when fn
// returns errEnough.
func (r *failureReader) scan(ctx context.Context, fn found) error {
	chosen := func(p *failurePlace, f *failures.Failure, replayed bool) error {
		if !r.sel.Match(f) {
			return nil
		}
		return fn(p, f, replayed)
	}
	err := r.scanStore(ctx, chosen)
	for i := 0; i < len(r.places) && err == nil; i++ {
		if r.places[i].file != "" {
			err = r.scanFile(ctx, r.places[i], chosen)
		}
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (r *failureReader) scanFile(ctx context.Context, p *failurePlace, fn found) error {
	after, read := r.begin(p.key(false))
	if !read {
		return nil
	}
	has := func(string) bool { return false }
	if name := r.journal(p); name != "" {
		var err error
		if has, _, err = failures.Replayed(name); err != nil {
			return err
		}
	}
	var in io.Reader
	if p.file == "-" {
		in = r.s.input()
	}
	behind := after == "" // the rows of a file are in the order of their offsets
	skipped, err := failures.ScanFile(ctx, p.file, in, func(f *failures.Failure) error {
		if !behind {
			behind = offset(f.ID) >= offset(after)
			if offset(f.ID) <= offset(after) {
				return nil
			}
		}
		return fn(p, f, has(f.ID))
	}, r.flags.from != "")
	r.skipped.Other += skipped.Other
	r.skipped.Damaged += skipped.Damaged
	if r.skipped.First == nil {
		r.skipped.First = skipped.First
	}
	return err
}

// offset is where a row is in its file.
func offset(id string) int64 {
	text, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// rowsInStore reports whether rows of a chosen pipeline are in the store.
func (r *failureReader) rowsInStore() bool {
	return slices.ContainsFunc(r.places, func(p *failurePlace) bool { return p.queue != "" })
}

// scanStore reads the store: through the process that has it open, where there is one. A store
// that cannot be read fails the scan where failed events are written into it; otherwise it may
// have dead messages, and who asks is told that nobody knows.
func (r *failureReader) scanStore(ctx context.Context, fn found) error {
	if !r.store {
		return nil
	}
	err := r.operate(ctx, func(o admin.Operator) error {
		for _, p := range r.places {
			if p.queue == "" {
				continue
			}
			for _, dead := range []bool{false, true} {
				if err := r.eachJob(ctx, o, p, dead, fn); err != nil {
					return err
				}
			}
		}
		return r.scanQueues(ctx, o, fn)
	})
	if errors.Is(err, errUnasked) && !r.rowsInStore() {
		r.unasked = err
		return nil
	}
	return err
}

// scanQueues reads the dead messages of all queues, and rows that wait where the config has no
// pipeline for them any more.
func (r *failureReader) scanQueues(ctx context.Context, o admin.Operator, fn found) error {
	all, err := o.Queues(ctx, queue.None)
	if err != nil {
		return err
	}
	known := r.rowQueues() // of these a chosen one was read, and another is not meant
	for _, q := range all.Queues {
		at := r.deadPlace(q.Name)
		if at == nil || known[q.Name] || r.without && !at.dead {
			continue
		}
		if q.Dead > 0 {
			if err := r.eachJob(ctx, o, at, true, fn); err != nil {
				return err
			}
		}
		if !at.dead && q.Open > 0 {
			if err := r.eachJob(ctx, o, at, false, fn); err != nil {
				return err
			}
		}
	}
	if all.Incomplete {
		fmt.Fprintln(r.s.Err, "weir: there are too many parts of queues to look through all: dead messages of queues that the config does not declare may be missing")
	}
	return nil
}

// everywhere is the places of the rows of all pipelines.
func (r *failureReader) everywhere() []*failurePlace {
	all := failureReader{s: Streams{Err: discard{}}, flags: &failureFlags{}, cfg: r.cfg}
	_ = all.find() // what cannot be read is told of by r
	return all.places
}

// rowQueues are the queues that pipelines, chosen or not, write rows into.
func (r *failureReader) rowQueues() map[string]bool {
	names := map[string]bool{}
	for _, p := range r.everywhere() {
		if p.queue != "" {
			names[p.queue] = true
		}
	}
	return names
}

// errUnasked says that the store could not be opened, nor its process be asked.
var errUnasked = errors.New("the store cannot be read")

// operate runs do on the store; not at all when there is none yet.
func (r *failureReader) operate(ctx context.Context, do func(admin.Operator) error) error {
	if r.open != nil {
		return do(r.open)
	}
	opener, found := r.builder.OpenerOf(ctx, r.cfg.Plan())
	if err := report(found, r.s); err != nil {
		return err
	}
	asked := false
	err := operateOn(ctx, r.cfg, opener, mustExist, func(o admin.Operator) error {
		asked = true
		return do(o)
	})
	switch {
	case errors.Is(err, errNoStore):
		return nil // nothing has run, so nothing has failed
	case err != nil && !asked:
		return unasked{err}
	}
	return err
}

// unasked is why the store could not be read.
type unasked struct{ error }

func (u unasked) Unwrap() error        { return u.error }
func (u unasked) Is(target error) bool { return target == errUnasked }

// eachJob reads the open or the dead jobs of a queue.
func (r *failureReader) eachJob(ctx context.Context, o admin.Operator, p *failurePlace, dead bool, fn found) error {
	after, read := r.begin(p.key(dead))
	if !read {
		return nil
	}
	for {
		page, err := o.Jobs(ctx, p.queue, r.jobs(p, dead), after, 500)
		if err != nil {
			return err
		}
		for i := range page.Jobs {
			f, err := failureOf(&page.Jobs[i], p)
			if err != nil {
				r.skipped.Add(err, fmt.Sprintf("queue %q, job %s", p.queue, page.Jobs[i].ID))
				continue
			}
			if err := fn(p, f, false); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// jobs is as much of the selection as a store can make by itself.
func (r *failureReader) jobs(p *failurePlace, dead bool) admin.Selection {
	s := admin.Selection{Dead: dead}
	if r.from != nil && r.from.only {
		for id := range r.sel.IDs {
			s.IDs = append(s.IDs, id)
		}
	}
	for axis, value := range r.sel.Scope {
		if p.dead { // a row may know of its scope what its job does not
			s.By, s.Value = axis, value
		}
	}
	return s
}

// failureOf is the failure that a job is, or holds.
func failureOf(j *admin.Job, p *failurePlace) (*failures.Failure, error) {
	m := messageOf(j)
	dead := j.State == admin.StateDead
	var f *failures.Failure
	if p.dead {
		f = failures.OfDead(m, string(j.Cause), j.Attempts)
	} else {
		var err error
		if f, err = failures.OfMessage(m); err != nil {
			return nil, err
		}
		f.Refusal = string(j.Cause)
	}
	f.ID, f.Dead = j.ID, dead
	if dead {
		f.Died = j.At
	}
	return f, nil
}

// messageOf is the message of a job.
func messageOf(j *admin.Job) *event.Message {
	m := &event.Message{Key: string(j.Key)}
	if j.Payload != nil {
		m.Data = *j.Payload
	}
	m.SetRaw(m.Data)
	if j.Raw != nil {
		m.SetRaw(*j.Raw)
	}
	m.Meta.ID, m.Meta.Headers, m.Times.Created, m.Times.Read = string(j.MessageID), j.Headers, j.Created, j.Read
	if s := (event.Scope{Workspace: string(j.Workspace), Source: string(j.Source), Destination: string(j.Destination)}); s != (event.Scope{}) {
		m.Meta.Scope = &s
	}
	return m
}
