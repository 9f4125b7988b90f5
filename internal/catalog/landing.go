package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// Landing is files that come to be part of the dataset together: planned, written, and
// committed with the ids of what is in them.
type Landing struct {
	d       *Dataset
	plan    plan
	planned chan struct{} // closed when the plan is durable, or err says why it is not
	err     error
}

// Reservation is the messages of one write, which no other write lands meanwhile.
type Reservation struct {
	d      *Dataset
	ids    []ID
	lanes  []Lane
	places *Index[int32] // of the ids in the list; nil until somebody asks
	ended  chan struct{}
	again  []bool  // which are in the dataset already; nil for none
	twin   []int32 // the place, from 1, of the same id before; nil for none
}

// Landed reports whether the i-th message is in the dataset already.
func (r *Reservation) Landed(i int) bool { return r.again != nil && r.again[i] }

// Twin is the place of an earlier message of the write that is the same as the i-th.
func (r *Reservation) Twin(i int) (at int, ok bool) {
	if r.twin == nil || r.twin[i] == 0 {
		return 0, false
	}
	return int(r.twin[i]) - 1, true
}

// Reserve finds out which of the messages are in the dataset, and keeps the others for the
// caller until [Reservation.Release]. It waits for writes that have some of them. Messages
// that are in no lane cannot be recognised, and have no id.
func (d *Dataset) Reserve(ctx context.Context, ids []ID, lanes []Lane) (*Reservation, error) {
	r := &Reservation{d: d, ids: ids, lanes: lanes, ended: make(chan struct{})}
	for {
		if err := d.settle(ctx); err != nil {
			return nil, fmt.Errorf("settle what was begun in %s: %w", d.path, err)
		}
		other := d.log.reserve(r)
		if other == nil {
			return r, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// reserve is Reserve unless another write has one of the messages; then it is that one's end.
func (j *journal) reserve(r *Reservation) (other <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var doubtful [][2]int // runs of messages that may be there
	for i := range r.lanes {
		if x := &r.lanes[i]; !j.lanes.fresh(x) {
			doubtful = append(doubtful, x.Runs...)
		}
	}
	if len(doubtful) > 0 {
		for h := range j.held {
			if h.hasAny(r.ids, doubtful) {
				return h.ended
			}
		}
		r.compare(&j.landed, doubtful)
	}
	for _, x := range reachOf(r.lanes) {
		j.lanes.note(x)
	}
	j.held[r] = true
	return nil
}

// hasAny reports whether r has one of the ids in the runs. The journal's lock is held.
func (r *Reservation) hasAny(ids []ID, runs [][2]int) bool {
	if r.places == nil {
		r.places = &Index[int32]{}
		r.places.Reserve(len(r.ids))
		for i, id := range r.ids {
			r.places.Set(id, int32(i))
		}
	}
	for _, run := range runs {
		for _, id := range ids[run[0]:run[1]] {
			if _, ok := r.places.Get(id); ok && id != (ID{}) {
				return true
			}
		}
	}
	return false
}

// compare finds which messages in the runs have landed, or are there twice.
func (r *Reservation) compare(landed *past, runs [][2]int) {
	r.again, r.twin = make([]bool, len(r.ids)), make([]int32, len(r.ids))
	var here Index[int32]
	for _, run := range runs {
		for i := run[0]; i < run[1]; i++ {
			id := r.ids[i]
			if at, ok := here.Get(id); ok {
				r.twin[i] = at
				continue
			}
			here.Set(id, int32(i)+1)
			r.again[i] = landed.has(id)
		}
	}
}

// Release lets others have what has not landed.
func (r *Reservation) Release() {
	j := r.d.log
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held[r] {
		delete(j.held, r)
		close(r.ended)
	}
}

// Plan begins a landing of a file in each of the partitions. Their names, which nobody else
// can have, are those that [Landing.Write] gives them. It does not wait for the plan to be
// durable: Write does, before anything is seen of the file.
func (d *Dataset) Plan(ctx context.Context, partitions []string) (*Landing, error) {
	j := d.log
	j.mu.Lock()
	if j.lost != nil {
		j.mu.Unlock()
		return nil, j.lost
	}
	n := j.next
	j.next++
	l := &Landing{d: d, plan: plan{Number: n, Writer: j.writer}, planned: make(chan struct{})}
	for i, p := range partitions {
		name := fileName(p, l.name(i))
		l.plan.Files = append(l.plan.Files, name)
		j.left[name] = true
	}
	j.mu.Unlock()
	go func() {
		defer close(l.planned)
		l.err = l.record(ctx)
	}()
	return l, nil
}

// name is the name of the i-th file.
func (l *Landing) name(i int) string {
	return fmt.Sprintf("events-%012d-%s-%d", l.plan.Number, l.plan.Writer[:8], i)
}

// record makes the plan durable. Who finds its number taken, or passed, is not the only writer.
func (l *Landing) record(ctx context.Context) error {
	d := l.d
	text, err := json.Marshal(l.plan)
	if err == nil {
		err = blob.Ensure(ctx, d.bucket, planName(l.plan.Number), append(text, '\n'))
	}
	if errors.Is(err, blob.ErrExists) {
		return d.taken()
	}
	if err == nil && !d.log.fenced {
		var passed []uint64
		passed, err = numbers(ctx, d.bucket, commits, recSuffix, l.plan.Number)
		for _, n := range d.log.unknown(passed) {
			var o outcome
			if o, _, err = readOutcome(ctx, d.bucket, d.path, n, false); err != nil {
				break
			}
			if o.Writer != l.plan.Writer {
				return d.taken()
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("write plan %d of %s: %w", l.plan.Number, d.path, err)
	}
	return err
}

// unknown is those of the commits that are not known to be this writer's.
func (j *journal) unknown(passed []uint64) []uint64 {
	if len(passed) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(passed, func(n uint64) bool {
		return slices.ContainsFunc(j.kept, func(k keptCommit) bool { return k.number == n })
	})
}

// taken notes that another writer has the dataset.
func (d *Dataset) taken() error {
	err := fmt.Errorf("write to the dataset %s: %w; this one begins anew", d.path, ErrTaken)
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	if d.log.lost == nil {
		d.log.lost = fault.New(fault.Fatal, err)
	}
	return d.log.lost
}

// Write writes the i-th file, whose partition and name are as planned. It is no part of the
// dataset until Commit.
func (l *Landing) Write(ctx context.Context, i int, f File) error {
	f.Name = l.name(i)
	ready := func() error {
		select {
		case <-l.planned:
			return l.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var err error
	if l.d.distant {
		err = l.d.writeBeside(ctx, f, ready)
	} else {
		_, err = l.d.write(ctx, f, ready)
	}
	if err != nil {
		err = fmt.Errorf("write %s%s to %s: %w", f.Name, suffix, at(l.d.path, f.Partition), err)
	}
	return err
}

// Commit makes the files that were written, all but those that failed, a part of the
// dataset, with the ids of what is in them, which was read in the lanes. When it fails, what became of the landing is found
// out before anything else is reserved.
func (l *Landing) Commit(ctx context.Context, failed func(i int) bool, ids []ID, lanes []Lane) error {
	<-l.planned
	d, j := l.d, l.d.log
	o := outcome{Number: l.plan.Number, Writer: l.plan.Writer, Lanes: reachOf(lanes)}
	for i, name := range l.plan.Files {
		if !failed(i) {
			o.Files = append(o.Files, name)
		}
	}
	err := l.err
	if err == nil && len(o.Files) > 0 {
		err = blob.Ensure(ctx, d.bucket, commitName(o.Number), o.encode(ids))
		d.step("committed")
	}
	if errors.Is(err, blob.ErrExists) {
		err = d.taken() // it was undone
	}
	j.mu.Lock()
	if err != nil || len(o.Files) == 0 {
		j.doubtful = append(j.doubtful, l)
		j.mu.Unlock()
		if err == nil || errors.Is(err, ErrTaken) {
			return err
		}
		return fmt.Errorf("commit plan %d of %s: %w", o.Number, d.path, err)
	}
	j.noteLanded(o, ids, &l.plan)
	j.mu.Unlock()
	d.tidy(ctx)
	return nil
}

// noteLanded notes a commit. j.mu is held.
func (j *journal) noteLanded(o outcome, ids []ID, p *plan) {
	j.landed.add(ids)
	j.kept = append(j.kept, keptCommit{number: o.Number, ids: len(ids)})
	for _, name := range o.Files {
		delete(j.left, name)
	}
	if dropped := p.without(o); len(dropped) > 0 {
		j.dirty[o.Number] = dropped
	} else {
		j.done = append(j.done, o.Number)
	}
}

// settle finds out what became of landings that nobody knows of, and removes what was
// dropped. One that was not committed is undone: its caller was told that it failed.
func (d *Dataset) settle(ctx context.Context) error {
	j := d.log
	if !j.unsettled() {
		return nil
	}
	select {
	case <-j.settling:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { j.settling <- struct{}{} }()
	j.mu.Lock()
	if j.lost != nil {
		defer j.mu.Unlock()
		return j.lost
	}
	doubtful := slices.Clone(j.doubtful)
	j.mu.Unlock()
	for _, l := range doubtful {
		if err := d.findOut(ctx, l); err != nil {
			return err
		}
	}
	j.mu.Lock()
	dirty := maps.Clone(j.dirty)
	j.mu.Unlock()
	for n, files := range dirty {
		if d.drop(ctx, files) != nil {
			continue // nobody takes them for a part of the dataset, and the rest of it goes on
		}
		j.mu.Lock()
		delete(j.dirty, n)
		for _, name := range files {
			delete(j.left, name)
		}
		if j.fenced {
			j.done = append(j.done, n)
		}
		j.mu.Unlock()
	}
	return nil
}

func (j *journal) unsettled() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.doubtful)+len(j.dirty) > 0 || j.lost != nil
}

// findOut settles a landing of which nobody knows whether it is committed.
func (d *Dataset) findOut(ctx context.Context, l *Landing) error {
	j := d.log
	o, ids := outcome{Number: l.plan.Number, Writer: l.plan.Writer}, []ID(nil)
	err := blob.Ensure(ctx, d.bucket, commitName(l.plan.Number), o.encode(nil))
	if errors.Is(err, blob.ErrExists) {
		o, ids, err = readOutcome(ctx, d.bucket, d.path, l.plan.Number, true)
	}
	if err != nil {
		return err
	}
	if o.Writer != l.plan.Writer {
		_ = d.drop(ctx, l.plan.Files) // whoever undid it does so too
		return d.taken()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noteLanded(o, ids, &l.plan)
	j.doubtful = slices.DeleteFunc(j.doubtful, func(x *Landing) bool { return x == l })
	return nil
}

// dropped reports whether a file is there that does not belong to the dataset.
func (d *Dataset) dropped(name string) bool {
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	return d.log.left[name]
}
