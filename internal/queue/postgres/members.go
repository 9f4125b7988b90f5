package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// heardSQL says that a process is heard of. A heartbeat of a time that is to come is one of before
// the clock of the database was set back: who lives sends another one soon, and who does not would
// be taken for alive until that time.
const heardSQL = "heartbeat > clock_timestamp() - lease AND heartbeat < clock_timestamp() + lease"

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
		if s.Away() != nil {
			continue
		}
		if !s.holdsNow() {
			// The lease has ended: a heartbeat would have the others give this process partitions,
			// before it knows whether it can read them. That is for a round to find out.
			s.look()
			continue
		}
		sent := time.Since(s.born)
		bounded, cancel := s.bounded(ctx, s.o.Lease/2)
		_, err := s.beat(bounded, false)
		cancel()
		switch {
		case err != nil && (ctx.Err() != nil || s.Away() != nil):
		case err != nil:
			s.o.Log.Warn("the heartbeat of this process could not be sent; it will be tried again", "error", err)
		case s.holdsNow():
			s.hold(sent)
		default:
			s.look() // the lease had ended: what is still owned must be looked at first
		}
	}
}

// beat says which queues this process leases from, for another lease, and answers with them. One that leases from
// none is no member: it takes no part in how the partitions are shared out.
//
// Beats of the two that send them may overtake each other: the next one puts that right. Only
// a round, which alone takes partitions over, ends the membership.
//
// One that is sent is waited for, whatever ctx says: given up, it could still reach the server, and
// after this process has signed off it would be a member again, which nobody is.
func (s *Store) beat(ctx context.Context, mayLeave bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Lease/2)
	defer cancel()
	queues := s.subscriptions.active(time.Since(s.born))
	was := s.announced.Load()
	leaves := mayLeave && len(queues) == 0 && was != nil && !s.holdsAny()
	sent := time.Since(s.born)
	var now time.Time
	var err error
	switch {
	case len(queues) == 0 && was == nil:
		err = s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	case leaves:
		err = s.pool.QueryRow(ctx, s.names.sql("WITH gone AS (DELETE FROM @schema.processes WHERE id = $1) SELECT clock_timestamp()"), s.process).Scan(&now)
	default:
		err = s.pool.QueryRow(ctx, s.names.sql(`INSERT INTO @schema.processes AS p (id, name, lease, queues) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET heartbeat = clock_timestamp(), queues = excluded.queues RETURNING clock_timestamp()`),
			s.process, s.o.Name, s.o.Lease, texts(queues)).Scan(&now)
	}
	s.timed(meter.Heartbeat, s.born.Add(sent), err)
	if err != nil {
		return nil, fmt.Errorf("send the heartbeat of this process: %w", meaning(err))
	}
	s.heard(now, sent)
	s.figures.beat.Store(int64(time.Since(s.born)))
	switch {
	case leaves || len(queues) == 0 && was == nil:
		s.announced.Store(nil)
	default:
		s.announced.Store(&queues)
	}
	if leaves || len(queues) > 0 && (was == nil || !slices.Equal(queues, *was)) {
		s.tell(ctx, messageFree) // the others may have to give something up, or may take something
	}
	return queues, nil
}

// texts is names as the database keeps them: they may be any bytes.
func texts(names []string) [][]byte {
	out := make([][]byte, len(names))
	for i, n := range names {
		out[i] = []byte(n)
	}
	return out
}

func sorted(texts [][]byte) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = string(t)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// holdsAny reports whether this process leases from any partition, as far as it knows.
func (s *Store) holdsAny() bool {
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil && len(o.queues()) > 0 {
			return true
		}
	}
	return false
}

// hold extends the time for which this process may lease from what it owns, by a heartbeat
// that was sent then. A sixth of the lease is left for clocks of different speed.
func (s *Store) hold(sent time.Duration) {
	s.until.Store(int64(sent + s.o.Lease - s.o.Lease/6))
	s.link.holds()
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
		waiting := s.subscriptions.waiting()
		bounded, cancel := s.bounded(ctx, s.o.Timeout)
		err := s.Away()
		if err == nil {
			err = s.round(bounded)
		}
		if err != nil && ctx.Err() == nil && s.Away() == nil {
			s.o.Log.Warn("the processes that share the queue could not be looked at; it will be tried again", "error", err)
		}
		cancel()
		for _, w := range waiting {
			w <- err
		}
	}
}

