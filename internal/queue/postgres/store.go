package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Store is a queue.Store and queue.Admin in a PostgreSQL database, shared with other
// processes. Make it with New, then Open it.
type Store struct {
	o         Options
	names     names
	process   int64 // number of this process, drawn at random
	observers partition.Observers
	clock     databaseClock
	hub       *partition.Hub
	leases    *leases
	commits   *committer
	link      *link
	moves     *moves

	login login
	pool  *pgxpool.Pool

	tuning     atomic.Pointer[Options] // see [Store.tuned]
	retuned    chan struct{}           // asks poll to look at its interval again
	history    atomic.Pointer[history]
	blind      sync.Once  // for the warning that nobody says which timeline it is
	entering   sync.Mutex // held while a session's history is compared with what is remembered
	publishing sync.Mutex // held while a history, or a memory of a partition, is replaced

	owned []atomic.Pointer[owned] // by partition; nil when nothing of it is this process's
	// loading is held while memories of partitions are made.
	loading       sync.Mutex
	cluster       atomic.Pointer[cluster] // of the last round
	subscriptions *subscriptions
	announced     atomic.Pointer[[]string] // the queues of the last heartbeat; nil when this process is no member
	turn          atomic.Uint32            // partition that the next Lease begins with
	until         atomic.Int64             // this process owns what it owns until then; ns since born
	born          time.Time
	full          atomic.Bool
	judging       sync.Mutex // see [Store.judge]
	noted         *noted     // partitions whose owners are to be told
	hints         *noted     // those that others have told of
	figures       figures
	elders        elders
	pauses        atomic.Pointer[queue.Pauses] // as they were read last
	holding       sync.Mutex                   // one look at them at a time
	// compacted is when segments were last looked at, by the maintenance alone.
	compacted map[int64]time.Time
	// putOffSince is since when the maintenance removes nothing, because tables were listed.
	putOffSince time.Time
	rebuild     chan struct{} // asks for the next round of membership at once

	state  atomic.Int32    // 0 new, 1 open, 2 closed
	live   context.Context // ends at the end of Close
	stop   context.CancelFunc
	halt   context.CancelFunc // ends the tasks
	tasks  sync.WaitGroup
	closed chan struct{}
}

const (
	stateNew = iota
	stateOpen
	stateClosed
)

// head is where the log is written.
type head struct{ segment, ring int64 }

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var (
	_ queue.Store      = (*Store)(nil)
	_ queue.Admin      = (*Store)(nil)
	_ queue.Subscriber = (*Store)(nil)
	_ queue.Remote     = (*Store)(nil)
	_ queue.Shared     = (*Store)(nil)
)

// New checks the options. It does not touch the database.
func New(o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Store{
		o:             o,
		login:         login{dsn: o.DSN},
		names:         newNames(o.Schema),
		process:       rand.Int64N(1<<62) + 1,
		hub:           partition.NewHub(),
		leases:        newLeases(),
		owned:         make([]atomic.Pointer[owned], o.Partitions),
		born:          time.Now(),
		noted:         newNoted(),
		figures:       figures{operations: meter.NewOperations()},
		hints:         newNoted(),
		subscriptions: newSubscriptions(),
		rebuild:       make(chan struct{}, 1),
		closed:        make(chan struct{}),
		retuned:       make(chan struct{}, 1),
	}
	s.tuning.Store(&o)
	s.o.MaxBytes, s.o.SegmentBytes, s.o.SegmentAge, s.o.Patience, s.o.Poll = 0, 0, 0, 0, 0 // see tuned
	s.history.Store(newHistory(&s.o, identity{}, time.Time{}))
	s.commits = newCommitter(s)
	s.link = newLink(o.Log, s.holdsNow)
	s.moves = &moves{log: o.Log, share: s.tally}
	return s, nil
}

// Open connects, and creates the schema when it is not there. It takes nothing from the
// processes that share it before this one leases from a queue, or subscribes to it.
func (s *Store) Open(ctx context.Context) error {
	if s.state.Load() != stateNew {
		return fmt.Errorf("open queue store in schema %s: it was opened before: %w", s.names.schema, queue.ErrInUse)
	}
	if err := s.open(ctx); err != nil {
		if s.stop != nil {
			s.stop()
		}
		if s.pool != nil {
			s.pool.Close()
			s.pool = nil
		}
		return fmt.Errorf("open queue store: %w", err)
	}
	return nil
}

