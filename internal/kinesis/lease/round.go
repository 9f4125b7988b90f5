package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// view is what the rounds of a coordinator remember from one to the next. Only they use it.
type view struct {
	sight    *sight
	rows     Rows
	shards   []Shard   // the last whole list of the stream
	lineage  lineage   // of shards
	syncAt   time.Time // when to ask the stream next
	cleanAt  time.Time
	offerAt  time.Time      // when a lease that was taken from a live owner may be offered
	unlisted map[string]int // how many lists in a row did not have a shard that has a row
	told     map[string]time.Time
	workers  int
}

// rounds looks at the table and takes what this instance is to hold, until ctx ends.
func (c *Coordinator) rounds(ctx context.Context) {
	v := &view{sight: newSight(c.s.Failover, c.s.ForeignFailover), unlisted: map[string]int{}, told: map[string]time.Time{}, cleanAt: time.Now().Add(c.s.Sync)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.kick:
		}
		err := c.round(ctx, v)
		if ctx.Err() != nil {
			return
		}
		c.looked(err)
		if c.over() {
			return
		}
		timer.Reset(c.pause(v, err))
	}
}

func (c *Coordinator) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil
}

// pause is the time until the next look: longer for many rows and workers, and no longer than
// until the first row that did not change lately is free.
func (c *Coordinator) pause(v *view, err error) time.Duration {
	if err != nil {
		return min(c.s.Scan, 4*c.retry())
	}
	d := max(c.s.Scan, time.Duration(v.workers*len(v.rows.Rows))*time.Second/scanBudget)
	now := time.Now()
	for _, r := range v.rows.Rows {
		if r.Owner == "" || r.Owner == c.me || r.Ended() {
			continue
		}
		unchanged, patience := v.sight.unchanged(r, now), v.sight.patience(r.Owner)
		if unchanged > c.s.Failover/2 && unchanged < patience {
			d = min(d, max(patience-unchanged, d/4))
		}
	}
	d += rand.N(d/10 + 1)
	if !v.offerAt.IsZero() {
		d = min(d, max(v.offerAt.Sub(now), time.Millisecond))
	}
	return d
}

// round is one look at the table and what follows from it.
func (c *Coordinator) round(ctx context.Context, v *view) error {
	began := time.Now()
	due := !began.Before(v.syncAt)
	if err := c.scan(ctx, v, due); err != nil {
		return err
	}
	if err := c.s.Table.Watch(ctx, v.rows); errors.Is(err, errNotYet) {
		if c.due(v, "watch") {
			c.s.Log.Warn("no leases are taken yet", "reason", err.Error())
		}
		return nil
	} else if err != nil {
		c.fail(err)
		return nil
	}
	if due {
		c.sync(ctx, v)
	}
	c.mu.Lock()
	draining := c.draining
	c.mu.Unlock()
	if draining {
		c.giveBack(ctx)
		return nil
	}
	if len(v.shards) == 0 {
		return nil // what a shard came from is not known yet
	}
	c.take(ctx, v, began)
	c.offerReady(ctx, v)
	if !began.Before(v.cleanAt) {
		v.cleanAt = began.Add(c.s.Sync)
		c.clean(ctx, v)
	}
	return nil
}

// scan reads the table, and ends holdings that others have taken.
func (c *Coordinator) scan(ctx context.Context, v *view, latest bool) error {
	before := map[string]int64{}
	for _, l := range c.holding() {
		row, _, _ := l.state()
		before[l.shard.ID] = row.Counter
	}
	scanning, cancel := context.WithTimeout(ctx, max(2*c.s.Failover, 10*time.Second))
	defer cancel()
	rows, err := c.s.Table.Scan(scanning, latest)
	if err != nil {
		return fmt.Errorf("read the leases in %s: %w", c.s.Table, err)
	}
	v.rows = rows
	if len(rows.Rows) == 0 {
		v.syncAt = time.Time{} // it was emptied
	}
	v.sight.see(rows.Rows, time.Now())
	for _, b := range rows.Broken {
		if c.due(v, b.Shard) {
			c.s.Log.Error("a lease cannot be understood, so nobody reads its shard: mend the row, or delete it to start the shard anew", "shard", b.Shard, "table", c.s.Table.String(), meter.KeyError, b.Err)
		}
	}
	for _, r := range rows.Rows {
		if counter, mine := before[r.Shard]; mine && r.Owner != c.me && r.Owner != "" && r.Counter > counter {
			c.mu.Lock()
			l := c.held[r.Shard]
			c.mu.Unlock()
			if l != nil {
				l.drop("taken by " + r.Owner)
			}
		}
	}
	return nil
}

