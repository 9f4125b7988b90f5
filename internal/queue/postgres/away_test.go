package postgres

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/queue"
)

// lines is a log that a test reads while others write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *lines) log() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func putIn(s *Store, q, payload string) error {
	return s.Update(context.Background(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: q, Msg: event.New([]byte(payload))})
	})
}

// through has a proxy stand before a database.
func through(t *testing.T, dsn string) (*faultproxy.TCP, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := faultproxy.NewTCP(t, u.Host)
	u.Host = p.Address
	return p, u.String()
}

// comes leases and settles until it has seen a payload.
func comes(t *testing.T, s *Store, q, payload string) {
	t.Helper()
	await(t, "a job is handed out again", func() bool {
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: q}})
		if err != nil {
			return false
		}
		seen := false
		for i := range jobs {
			seen = seen || string(jobs[i].Msg.Data) == payload
			_ = s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(jobs[i].Done()) }) // lost: it comes again
		}
		return seen
	})
}

// TestStopped stops the server: what brings something new is refused at once and by its reason, one
// line tells of it, and when the server is back whoever waits hears of it.
func TestStopped(t *testing.T) {
	t.Parallel()
	sv := startServer(t)
	said := &lines{}
	s := open(t, Options{DSN: sv.DSN(), Partitions: 4, Lease: 2 * time.Second, Patience: 10 * time.Minute, Log: said.log()})
	if err := putIn(s, "in", "before"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "in", "before")
	for i := range 2 {
		sv.Crash()
		await(t, "the store is known to be away", func() bool { return s.Away() != nil })
		// With a patience of minutes, these return because they do not wait.
		err := putIn(s, "in", "while away")
		if !errors.Is(err, queue.ErrAway) || !fault.Away(err) || fault.Of(err) != fault.Transient || queue.FullOf(s) == nil {
			t.Errorf("Update while the database is away = %v", err)
		}
		if i == 0 {
			await(t, "what is owned may have another owner", func() bool { return !s.holdsNow() })
		}
		leasable := s.Leasable()
		select {
		case <-leasable:
			t.Error("jobs can be leased from a database that is away")
		default:
		}
		done := make(chan error, 1)
		go func() { // reads wait
			done <- s.View(context.Background(), func(r queue.Reader) error { _, err := r.Get([]byte("k")); return err })
		}()
		sv.Start()
		<-leasable
		if err := <-done; err != nil {
			t.Errorf("a read that waited: %v", err)
		}
		if err := queue.AwayOf(s); err != nil {
			t.Errorf("away after it is back: %v", err)
		}
		if err := putIn(s, "in", "after"); err != nil {
			t.Errorf("append after the database is back: %v", err)
		}
		comes(t, s, "in", "after")
	}
	if away, back := said.count("the database of the store is away"), said.count("the database of the store is back"); away != 2 || back != 2 {
		t.Errorf("%d lines say that the database is away, %d that it is back", away, back)
	}
}

// TestFrozen lets nothing pass for longer than the lease: what waits for a connection that will
// never answer goes on over others, and what a commit of that time came to is found out.
func TestFrozen(t *testing.T) {
	t.Parallel()
	p, dsn := through(t, enginetest.Postgres(t))
	s := open(t, Options{DSN: dsn, Partitions: 4, Lease: 2 * time.Second, Patience: 10 * time.Minute, Timeout: 10 * time.Minute, Log: discard()})
	if err := putIn(s, "in", "before"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "in", "before")
	p.Freeze()
	caught := make(chan error, 1)
	go func() { caught <- putIn(s, "in", "caught") }() // its statement is on its way
	await(t, "the store is known to be away", func() bool { return s.Away() != nil })
	if err := putIn(s, "in", "refused"); !errors.Is(err, queue.ErrAway) {
		t.Errorf("Update while the database is away = %v", err)
	}
	await(t, "what is owned may have another owner", func() bool { return !s.holdsNow() })
	leasable := s.Leasable()
	p.Thaw()
	<-leasable
	err := <-caught
	if err != nil && !errors.Is(err, queue.ErrAway) {
		t.Errorf("the commit that was under way: %v", err)
	}
	if err == nil {
		comes(t, s, "in", "caught")
	}
	if err := putIn(s, "in", "after"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "in", "after")
}

// TestNewWorkIsRefusedAtOnce: what only brings something new, and was asked for before the database was
// known to be away, is refused as soon as it is: whether it waits behind a commit that hangs, or for
// its lane to be found.
func TestNewWorkIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	p, dsn := through(t, enginetest.Postgres(t))
	s := open(t, Options{DSN: dsn, Partitions: 4, Lease: 2 * time.Second, Patience: 10 * time.Minute, Timeout: 10 * time.Minute, Log: discard()})
	if err := putIn(s, "in", "before"); err != nil {
		t.Fatal(err)
	}
	p.Freeze()
	caught := make(chan error, 1)
	go func() { caught <- putIn(s, "in", "caught") }()
	await(t, "a commit that hangs", func() bool {
		s.commits.mu.Lock()
		defer s.commits.mu.Unlock()
		return s.commits.busy != mask{}
	})
	const waiting = 5
	refused := make(chan error, 2*waiting)
	for range waiting {
		go func() { refused <- putIn(s, "in", "behind it") }()
		go func() { refused <- putIn(s, "another", "in a lane that is not known") }()
	}
	for range 2 * waiting { // with a patience of minutes, these return because they do not wait
		if err := <-refused; !errors.Is(err, queue.ErrAway) || fault.Of(err) != fault.Transient {
			t.Errorf("Update before the database is known to be away = %v", err)
		}
	}
	p.Thaw()
	if err := <-caught; err != nil && !errors.Is(err, queue.ErrAway) {
		t.Errorf("the commit that was under way: %v", err)
	}
	<-s.Leasable()
	if err := putIn(s, "another", "after"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "another", "after")
}

