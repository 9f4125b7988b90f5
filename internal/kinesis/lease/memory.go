package lease

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Memory is a table in memory, for tests: coordinators of one process share it.
type Memory struct {
	mu   sync.Mutex
	rows map[string]Row
}

// NewMemory returns an empty table.
func NewMemory() *Memory { return &Memory{rows: map[string]Row{}} }

func (m *Memory) String() string { return "memory" }

// SubSequences implements [Table].
func (m *Memory) SubSequences() bool { return true }

// Open implements [Table].
func (m *Memory) Open(context.Context) error { return nil }

// Watch implements [Table].
func (m *Memory) Watch(context.Context, Rows) error { return nil }

// Scan implements [Table].
func (m *Memory) Scan(ctx context.Context, _ bool) (Rows, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows Rows
	for _, r := range m.rows {
		rows.Rows = append(rows.Rows, r)
	}
	slices.SortFunc(rows.Rows, func(a, b Row) int { return strings.Compare(a.Shard, b.Shard) })
	return rows, ctx.Err()
}

// Get implements [Table].
func (m *Memory) Get(ctx context.Context, shard string) (Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.rows[shard]; ok {
		return r, ctx.Err()
	}
	return Row{}, errNoRow
}

// Create implements [Table].
func (m *Memory) Create(ctx context.Context, row Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.rows[row.Shard]; !ok && ctx.Err() == nil {
		m.rows[row.Shard] = row
	}
	return ctx.Err()
}

// change changes a row whose counter is as seen.
func (m *Memory) change(ctx context.Context, seen Row, change func(*Row)) (Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return Row{}, ctx.Err()
	}
	r, ok := m.rows[seen.Shard]
	if !ok || r.Counter != seen.Counter {
		return Row{}, ErrMoved
	}
	r.Counter++
	change(&r)
	m.rows[r.Shard] = r
	return r, nil
}

// Take implements [Table].
func (m *Memory) Take(ctx context.Context, seen Row, worker string) (Row, error) {
	return m.change(ctx, seen, func(r *Row) { r.take(worker) })
}

// Renew implements [Table].
func (m *Memory) Renew(ctx context.Context, held Row) (Row, error) {
	return m.change(ctx, held, func(*Row) {})
}

// Save implements [Table].
func (m *Memory) Save(ctx context.Context, held Row, p Position, children []string) (Row, error) {
	return m.change(ctx, held, func(r *Row) { r.save(p, children) })
}

// Release implements [Table].
func (m *Memory) Release(ctx context.Context, held Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rows[held.Shard]
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !ok || r.Owner != held.Owner {
		return ErrMoved
	}
	r.Owner = ""
	r.Counter++
	m.rows[r.Shard] = r
	return nil
}

// Describe implements [Table].
func (m *Memory) Describe(ctx context.Context, shard string, children []string, keys HashRange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.rows[shard]; ok && ctx.Err() == nil {
		r.describe(children, keys)
		m.rows[shard] = r
	}
	return ctx.Err()
}

// Delete implements [Table].
func (m *Memory) Delete(ctx context.Context, row Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.rows[row.Shard]; ok && r.Ended() && ctx.Err() == nil {
		delete(m.rows, row.Shard)
	}
	return ctx.Err()
}
