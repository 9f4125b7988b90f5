package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/queue"
)

// Store is a table in a store of ours, one record for each shard: with PostgreSQL all processes
// share it, an embedded one is that of a single process.
//
// The key is "kinesis/lease/NAME/SHARD", where a slash within NAME is written %2F, and the value
// JSON:
//
//	{"owner":"weir/host/6f..","counter":17,"sequence":"4962..","sub":2,"parents":[..],
//	 "children":[..],"from":"0","to":"170..","switches":1}
type Store struct {
	store func() queue.Store
	name  string
}

// NewStore returns the table of an application in a store, which is there once a coordinator is
// opened.
func NewStore(store func() queue.Store, name string) *Store { return &Store{store: store, name: name} }

func (s *Store) String() string { return "the leases of " + s.name + " in the store" }

// SubSequences implements [Table].
func (s *Store) SubSequences() bool { return true }

// Open implements [Table].
func (s *Store) Open(context.Context) error { return nil }

// Watch implements [Table].
func (s *Store) Watch(context.Context, Rows) error { return nil }

func (s *Store) prefix() string {
	return "kinesis/lease/" + strings.NewReplacer("%", "%25", "/", "%2F").Replace(s.name) + "/"
}

func (s *Store) key(shard string) []byte { return []byte(s.prefix() + shard) }

// storedRow is a Row as it is kept.
type storedRow struct {
	Owner    string   `json:"owner,omitempty"`
	Counter  int64    `json:"counter"`
	Sequence string   `json:"sequence"`
	Sub      uint64   `json:"sub,omitempty"`
	Parents  []string `json:"parents,omitempty"`
	Children []string `json:"children,omitempty"`
	From     string   `json:"from,omitempty"`
	To       string   `json:"to,omitempty"`
	Switches int64    `json:"switches,omitempty"`
}

func encodeRow(r Row) ([]byte, error) {
	return json.Marshal(storedRow{
		Owner: r.Owner, Counter: r.Counter, Sequence: r.Position.Sequence, Sub: r.Position.Sub, Parents: r.Parents,
		Children: r.Children, From: r.Range.From, To: r.Range.To, Switches: r.Switches,
	})
}

func decodeRow(shard string, value []byte) (Row, error) {
	var s storedRow
	if err := json.Unmarshal(value, &s); err != nil {
		return Row{}, err
	}
	p, err := parsePosition(s.Sequence, s.Sub)
	return Row{
		Shard: shard, Owner: s.Owner, Counter: s.Counter, Position: p, Parents: s.Parents, Children: s.Children,
		Range: HashRange{From: s.From, To: s.To}, Switches: s.Switches,
	}, err
}

// Scan implements [Table].
func (s *Store) Scan(ctx context.Context, _ bool) (Rows, error) {
	var rows Rows
	prefix := s.prefix()
	err := s.store().View(ctx, func(r queue.Reader) error {
		rows = Rows{}
		for rec, err := range r.Scan([]byte(prefix), nil) {
			if err != nil {
				return err
			}
			shard := string(rec.Key[len(prefix):])
			if row, err := decodeRow(shard, rec.Value); err != nil {
				rows.Broken = append(rows.Broken, Broken{Shard: shard, Err: err})
			} else {
				rows.Rows = append(rows.Rows, row)
			}
		}
		return nil
	})
	return rows, err
}

// Get implements [Table].
func (s *Store) Get(ctx context.Context, shard string) (Row, error) {
	var row Row
	err := s.store().View(ctx, func(r queue.Reader) error {
		value, err := r.Get(s.key(shard))
		if err != nil {
			return err
		}
		if value == nil {
			return errNoRow
		}
		row, err = decodeRow(shard, value)
		return err
	})
	return row, err
}

// Create implements [Table].
func (s *Store) Create(ctx context.Context, row Row) error {
	row.Owner, row.Counter, row.Switches = "", 0, 0
	return s.store().Update(ctx, func(tx queue.Tx) error {
		if value, err := tx.Get(s.key(row.Shard)); err != nil || value != nil {
			return err
		}
		return s.put(tx, row)
	})
}

func (s *Store) put(tx queue.Tx, row Row) error {
	value, err := encodeRow(row)
	if err != nil {
		return err
	}
	return tx.Put(s.key(row.Shard), value)
}

// change changes the row of a shard when it fulfils a condition.
func (s *Store) change(ctx context.Context, shard string, is func(Row) bool, change func(*Row)) (Row, error) {
	var row Row
	err := s.store().Update(ctx, func(tx queue.Tx) error {
		value, err := tx.Get(s.key(shard))
		if err != nil {
			return err
		}
		if value == nil {
			return ErrMoved
		}
		if row, err = decodeRow(shard, value); err != nil {
			return fmt.Errorf("the lease of shard %s cannot be understood: %w", shard, err)
		}
		if !is(row) {
			return ErrMoved
		}
		change(&row)
		return s.put(tx, row)
	})
	return row, err
}

func (r Row) heldAs(seen Row) bool { return r.Counter == seen.Counter && r.Owner == seen.Owner }

// Take implements [Table].
func (s *Store) Take(ctx context.Context, seen Row, worker string) (Row, error) {
	return s.change(ctx, seen.Shard, seen.heldAs, func(r *Row) { r.take(worker); r.Counter++ })
}

// Renew implements [Table].
func (s *Store) Renew(ctx context.Context, held Row) (Row, error) {
	return s.change(ctx, held.Shard, held.heldAs, func(r *Row) { r.Counter++ })
}

// Save implements [Table].
func (s *Store) Save(ctx context.Context, held Row, p Position, children []string) (Row, error) {
	return s.change(ctx, held.Shard, held.heldAs, func(r *Row) { r.save(p, children); r.Counter++ })
}

// Release implements [Table].
func (s *Store) Release(ctx context.Context, held Row) error {
	_, err := s.change(ctx, held.Shard, func(r Row) bool { return r.Owner == held.Owner }, func(r *Row) { r.Owner = ""; r.Counter++ })
	return err
}

// Describe implements [Table].
func (s *Store) Describe(ctx context.Context, shard string, children []string, keys HashRange) error {
	_, err := s.change(ctx, shard, func(Row) bool { return true }, func(r *Row) { r.describe(children, keys) })
	if errors.Is(err, ErrMoved) {
		return nil
	}
	return err
}

// Delete implements [Table].
func (s *Store) Delete(ctx context.Context, row Row) error {
	return s.store().Update(ctx, func(tx queue.Tx) error {
		value, err := tx.Get(s.key(row.Shard))
		if err != nil || value == nil {
			return err
		}
		if now, err := decodeRow(row.Shard, value); err != nil || !now.Ended() {
			return err
		}
		return tx.Delete(s.key(row.Shard))
	})
}
