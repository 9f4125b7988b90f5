package rows

import (
	"bytes"
	"context"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/queue"
)

// View implements queue.Store: it reads a snapshot of the state, which is as it was between
// two commits.
func (s *Store) View(ctx context.Context, fn func(queue.Reader) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	snapshot := s.db.NewSnapshot()
	err := fn(&view{ctx: ctx, at: snapshot})
	if cerr := snapshot.Close(); err == nil && cerr != nil {
		err = stateError("read", cerr)
	}
	return err
}

type view struct {
	ctx context.Context
	at  *pebble.Snapshot
}

// Get implements queue.Reader.
func (v *view) Get(key []byte) ([]byte, error) {
	if err := v.ctx.Err(); err != nil {
		return nil, err
	}
	return read(v.at, append([]byte{rowKV}, key...))
}

// Scan implements queue.Reader.
func (v *view) Scan(prefix, after []byte) iter.Seq2[queue.Record, error] {
	return func(yield func(queue.Record, error) bool) {
		if err := v.scan(prefix, after, func(r queue.Record) bool { return yield(r, nil) }); err != nil {
			yield(queue.Record{}, err)
		}
	}
}

// scan calls each until it answers false.
func (v *view) scan(prefix, after []byte, each func(queue.Record) bool) error {
	lower := append([]byte{rowKV}, prefix...)
	upper := rowEnd(lower)
	if bytes.Compare(after, prefix) >= 0 && len(after) > 0 {
		lower = append(append([]byte{rowKV}, after...), 0)
	}
	it, err := v.at.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return stateError("read", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return stateError("read", err)
		}
		if !each(queue.Record{Key: bytes.Clone(it.Key()[1:]), Value: append([]byte{}, value...)}) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return stateError("read", err)
	}
	return nil
}
