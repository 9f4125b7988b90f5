package runs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

const (
	foldEvery   = 2 * time.Second // after something was counted here
	lookEvery   = time.Minute     // for what others have counted, if nothing was counted here
	forgetEvery = time.Hour
	// Retention is how long a run is known after something of it has changed last.
	Retention = 72 * time.Hour
	atOnce    = 500 // records of one transaction
)

// Open says that a queue is of a stage, and begins to fold; every Open needs a Close.
func (b *Book) Open(name, stage string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.names[name] = stage
	b.wake()
	if b.users++; b.users > 1 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan struct{})
	go b.tend(ctx, b.done)
}

// Close ends what Open has begun, with the last who has opened.
func (b *Book) Close() {
	b.mu.Lock()
	b.users--
	last, stop, done := b.users == 0, b.stop, b.done
	b.mu.Unlock()
	if last { // without the lock, which the other needs to come to its end
		stop()
		<-done
	}
}

func (b *Book) tend(ctx context.Context, done chan struct{}) {
	defer close(done)
	var folded, forgotten time.Time
	due := true
	for {
		err := errors.Join(b.register(ctx), b.lookCancelled(ctx))
		if err == nil && (due || time.Since(folded) >= lookEvery) {
			if err = b.Fold(ctx); err == nil {
				folded = time.Now()
			}
		}
		if err == nil && time.Since(forgotten) > forgetEvery {
			if err = errors.Join(b.Forget(ctx), b.forgetCancelled(ctx)); err == nil {
				forgotten = time.Now()
			}
		}
		told := queue.AwayOf(b.store()) != nil || fault.Full(err) // by the store
		if err != nil && ctx.Err() == nil && !told {
			b.log.Warn("cannot sum up the status of job runs, trying again; what is counted meanwhile is kept", meter.KeyError, err)
		}
		due = b.wait(ctx) || err != nil && due
		if ctx.Err() != nil {
			return
		}
	}
}

// wait waits until it is to be looked after the book again. It reports whether something was counted.
func (b *Book) wait(ctx context.Context) bool {
	look := time.NewTimer(drainEvery)
	defer look.Stop()
	select {
	case <-b.fresh:
	case <-look.C:
		return false
	case <-ctx.Done():
		return false
	}
	look.Reset(foldEvery) // more may come, to be folded together
	select {
	case <-look.C:
	case <-ctx.Done():
	}
	return true
}

// wake has what is counted folded soon.
func (b *Book) wake() {
	select {
	case b.fresh <- struct{}{}:
	default:
	}
}