// TestHealedNodeReadsFirst: a process whose lease has ended is not heard of again before it can read.
func TestHealedNodeReadsFirst(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn, Partitions: 4, Lease: 2 * time.Second, Log: discard()})
	if err := putIn(s, "in", "before"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "in", "before")
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	rename := func(from, to string) {
		if _, err := c.Exec(t.Context(), s.names.sql("ALTER TABLE @schema."+from+" RENAME TO "+to)); err != nil {
			t.Fatal(err)
		}
	}
	rename("lanes", "lanes_away")
	beats := func() (n int) {
		if err := c.QueryRow(t.Context(), s.names.sql("SELECT count(*) FROM @schema.processes WHERE heartbeat > clock_timestamp() - lease")).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	await(t, "nothing is heard of the process that cannot read", func() bool {
		s.until.Store(0) // again, since a heartbeat that was under way renews the lease
		s.look()
		return beats() == 0
	})
	rename("lanes_away", "lanes")
	<-s.Leasable()
	if beats() != 1 {
		t.Error("it leases, and nothing is heard of it")
	}
	if err := putIn(s, "in", "after"); err != nil {
		t.Fatal(err)
	}
	comes(t, s, "in", "after")
}

// TestOpenWithin starts before the server does.
func TestOpenWithin(t *testing.T) {
	t.Parallel()
	sv := startServer(t)
	sv.Crash()
	s, err := New(Options{DSN: sv.DSN(), Partitions: 2, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.OpenWithin(t.Context(), 0, func(error) { t.Error("it waits") }); err == nil || strings.Contains(err.Error(), "waited") {
		t.Errorf("without waiting: %v", err)
	}
	if err := s.OpenWithin(t.Context(), 1500*time.Millisecond, func(error) {}); err == nil || !strings.Contains(err.Error(), "waited for 1.5s") {
		t.Errorf("when the time is over: %v", err)
	}
	var once sync.Once
	if err := s.OpenWithin(t.Context(), time.Hour, func(why error) {
		if why == nil {
			t.Error("it waits for no reason")
		}
		once.Do(sv.Start)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// A database that is not there does not come by waiting.
	for _, dsn := range []string{strings.Replace(sv.DSN(), "/postgres?", "/nosuch?", 1), strings.Replace(sv.DSN(), "weir@", "nobody@", 1)} {
		s, err := New(Options{DSN: dsn})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.OpenWithin(t.Context(), time.Hour, func(why error) { t.Errorf("it waits for %v", why) }); fault.Of(err) != fault.Setup {
			t.Errorf("open: %v, want a setup error", err)
		}
	}
}

// TestSurveyFinds looks at databases that a process could not work with.
func TestSurveyFinds(t *testing.T) {
	t.Parallel()
	sv := startServer(t)
	admin, err := pgx.Connect(t.Context(), sv.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.Background()) }()
	run := func(statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := admin.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	survey := func(user string) error {
		s, err := New(Options{DSN: strings.Replace(sv.DSN(), "weir@", user+"@", 1), Partitions: 2})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Survey(t.Context())
		return err
	}
	finds := func(what, user, text string) {
		t.Helper()
		if err := survey(user); text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text) || fault.Of(err) != fault.Setup) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
	}
	run("CREATE ROLE app LOGIN", "CREATE ROLE guest LOGIN")
	finds("a role that may make nothing", "app", "may not make schema")
	run("GRANT CREATE ON DATABASE postgres TO app")
	finds("one that may", "app", "")
	run("ALTER ROLE app CONNECTION LIMIT 5")
	finds("a role with few connections", "app", "a process may need 13 connections")
	run("ALTER ROLE app CONNECTION LIMIT -1")
	s := open(t, Options{DSN: strings.Replace(sv.DSN(), "weir@", "app@", 1), Partitions: 2, Log: discard()})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	finds("its own schema", "app", "")
	finds("the schema of another", "guest", "permission denied for schema weir")
	run("GRANT USAGE ON SCHEMA weir TO guest")
	finds("tables that it may not read", "guest", "permission denied for table")
	run("GRANT SELECT ON ALL TABLES IN SCHEMA weir TO guest")
	finds("a schema where it may make nothing", "guest", "may not make tables in schema")
	run("GRANT CREATE ON SCHEMA weir TO guest", "GRANT ALL ON ALL TABLES IN SCHEMA weir TO guest")
	finds("the tables of another", "guest", `belongs to role "app"`)
	run("GRANT app TO guest")
	finds("those of a role that it is in", "guest", "")
	finds("a role that there is not", "nobody", "nobody")
}
