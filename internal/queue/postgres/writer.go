package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/meter"
)

// writer runs groups over a connection of its own.
type writer struct {
	s    *Store
	conn *pgx.Conn
	had  bool // there was one
}

func (w *writer) close() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // nothing is under way on it
	w.conn = nil
}

// attempt is one try to commit a group.
type attempt struct {
	h        *history // of its session
	n        int64
	ring     int64
	parts    []int32
	lanes    []int64
	rows     []*row
	requests []*request
	readers  []*request // whose each of the reads is
	partBase []int64
	laneBase []int64
}

// run commits g: all of its requests in one transaction, or, where some cannot be, the
// others. Each request is answered.
func (w *writer) run(ctx context.Context, g *group) {
	defer func() {
		for _, r := range g.stale {
			r.undo()
			r.answer(errAgain)
		}
	}()
	pause := 2 * time.Millisecond
	for {
		turn, answered := w.s.link.now(), w.s.link.asks()
		err := w.connect(ctx)
		g.dropLost()
		if err == nil {
			g.dropPast(of(w.conn))
		}
		if len(g.requests) == 0 {
			answered()
			return
		}
		a := w.layOut(g)
		if err == nil {
			err = w.commit(ctx, a)
		}
		answered()
		if err == nil {
			w.finish(ctx, a)
			return
		}
		w.forget(a)
		if errors.Is(err, errUnknown) {
			for _, r := range g.requests {
				r.fail(fmt.Errorf("commit an update: %w", err))
			}
			return
		}
		if w.drop(ctx, g, a, err) {
			continue
		}
		w.expireRequests(g, err)
		restFor(ctx, turn, pause)
		pause = min(2*pause, time.Second)
	}
}

// answer ends a request; nothing may use its values afterwards.
func (r *request) answer(err error) {
	r.t.Release()
	r.done <- err
}

// fail answers a request that was not committed.
func (r *request) fail(err error) {
	r.undo()
	r.answer(err)
}

// expireRequests gives up the requests that have waited for as long as they may, those that only
// bring something new while the database is away, or all when the store closes.
func (w *writer) expireRequests(g *group, err error) {
	now, away := time.Now(), w.s.Away()
	g.requests = slices.DeleteFunc(g.requests, func(r *request) bool {
		switch {
		case now.After(r.deadline) || w.s.state.Load() == stateClosed:
			r.fail(fmt.Errorf("commit an update: %w", cmp.Or(away, meaning(err))))
		case away != nil && r.brings():
			r.fail(fmt.Errorf("commit an update: %w", away))
		default:
			return false
		}
		return true
	})
}

// layOut numbers the rows of a group and tells the owners which changes to expect.
func (w *writer) layOut(g *group) *attempt {
	a := &attempt{n: w.s.commits.n.Add(1), rows: g.rows(), requests: g.requests}
	var parts mask
	for _, r := range a.rows {
		parts.add(r.part)
	}
	for part := range w.s.owned {
		if parts.has(part) {
			a.parts = append(a.parts, int32(part))
		}
	}
	for i, r := range a.rows {
		if r.change == nil {
			continue
		}
		key := changeKey{w.s.process, a.n, uint32(i)}
		r.data = encodeChange(key, r.change.c)
		r.change.key = key
		if o := r.change.o; o != nil {
			o.expect(key, r.change.c)
		}
	}
	return a
}

// forget undoes what layOut told the owners.
func (w *writer) forget(a *attempt) {
	for i, r := range a.rows {
		if r.change != nil && r.change.o != nil {
			r.change.o.unexpect(changeKey{w.s.process, a.n, uint32(i)})
		}
	}
}

// commit makes an attempt durable. nil means that it is, an error that it is not, and
// never will be. A connection that breaks in between is not an answer: see resolve.
func (w *writer) commit(ctx context.Context, a *attempt) error {
	a.h = of(w.conn)
	h := a.h.head.Load()
	a.ring = h.ring
	args := w.arguments(a)
	bounded, cancel := w.s.bounded(context.Background(), 2*w.s.o.Timeout)
	defer cancel()
	began := time.Now()
	err := w.conn.QueryRow(bounded, w.s.commitCall(h.segment), args...).Scan(&a.partBase, &a.laneBase, nil)
	w.s.timed(meter.Commit, began, err)
	if err == nil {
		w.s.link.hears()
		a.acknowledged(w.s.now())
		if w.s.history.Load() == a.h {
			return nil
		}
		// It was committed where the history is over: whether it is in the other, that knows.
		w.close()
		return w.resolve(ctx, a, errPast)
	}
	switch code := sqlState(err); code {
	case "":
		w.close()
		return w.resolve(ctx, a, err)
	case codeMoved, codeRestored, codeUndefinedFunc, codeUndefinedTab:
		if herr := w.moved(ctx, a.h); herr != nil {
			return errors.Join(err, herr)
		}
		if code != codeMoved && code != codeRestored {
			// The prepared statement is of no use any more either.
			w.close()
		}
	}
	return err
}

// connect makes sure that the writer has a session of the history that is remembered.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil && (w.conn.IsClosed() || of(w.conn) != w.s.history.Load()) {
		w.close()
	}
	if w.conn != nil {
		return nil
	}
	c, err := w.s.connect(ctx)
	if err != nil {
		return err
	}
	if w.conn = c; w.had {
		w.s.figures.writers.Add(1)
	}
	w.had = true
	return nil
}