// due reports whether something that lasts is to be logged, which it is once in a while.
func (c *Coordinator) due(v *view, about string) bool {
	if at, ok := v.told[about]; ok && time.Since(at) < time.Minute {
		return false
	}
	if len(v.told) > 1000 {
		clear(v.told)
	}
	v.told[about] = time.Now()
	return true
}

// sync asks the stream for its shards and makes the rows that are missing.
func (c *Coordinator) sync(ctx context.Context, v *view) {
	err := c.list(ctx, v)
	if err == nil {
		err = c.fill(ctx, v)
	}
	if err != nil {
		v.syncAt = time.Now().Add(min(c.s.Sync, 1500*time.Millisecond))
		if ctx.Err() == nil && c.due(v, "sync") {
			c.s.Log.Warn("cannot see to it that every shard has a lease, trying again", meter.KeyError, err)
		}
		return
	}
	v.syncAt = time.Now().Add(c.s.Sync - rand.N(c.s.Sync/10+1))
}

// list asks the stream for all its shards.
func (c *Coordinator) list(ctx context.Context, v *view) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	shards, err := c.s.Stream.Shards(ctx, time.Time{})
	if err != nil {
		return fmt.Errorf("list the shards of the stream: %w", err)
	}
	if err := covers(shards); err != nil {
		return err
	}
	v.shards, v.lineage = shards, lineageOf(shards)
	unlisted := map[string]int{}
	for _, r := range v.rows.Rows {
		if _, ok := v.lineage[r.Shard]; !ok {
			unlisted[r.Shard] = v.unlisted[r.Shard] + 1
		}
	}
	v.unlisted = unlisted
	return nil
}

// fill makes the rows that the table lacks.
func (c *Coordinator) fill(ctx context.Context, v *view) error {
	rows := missing(v.shards, v.rows, c.s.Start, nil)
	if len(rows) > 0 && c.s.Start.Position == AtTimestamp {
		since, err := c.s.Stream.Shards(ctx, c.s.Start.Time)
		if err != nil {
			return fmt.Errorf("list the shards of the stream since %s: %w", c.s.Start.Time, err)
		}
		rows = missing(v.shards, v.rows, c.s.Start, since)
	}
	for _, r := range rows {
		if err := c.s.Table.Create(ctx, r); err != nil {
			return fmt.Errorf("make a lease for shard %s: %w", r.Shard, err)
		}
	}
	if len(rows) > 0 {
		c.s.Log.Info("made leases for shards", "count", len(rows), "first", rows[0].Shard)
		if err := c.scan(ctx, v, true); err != nil {
			return err
		}
	}
	for _, r := range v.rows.Rows {
		if s, ok := v.lineage[r.Shard]; ok && r.Range == (HashRange{}) && s.Range.known() && !r.Ended() {
			if err := c.s.Table.Describe(ctx, r.Shard, nil, s.Range); err != nil && !errors.Is(err, ErrMoved) {
				return fmt.Errorf("note the hash keys of shard %s: %w", r.Shard, err)
			}
		}
	}
	return nil
}

// take takes what claims says.
func (c *Coordinator) take(ctx context.Context, v *view, began time.Time) {
	s := c.standing(v, began)
	claim := s.claims()
	workers := map[string]bool{c.me: true}
	for _, r := range v.rows.Rows {
		if r.Owner != "" && !s.free[r.Shard] {
			workers[r.Owner] = true
		}
	}
	v.workers = len(workers)
	got := 0
	for i, r := range claim.rows {
		if got == claim.want || ctx.Err() != nil || claim.steal && i == claim.want {
			return
		}
		began := time.Now()
		row, err := c.claim(ctx, r)
		if err != nil {
			if errors.Is(err, ErrMoved) {
				continue
			}
			if ctx.Err() == nil && c.due(v, "take") {
				c.s.Log.Warn("cannot take the lease of a shard, trying again", "shard", r.Shard, "table", c.s.Table.String(), meter.KeyError, err)
			}
			return
		}
		got++
		if l := c.hold(row, c.shardOf(v, row), began); l != nil {
			if !s.free[r.Shard] {
				l.notice = time.Now().Add(v.sight.patience(r.Owner) / 3)
			}
			c.s.Log.Info("took the lease of a shard", "shard", r.Shard, "position", row.Position.String(), "from", r.Owner, "free", s.free[r.Shard])
		}
	}
}

