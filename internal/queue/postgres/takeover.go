package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// acquire takes queues of partitions over that nobody leases from. From the moment this
// commits, nothing that a former owner still tries to settle is accepted.
func (s *Store) acquire(ctx context.Context, h *history, want map[int][]string) error {
	taken, err := s.take(ctx, want)
	if sqlState(err) == codeLockTimeout {
		// One of them is locked by a commit that hangs: the others need not wait for it.
		for part, queues := range want {
			t, err := s.take(ctx, map[int][]string{part: queues})
			if err != nil {
				s.o.Log.Warn("a partition cannot be taken over yet; it will be tried again", "partition", part, "error", err)
			}
			maps.Copy(taken, t)
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("take over %d partitions: %w", len(want), meaning(err))
	}
	if len(taken) == 0 {
		return nil
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	var followed []*owned
	epochs := map[int]int64{}
	shared := false
	for part, p := range taken {
		shared = shared || len(p.shares) > 1
		o := s.owned[part].Load()
		if o != nil && o.h == h && contains(p.before, o.queues()) {
			o.epoch.Store(p.epoch)
			followed = append(followed, o)
			continue
		}
		if o != nil {
			s.disown(o)
		}
		epochs[part] = p.epoch
	}
	if shared {
		s.tell(ctx, messageFree) // who had it alone has to know
	}
	// What others have settled meanwhile is in the log.
	slices.SortFunc(followed, func(a, b *owned) int { return a.part - b.part })
	if len(followed) > 0 {
		if err := s.follow(ctx, followed); err != nil {
			return fmt.Errorf("read %d partitions that were taken over: %w", len(followed), meaning(err))
		}
	}
	for _, o := range followed {
		s.begin(o, &taken[o.part].partState)
	}
	if len(epochs) > 0 {
		loaded, err := s.load(ctx, h, epochs)
		if err != nil {
			return fmt.Errorf("read %d partitions that were taken over: %w", len(epochs), meaning(err))
		}
		for _, o := range loaded {
			s.begin(o, &taken[o.part].partState)
			if !s.publish(o) {
				return errPast
			}
		}
	}
	s.figures.taken.Add(int64(len(taken)))
	s.moves.took(len(taken))
	return nil
}

// begin has o lease from what this process has of it, of which all that is in the log is
// known, and wakes those who wait for that.
func (s *Store) begin(o *owned, p *partState) {
	before := o.queues()
	mine := p.of(s.process)
	if keeps := p.keeper == s.process; !keeps || !o.keeper.Load() {
		o.keeps(p.pos, keeps)
	}
	o.alone.Store(len(p.shares) == 1)
	o.holds.Store(&mine)
	for _, l := range o.p.Lanes() {
		if _, had := slices.BinarySearch(before, l.Queue); !had {
			s.hub.Notify(l.Queue, l.Scope)
		}
	}
}

// taking is a partition of which something was taken over, and what this process had of it in
// the database until then: what is not among that others may have had in between.
type taking struct {
	partState
	before []string
}

// take changes the table of shares; it answers with the partitions that were changed.
func (s *Store) take(ctx context.Context, want map[int][]string) (map[int]*taking, error) {
	taken := map[int]*taking{}
	err := s.reassign(ctx, keysOf(want), true, func(v *cluster, p *partState) (partState, bool) {
		next, ok := v.grant(p, s.process, want[p.id])
		if ok {
			taken[p.id] = &taking{next, p.of(s.process)}
		} else {
			delete(taken, p.id)
		}
		return next, ok
	})
	if err != nil {
		return map[int]*taking{}, err
	}
	return taken, nil
}

// reassign replaces what the tables say of partitions by what fn makes of it, in one
// transaction; with alone, no commit to them is under way meanwhile.
func (s *Store) reassign(ctx context.Context, ids []int, alone bool, fn func(*cluster, *partState) (partState, bool)) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '2s'"); err != nil {
			return err
		}
		if alone {
			for _, id := range ids { // in order, as commits lock them
				if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", s.names.space, id+1); err != nil {
					return err
				}
			}
		}
		if _, err := tx.Exec(ctx, s.names.sql("SELECT 1 FROM @schema.parts WHERE id = ANY($1) ORDER BY id FOR UPDATE"), ids); err != nil {
			return err
		}
		v, err := s.readCluster(ctx, tx, "WHERE t.id = ANY($1)", ids)
		if err != nil {
			return err
		}
		var changed []partState
		for i := range v.parts {
			if next, ok := fn(v, &v.parts[i]); ok {
				changed = append(changed, next)
			}
		}
		return s.writeParts(ctx, tx, changed)
	})
}

