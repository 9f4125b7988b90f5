package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// load appends and moves jobs, and counts what was acknowledged and what was refused.
type load struct {
	s       *Store
	mu      sync.Mutex
	acked   []string
	refused map[string]error
	errors  atomic.Int64
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// startLoad runs producers, whose jobs have keys, and movers from "in" to "out".
func startLoad(t *testing.T, s *Store, name string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{s: s, stop: cancel, refused: map[string]error{}}
	moving, halt := context.WithCancel(context.Background())
	var producers sync.WaitGroup
	for p := range 3 {
		producers.Go(func() { l.produce(ctx, fmt.Sprint(name, p)) })
	}
	l.wg.Go(func() { producers.Wait(); halt() })
	for range 3 {
		l.wg.Go(func() { moveJobs(moving, s, quiet) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// produce appends one job after the other for each of a few keys; a number that was
// refused is given to the next attempt, so that numbers have no gaps.
func (l *load) produce(ctx context.Context, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		for k := range 4 {
			key := name + "." + strconv.Itoa(k)
			m := event.New(fmt.Appendf(nil, "%s %d", key, n))
			m.Key = key
			for ctx.Err() == nil {
				err := l.s.Update(context.Background(), func(tx queue.Tx) error {
					return tx.Append(queue.Job{Queue: "in", Msg: m, Ordered: true})
				})
				if err == nil {
					l.mu.Lock()
					l.acked = append(l.acked, string(m.Data))
					l.mu.Unlock()
					break
				}
				l.errors.Add(1)
				l.mu.Lock()
				l.refused[string(m.Data)] = err
				l.mu.Unlock()
				rest(10 * time.Millisecond)
			}
		}
	}
}

// check waits until everything is moved and compares.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	moving, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { moveJobs(moving, l.s, quiet) })
	await(t, "everything is moved", func() bool { return len(allJobs(t, l.s, "in")) == 0 })
	stop()
	wg.Wait()
	checkOut(t, l.s, l.acked)
	for payload, err := range l.refused {
		t.Logf("refused, then tried again: %s: %v", payload, err)
		break
	}
	t.Logf("%d updates were refused", l.errors.Load())
}

// server is a server of one test, and what runs the programs of one.
type server struct {
	*enginetest.PostgresServer
	t *testing.T
}

func startServer(t *testing.T) *server {
	t.Helper()
	return &server{enginetest.NewPostgresServer(t), t}
}

func programs(t *testing.T) *server {
	t.Helper()
	return &server{enginetest.PostgresPrograms(t), t}
}

// TestCrash crashes the server under load, again and again, and cuts its connections:
// what was acknowledged is there, once, in order.
func TestCrash(t *testing.T) {
	t.Parallel()
	sv := startServer(t)
	s := open(t, Options{DSN: sv.DSN(), Partitions: 4, Lease: 3 * time.Second, SegmentBytes: 128 << 10, Log: discard()})
	l := startLoad(t, s, "crash")
	for i := range 4 {
		pauseFor(t, 700*time.Millisecond)
		sv.Crash()
		if i == 2 {
			pauseFor(t, 4*time.Second) // longer than the lease
		}
		sv.Start()
	}
	for range 10 {
		pauseFor(t, 200*time.Millisecond)
		terminate(t, sv.DSN())
	}
	l.check(t)
}

// terminate cuts all other connections of a database.
func terminate(t *testing.T, dsn string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	if err = errors.Join(err, c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// proxy stands between a store and its server and cuts connections at bad moments.
type proxy struct {
	l       net.Listener
	to      string
	cutting atomic.Bool
	cuts    atomic.Int64
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
}

func startProxy(t *testing.T, dsn string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{l: l, to: u.Host, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		// A commit is a large request: it is cut while it is sent, or its answer is lost.
		p.wg.Go(func() { p.copy(server, c, func(n int) bool { return n > 700 && rand.IntN(30) == 0 }) })
		p.wg.Go(func() { p.copy(c, server, func(n int) bool { return n < 200 && rand.IntN(60) == 0 }) })
	}
}

// copy forwards bytes until cut says to break the connection instead.
func (p *proxy) copy(dst, src net.Conn, cut func(n int) bool) {
	defer func() { _, _ = dst.Close(), src.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if p.cutting.Load() && cut(n) {
				p.cuts.Add(1)
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return
			}
			return
		}
	}
}

// TestOutcome loses connections in the middle of commits: requests that the server never
// sees, and answers that the store never sees. Update tells the truth about each: a job
// that was acknowledged is there once, one that was refused is not there.
func TestOutcome(t *testing.T) {
	t.Parallel()
	p, dsn := startProxy(t, enginetest.Postgres(t))
	outcomes := &outcomeLog{}
	s := open(t, Options{DSN: dsn, Partitions: 4, Lease: 10 * time.Second, Log: slog.New(outcomes)})
	l := startLoad(t, s, "cut")
	pauseFor(t, 200*time.Millisecond)
	p.cutting.Store(true)
	await(t, "connections are cut often enough", func() bool {
		return p.cuts.Load() > 60 && outcomes.committed.Load() > 3 && outcomes.undone.Load() > 3
	})
	p.cutting.Store(false)
	l.check(t)
	t.Logf("%d connections were cut: %d of the commits that were under way had been done, %d not", p.cuts.Load(), outcomes.committed.Load(), outcomes.undone.Load())
}

// outcomeLog counts what a store found out about commits whose connection broke.
type outcomeLog struct{ committed, undone atomic.Int64 }

func (o *outcomeLog) Enabled(context.Context, slog.Level) bool { return true }
func (o *outcomeLog) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o *outcomeLog) WithGroup(string) slog.Handler            { return o }
func (o *outcomeLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != logResolved {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "committed" && a.Value.Bool() {
			o.committed.Add(1)
		} else if a.Key == "committed" {
			o.undone.Add(1)
		}
		return true
	})
	return nil
}

// TestAway checks what calls say while the database is away, and that they go on when it
// is back.
func TestAway(t *testing.T) {
	t.Parallel()
	sv := startServer(t)
	s := open(t, Options{DSN: sv.DSN(), Partitions: 2, Lease: 2 * time.Second, Patience: 500 * time.Millisecond, CacheBytes: -1, Log: discard()})
	appendOne := func(ctx context.Context, payload string) error {
		return s.Update(ctx, func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "in", Msg: event.New([]byte(payload))}) })
	}
	if err := appendOne(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	sv.Crash()
	start := time.Now()
	for range 2 {
		if err := appendOne(t.Context(), "while away"); err == nil || fault.Of(err) != fault.Transient {
			t.Errorf("Update while the database is away = %v, want a transient error", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: "in"}})
	if err == nil || fault.Of(err) != fault.Transient {
		t.Errorf("Lease while the database is away = %v, want a transient error", err)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("the calls took %s", d)
	}
	pauseFor(t, 2*time.Second) // the hold on the partitions ends
	if _, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "in"}}); err == nil {
		t.Error("Lease answers although another process may own the partitions")
	}
	sv.Start()
	await(t, "jobs can be appended again", func() bool { return appendOne(t.Context(), "after") == nil })
	var got []string
	await(t, "jobs can be leased again", func() bool {
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "in"}})
		for _, j := range jobs {
			if payload := string(j.Msg.Data); !slices.Contains(got, payload) { // again, when this process was late and lost its partitions
				got = append(got, payload)
			}
		}
		return err == nil && len(got) >= 2
	})
	if fmt.Sprint(got) != "[before after]" {
		t.Errorf("jobs = %q, want before and after", got)
	}
}
