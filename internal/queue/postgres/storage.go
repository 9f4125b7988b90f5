package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// storage is what a partition needs of the database.
type storage struct {
	s *Store
	o *owned
}

var _ partition.Storage = (*storage)(nil)

const (
	valuesAtOnce  = 256       // most values of one read
	uncachedBytes = 256 << 10 // most bytes of one read without a cache
)

// Values implements partition.Storage.
func (st *storage) Values(ctx context.Context, lane, seq uint64, bytes int) ([]partition.Value, error) {
	if vs := st.o.h.recent.values(lane, seq, bytes); len(vs) > 0 {
		return vs, nil
	}
	if st.s.o.CacheBytes < 0 {
		bytes = min(bytes, uncachedBytes) // what is read too much is not kept
	}
	var out []partition.Value
	err := st.s.try(ctx, func(ctx context.Context) error {
		var err error
		for range 3 { // a segment may be dropped, or become a closed one, in between
			if out, err = st.s.values(ctx, st.s.pool, st.o.h.segment(), lane, seq, bytes); len(out) > 0 || err != nil && !isUndefinedTable(err) {
				return err
			}
			if herr := st.s.readHead(ctx); herr != nil {
				return herr
			}
		}
		return err
	})
	for i := range out {
		st.o.h.recent.keep(lane, out[i].Seq, out[i].Data)
	}
	return out, meaning(err)
}

// Part implements partition.Storage.
func (st *storage) Part(ctx context.Context, lane, seq uint64, from, size int) ([]byte, error) {
	if vs := st.o.h.recent.values(lane, seq, 1); len(vs) > 0 && from+size <= len(vs[0].Data) {
		return bytes.Clone(vs[0].Data[from : from+size]), nil
	}
	var out []byte
	err := st.s.try(ctx, func(ctx context.Context) error {
		var err error
		for range 3 { // as Values
			if out, err = st.s.part(ctx, st.s.pool, st.o.h.segment(), lane, seq, from, size); out != nil || err != nil && !isUndefinedTable(err) {
				return err
			}
			if herr := st.s.readHead(ctx); herr != nil {
				return herr
			}
		}
		return err
	})
	return out, meaning(err)
}

// part reads a part of one value; nil when it is not there.
func (s *Store) part(ctx context.Context, q querier, current int64, lane, seq uint64, from, size int) ([]byte, error) {
	var out []byte
	err := s.inSegments(ctx, q, current, lane, seq, func(segment int64) (bool, error) {
		err := q.QueryRow(ctx, s.names.segmentSQL("SELECT substring(data FROM $3 FOR $4) FROM @schema.log_@segment WHERE lane = $1 AND seq = $2", segment),
			int64(lane), int64(seq), from+1, size).Scan(&out)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, nil
		}
		return err == nil, err
	})
	return out, err
}

// values reads values of a lane from seq on, in order, without gaps, from the first
// segment that holds seq.
func (s *Store) values(ctx context.Context, q querier, current int64, lane, seq uint64, bytes int) ([]partition.Value, error) {
	var out []partition.Value
	began := time.Now()
	err := s.inSegments(ctx, q, current, lane, seq, func(segment int64) (bool, error) {
		var err error
		out, err = s.valuesIn(ctx, q, segment, lane, seq, bytes)
		return len(out) > 0, err
	})
	s.timed(meter.ReadJobs, began, err)
	return out, err
}

// inSegments calls find for the segments that may hold a value, until one does.
func (s *Store) inSegments(ctx context.Context, q querier, current int64, lane, seq uint64, find func(segment int64) (bool, error)) error {
	var closed int64
	err := q.QueryRow(ctx, s.names.sql("SELECT segment FROM @schema.lane_extents WHERE lane = $1 AND last >= $2 ORDER BY last LIMIT 1"), int64(lane), int64(seq)).Scan(&closed)
	segments := []int64{current - 1, current}
	switch {
	case err == nil && closed < current-1:
		segments = []int64{closed}
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("find value %d of lane %d: %w", seq, lane, err)
	}
	for _, segment := range segments {
		found, err := find(segment)
		if err != nil {
			return fmt.Errorf("read value %d of lane %d in segment %d: %w", seq, lane, segment, err)
		}
		if found {
			return nil
		}
	}
	return nil
}

func (s *Store) valuesIn(ctx context.Context, q querier, segment int64, lane, seq uint64, bytes int) ([]partition.Value, error) {
	// Sizes are summed up before values are fetched.
	rows, err := q.Query(ctx, s.names.segmentSQL(`SELECT seq, data FROM (
			SELECT seq, size, data, sum(size) OVER (ORDER BY seq) - size AS before FROM (
				SELECT seq, size, data FROM @schema.log_@segment WHERE lane = $1 AND seq >= $2 ORDER BY seq LIMIT $4) v) w
		WHERE before = 0 OR before + size <= $3 ORDER BY seq`, segment), int64(lane), int64(seq), bytes, valuesAtOnce)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []partition.Value
	for rows.Next() {
		var at int64
		var data []byte
		if err := rows.Scan(&at, &data); err != nil {
			return nil, err
		}
		if uint64(at) != seq+uint64(len(out)) {
			break
		}
		out = append(out, partition.Value{Seq: uint64(at), Data: data})
	}
	rows.Close()
	return out, rows.Err()
}