// moved looks where the log goes on, or whether the tables are others now.
func (w *writer) moved(ctx context.Context, h *history) error {
	before := *h.head.Load()
	if err := w.s.readHead(ctx); err != nil {
		return err
	}
	if *h.head.Load() != before {
		return nil
	}
	return w.s.recheck(ctx)
}

// acknowledged notes what has been committed.
func (a *attempt) acknowledged(at time.Time) {
	k := ack{n: a.n, ring: a.ring, at: at.UnixNano()}
	for _, r := range a.rows {
		if r.ref != nil {
			k.jobs += int32(r.count)
		}
	}
	a.h.acked.add(k)
	if len(a.partBase) != len(a.parts) {
		return
	}
	for i, part := range a.parts {
		rows := int64(0)
		for _, r := range a.rows {
			if r.part == int(part) {
				rows++
			}
		}
		if rows > 0 {
			a.h.reached(int(part), a.partBase[i]+rows)
		}
	}
}

// resolve finds out what became of an attempt whose connection broke. It writes the
// row of the attempt in the table of commits itself: where the attempt has committed, or
// is about to, its row is there, if need be after waiting for its end; where it is not,
// the attempt can never commit, even when the server reads it only now.
func (w *writer) resolve(ctx context.Context, a *attempt, cause error) error {
	var giveUp time.Time
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		turn := w.s.link.now()
		err := w.s.mark(ctx, a)
		switch {
		case err == nil:
			w.s.o.Log.Debug(logResolved, "committed", false, "cause", cause)
			return cause
		case errors.Is(err, errCommitted):
			w.s.o.Log.Debug(logResolved, "committed", true, "cause", cause)
			return nil
		case errors.Is(err, errForgotten):
			return fmt.Errorf("%w: %w: %w", errUnknown, err, cause)
		}
		if w.s.state.Load() == stateClosed {
			if giveUp.IsZero() {
				giveUp = time.Now().Add(w.s.tuned().Patience)
			} else if time.Now().After(giveUp) {
				return fmt.Errorf("%w: the store closed before the database answered: %w: %w", errUnknown, err, cause)
			}
		}
		restFor(context.Background(), turn, pause) // whatever ctx says: the outcome must be known before anybody is answered
	}
}

const logResolved = "the connection broke in a commit, whose outcome was found out"

var (
	errCommitted = errors.New("the transaction has been committed")
	// errForgotten is for a process that was cut off for longer than two turns of the ring,
	// while others kept the database going.
	errForgotten = errors.New("this process was cut off from the database for too long")
	errUnknown   = errors.New("whether the update was committed is not known")
)

// mark makes sure that an attempt never commits: nil when it has not and never will,
// errCommitted when it has.
func (s *Store) mark(ctx context.Context, a *attempt) error {
	ctx, cancel := s.bounded(ctx, s.o.Timeout)
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		// The ring does not turn meanwhile.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1, 0)", s.names.space); err != nil {
			return err
		}
		var ring int64
		if err := tx.QueryRow(ctx, s.names.sql("SELECT ring FROM @schema.head")).Scan(&ring); err != nil {
			return err
		}
		if ring < a.ring {
			return nil // of a history in which that ring had not begun: no commit of it is here
		}
		if ring > a.ring+1 {
			return errForgotten
		}
		table := fmt.Sprintf("@schema.commits_%d", a.ring%3)
		if _, err := tx.Exec(ctx, s.names.sql("INSERT INTO "+table+" (process, n, undone) VALUES ($1, $2, true) ON CONFLICT DO NOTHING"), s.process, a.n); err != nil {
			return err
		}
		// The row may be one of an earlier try of this function.
		var undone bool
		if err := tx.QueryRow(ctx, s.names.sql("SELECT undone FROM "+table+" WHERE process = $1 AND n = $2"), s.process, a.n).Scan(&undone); err != nil {
			return err
		}
		if !undone {
			return errCommitted
		}
		return nil
	})
}

// finish tells the owners of the partitions what was committed, and answers the requests.
func (w *writer) finish(ctx context.Context, a *attempt) {
	known := len(a.partBase) == len(a.parts) && len(a.laneBase) == len(a.lanes)
	var elsewhere []int
	for i, part := range a.parts {
		o := w.s.owned[part].Load()
		if o != nil && o.h != a.h {
			o = nil // what was made since has read this
		}
		if o == nil || !o.alone.Load() {
			elsewhere = append(elsewhere, int(part))
		}
		if o == nil {
			continue
		}
		if !known {
			o.catchUp(ctx)
			continue
		}
		var entries []entry
		pos := a.partBase[i]
		for k, r := range a.rows {
			if r.part != int(part) {
				continue
			}
			pos++
			e := entry{pos: pos, ref: r.ref, count: r.count, size: len(r.data)}
			if r.change != nil {
				e.key = changeKey{w.s.process, a.n, uint32(k)}
				e.change = r.change.c
			} else {
				e.seq = uint64(a.laneBase[r.lane-1] + int64(r.seq))
				if o.leases(r.ref.queue) { // who only keeps the partition does not read it
					a.h.recent.put(r.ref.id, e.seq, r.data)
				}
			}
			entries = append(entries, e)
		}
		o.committed(ctx, a.partBase[i], entries)
	}
	for _, r := range a.requests {
		for i := range r.changes {
			// An owner that has gone meanwhile has not seen its change.
			if ch := &r.changes[i]; ch.o != nil && (ch.c.Empty() || ch.o.gone.Load()) {
				ch.o.settle(ch)
			}
		}
		w.s.leases.settled(r.t.Results)
		r.answer(nil)
	}
	w.s.noted.add(elsewhere)
}
