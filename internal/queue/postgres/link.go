package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/queue"
)

// link is whether the database answers. The connection for notifications finds out: it asks when
// it has heard nothing for a moment, and when it breaks it is made again, which fails where the
// database is away. Work that was begun before the database came back ends when it does, since
// the connections of that time may be dead without a word, and all that waits goes on then.
type link struct {
	log *slog.Logger

	mu        sync.Mutex
	why       error     // of the last try, while the database is away; nil: it answers
	since     time.Time // when it was found away
	heard     time.Time // of the last answer to anything
	absences  int64
	turn      context.Context // ends when the database is back
	end       context.CancelFunc
	presence  context.Context // ends when the database is found away, or silent
	leave     context.CancelFunc
	leasing   chan struct{} // closed when jobs can be leased again; nil: nobody waits for it
	leasesNow func() bool   // whether jobs may be leased, as long as the database answers

	asked  atomic.Int64  // how many wait for an answer
	bytes  atomic.Uint64 // how often something came
	silent atomic.Bool   // changes under mu
	still  atomic.Int64  // for how long nothing has come, as far as it was looked
	seen   uint64        // bytes at the last look
}

const (
	// askEvery is for how long the connection for notifications hears nothing before it asks, where
	// nobody waits for an answer: see askSooner.
	askEvery = time.Second
	// dialEvery is how long an attempt to connect, or a failed one, holds up the next: connections
	// may hang for as long as a network that lost their first packet waits to send it again.
	dialEvery = time.Second / 2
	// silentFor is how long an attempt that gets no answer says nothing: the machine may be busy.
	silentFor = 3 * time.Second
	// dialsAtOnce is the most attempts that go on at one time.
	dialsAtOnce = 10
	// crowdedFor is how long other connections that work count more than that no new one is taken.
	crowdedFor = 3 * time.Second
)

func newLink(log *slog.Logger, leasesNow func() bool) *link {
	l := &link{log: log, leasesNow: leasesNow}
	l.turn, l.end = context.WithCancel(context.Background())
	l.presence, l.leave = context.WithCancel(context.Background())
	return l
}

// lost says that the database does not answer.
func (l *link) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		if crowded(err) && time.Since(l.heard) < crowdedFor {
			return
		}
		l.since = time.Now()
		l.absences++
		l.log.Warn("the database of the store is away; what waits for it goes on when it is back", "error", err)
	}
	l.why = err
	l.leave()
}

// crowded reports whether err is that the server takes no more connections.
func crowded(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == codeTooManyConnections
}

// answered says that the database has answered to something that was begun while it was away.
func (l *link) answered() (back bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
	if l.why == nil {
		return false
	}
	l.log.Info("the database of the store is back", "since", l.since.UTC().Truncate(time.Second), "after", time.Since(l.since).Round(time.Millisecond))
	l.why = nil
	l.presence, l.leave = context.WithCancel(context.Background())
	l.end()
	l.turn, l.end = context.WithCancel(context.Background())
	return true
}

// hears notes an answer on a connection that has been there.
func (l *link) hears() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
}

// away is why the database does not answer, and since when; nil when it does.
func (l *link) away() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		return nil
	}
	return fmt.Errorf("%w since %s: %w", queue.ErrAway, l.since.UTC().Format(time.RFC3339), l.why)
}

// now is the context of what is begun now: it ends when the database is back after it was away.
func (l *link) now() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turn
}

// present is the context of what waits only as long as the database answers: it ends when the database
// is found away or silent, and has ended while it is.
func (l *link) present() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.presence
}

// bound is ctx for work on the database: it ends after d, and when the database is back after it
// was away.
func (l *link) bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeout(ctx, d)
	ctx, cancel := l.during(ctx, l.now())
	return ctx, func() { cancel(); stop() }
}

// during is ctx for work that ends with a turn: the connection that it waits for may be dead.
func (*link) during(ctx, turn context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(turn, cancel)
	return ctx, func() { stop(); cancel() }
}

// restFor waits for d, or shorter when the database is back, or ctx or turn ends; turn is from before
// whatever failed.
func restFor(ctx, turn context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-turn.Done():
	case <-ctx.Done():
	}
}

// leasable is closed once jobs can be leased.
func (l *link) leasable() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leasing == nil {
		l.leasing = make(chan struct{})
	}
	ch := l.leasing
	if l.why == nil && l.leasesNow() {
		close(ch)
		l.leasing = nil
	}
	return ch
}

// holds says that jobs may be leased, and tells those who wait for it.
func (l *link) holds() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
	if l.leasing != nil && l.why == nil && l.leasesNow() {
		close(l.leasing)
		l.leasing = nil
	}
}

// dialed is what became of an attempt to connect.
type dialed struct {
	c   *pgx.Conn
	err error
}

