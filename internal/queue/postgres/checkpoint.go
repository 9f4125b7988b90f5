package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
	"github.com/weirdata/weir/internal/wire"
)

// checkpointEvery is how often what owners know is written down. It bounds the log that
// a process that takes over must read, and lets segments go.
const checkpointEvery = 2 * time.Second

func (s *Store) checkpoints(ctx context.Context) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var list []*owned
		for i := range s.owned {
			if o := s.owned[i].Load(); o != nil && o.keeper.Load() {
				list = append(list, o)
			}
		}
		if s.Away() != nil {
			continue
		}
		bounded, cancel := s.bounded(ctx, s.o.Timeout)
		if err := s.checkpoint(bounded, list); err != nil && !errors.Is(err, errFenced) && ctx.Err() == nil && s.Away() == nil {
			s.o.Log.Warn("what is settled could not be written down; it will be tried again", "error", err)
		}
		cancel()
	}
}

// cut is the state of one partition's changed lanes at one position of its log.
type cut struct {
	o     *owned
	pos   int64
	was   int64 // the position of the checkpoint before, or of a later one of this memory
	dirty map[uint64]struct{}
	lanes []partition.Lane
}

// cut takes the state of the lanes that changed since the last one.
func (o *owned) cut() cut {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := cut{o: o, pos: o.seen, was: o.written, dirty: o.dirty}
	if o.seen == o.saved {
		return cut{o: o}
	}
	o.dirty = map[uint64]struct{}{}
	for id := range c.dirty {
		if l, ok := o.p.StateOf(id); ok {
			c.lanes = append(c.lanes, l)
		}
	}
	return c
}

// restore says that a cut was not written.
func (c *cut) restore() {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	for id := range c.dirty {
		c.o.dirty[id] = struct{}{}
	}
}

// checkpoint writes down the state of partitions. It need not be flushed: the log holds
// what it says, and a segment is dropped only by a later commit.
func (s *Store) checkpoint(ctx context.Context, list []*owned) error {
	var cuts []cut
	for _, o := range list {
		if o.gone.Load() || !o.keeper.Load() {
			continue
		}
		if c := o.cut(); c.lanes != nil {
			cuts = append(cuts, c)
		}
	}
	if len(cuts) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.writeCuts(ctx, tx, cuts) })
	for i := range cuts {
		c := &cuts[i]
		if err != nil {
			c.restore()
			continue
		}
		c.o.mu.Lock()
		c.o.saved = max(c.o.saved, c.pos)
		if c.pos > c.o.written || c.o.rewound {
			c.o.written, c.o.rewound = c.pos, false
		}
		c.o.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("write the checkpoint of %d partitions: %w", len(cuts), meaning(err))
	}
	return nil
}

// keeps says whether this process writes the checkpoints from now on, the first of them over
// one at pos.
func (o *owned) keeps(pos int64, keeps bool) {
	o.mu.Lock()
	o.written = pos
	o.mu.Unlock()
	o.keeper.Store(keeps)
}

// behind reports whether a checkpoint at pos cannot be of this memory.
func (o *owned) behind(pos int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return pos > o.seen && !o.rewound
}

var errFenced = errors.New("a partition has another owner")

func (s *Store) writeCuts(ctx context.Context, tx pgx.Tx, cuts []cut) error {
	h := of(tx.Conn())
	var parts []int32
	var epochs, pos, was []int64
	var lanes []partition.Lane
	for i := range cuts {
		c := &cuts[i]
		if c.o.h != h {
			return errFenced
		}
		was = append(was, c.was)
		parts, epochs, pos = append(parts, int32(c.o.part)), append(epochs, c.o.epoch.Load()), append(pos, c.pos)
		lanes = append(lanes, c.lanes...)
	}
	slices.SortFunc(lanes, func(a, b partition.Lane) int { return cmp.Compare(a.ID, b.ID) })
	if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
		return err
	}
	// A process that takes over updates the same row. What the database says of the position
	// must be of this memory too: one of another history, or its tables after a restore, says
	// something else.
	tag, err := tx.Exec(ctx, s.names.sql(`UPDATE @schema.parts t SET pos = u.pos FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $5::bigint[]) u(id, epoch, pos, was)
		WHERE t.id = u.id AND t.epoch = u.epoch AND t.owner = $4 AND t.pos BETWEEN least(u.was, u.pos) AND greatest(u.was, u.pos)
			AND pg_relation_filenode(to_regclass($6)) = $7`), parts, epochs, pos, s.process, was, s.names.schema+".meta", h.id.meta)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != int64(len(cuts)) {
		s.look()
		return errFenced
	}
	return s.writeLanes(ctx, tx, lanes)
}

// writeLanes writes the state of lanes.
func (s *Store) writeLanes(ctx context.Context, tx pgx.Tx, lanes []partition.Lane) error {
	number := func(of func(*partition.Lane) int64) []int64 {
		out := make([]int64, len(lanes))
		for i := range lanes {
			out[i] = of(&lanes[i])
		}
		return out
	}
	partly := make([][]byte, len(lanes))
	for i := range lanes {
		partly[i] = encodePartly(lanes[i].Partly)
	}
	_, err := tx.Exec(ctx, s.names.sql(`UPDATE @schema.lanes t SET first = u.first, tail = u.tail, jobs = u.jobs, bytes = u.bytes,
			retry = u.retry, parked = u.parked, dead = u.dead, retried = u.retried, partly = u.partly
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])
			u(id, first, tail, jobs, bytes, retry, parked, dead, retried, partly)
		WHERE t.id = u.id`),
		number(func(l *partition.Lane) int64 { return int64(l.ID) }), number(func(l *partition.Lane) int64 { return int64(l.First) }),
		number(func(l *partition.Lane) int64 { return int64(l.Tail) }), number(func(l *partition.Lane) int64 { return l.Jobs }),
		number(func(l *partition.Lane) int64 { return l.Bytes }), number(func(l *partition.Lane) int64 { return l.Retry }),
		number(func(l *partition.Lane) int64 { return l.Parked }), number(func(l *partition.Lane) int64 { return l.Dead }),
		number(func(l *partition.Lane) int64 { return l.Retried }), partly)
	return err
}

// The encoding of the partly settled values of a lane; all numbers are varints.
//
//	partly := (seq count size words word(8)*)*     words = 0 means all have left
func encodePartly(list []partition.Partly) []byte {
	dst := []byte{}
	for _, p := range list {
		dst = binary.AppendUvarint(dst, p.Seq)
		dst = binary.AppendUvarint(dst, uint64(p.Count))
		dst = binary.AppendUvarint(dst, uint64(p.Size))
		dst = binary.AppendUvarint(dst, uint64(len(p.Bits)))
		for _, w := range p.Bits {
			dst = binary.BigEndian.AppendUint64(dst, w)
		}
	}
	return dst
}

func decodePartly(b []byte) ([]partition.Partly, error) {
	var out []partition.Partly
	r := wire.Reader{Rest: b}
	for len(r.Rest) > 0 {
		p := partition.Partly{Seq: r.Uvarint(), Count: int(r.Uvarint()), Size: int(r.Uvarint())}
		words := r.Uvarint()
		if r.Bad || p.Count <= 0 || p.Count > 1<<20 || p.Size < 0 || words != 0 && words != uint64((p.Count+63)/64) || words*8 > uint64(len(r.Rest)) {
			return nil, fmt.Errorf("read partly settled values: %w", queue.ErrCorrupt)
		}
		for range words {
			p.Bits = append(p.Bits, r.Fixed64())
		}
		out = append(out, p)
	}
	return out, nil
}
