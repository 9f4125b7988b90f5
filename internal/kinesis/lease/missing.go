package lease

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// lastHashKey is 2^128-1.
const lastHashKey = "340282366920938463463374607431768211455"

// covers says whether the open ones of shards take every hash key, each of them one. A list for
// which that is not so was made while the stream changed, or is not whole: ask again.
func covers(shards []Shard) error {
	var open []HashRange
	for _, s := range shards {
		if s.Closed {
			continue
		}
		if !s.Range.known() {
			return fmt.Errorf("the stream's list of shards gives no hash keys for %s", s.ID)
		}
		open = append(open, s.Range)
	}
	if len(open) == 0 {
		return errors.New("the stream's list of shards has no open shard")
	}
	slices.SortFunc(open, func(a, b HashRange) int { return compareDecimal(a.From, b.From) })
	next := "0"
	for _, r := range open {
		if compareDecimal(r.From, next) != 0 {
			return fmt.Errorf("the open shards of the stream's list do not meet at hash key %s: the next one starts at %s", next, r.From)
		}
		next = increment(r.To)
	}
	if compareDecimal(next, increment(lastHashKey)) != 0 {
		return fmt.Errorf("the open shards of the stream's list end at hash key %s", next)
	}
	return nil
}

// increment is a decimal number plus one.
func increment(s string) string {
	b := []byte(s)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != '9' {
			b[i]++
			return string(b)
		}
		b[i] = '0'
	}
	return "1" + string(b)
}

// lineage is the shards of a stream and what they came from.
type lineage map[string]Shard

func lineageOf(shards []Shard) lineage {
	l := make(lineage, len(shards))
	for _, s := range shards {
		l[s.ID] = s
	}
	return l
}

// parents are the listed parents of a shard.
func (l lineage) parents(id string) []string {
	var listed []string
	for _, p := range l[id].Parents {
		if _, ok := l[p]; ok && p != id {
			listed = append(listed, p)
		}
	}
	return listed
}

// children are the listed children of a shard.
func (l lineage) children(id string) []Shard {
	var list []Shard
	for _, s := range l {
		if slices.Contains(s.Parents, id) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, bySequence)
	return list
}

// bySequence is the order in which shards came to be.
func bySequence(a, b Shard) int {
	if decimal(a.First) && decimal(b.First) {
		if c := compareDecimal(a.First, b.First); c != 0 {
			return c
		}
	}
	return cmp.Compare(a.ID, b.ID)
}

// census finds the rows that a table lacks.
type census struct {
	shards lineage
	rows   map[string]Row // those that cannot be understood too
	start  Start
	// since, when it is not nil, is the shards that were not closed before the time of start.
	since map[string]bool

	state map[string]coverage
	add   map[string]Row
}

type coverage uint8

const (
	unvisited coverage = iota
	visiting
	covered
	uncovered
)

// missing are the rows to create so that every open shard is read, or will be when those it came
// from have been:
//
//   - A shard below one whose row says that it has ended starts at its beginning, once all
//     its parents that are listed have rows.
//   - An open shard that has a row, or an ancestor with one, needs nothing.
//   - One that has neither starts where the settings say: with LATEST itself, otherwise its
//     highest ancestors that are listed, whose descendants follow as they end.
//   - Where only one parent of a merge has a row or an ancestor with one, the other is treated in
//     the same way, since their child waits for both.
func missing(shards []Shard, rows Rows, start Start, since []Shard) []Row {
	c := census{shards: lineageOf(shards), rows: byShard(rows), start: start, state: map[string]coverage{}, add: map[string]Row{}}
	if since != nil {
		c.since = map[string]bool{}
		for _, s := range since {
			c.since[s.ID] = true
		}
	}
	for _, s := range shards {
		if c.follows(s) {
			c.create(s, TrimHorizon)
		}
	}
	for _, s := range shards {
		if !s.Closed && c.visit(s.ID) == uncovered {
			c.begin(s.ID)
		}
	}
	list := make([]Shard, 0, len(c.add))
	for id := range c.add {
		list = append(list, c.shards[id])
	}
	slices.SortFunc(list, bySequence)
	created := make([]Row, len(list))
	for i, s := range list {
		created[i] = c.add[s.ID]
	}
	return created
}