// dial connects, and tries again until the database answers or ctx ends. While it does not, an
// attempt is begun every half second, whether or not those before it have ended.
func (l *link) dial(ctx context.Context, connect func(context.Context) (*pgx.Conn, error)) (*pgx.Conn, error) {
	ctx, stop := context.WithCancel(ctx)
	results := make(chan dialed)
	var attempts sync.WaitGroup
	defer func() {
		stop()
		attempts.Wait()
	}()
	open := 0
	begin := func() {
		open++
		attempts.Go(func() {
			c, err := connect(ctx)
			select {
			case results <- dialed{c, err}:
			case <-ctx.Done():
				if c != nil {
					_ = c.Close(ctx) // another was faster
				}
			}
		})
	}
	begin()
	began := time.Now()
	next := time.NewTicker(dialEvery)
	defer next.Stop()
	for {
		select {
		case d := <-results:
			if open--; d.err == nil {
				l.answered()
				return d.c, nil
			}
			if ctx.Err() == nil {
				l.lost(d.err)
			}
		case <-next.C:
			if open > 0 && time.Since(began) >= silentFor {
				l.lost(errSilent)
			}
			if open < dialsAtOnce {
				begin()
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

var errSilent = errors.New("connect to PostgreSQL: no answer")

// Away implements queue.Remote.
func (s *Store) Away() error { return s.link.away() }

// Leasable implements queue.Remote.
func (s *Store) Leasable() <-chan struct{} { return s.link.leasable() }

// bounded is ctx for work on the database that is not a call's: see link.bound.
func (s *Store) bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return s.link.bound(ctx, d)
}

// holdsNow reports whether this process may lease from what it owns.
func (s *Store) holdsNow() bool { return time.Since(s.born) < time.Duration(s.until.Load()) }

// reach connects to a server that takes writes.
func (s *Store) reach(ctx context.Context) (*pgx.Conn, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := ask(ctx, c); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// ask has the server say that it takes writes.
func ask(ctx context.Context, q querier) error {
	var standby bool
	if err := q.QueryRow(ctx, "SELECT pg_is_in_recovery()", pgx.QueryExecModeSimpleProtocol).Scan(&standby); err != nil {
		return fmt.Errorf("ask PostgreSQL how it is: %w", err)
	}
	if standby {
		return errStandby
	}
	return nil
}

// patience is how long a connection that asks waits for its answer: a database that is busy is not
// away.
func (s *Store) patience() time.Duration { return max(s.o.Lease/2, 3*time.Second) }

// listen keeps the connection for notifications, and so learns whether the database answers.
func (s *Store) listen(ctx context.Context) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		turn := s.link.now()
		c, err := s.link.dial(ctx, s.reach)
		if err != nil {
			return
		}
		if turn.Err() != nil {
			s.resume()
		}
		began := time.Now()
		err = s.listenOn(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 10*time.Second {
			pause = 50 * time.Millisecond
		}
		s.o.Log.Debug("the connection for notifications broke; it is made again", "error", err)
		restFor(ctx, ctx, pause)
		pause = min(2*pause, time.Second)
	}
}

// resume goes on once the database is back: connections of before are not used again, and what
// this process owns is looked at, since others may have taken it.
func (s *Store) resume() {
	s.pool.Reset()
	s.look()
}

// listenOn follows what other processes tell, over a connection that it closes.
func (s *Store) listenOn(ctx context.Context, c *pgx.Conn) error {
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(bounded)
	}()
	ctx, over := context.WithCancel(ctx)
	defer over()
	free := context.AfterFunc(of(c).over, over) // another session has found that the database is another
	defer free()
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	_, err := c.Exec(bounded, `LISTEN "`+s.channel()+`"`)
	cancel()
	if err != nil {
		return fmt.Errorf("listen: %w", meaning(err))
	}
	s.figures.listens.Add(1)
	s.hints.add(s.follows())
	heard := time.Now()
	for {
		waiting, cancel := context.WithTimeout(ctx, askSooner)
		n, err := c.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil && n.Payload == messageFree:
			s.look()
		case err == nil:
			s.hints.add(partsIn(n.Payload))
		case ctx.Err() != nil || c.IsClosed():
			return fmt.Errorf("wait for a notification: %w", err)
		case time.Since(heard) < askEvery && !s.link.waits():
			continue
		default:
			if err := s.askOn(ctx, c); err != nil {
				return err
			}
		}
		heard = time.Now()
	}
}

// askOn asks whether the database still answers.
func (s *Store) askOn(ctx context.Context, c *pgx.Conn) error {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	ended := s.link.asks()
	defer ended()
	err := ask(bounded, c)
	switch {
	case err == nil:
		s.link.hears()
	case errors.Is(bounded.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("it has not answered for %s: %w", s.patience(), err)
		s.link.lost(err)
	case errors.Is(err, errStandby):
		s.link.lost(err)
	}
	return err
}
