package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// partRow is a row of the table of partitions.
type partRow struct {
	id    int
	owner int64 // 0 for nobody
	epoch int64
}

// heartbeat tells the others that this process lives. It waits for nothing else: taking
// partitions over may take longer than a lease.
func (s *Store) heartbeat(ctx context.Context) {
	tick := time.NewTicker(s.o.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := time.Since(s.born)
		bounded, cancel := context.WithTimeout(ctx, s.o.Lease/2)
		err := s.beat(bounded)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			s.o.Log.Warn("the heartbeat of this process could not be sent; it will be tried again", "error", err)
		case err == nil && time.Since(s.born) < time.Duration(s.until.Load()):
			s.hold(sent)
		case err == nil:
			s.look() // the lease had ended: what is still owned must be looked at first
		}
	}
}

func (s *Store) beat(ctx context.Context) error {
	sent := time.Since(s.born)
	var now time.Time
	err := s.pool.QueryRow(ctx, s.names.sql(`INSERT INTO @schema.processes AS p (id, name, lease) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET heartbeat = clock_timestamp() RETURNING clock_timestamp()`), s.process, s.o.Name, s.o.Lease).Scan(&now)
	if err != nil {
		return fmt.Errorf("send the heartbeat of this process: %w", meaning(err))
	}
	s.heard(now, sent)
	return nil
}

// hold extends the time for which this process may lease from what it owns, by a heartbeat
// that was sent then. A sixth of the lease is left for clocks of different speed.
func (s *Store) hold(sent time.Duration) {
	s.until.Store(int64(sent + s.o.Lease - s.o.Lease/6))
}

// look asks for a round at once.
func (s *Store) look() {
	select {
	case s.rebuild <- struct{}{}:
	default:
	}
}

// membership takes partitions over and hands them on.
func (s *Store) membership(ctx context.Context) {
	tick := time.NewTicker(s.o.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.rebuild:
		}
		bounded, cancel := context.WithTimeout(ctx, s.o.Timeout)
		if err := s.round(bounded); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("the processes that share the queue could not be looked at; it will be tried again", "error", err)
		}
		cancel()
	}
}

// round is one heartbeat, and what follows from those of the others.
func (s *Store) round(ctx context.Context) error {
	sent := time.Since(s.born)
	if err := s.beat(ctx); err != nil {
		return err
	}
	live, parts, err := s.readMembers(ctx)
	if err != nil {
		return fmt.Errorf("look at the processes that share the queue: %w", meaning(err))
	}
	mine := 0
	var free []int
	dead := map[int64]bool{}
	for _, p := range parts {
		o := s.owned[p.id].Load()
		switch {
		case o != nil && p.owner == s.process && p.epoch == o.epoch:
			mine++
			continue
		case o != nil:
			s.o.Log.Warn("another process has taken over a partition", "partition", p.id)
			s.disown(o)
		}
		if p.owner == 0 || p.owner == s.process || !live[p.owner] {
			free = append(free, p.id)
			if p.owner != 0 && p.owner != s.process {
				dead[p.owner] = true
			}
		}
	}
	s.hold(sent)
	quota := (len(parts) + len(live) - 1) / len(live)
	if want := min(quota-mine, len(free)); want > 0 {
		s.endSessions(ctx, slices.Collect(maps.Keys(dead)))
		return s.acquire(ctx, free[:want])
	}
	for i := len(s.owned) - 1; i >= 0 && mine > quota; i-- {
		if o := s.owned[i].Load(); o != nil {
			s.handOn(o)
			mine--
		}
	}
	return nil
}