// claim takes a row, whoever is stopped meanwhile: what was taken is known, and so released.
func (c *Coordinator) claim(ctx context.Context, r Row) (Row, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.s.Failover/3)
	defer cancel()
	return c.s.Table.Take(ctx, r, c.me)
}

// standing is the rows as this instance sees them.
func (c *Coordinator) standing(v *view, began time.Time) standing {
	s := standing{me: c.me, rows: v.rows.Rows, free: map[string]bool{}, stale: map[string]bool{}, resting: map[string]bool{}, max: c.s.Max}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, until := range c.resting {
		if time.Now().After(until) {
			delete(c.resting, id)
		}
	}
	s.rows = slices.Clone(s.rows)
	for i, r := range s.rows {
		_, resting := c.resting[r.Shard]
		_, held := c.held[r.Shard]
		switch {
		case held:
			s.rows[i].Owner = c.me // an older state of the table may not say so yet
		case v.sight.free(r, began), r.Owner == c.me:
			s.free[r.Shard] = true
			s.stale[r.Shard] = v.sight.unchanged(r, began) >= 3*v.sight.patience(r.Owner)
			s.resting[r.Shard] = resting
		}
	}
	return s
}

// shardOf is what table and stream say of a shard.
func (c *Coordinator) shardOf(v *view, r Row) Shard {
	s, ok := v.lineage[r.Shard]
	if !ok {
		s = Shard{ID: r.Shard, Parents: r.Parents, Range: r.Range}
	}
	for _, p := range r.Parents {
		if !slices.Contains(s.Parents, p) {
			s.Parents = append(slices.Clone(s.Parents), p)
		}
	}
	return s
}

// offerReady hands on those leases whose parents have ended.
func (c *Coordinator) offerReady(ctx context.Context, v *view) {
	rows := byShard(v.rows)
	v.offerAt = time.Time{}
	for _, l := range c.holding() {
		if l.offered || !c.parentsEnded(ctx, v, l.shard.Parents, rows) {
			continue
		}
		if time.Until(l.notice) > 0 {
			v.offerAt = earlier(v.offerAt, l.notice)
			continue
		}
		l.offered = true
		if l.start.IsZero() {
			l.start = c.startOf(l.shard, rows)
		}
		c.offer(l)
	}
}

// earlier is the earlier of two times; one that is zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// giveBack releases, while draining, what nobody reads yet.
func (c *Coordinator) giveBack(ctx context.Context) {
	var idle []*Lease
	c.mu.Lock()
	for _, l := range c.held {
		if !l.given {
			idle = append(idle, l)
		}
	}
	c.mu.Unlock()
	if err := c.release(ctx, idle); err != nil && ctx.Err() == nil {
		c.s.Log.Warn("cannot release leases", meter.KeyError, err)
	}
}

// unlistedFor is how many lists in a row must lack a shard before its row is of no use.
const unlistedFor = 3

// clean deletes rows that are of no use any more; one of our workers does it for all.
func (c *Coordinator) clean(ctx context.Context, v *view) {
	began := time.Now()
	for _, r := range v.rows.Rows {
		if isOurs(r.Owner) && r.Owner < c.me && !r.Ended() && !v.sight.free(r, began) {
			return
		}
	}
	gone := map[string]bool{}
	for id, n := range v.unlisted {
		gone[id] = n >= unlistedFor
	}
	var names []string
	for _, r := range deletable(v.shards, v.rows, gone) {
		if err := c.s.Table.Delete(ctx, r); err != nil {
			if ctx.Err() == nil && c.due(v, "delete") {
				c.s.Log.Warn("cannot delete the lease of a shard that has ended", "shard", r.Shard, meter.KeyError, err)
			}
			return
		}
		names = append(names, r.Shard)
		delete(v.unlisted, r.Shard)
	}
	if len(names) > 0 {
		c.s.Log.Debug("deleted the leases of shards that have ended", "shards", strings.Join(names, " "))
	}
}