// register notes the stages of queues.
func (b *Book) register(ctx context.Context) error {
	b.mu.Lock()
	names := maps.Clone(b.names)
	b.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	if err := b.store().Update(ctx, func(tx queue.Tx) error {
		for name, stage := range names {
			is, err := tx.Get([]byte(queues + name))
			if err != nil {
				return err
			}
			if string(is) == stage {
				continue
			}
			if err := tx.Put([]byte(queues+name), []byte(stage)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, stage := range names {
		if b.names[name] == stage {
			delete(b.names, name)
		}
	}
	return nil
}

// page is the next records below a prefix, at most atOnce.
func (b *Book) page(ctx context.Context, prefix, after []byte) (page []queue.Record, err error) {
	err = b.store().View(ctx, func(r queue.Reader) error {
		page = page[:0]
		for rec, err := range r.Scan(prefix, after) {
			if err != nil {
				return err
			}
			if page = append(page, rec); len(page) == atOnce {
				break
			}
		}
		return nil
	})
	return page, err
}

// each does something with the records below a prefix, page by page.
func (b *Book) each(ctx context.Context, prefix []byte, do func(page []queue.Record) error) error {
	for after := []byte(nil); ; {
		page, err := b.page(ctx, prefix, after)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := do(page); err != nil {
			return err
		}
		after = page[len(page)-1].Key
	}
}

// Fold adds what transactions have changed to the sums.
func (b *Book) Fold(ctx context.Context) error {
	return b.each(ctx, []byte(changes), func(page []queue.Record) error {
		return b.store().Update(ctx, func(tx queue.Tx) error { return fold(tx, page) })
	})
}

// summed is a run in a transaction that folds.
type summed struct {
	run  string
	at   time.Time
	rows map[row]Counts
}

// fold takes changes away that are still there, and adds them to the sums.
func fold(tx queue.Tx, page []queue.Record) error {
	keys := make([][]byte, len(page))
	for i := range page {
		keys[i] = page[i].Key
	}
	values, err := tx.GetAll(keys)
	if err != nil {
		return err
	}
	runs := map[string]*summed{}
	for i, v := range values {
		if v == nil { // another process has folded it
			continue
		}
		c, err := readChange(queue.Record{Key: keys[i], Value: v})
		if err != nil {
			return err
		}
		s := runs[c.run]
		if s == nil {
			s = &summed{run: c.run, rows: map[row]Counts{}}
			runs[c.run] = s
		}
		if c.at.After(s.at) {
			s.at = c.at
		}
		for r, n := range c.rows {
			sum := s.rows[r]
			sum.add(n)
			s.rows[r] = sum
		}
		if err := tx.Delete(keys[i]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		if err := runs[name].addTo(tx); err != nil {
			return err
		}
	}
	return nil
}

// addTo adds to the sums of the run.
func (s *summed) addTo(tx queue.Tx) error {
	run := hash(s.run)
	rows := slices.Collect(maps.Keys(s.rows))
	keys := make([][]byte, 0, len(rows)+1)
	for _, r := range rows {
		keys = append(keys, join(sums, run, r.hash()))
	}
	keys = append(keys, join(known, run))
	values, err := tx.GetAll(keys)
	if err != nil {
		return err
	}
	for i, r := range rows {
		sum := s.rows[r]
		if values[i] != nil {
			_, before, err := readSum(queue.Record{Key: keys[i], Value: values[i]})
			if err != nil {
				return err
			}
			sum.add(before)
		}
		if err := tx.Put(keys[i], sum.append(r.append([]byte{form}))); err != nil {
			return err
		}
	}
	key := len(rows)
	if values[key] != nil {
		_, at, err := readKnown(queue.Record{Key: keys[key], Value: values[key]})
		if err != nil {
			return err
		}
		if at.After(s.at) {
			s.at = at
		}
	}
	return tx.Put(keys[key], binary.AppendVarint(appendText([]byte{form}, s.run), s.at.Unix()))
}

// Forget takes away runs of which nothing has changed for [Retention].
func (b *Book) Forget(ctx context.Context) error {
	before := b.store().Now().Add(-Retention)
	return b.each(ctx, []byte(known), func(page []queue.Record) error {
		for _, rec := range page {
			run, at, err := readKnown(rec)
			if err != nil {
				return err
			}
			if at.Before(before) {
				if err := b.forget(ctx, rec, hash(run)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// forget takes away a run, as long as nothing of it changes.
func (b *Book) forget(ctx context.Context, is queue.Record, run []byte) error {
	same := func(tx queue.Tx) (bool, error) {
		now, err := tx.Get(is.Key)
		return bytes.Equal(now, is.Value), err
	}
	for _, prefix := range []string{sums, failed} {
		if err := b.clear(ctx, join(prefix, run), same); err != nil {
			return err
		}
	}
	return b.forgetOne(ctx, is)
}

// forgetOne takes away a record that nobody has changed.
func (b *Book) forgetOne(ctx context.Context, is queue.Record) error {
	return b.store().Update(ctx, func(tx queue.Tx) error {
		now, err := tx.Get(is.Key)
		if err != nil || !bytes.Equal(now, is.Value) {
			return err
		}
		return tx.Delete(is.Key)
	})
}

// clear takes away the records below a prefix, as long as may says so.
func (b *Book) clear(ctx context.Context, prefix []byte, may func(queue.Tx) (bool, error)) error {
	return b.each(ctx, prefix, func(page []queue.Record) error {
		return b.store().Update(ctx, func(tx queue.Tx) error {
			if may != nil {
				if ok, err := may(tx); err != nil || !ok {
					return err
				}
			}
			for _, rec := range page {
				if err := tx.Delete(rec.Key); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