// round is one heartbeat, and what follows from those of the others.
func (s *Store) round(ctx context.Context) error {
	if s.announced.Load() != nil && !s.holdsNow() {
		// The others have taken what this process had, and will give it a share again when it is
		// heard of: then it must be able to work on that.
		if err := s.readable(ctx); err != nil {
			return fmt.Errorf("read a partition before any is taken: %w", meaning(err))
		}
	}
	sent := time.Since(s.born)
	queues, err := s.beat(ctx, true)
	if err != nil {
		return err
	}
	h := s.history.Load()
	known := s.epochs()
	v, err := s.wholeCluster(ctx)
	if err != nil {
		return fmt.Errorf("look at the processes that share the queue: %w", meaning(err))
	}
	if s.history.Load() != h {
		s.look()
		return fmt.Errorf("look at the processes that share the queue: %w", errPast)
	}
	if me := v.members[s.process]; me != nil {
		me.queues = queues // another heartbeat, from before, may have overtaken that of this round
	}
	has, stray, err := s.compare(ctx, v, known)
	if err != nil {
		return err
	}
	s.hold(sent)
	s.cluster.Store(v)
	if v.members[s.process] == nil && s.announced.Load() != nil {
		return fmt.Errorf("look at the processes that share the queue: it took longer than the lease of %s", s.o.Lease)
	}
	take, give := v.plan(s.process, has)
	for part, keep := range give {
		if o := s.owned[part].Load(); o != nil {
			s.handOn(o, keep)
		}
	}
	// What this process has in the database and neither in memory nor in mind keeps everybody
	// else from it: an attempt to give it up, or to take it over, has failed half way.
	for _, m := range []map[int][]string{take, give} {
		for part := range m {
			delete(stray, part)
		}
	}
	s.moves.gave(len(give) + len(stray))
	if len(stray) > 0 {
		if err := s.yield(ctx, stray); err != nil {
			return err
		}
	}
	if len(take) > 0 {
		s.endSessions(ctx, v.dead())
		if err := s.acquire(ctx, h, take); err != nil {
			return err
		}
	}
	s.subscriptions.joined(v.members[s.process])
	return nil
}

// readable reads a partition as who takes it over does.
func (s *Store) readable(ctx context.Context) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := s.readSnapshot(ctx, s.history.Load(), tx, []int{int(s.process % int64(len(s.owned)))})
		return err
	})
}

