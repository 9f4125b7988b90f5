package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// parentsEnded reports whether the parents of a shard were read to their end. One without a row
// was, if what it came from was: its row has been deleted, or there was never anything to read in
// it. As a look at the table may miss rows that are new, that there is none is looked up.
func (c *Coordinator) parentsEnded(ctx context.Context, v *view, parents []string, rows map[string]Row) bool {
	for _, p := range parents {
		row, ok := rows[p]
		if !ok {
			var err error
			row, err = c.s.Table.Get(ctx, p)
			if errors.Is(err, errNoRow) {
				if !c.parentsEnded(ctx, v, v.lineage.parents(p), rows) {
					return false
				}
				continue
			}
			if err != nil {
				return false
			}
		}
		if !row.Ended() {
			return false
		}
	}
	return true
}

// startOf is where a shard without any position starts: at its beginning when it follows another
// that has a row, else where the settings say. When nothing was ever saved in those it follows, the
// time of the settings may be in it.
func (c *Coordinator) startOf(s Shard, rows map[string]Row) Position {
	for _, p := range s.Parents {
		if row, ok := rows[p]; ok && (!row.Unread || c.s.Start.Position != AtTimestamp) {
			return TrimHorizon
		}
	}
	return c.s.Start.Position
}

// succeed makes the rows of what follows a shard that has ended, and returns its children.
func (c *Coordinator) succeed(ctx context.Context, s Shard, children []Shard, start Position) ([]Shard, error) {
	merged := slices.ContainsFunc(children, func(child Shard) bool { return len(child.Parents) > 1 })
	var shards []Shard
	if len(children) == 0 || merged {
		var err error
		if shards, err = c.s.Stream.Shards(ctx, time.Time{}); err != nil {
			return nil, fmt.Errorf("list the shards of the stream: %w", err)
		}
	}
	l := lineageOf(shards)
	var known func(string) bool // has a row, or is not listed
	if len(children) == 0 {
		if now, ok := l[s.ID]; ok && !now.Closed {
			return nil, fault.New(fault.Setup, fmt.Errorf("the stream lists shard %s as open, so it has not ended: look at the position of its lease, and whether stream and table belong together", s.ID))
		}
		children = l.children(s.ID)
	}
	if merged || slices.ContainsFunc(children, func(child Shard) bool { return len(child.Parents) > 1 }) {
		var err error
		if known, err = c.attend(ctx, s, children, l); err != nil {
			return nil, err
		}
	}
	for _, child := range children {
		if len(child.Parents) == 0 {
			child.Parents = []string{s.ID}
		}
		if later(child, s, known) {
			continue
		}
		if err := c.s.Table.Create(ctx, newRow(child, start)); err != nil {
			return nil, fmt.Errorf("make a lease for shard %s: %w", child.ID, err)
		}
	}
	return children, nil
}

// later reports whether another parent of child has no row yet, because something before that
// is still read. Then child gets its row when that parent has ended: without the parent's row it
// would not wait for it.
func later(child, ended Shard, known func(string) bool) bool {
	return known != nil && slices.ContainsFunc(child.Parents, func(p string) bool { return p != ended.ID && !known(p) })
}

// attend sees to it that the other parents of children have rows, if they need some, so that a
// child does not start before they have ended. It returns which shards need none or have one.
func (c *Coordinator) attend(ctx context.Context, s Shard, children []Shard, l lineage) (known func(string) bool, err error) {
	rows, err := c.s.Table.Scan(ctx, true)
	if err != nil {
		return nil, err
	}
	has := byShard(rows)
	shards := make([]Shard, 0, len(l)+len(children))
	for _, child := range children {
		l[child.ID] = child
	}
	for _, shard := range l {
		shards = append(shards, shard)
	}
	for i := range rows.Rows {
		if rows.Rows[i].Shard == s.ID {
			rows.Rows[i].Position = End
		}
	}
	family := map[string]bool{}
	for _, child := range children {
		for _, p := range child.Parents {
			family[p] = true
		}
	}
	for _, r := range missing(shards, rows, c.s.Start, nil) {
		if family[r.Shard] {
			if err := c.s.Table.Create(ctx, r); err != nil {
				return nil, fmt.Errorf("make a lease for shard %s: %w", r.Shard, err)
			}
			has[r.Shard] = r
		}
	}
	return func(id string) bool {
		_, listed := l[id]
		_, ok := has[id]
		return ok || !listed
	}, nil
}