func (s *Store) open(ctx context.Context) error {
	c, err := s.first(ctx)
	if err != nil {
		return err
	}
	err = s.migrate(ctx, c)
	for until := time.Now().Add(formerLeases * s.o.Lease); errors.Is(err, errFormer) && time.Now().Before(until); err = s.migrate(ctx, c) {
		s.o.Log.Warn("the queue store waits for processes of an earlier release to end", "error", err)
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), c.Close(ctx))
		case <-time.After(s.o.Lease / 2):
		}
	}
	if err == nil {
		err = s.enter(ctx, c, false)
	}
	if cerr := c.Close(ctx); err != nil || cerr != nil {
		return errors.Join(err, cerr)
	}
	cfg, err := pgxpool.ParseConfig(s.o.DSN)
	if err != nil {
		return dsnError(err)
	}
	cfg.MaxConns = int32(s.o.Readers)
	cfg.MinConns = min(cfg.MinConns, cfg.MaxConns)
	cfg.HealthCheckPeriod = 10 * time.Second
	cfg.ConnConfig.ConnectTimeout = cmp.Or(cfg.ConnConfig.ConnectTimeout, connectTimeout)
	cfg.BeforeConnect, cfg.AfterConnect, cfg.PrepareConn = s.before, s.prepare, s.current
	s.live, s.stop = context.WithCancel(context.Background())
	s.entering.Lock()
	s.pool, err = pgxpool.NewWithConfig(s.live, cfg)
	s.entering.Unlock()
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", meaning(err))
	}
	if err := s.readHead(ctx); err != nil {
		return err
	}
	if err := s.measure(ctx); err != nil {
		return err
	}
	if err := s.readPauses(ctx); err != nil {
		return err
	}
	s.commits.start(s.live)
	if err := s.round(ctx); err != nil {
		s.commits.close()
		return err
	}
	s.state.Store(stateOpen)
	running, halt := context.WithCancel(s.live)
	s.halt = halt
	for _, loop := range []func(context.Context){s.heartbeat, s.membership, s.maintenance, s.listen, s.follower, s.poll, s.notifier, s.checkpoints, s.watchSilence} {
		s.tasks.Go(func() { loop(running) })
	}
	return nil
}

// ready answers why the store cannot be used.
func (s *Store) ready() error {
	switch s.state.Load() {
	case stateNew:
		return fault.New(fault.Setup, errors.New("the queue store was not opened"))
	case stateClosed:
		return queue.ErrClosed
	}
	return nil
}