func byShard(rows Rows) map[string]Row {
	all := make(map[string]Row, len(rows.Rows)+len(rows.Broken))
	for _, b := range rows.Broken {
		all[b.Shard] = Row{Shard: b.Shard}
	}
	for _, r := range rows.Rows {
		all[r.Shard] = r
	}
	return all
}

// follows reports whether s has no row although its turn has come or will come by itself: a
// parent has ended, and the others have rows.
func (c *census) follows(s Shard) bool {
	if _, ok := c.rows[s.ID]; ok {
		return false
	}
	ended := false
	for _, p := range c.shards.parents(s.ID) {
		row, ok := c.rows[p]
		if !ok {
			return false
		}
		ended = ended || row.Ended()
	}
	return ended
}

func (c *census) create(s Shard, p Position) {
	if _, ok := c.add[s.ID]; !ok {
		c.add[s.ID] = newRow(s, p)
	}
	c.state[s.ID] = covered
}

func newRow(s Shard, p Position) Row {
	return Row{Shard: s.ID, Position: p, Parents: s.Parents, Range: s.Range}
}

func (c *census) visit(id string) coverage {
	switch state := c.state[id]; state {
	case covered, uncovered:
		return state
	case visiting:
		return uncovered // a list that goes in circles
	}
	if _, ok := c.rows[id]; ok {
		c.state[id] = covered
		return covered
	}
	c.state[id] = visiting
	parents := c.shards.parents(id)
	state := uncovered
	for _, p := range parents {
		if c.visit(p) == covered {
			state = covered
		}
	}
	if state == covered {
		for _, p := range parents {
			if c.visit(p) == uncovered {
				c.begin(p)
			}
		}
	}
	c.state[id] = state
	return state
}

// begin creates what it takes to read an uncovered shard from the start of the settings.
func (c *census) begin(id string) {
	if c.start.Position == Latest {
		c.create(c.shards[id], Latest)
		return
	}
	c.top(id, map[string]bool{})
}

func (c *census) top(id string, seen map[string]bool) {
	if seen[id] {
		return
	}
	seen[id] = true
	higher := false
	for _, p := range c.shards.parents(id) {
		if _, ok := c.rows[p]; !ok && c.wanted(p) {
			higher = true
			c.top(p, seen)
		}
	}
	if s := c.shards[id]; !higher && (c.wanted(id) || !s.Closed) {
		c.create(s, c.start.Position)
	}
}

func (c *census) wanted(id string) bool { return c.since == nil || c.since[id] }

// deletable are the rows of shards that have ended and are of no use any more: all children have
// been read from, and no parent has a row, so that nothing is taken for the child of a row that
// has just gone. Of shards that the stream does not list any more only unlisted, which the caller
// knows for certain, are among them.
func deletable(shards []Shard, rows Rows, unlisted map[string]bool) []Row {
	l, all := lineageOf(shards), byShard(rows)
	var list []Row
	for _, r := range rows.Rows {
		if !r.Ended() || slices.ContainsFunc(r.Parents, func(p string) bool { _, ok := all[p]; return ok }) {
			continue
		}
		if unlisted[r.Shard] {
			list = append(list, r)
			continue
		}
		children := slices.Clone(r.Children)
		for _, s := range l.children(r.Shard) {
			if !slices.Contains(children, s.ID) {
				children = append(children, s.ID)
			}
		}
		begun := func(id string) bool {
			child, ok := all[id]
			return ok && (child.Position.IsRecord() || child.Ended())
		}
		if len(children) > 0 && !slices.ContainsFunc(children, func(id string) bool { return !begun(id) && !unlisted[id] }) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Row) int { return strings.Compare(a.Shard, b.Shard) })
	return list
}