// readMembers reads who lives and who owns what.
func (s *Store) readMembers(ctx context.Context) (live map[int64]bool, parts []partRow, err error) {
	rows, err := s.pool.Query(ctx, s.names.sql("SELECT id FROM @schema.processes WHERE heartbeat > clock_timestamp() - lease"))
	if err != nil {
		return nil, nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, nil, err
	}
	live = map[int64]bool{s.process: true}
	for _, id := range ids {
		live[id] = true
	}
	rows, err = s.pool.Query(ctx, s.names.sql("SELECT id, coalesce(owner, 0), epoch FROM @schema.parts ORDER BY id"))
	if err != nil {
		return nil, nil, err
	}
	parts, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (partRow, error) {
		var p partRow
		err := r.Scan(&p.id, &p.owner, &p.epoch)
		return p, err
	})
	if err != nil {
		return nil, nil, err
	}
	if len(parts) != len(s.owned) {
		return nil, nil, fmt.Errorf("the table of partitions has %d rows, not %d: %w", len(parts), len(s.owned), queue.ErrCorrupt)
	}
	return live, parts, nil
}

// endSessions ends the database sessions of processes whose lease has ended, so that one
// that was stopped in the middle of a commit does not keep its locks. Without the right
// to do so the server ends such a session after its own timeouts.
func (s *Store) endSessions(ctx context.Context, dead []int64) {
	if len(dead) == 0 {
		return
	}
	names := make([]string, len(dead))
	for i, id := range dead {
		names[i] = s.sessionName(id)
	}
	_, err := s.pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = ANY($1) AND datname = current_database() AND pid <> pg_backend_pid()`, names)
	if err != nil {
		s.o.Log.Warn("the sessions of a process that is gone could not be ended", "error", err)
	}
}

// acquire takes partitions over that nobody owns. From the moment this commits, nothing
// that a former owner still tries to settle is accepted.
func (s *Store) acquire(ctx context.Context, ids []int) error {
	epochs, err := s.take(ctx, ids)
	if err != nil && len(ids) > 1 && sqlState(err) == codeLockTimeout {
		// One of them is locked by a commit that hangs: the others need not wait for it.
		for _, id := range ids {
			if e, err := s.take(ctx, []int{id}); err == nil {
				maps.Copy(epochs, e)
			}
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("take over %d partitions: %w", len(ids), meaning(err))
	}
	if len(epochs) == 0 {
		return nil
	}
	loaded, err := s.load(ctx, epochs)
	if err != nil {
		return fmt.Errorf("read %d partitions that were taken over: %w", len(epochs), meaning(err))
	}
	for _, o := range loaded {
		s.owned[o.part].Store(o)
		o.p.Start()
	}
	return nil
}

func (s *Store) take(ctx context.Context, ids []int) (map[int]int64, error) {
	epochs := map[int]int64{}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		clear(epochs)
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '2s'"); err != nil {
			return err
		}
		for _, id := range ids { // in order, as commits lock them
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", s.names.space, id+1); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, s.names.sql(`UPDATE @schema.parts t SET owner = $1, epoch = epoch + 1
			WHERE id = ANY($2) AND (owner IS NULL OR owner = $1 OR NOT EXISTS (
				SELECT 1 FROM @schema.processes p WHERE p.id = t.owner AND p.heartbeat > clock_timestamp() - p.lease))
			RETURNING id, epoch`), s.process, ids)
		if err != nil {
			return err
		}
		var id int
		var epoch int64
		_, err = pgx.ForEachRow(rows, []any{&id, &epoch}, func() error {
			epochs[id] = epoch
			return nil
		})
		return err
	})
	return epochs, err
}

// load makes the memory of partitions from the last checkpoint and the log after it, all
// of one instant.
func (s *Store) load(ctx context.Context, epochs map[int]int64) ([]*owned, error) {
	var out []*owned
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		out = out[:0]
		byPart, err := s.snapshot(ctx, tx, slices.Sorted(maps.Keys(epochs)))
		if err != nil {
			return err
		}
		for part, sn := range byPart {
			o, err := s.restore(part, epochs[part], sn)
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
func (s *Store) restore(part int, epoch int64, sn *snapshot) (*owned, error) {
	st := &storage{s: s}
	p := partition.New(partition.Config{Storage: st, Log: s.o.Log, Epoch: uint32(epoch), Window: s.o.Window, Now: s.now, Steady: s.steady, Hub: s.hub,
		KeptBytes: keptBytes / len(s.owned), OpenBytes: keptBytes / len(s.owned)})
	st.o = &owned{s: s, part: part, epoch: epoch, p: p, seen: sn.pos, saved: sn.pos,
		dirty: map[uint64]struct{}{}, expected: map[changeKey]*partition.Change{}}
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
}

// snapshot reads partitions; q must read all of it at one instant.
func (s *Store) snapshot(ctx context.Context, q querier, parts []int) (map[int]*snapshot, error) {
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
	if err := s.readCheckpoint(ctx, q, parts, out); err != nil {
		return nil, fmt.Errorf("read the checkpoint of lanes: %w", err)
	}
	var segment int64
	if err := q.QueryRow(ctx, s.names.sql("SELECT segment FROM @schema.head")).Scan(&segment); err != nil {
		return nil, err
	}
	err = s.readLog(ctx, q, segment, after, func(part int, e entry) { out[part].log = append(out[part].log, e) })
	return out, err
}

func (s *Store) readCheckpoint(ctx context.Context, q querier, parts []int, out map[int]*snapshot) error {
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
		s.lanes.add(&laneRef{id: l.ID, queue: l.Queue, scope: l.Scope, part: part})
	}
	return rows.Err()
}

// handOn prepares a partition for another process: it leases nothing any more, and when
// what it has leased is settled, or has had half a minute, it is free.
func (s *Store) handOn(o *owned) {
	if o.leaving.Swap(true) {
		return
	}
	s.tasks.Go(func() {
		deadline := time.Now().Add(30 * time.Second)
		for o.leased() > 0 && time.Now().Before(deadline) && !o.gone.Load() {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-s.closed:
				return // Close hands everything on
			}
		}
		ctx, cancel := context.WithTimeout(s.live, s.o.Lease)
		defer cancel()
		if err := s.release(ctx, []*owned{o}); err != nil {
			s.o.Log.Warn("a partition could not be handed on", "partition", o.part, "error", err)
			o.leaving.Store(false)
		}
	})
}

// leased is how many jobs of the partition are leased.
func (o *owned) leased() int64 {
	var n int64
	seen := map[string]bool{}
	for _, l := range o.p.Lanes() {
		if !seen[l.Queue] {
			seen[l.Queue] = true
			n += o.p.Stats(queue.Filter{Queue: l.Queue}).Leased
		}
	}
	return n
}

// release makes partitions free, after a checkpoint.
func (s *Store) release(ctx context.Context, list []*owned) error {
	var errs []error
	if err := s.checkpoint(ctx, list); err != nil {
		errs = append(errs, err)
	}
	var parts []int
	var epochs []int64
	for _, o := range list {
		parts, epochs = append(parts, o.part), append(epochs, o.epoch)
		s.disown(o)
	}
	_, err := s.pool.Exec(ctx, s.names.sql(`UPDATE @schema.parts t SET owner = NULL FROM unnest($1::integer[], $2::bigint[]) u(id, epoch)
		WHERE t.id = u.id AND t.epoch = u.epoch`), parts, epochs)
	if err != nil {
		errs = append(errs, fmt.Errorf("hand on %d partitions: %w", len(list), err))
	}
	s.tell(ctx, messageFree)
	return errors.Join(errs...)
}

// leave hands everything on and signs off.
func (s *Store) leave(ctx context.Context) error {
	var list []*owned
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			list = append(list, o)
		}
	}
	if err := s.release(ctx, list); err != nil {
		return err
	}
	// Also what was being taken over when the store closed.
	if _, err := s.pool.Exec(ctx, s.names.sql("UPDATE @schema.parts SET owner = NULL WHERE owner = $1"), s.process); err != nil {
		return fmt.Errorf("hand on partitions: %w", err)
	}
	if _, err := s.pool.Exec(ctx, s.names.sql("DELETE FROM @schema.processes WHERE id = $1"), s.process); err != nil {
		return fmt.Errorf("sign off: %w", err)
	}
	return nil
}