// Update implements queue.Store.
func (s *Store) Update(ctx context.Context, fn func(tx queue.Tx) error) error {
	deadline := time.Now().Add(s.tuned().Patience)
	for {
		if err := s.ready(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.update(ctx, fn, deadline)
		if !errors.Is(err, errAgain) {
			return err
		}
	}
}

// errAgain asks for another run of an Update's function: a record that it read has changed.
var errAgain = errors.New("a record has changed")

func (s *Store) update(ctx context.Context, fn func(tx queue.Tx) error, deadline time.Time) error {
	h := s.history.Load()
	versions := map[string]int64{}
	tx := partition.NewTx(s.now(), func(keys [][]byte) ([][]byte, error) { return s.get(ctx, keys, versions) }, s.router())
	err := fn(tx)
	if err == nil {
		err = s.observers.Tell(ctx, tx, h.lanes.whose)
	}
	t := tx.Finish()
	if err == nil && !t.Empty() && t.Grows() {
		if err = s.overLimit(); err == nil && len(t.Results) == 0 {
			err = cmp.Or(s.Away(), s.link.silence()) // whoever brings something new is told at once, and still has it
		}
	}
	if err != nil || t.Empty() {
		t.Release()
		return err
	}
	held := slices.ContainsFunc(t.Writes, func(w partition.Write) bool { return strings.HasPrefix(string(w.Key), queue.PausePrefix) })
	r := &request{h: h, t: t, versions: versions, deadline: deadline, done: make(chan error, 1)}
	if err := s.bind(ctx, r); err != nil {
		r.undo()
		t.Release()
		return err
	}
	if err := s.commits.do(ctx, r); err != nil || !held {
		return err
	}
	if err := s.try(ctx, s.readPauses); err != nil {
		s.o.Log.Warn("what is paused could not be read; it will be tried again", "error", meaning(err))
	}
	return nil
}

// bind finds the lanes that r appends to and the partitions that its results belong to.
func (s *Store) bind(ctx context.Context, r *request) error {
	for i := range r.t.Appends {
		a := &r.t.Appends[i]
		ref, err := s.lane(ctx, r, laneKey{a.Queue, a.Scope, a.Part})
		if err != nil {
			return err
		}
		r.lanes = append(r.lanes, ref)
		r.mask.add(a.Part)
	}
	byPart, err := s.sortResults(r.h, r.t.Results)
	if err != nil {
		return err
	}
	for part, results := range byPart {
		o := s.owned[part].Load()
		if o == nil || o.h != r.h {
			return fmt.Errorf("settle job %s: another process has taken over: %w", results[0].ID, queue.ErrLeaseLost)
		}
		c, err := o.p.Begin(ctx, results)
		if errors.Is(err, queue.ErrClosed) {
			err = fmt.Errorf("settle job %s: another process has taken over: %w", results[0].ID, queue.ErrLeaseLost)
		}
		if err != nil {
			return err
		}
		r.changes = append(r.changes, ownedChange{o: o, part: part, c: c})
		r.mask.add(part)
	}
	r.stripes()
	return nil
}

// sortResults sorts results by partition, with the tokens that partitions know.
func (s *Store) sortResults(h *history, results []queue.Result) (map[int][]queue.Result, error) {
	byPart := map[int][]queue.Result{}
	var last queue.Result // as the caller knows it
	var part int
	var token uint64
	for _, r := range results {
		if r.ID.Lane != last.ID.Lane || r.Token != last.Token || token == 0 {
			ref := h.lanes.id(r.ID.Lane)
			if ref == nil {
				return nil, fmt.Errorf("settle job %s: %w", r.ID, queue.ErrLeaseLost)
			}
			part, token = ref.part, s.leases.token(r.Token, ref.part)
			if token == 0 {
				return nil, fmt.Errorf("settle job %s: %w", r.ID, queue.ErrLeaseLost)
			}
		}
		last = r
		r.Token = token
		byPart[part] = append(byPart[part], r)
	}
	return byPart, nil
}

// Observe implements queue.Store.
func (s *Store) Observe(o queue.Observer) (stop func()) { return s.observers.Observe(o) }

// Active implements queue.Store. It answers for the partitions that this process follows:
// those of which it could lease something, and those that nobody keeps.
func (s *Store) Active(ctx context.Context, q string, by queue.Axis) ([]string, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	if err := s.try(ctx, s.watch); err != nil {
		return nil, fmt.Errorf("look through queue %q: %w", q, meaning(err))
	}
	var out []string
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			out = append(out, o.p.Active(q, by)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Stats implements queue.Store. It is exact for the partitions that this process follows; of
// the others it knows what their keepers checkpoint, every two seconds.
func (s *Store) Stats(ctx context.Context, f queue.Filter) (queue.Stats, error) {
	if err := s.ready(); err != nil {
		return queue.Stats{}, err
	}
	if err := s.try(ctx, s.watch); err != nil {
		return queue.Stats{}, fmt.Errorf("count the jobs of queue %q: %w", f.Queue, meaning(err))
	}
	var sum queue.Stats
	var others []int
	for i := range s.owned {
		o := s.owned[i].Load()
		if o == nil {
			others = append(others, i)
			continue
		}
		st := o.p.Stats(f)
		sum.Waiting += st.Waiting
		sum.Leased += st.Leased
		sum.Retrying += st.Retrying
		sum.Dead += st.Dead
		sum.Bytes += st.Bytes
	}
	if len(others) == 0 {
		return sum, nil
	}
	if err := s.Away(); err != nil {
		return queue.Stats{}, fmt.Errorf("count the jobs of queue %q: %w", f.Queue, err)
	}
	column, value := axisColumn(f)
	var open, retried, dead, bytes int64
	err := s.try(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, s.names.sql(`SELECT coalesce(sum(jobs + retry + parked), 0)::bigint, coalesce(sum(retried), 0)::bigint,
			coalesce(sum(dead), 0)::bigint, coalesce(sum(bytes), 0)::bigint
			FROM @schema.lanes WHERE queue = $1 AND part = ANY($2) AND `+column+` = $3`), []byte(f.Queue), others, value).
			Scan(&open, &retried, &dead, &bytes)
	})
	if err != nil {
		return queue.Stats{}, fmt.Errorf("count the jobs of queue %q: %w", f.Queue, meaning(err))
	}
	sum.Waiting += open - retried
	sum.Retrying += retried
	sum.Dead += dead
	sum.Bytes += bytes
	return sum, nil
}

// axisColumn is how a filter chooses lanes in SQL: a column and its value.
func axisColumn(f queue.Filter) (string, []byte) {
	switch f.By {
	case queue.ByWorkspace:
		return "workspace", []byte(f.Value)
	case queue.BySource:
		return "source", []byte(f.Value)
	case queue.ByDestination:
		return "destination", []byte(f.Value)
	}
	return "queue", []byte(f.Queue)
}

// Close ends the store. Updates that have begun to commit are finished; partitions are
// handed back, so that other processes need not wait for the lease to end.
func (s *Store) Close() error {
	if !s.state.CompareAndSwap(stateOpen, stateClosed) {
		s.state.CompareAndSwap(stateNew, stateClosed)
		return nil
	}
	close(s.closed)
	s.commits.close()
	s.halt()
	s.tasks.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), s.tuned().Patience)
	defer cancel()
	err := s.leave(ctx)
	s.stop()
	s.moves.flush()
	s.history.Load().end()
	s.hub.Close()
	s.pool.Close()
	if err != nil {
		return fmt.Errorf("close queue store: %w", meaning(err))
	}
	return nil
}