func (s *Store) writeParts(ctx context.Context, tx pgx.Tx, changed []partState) error {
	if len(changed) == 0 {
		return nil
	}
	var ids []int
	var keepers, epochs []int64
	b := &pgx.Batch{}
	for _, p := range changed {
		ids, keepers, epochs = append(ids, p.id), append(keepers, p.keeper), append(epochs, p.epoch)
	}
	b.Queue(s.names.sql(`UPDATE @schema.parts t SET owner = nullif(u.owner, 0), epoch = u.epoch
		FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) u(id, owner, epoch) WHERE t.id = u.id`), ids, keepers, epochs)
	b.Queue(s.names.sql("DELETE FROM @schema.shares WHERE part = ANY($1)"), ids)
	for _, p := range changed {
		for _, sh := range p.shares {
			b.Queue(s.names.sql("INSERT INTO @schema.shares (part, process, epoch, queues) VALUES ($1, $2, $3, $4)"), p.id, sh.process, p.epoch, texts(sh.queues))
		}
	}
	return tx.SendBatch(ctx, b).Close()
}

// load makes the memory of partitions from the last checkpoint and the log after it, all
// of one instant.
func (s *Store) load(ctx context.Context, h *history, epochs map[int]int64) ([]*owned, error) {
	var out []*owned
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		out = out[:0]
		byPart, err := s.snapshot(ctx, h, tx, slices.Sorted(maps.Keys(epochs)))
		if err != nil {
			return err
		}
		for part, sn := range byPart {
			o, err := s.restore(h, part, epochs[part], sn)
			if err != nil {
				return err
			}
			out = append(out, o)
		}
		return nil
	})
	return out, err
}

// keptBytes is the most memory for the records of withheld jobs, and that for values which
// were handed out in part, of all partitions together.
const keptBytes = 32 << 20

// restore makes the memory of a partition from a snapshot of it.
func (s *Store) restore(h *history, part int, epoch int64, sn *snapshot) (*owned, error) {
	st := &storage{s: s}
	p := partition.New(partition.Config{Storage: st, Log: s.o.Log, Epoch: uint32(epoch), Window: s.o.Window, Now: s.now, Steady: s.steady, Hub: s.hub,
		KeptBytes: keptBytes / len(s.owned), OpenBytes: keptBytes / len(s.owned)})
	st.o = &owned{s: s, h: h, part: part, p: p, seen: sn.pos, saved: sn.pos, written: sn.pos,
		dirty: map[uint64]struct{}{}, expected: map[changeKey]*partition.Change{}}
	if sn.rewound {
		st.o.rewound, st.o.written, st.o.saved = true, sn.written, -1
		for i := range sn.lanes {
			st.o.dirty[sn.lanes[i].ID] = struct{}{}
		}
	}
	st.o.epoch.Store(epoch)
	p.Hold(s.pauses.Load())
	if err := p.Restore(sn.lanes); err != nil {
		return nil, fmt.Errorf("restore partition %d: %w", part, err)
	}
	return st.o, st.o.follow(sn.log)
}

// snapshot is a partition at rest: its checkpoint, and the log after it.
type snapshot struct {
	pos   int64
	lanes []partition.Lane
	log   []entry

	rewound bool  // it was made from the log alone
	written int64 // and this is the position of the checkpoint that it replaces
}

