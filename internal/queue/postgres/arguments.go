package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/queue/partition"
)

// arguments are those of the function commit_<segment>.
func (w *writer) arguments(a *attempt) []any {
	epochs := make([]int64, len(a.parts))
	place := map[int]int32{}
	for i, p := range a.parts {
		place[int(p)] = int32(i + 1)
	}
	lanePlace := map[uint64]int32{}
	n := len(a.rows)
	part, off, kind := make([]int32, n), make([]int32, n), make([]int16, n)
	lane, seq := make([]int32, n), make([]int32, n)
	count, size, data := make([]int32, n), make([]int32, n), make([][]byte, n)
	next := make([]int32, len(a.parts))
	var sides sideRows
	for i, r := range a.rows {
		p := place[r.part]
		next[p-1]++
		part[i], off[i], data[i] = p, next[p-1], r.data
		count[i], size[i] = int32(r.count), int32(len(r.data))
		if r.change != nil {
			kind[i] = kindChange
			if e := r.change.epoch; e != 0 && (epochs[p-1] == 0 || e < epochs[p-1]) {
				epochs[p-1] = e
			}
			sides.add(r.change.c)
			continue
		}
		at := lanePlace[r.ref.id]
		if at == 0 {
			a.lanes = append(a.lanes, int64(r.ref.id))
			at = int32(len(a.lanes))
			lanePlace[r.ref.id] = at
		}
		r.lane = at
		lane[i], seq[i] = at, int32(r.seq)
	}
	recs := w.records(a)
	args := []any{w.s.process, a.n, a.ring, list(a.parts), epochs, list(a.lanes), list(recs.stripes),
		list(recs.readKeys), list(recs.versions), list(recs.keys), list(recs.values), list(recs.deleted),
		part, off, kind, lane, seq, count, size, data}
	return append(append(args, sides.arguments()...), w.s.names.schema+".meta", a.h.id.meta)
}

// list makes an empty array of nil: NULL is something else.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// recordRows is what a group does with records.
type recordRows struct {
	stripes  []int32
	readKeys [][]byte
	versions []int64
	keys     [][]byte
	values   [][]byte
	deleted  [][]byte
}

// records collects the reads to check, each with the request it belongs to, and the last
// write of each key.
func (w *writer) records(a *attempt) *recordRows {
	out := &recordRows{}
	var m mask
	last := map[string][]byte{}
	a.readers = nil
	for _, r := range a.requests {
		m.join(&r.mask)
		for i := range r.t.Reads {
			key := r.t.Reads[i].Key
			out.readKeys = append(out.readKeys, key)
			out.versions = append(out.versions, r.versions[string(key)])
			a.readers = append(a.readers, r)
		}
		for i := range r.t.Writes {
			last[string(r.t.Writes[i].Key)] = r.t.Writes[i].Value
		}
	}
	for i := range int32(stripes) {
		if m.records[i>>6]&(1<<(i&63)) != 0 {
			out.stripes = append(out.stripes, i)
		}
	}
	for k, v := range last {
		if v == nil {
			out.deleted = append(out.deleted, []byte(k))
			continue
		}
		out.keys = append(out.keys, []byte(k))
		out.values = append(out.values, v)
	}
	return out
}

// sideRows is what a group does with the side table.
type sideRows struct {
	insert, update, gone []partition.Side
}

func (s *sideRows) add(c *partition.Change) {
	for i := range c.Side {
		switch r := c.Side[i]; {
		case r.Record != nil && r.State == partition.Gone:
		case r.Record != nil:
			s.insert = append(s.insert, r)
		case r.State == partition.Gone:
			s.gone = append(s.gone, r)
		default:
			s.update = append(s.update, r)
		}
	}
}

// sideKeys are the columns that name side rows.
func sideKeys(rows []partition.Side) (lane, seq []int64, idx []int32) {
	lane, seq, idx = make([]int64, len(rows)), make([]int64, len(rows)), make([]int32, len(rows))
	for i := range rows {
		lane[i], seq[i], idx[i] = int64(rows[i].ID.Lane), int64(rows[i].ID.Seq), int32(rows[i].ID.Index)
	}
	return lane, seq, idx
}

func column[T any](rows []partition.Side, of func(*partition.Side) T) []T {
	out := make([]T, len(rows))
	for i := range rows {
		out[i] = of(&rows[i])
	}
	return out
}

func (s *sideRows) arguments() []any {
	state := func(r *partition.Side) int16 { return int16(r.State) }
	was := func(r *partition.Side) int16 { return int16(r.Was) }
	due := func(r *partition.Side) int64 { return r.Due }
	attempt := func(r *partition.Side) int32 { return int32(r.Attempt) }
	cause := func(r *partition.Side) []byte { return []byte(r.Cause) }
	il, is, ii := sideKeys(s.insert)
	ul, us, ui := sideKeys(s.update)
	gl, gs, gi := sideKeys(s.gone)
	return []any{
		il, is, ii, column(s.insert, state), column(s.insert, due),
		column(s.insert, func(r *partition.Side) int64 { return signed(r.Hash) }),
		column(s.insert, attempt), column(s.insert, cause),
		column(s.insert, func(r *partition.Side) int64 { return r.At }),
		column(s.insert, func(r *partition.Side) int32 { return int32(r.Size) }),
		column(s.insert, func(r *partition.Side) []byte { return r.Record }),
		ul, us, ui, column(s.update, was), column(s.update, state), column(s.update, due),
		column(s.update, attempt), column(s.update, cause),
		gl, gs, gi, column(s.gone, was),
	}
}

// signed and unsigned turn hashes into bigint and back, so that bigint sorts as the hashes
// do. No key, 0, is the lowest bigint.
func signed(h uint64) int64   { return int64(h ^ 1<<63) }
func unsigned(h int64) uint64 { return uint64(h) ^ 1<<63 }

// commitCall is the statement that calls the function of a segment.
func (s *Store) commitCall(segment int64) string {
	return s.names.segmentSQL(commitCallSQL, segment)
}

var commitCallSQL = func() string {
	var b strings.Builder
	// What was made from other tables is not committed: before a restore no ring has the number
	// -1, and during one, for which the function may have waited, there is an error at its end.
	same := fmt.Sprintf("coalesce(pg_relation_filenode(to_regclass($%d)) = $%d, false)", commitArguments+1, commitArguments+2)
	b.WriteString("SELECT part_base, lane_base, 1 / (" + same + ")::integer FROM @schema.commit_@segment(")
	for i := range commitArguments {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == ringArgument {
			fmt.Fprintf(&b, "CASE WHEN %s THEN $%d ELSE -1 END", same, i+1)
			continue
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	b.WriteString(")")
	return b.String()
}()

const ringArgument = 2

const commitArguments = 20 + 11 + 8 + 4
