package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// View implements queue.Store. The first record is read by itself, which is all that most
// views ask for. With the second read begins a transaction that sees one moment, and the
// function runs again when the first record is another by then.
func (s *Store) View(ctx context.Context, fn func(queue.Reader) error) error {
	deadline := time.Now().Add(s.tuned().Patience)
	for whole := false; ; whole = true {
		if err := s.ready(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		bounded, cancel := s.link.during(ctx, s.link.now())
		v := &view{s: s, ctx: bounded}
		var err error
		if whole {
			err = v.begin()
		}
		if err == nil {
			err = fn(v)
		}
		if err != nil && ctx.Err() == nil && bounded.Err() != nil {
			v.lost = true // the database was away in between
		}
		v.end()
		cancel()
		if !v.changed && (!v.lost || time.Now().After(deadline)) {
			return err
		}
	}
}

// view is one run of a View's function.
type view struct {
	s       *Store
	ctx     context.Context
	tx      pgx.Tx // nil before the second read
	first   *queue.Record
	changed bool // the first record, between its read and the transaction: the run is void
	lost    bool // the connection of the transaction, likewise
}

// errChanged ends a run that is to be repeated.
var errChanged = errors.New("a record has changed since it was read: the view is repeated")

func (v *view) begin() error {
	return v.s.try(v.ctx, func(ctx context.Context) error {
		var err error
		v.tx, err = v.s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		return meaning(err)
	})
}

func (v *view) end() {
	if v.tx != nil {
		_ = v.tx.Rollback(context.WithoutCancel(v.ctx)) // it has written nothing
	}
}

// within makes sure that there is a transaction, and that the first read is true in it.
func (v *view) within() error {
	if v.changed {
		return errChanged
	}
	if v.tx != nil {
		return nil
	}
	if err := v.begin(); err != nil {
		return err
	}
	if v.first == nil {
		return nil
	}
	now, err := v.inside(v.first.Key)
	if err == nil && (!bytes.Equal(now, v.first.Value) || (now == nil) != (v.first.Value == nil)) {
		v.changed, err = true, errChanged
	}
	return err
}

// Get implements queue.Reader.
func (v *view) Get(key []byte) ([]byte, error) {
	if v.tx != nil || v.first != nil || v.changed {
		if err := v.within(); err != nil {
			return nil, err
		}
		return v.inside(key)
	}
	var value []byte
	err := v.s.try(v.ctx, func(context.Context) error {
		var err error
		value, err = v.read(v.s.pool, key)
		return err
	})
	if err == nil {
		v.first = &queue.Record{Key: bytes.Clone(key), Value: bytes.Clone(value)}
	}
	return value, err
}

// inside reads a record in the transaction.
func (v *view) inside(key []byte) ([]byte, error) {
	value, err := v.read(v.tx, key)
	return value, v.note(err)
}

// note notes an error of the transaction which another would not have.
func (v *view) note(err error) error {
	if err != nil && v.ctx.Err() == nil && sqlState(err) == "" {
		v.lost = true
	}
	return err
}

func (v *view) read(q querier, key []byte) ([]byte, error) {
	var value []byte
	err := q.QueryRow(v.ctx, v.s.names.sql("SELECT value FROM @schema.records WHERE key = $1"), key).Scan(&value)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get record %.64q: %w", key, meaning(err))
	}
	return value, nil
}

// scanAtOnce is how many records a scan reads at once.
const scanAtOnce = 500

// Scan implements queue.Reader.
func (v *view) Scan(prefix, after []byte) iter.Seq2[queue.Record, error] {
	return func(yield func(queue.Record, error) bool) {
		for {
			page, err := v.page(prefix, after)
			if err != nil {
				yield(queue.Record{}, fmt.Errorf("read records: %w", meaning(err)))
				return
			}
			for _, r := range page {
				after = bytes.Clone(r.Key)
				if !yield(r, nil) {
					return
				}
			}
			if len(page) < scanAtOnce {
				return
			}
		}
	}
}

// page reads the records of a scan that come first after a key.
func (v *view) page(prefix, after []byte) ([]queue.Record, error) {
	if err := v.within(); err != nil {
		return nil, err
	}
	where, args := "key >= $1 AND key > $2", []any{list(prefix), list(after), scanAtOnce}
	if end := prefixEnd(prefix); end != nil {
		where += " AND key < $4"
		args = append(args, end)
	}
	rows, err := v.tx.Query(v.ctx, v.s.names.sql("SELECT key, value FROM @schema.records WHERE "+where+" ORDER BY key LIMIT $3"), args...)
	if err != nil {
		return nil, v.note(err)
	}
	page, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (queue.Record, error) {
		var rec queue.Record
		err := r.Scan(&rec.Key, &rec.Value)
		return rec, err
	})
	return page, v.note(err)
}

// get reads records for an Update and notes their versions; 0 of one that is not there.
func (s *Store) get(ctx context.Context, keys [][]byte, versions map[string]int64) ([][]byte, error) {
	values := make([][]byte, len(keys))
	place := make(map[string]int, len(keys))
	for i, key := range keys {
		place[string(key)] = i
	}
	began := time.Now()
	err := s.try(ctx, func(ctx context.Context) error {
		for i, key := range keys {
			values[i], versions[string(key)] = nil, 0
		}
		rows, err := s.pool.Query(ctx, s.names.sql("SELECT key, value, version FROM @schema.records WHERE key = ANY($1)"), keys)
		if err != nil {
			return err
		}
		var key, value []byte
		var version int64
		_, err = pgx.ForEachRow(rows, []any{&key, &value, &version}, func() error {
			values[place[string(key)]], versions[string(key)] = append(make([]byte, 0, len(value)), value...), version
			return nil
		})
		return err
	})
	s.timed(meter.ReadJobs, began, err)
	if err != nil {
		return nil, fmt.Errorf("get record %.64q: %w", keys[0], meaning(err))
	}
	return values, nil
}