// snapshot reads partitions; q must read all of it at one instant. Of those whose checkpoint is
// not of their log it makes one that is.
func (s *Store) snapshot(ctx context.Context, h *history, q querier, parts []int) (map[int]*snapshot, error) {
	out, err := s.readSnapshot(ctx, h, q, parts)
	if err != nil {
		return nil, err
	}
	return out, s.trusted(ctx, q, out)
}

// readSnapshot reads partitions as they are.
func (s *Store) readSnapshot(ctx context.Context, h *history, q querier, parts []int) (map[int]*snapshot, error) {
	out := map[int]*snapshot{}
	after := map[int]int64{}
	rows, err := q.Query(ctx, s.names.sql("SELECT id, pos FROM @schema.parts WHERE id = ANY($1)"), parts)
	if err != nil {
		return nil, err
	}
	var part int
	var pos int64
	if _, err := pgx.ForEachRow(rows, []any{&part, &pos}, func() error {
		out[part], after[part] = &snapshot{pos: pos}, pos
		return nil
	}); err != nil {
		return nil, err
	}
	if err := s.readCheckpoint(ctx, h, q, parts, out); err != nil {
		return nil, fmt.Errorf("read the checkpoint of lanes: %w", err)
	}
	var segment int64
	if err := q.QueryRow(ctx, s.names.sql("SELECT segment FROM @schema.head")).Scan(&segment); err != nil {
		return nil, err
	}
	err = s.readLog(ctx, h, q, segment, after, func(part int, e entry) { out[part].log = append(out[part].log, e) })
	return out, err
}

func (s *Store) readCheckpoint(ctx context.Context, h *history, q querier, parts []int, out map[int]*snapshot) error {
	rows, err := q.Query(ctx, s.names.sql(`SELECT id, part, queue, workspace, source, destination, first, tail, jobs, bytes, retry, parked, dead, retried, partly
		FROM @schema.lanes WHERE part = ANY($1)`), parts)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, first, tail int64
		var part int
		var qn, w, src, dst, partly []byte
		var l partition.Lane
		if err := rows.Scan(&id, &part, &qn, &w, &src, &dst, &first, &tail, &l.Jobs, &l.Bytes, &l.Retry, &l.Parked, &l.Dead, &l.Retried, &partly); err != nil {
			return err
		}
		l.ID, l.First, l.Tail = uint64(id), uint64(first), uint64(tail)
		l.Queue = string(qn)
		l.Scope = queue.Scope{Workspace: string(w), Source: string(src), Destination: string(dst)}
		if l.Partly, err = decodePartly(partly); err != nil {
			return fmt.Errorf("lane %d: %w", id, err)
		}
		if out[part] == nil {
			return fmt.Errorf("lane %d is in partition %d, which there is not: %w", id, part, queue.ErrCorrupt)
		}
		out[part].lanes = append(out[part].lanes, l)
		h.lanes.add(&laneRef{id: l.ID, queue: l.Queue, scope: l.Scope, part: part})
	}
	return rows.Err()
}

// watch makes a memory of partitions that nobody keeps, of which no checkpoint says what is
// in them by now. This process owns nothing of them.
func (s *Store) watch(ctx context.Context) error {
	if !s.unwatched() {
		return nil
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	h, v, epochs := s.history.Load(), s.cluster.Load(), map[int]int64{}
	for i := range v.parts {
		if p := &v.parts[i]; !v.kept(p) && s.owned[p.id].Load() == nil {
			epochs[p.id] = p.epoch
		}
	}
	if len(epochs) == 0 {
		return nil
	}
	loaded, err := s.load(ctx, h, epochs)
	if err != nil {
		return fmt.Errorf("read %d partitions that no process keeps: %w", len(epochs), meaning(err))
	}
	for _, o := range loaded {
		if !s.publish(o) {
			return errPast
		}
	}
	return nil
}

// unwatched reports whether there are partitions that nobody keeps, and nothing is known of.
func (s *Store) unwatched() bool {
	v := s.cluster.Load()
	for i := range v.parts {
		if p := &v.parts[i]; !v.kept(p) && s.owned[p.id].Load() == nil {
			return true
		}
	}
	return false
}