// readCluster reads who lives, who leases from what, and what the state of partitions is.
func (s *Store) readCluster(ctx context.Context, q querier, which string, args ...any) (*cluster, error) {
	v := &cluster{members: map[int64]*member{}}
	rows, err := q.Query(ctx, s.names.sql("SELECT id, name, queues IS NULL, coalesce(queues, '{}') FROM @schema.processes WHERE "+heardSQL))
	if err != nil {
		return nil, err
	}
	m := member{}
	var queues [][]byte
	if _, err := pgx.ForEachRow(rows, []any{&m.id, &m.name, &m.whole, &queues}, func() error {
		one := m
		one.queues = sorted(queues)
		v.members[m.id] = &one
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = q.Query(ctx, s.names.sql(`SELECT t.id, coalesce(t.owner, 0), t.epoch, t.pos, coalesce(h.process, 0), coalesce(h.queues, '{}')
		FROM @schema.parts t LEFT JOIN @schema.shares h ON h.part = t.id AND h.epoch = t.epoch `+which+` ORDER BY t.id, h.process`), args...)
	if err != nil {
		return nil, err
	}
	p, sh := partState{}, share{}
	if _, err := pgx.ForEachRow(rows, []any{&p.id, &p.keeper, &p.epoch, &p.pos, &sh.process, &queues}, func() error {
		if n := len(v.parts); n == 0 || v.parts[n-1].id != p.id {
			v.parts = append(v.parts, p)
		}
		if sh.process != 0 {
			last := &v.parts[len(v.parts)-1]
			last.shares = append(last.shares, share{sh.process, sorted(queues)})
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return v, nil
}

// wholeCluster reads all of it. This process is in it exactly when it leases from something.
func (s *Store) wholeCluster(ctx context.Context) (*cluster, error) {
	v, err := s.readCluster(ctx, s.pool, "")
	if err != nil {
		return nil, err
	}
	if len(v.parts) != len(s.owned) {
		return nil, fmt.Errorf("the table of partitions has %d rows, not %d: %w", len(v.parts), len(s.owned), queue.ErrCorrupt)
	}
	return v, nil
}

// compare makes what this process has in memory agree with the database: has is what it
// leases from then. stray are the partitions of which it has something there only, with what
// it has in memory too.
func (s *Store) compare(ctx context.Context, v *cluster, known map[int]int64) (has map[int]standing, stray map[int][]string, err error) {
	has, stray = map[int]standing{}, map[int][]string{}
	var promoted []*owned
	for i := range v.parts {
		p := &v.parts[i]
		o := s.owned[p.id].Load()
		mine := p.of(s.process)
		if o == nil {
			if len(mine) > 0 || p.keeper == s.process {
				stray[p.id] = nil
			}
			continue
		}
		if !s.confirm(o, p, known[p.id]) {
			continue
		}
		if len(o.queues()) == 0 && (v.kept(p) || len(mine) > 0) {
			s.disown(o) // it was only looked at, and somebody keeps it now
			continue
		}
		has[p.id] = standing{queues: o.queues(), leaving: o.leaving.Load()}
		if !contains(o.queues(), mine) && !o.leaving.Load() {
			stray[p.id] = o.queues()
		}
		o.alone.Store(len(p.shares) == 1 && len(mine) > 0)
		if keeps := p.keeper == s.process; !keeps {
			o.keeper.Store(false)
		} else if !o.keeper.Load() {
			promoted = append(promoted, o)
		}
	}
	if len(promoted) > 0 {
		// The checkpoint of whoever kept it before holds what is in the log by now.
		if err := s.follow(ctx, promoted); err != nil {
			return nil, nil, fmt.Errorf("read %d partitions that this process keeps from now on: %w", len(promoted), meaning(err))
		}
		for _, o := range promoted {
			o.keeps(v.parts[o.part].pos, true)
		}
	}
	return has, stray, nil
}

// confirm goes on under the epoch of a partition as it is in the database, if this process
// still has there all that it leases from; otherwise the memory is given up. An epoch that
// was read together with the shares makes good what is committed under it: whoever takes
// anything of the partition afterwards raises it.
//
// known is the epoch that o had before p was read: epochs only grow, but for a database that
// has become an older one.
func (s *Store) confirm(o *owned, p *partState, known int64) bool {
	if p.epoch >= known && p.epoch < o.epoch.Load() {
		return true // read before this process took more of it
	}
	if p.epoch < known || !contains(p.of(s.process), o.queues()) {
		if !o.gone.Load() {
			s.figures.lost.Add(1)
			s.moves.misses(1)
			s.disown(o)
		}
		return false
	}
	if o.keeper.Load() && o.behind(p.pos) {
		s.broken(o, fmt.Errorf("its checkpoint is at %d, which this process has not seen: %w", p.pos, queue.ErrCorrupt))
		return false
	}
	o.epoch.Store(p.epoch)
	return true
}

// reconsider looks at partitions whose epoch was refused.
func (s *Store) reconsider(ctx context.Context, parts []int) error {
	known := s.epochs()
	v, err := s.readCluster(ctx, s.pool, "WHERE t.id = ANY($1)", parts)
	if err != nil {
		return fmt.Errorf("look at %d partitions: %w", len(parts), meaning(err))
	}
	for i := range v.parts {
		if o := s.owned[v.parts[i].id].Load(); o != nil {
			s.confirm(o, &v.parts[i], known[o.part])
		}
	}
	return nil
}

// epochs is those under which this process works, by partition.
func (s *Store) epochs() map[int]int64 {
	out := map[int]int64{}
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			out[i] = o.epoch.Load()
		}
	}
	return out
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

// keysOf is the partitions that something is said of, in order.
func keysOf(of map[int][]string) []int { return slices.Sorted(maps.Keys(of)) }