// Due implements partition.Storage.
func (st *storage) Due(ctx context.Context, lane uint64, from partition.DueKey, until int64, limit, bytes int) ([]partition.Side, int64, error) {
	var out []partition.Side
	var next int64
	err := st.s.try(ctx, func(ctx context.Context) error {
		out, next = nil, 0
		rows, err := st.s.pool.Query(ctx, st.s.names.sql(`SELECT due, seq, idx, hash, attempt, cause, at, size,
				CASE WHEN wanted THEN record END, wanted
			FROM (SELECT *, due <= $5 AND n <= $6 AND (n = 1 OR total <= $7) AS wanted
				FROM (SELECT *, row_number() OVER place AS n, sum(size) OVER place AS total
					FROM (SELECT * FROM @schema.side WHERE lane = $1 AND state = 1 AND (due, seq, idx) > ($2, $3, $4) ORDER BY due, seq, idx LIMIT $6 + 1) d
					WINDOW place AS (ORDER BY due, seq, idx)) s) w
			ORDER BY due, seq, idx`), int64(lane), from.Due, int64(from.Seq), int64(from.Index), until, limit, bytes)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r := partition.Side{State: partition.Retry}
			var seq, hash int64
			var idx, attempt, size int32
			var cause, record []byte
			var wanted bool
			if err := rows.Scan(&r.Due, &seq, &idx, &hash, &attempt, &cause, &r.At, &size, &record, &wanted); err != nil {
				return err
			}
			if !wanted {
				next = r.Due
				break
			}
			r.ID = queue.ID{Lane: lane, Seq: uint64(seq), Index: uint32(idx)}
			r.Hash, r.Attempt, r.Cause, r.Size, r.Record = unsigned(hash), int(attempt), string(cause), int(size), record
			out = append(out, r)
		}
		rows.Close()
		return rows.Err()
	})
	return out, next, meaning(err)
}

// Heads implements partition.Storage.
func (st *storage) Heads(ctx context.Context, lane uint64, hashes []uint64) ([]partition.Side, error) {
	keys := make([]int64, len(hashes))
	for i, h := range hashes {
		keys[i] = signed(h)
	}
	out := make([]partition.Side, len(hashes))
	err := st.s.try(ctx, func(ctx context.Context) error {
		clear(out)
		rows, err := st.s.pool.Query(ctx, st.s.names.sql(`SELECT u.ord, d.* FROM unnest($2::bigint[]) WITH ORDINALITY u(hash, ord)
			CROSS JOIN LATERAL (SELECT `+headColumns+` FROM @schema.side s
				WHERE s.lane = $1 AND s.hash = u.hash AND s.state IN (1, 2) AND s.hash <> -9223372036854775808 ORDER BY s.seq, s.idx LIMIT 1) d`), int64(lane), keys)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var ord int64
			r, err := scanHead(rows, lane, &ord)
			if err != nil {
				return err
			}
			out[ord-1] = r
		}
		return rows.Err()
	})
	return out, meaning(err)
}

const headColumns = "s.seq, s.idx, s.state, s.due, s.hash, s.attempt, s.at, s.size"

// scanHead reads headColumns, after what comes before them.
func scanHead(rows pgx.Rows, lane uint64, before ...any) (partition.Side, error) {
	var seq, hash int64
	var idx, attempt, size int32
	var state int16
	r := partition.Side{}
	if err := rows.Scan(append(before, &seq, &idx, &state, &r.Due, &hash, &attempt, &r.At, &size)...); err != nil {
		return r, err
	}
	r.ID = queue.ID{Lane: lane, Seq: uint64(seq), Index: uint32(idx)}
	r.State, r.Hash, r.Attempt, r.Size = partition.SideState(state), unsigned(hash), int(attempt), int(size)
	return r, nil
}

// Sweep implements partition.Storage: it jumps from key to key along the index.
func (st *storage) Sweep(ctx context.Context, lane, after uint64, limit int) ([]partition.Side, error) {
	var out []partition.Side
	err := st.s.try(ctx, func(ctx context.Context) error {
		out = nil
		rows, err := st.s.pool.Query(ctx, st.s.names.sql(`WITH RECURSIVE heads AS (
				(SELECT `+headColumns+`, 1 AS n FROM @schema.side s
				WHERE s.lane = $1 AND s.hash > $2 AND s.state IN (1, 2) AND s.hash <> -9223372036854775808 ORDER BY s.hash, s.seq, s.idx LIMIT 1)
			UNION ALL
				SELECT d.*, h.n + 1 FROM heads h CROSS JOIN LATERAL (SELECT `+headColumns+` FROM @schema.side s
					WHERE s.lane = $1 AND s.hash > h.hash AND s.state IN (1, 2) AND s.hash <> -9223372036854775808 ORDER BY s.hash, s.seq, s.idx LIMIT 1) d
				WHERE h.n < $3)
			SELECT `+headColumns+` FROM heads s ORDER BY s.n`), int64(lane), signed(after), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanHead(rows, lane)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	return out, meaning(err)
}

// Move implements partition.Storage. It is a commit like any other.
func (st *storage) Move(ctx context.Context, c *partition.Change) error {
	o := st.o
	r := &request{h: o.h, t: &partition.Transaction{}, deadline: time.Now().Add(st.s.tuned().Patience), done: make(chan error, 1),
		changes: []ownedChange{{o: o, part: o.part, c: c}}}
	r.mask.add(o.part)
	return st.s.commits.do(ctx, r)
}
