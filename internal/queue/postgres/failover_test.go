package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/queue"
)

// one runs a statement and reads its answer.
func one[T any](t *testing.T, dsn, sql string, args ...any) T {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	var v T
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func do(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // a test cleans up with it too
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	for _, text := range statements {
		if _, err := c.Exec(ctx, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// traffic appends and moves jobs over several stores, and knows what was accepted before the
// database was to lose anything, and what was begun after it had.
type traffic struct {
	phase  atomic.Int32 // 0 kept, 1 may be lost, 2 kept again
	mu     sync.Mutex
	acked  [3][]string // by the phase in which the Update ended, if it began in the same
	stop   context.CancelFunc
	halt   context.CancelFunc
	making sync.WaitGroup
	moving sync.WaitGroup
}

func startTraffic(t *testing.T, stores ...*Store) *traffic {
	t.Helper()
	making, stop := context.WithCancel(context.Background())
	moving, halt := context.WithCancel(context.Background())
	f := &traffic{stop: stop, halt: halt}
	for i, s := range stores {
		for p := range 2 {
			f.making.Go(func() { f.make(making, s, fmt.Sprintf("user%d.%d", i, p)) })
		}
		for range 2 {
			f.moving.Go(func() { moveJobs(moving, s, quiet) })
		}
	}
	t.Cleanup(f.end)
	return f
}

func (f *traffic) end() {
	f.stop()
	f.making.Wait()
	f.halt()
	f.moving.Wait()
}

func (f *traffic) make(ctx context.Context, s *Store, user string) {
	for n := 0; ctx.Err() == nil; n++ {
		for k := range 4 {
			key := user + "." + strconv.Itoa(k)
			m := event.New(fmt.Appendf(nil, "%s %d", key, n))
			m.Key = key
			for ctx.Err() == nil {
				began := f.phase.Load()
				err := s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "in", Msg: m, Ordered: true}) })
				f.mu.Lock()
				ended := f.phase.Load()
				switch {
				case err != nil:
				case began == ended:
					f.acked[ended] = append(f.acked[ended], string(m.Data))
				}
				f.mu.Unlock()
				if err == nil {
					break
				}
				rest(10 * time.Millisecond)
			}
		}
		rest(time.Millisecond)
	}
}

func (f *traffic) accepted(phase int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.acked[phase])
}

// turnTo begins a phase: what is under way may belong to either.
func (f *traffic) turnTo(phase int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.phase.Store(phase)
}

// check demands that what was to be kept has arrived, once, and the jobs of a user in order.
func (f *traffic) check(t *testing.T, s *Store) {
	t.Helper()
	f.stop()
	f.making.Wait()
	await(t, "everything is moved", func() bool { return len(allJobs(t, s, "in")) == 0 })
	f.end()
	seen, last := map[string]bool{}, map[string]int{}
	for _, j := range allJobs(t, s, "out") {
		payload := string(j.Msg.Data)
		if seen[payload] {
			t.Errorf("job %q arrived twice", payload)
		}
		seen[payload] = true
		key, number, _ := strings.Cut(payload, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if before, there := last[key]; there && n <= before {
			t.Errorf("job %q came after number %d of its user", payload, before)
		}
		last[key] = n
	}
	lost := 0
	for phase, acked := range f.acked {
		missing := 0
		for _, a := range acked {
			if !seen[a] {
				missing++
			}
		}
		if phase == 1 {
			lost = missing
			continue
		}
		if missing > 0 || len(acked) == 0 {
			t.Errorf("phase %d: %d of %d accepted jobs did not arrive", phase, missing, len(acked))
		}
	}
	t.Logf("accepted %d, then %d of which %d were lost, then %d; %d arrived", len(f.acked[0]), len(f.acked[1]), lost, len(f.acked[2]), len(seen))
	if lost == 0 {
		t.Error("nothing was lost: the test has shown nothing")
	}
}

// turns is how often a test that changes the history of a database does it.
func turns(least int) int {
	if n, err := strconv.Atoi(os.Getenv("WEIR_CHAOS_RUNS")); err == nil && n > least {
		return n
	}
	return least
}

// TestFailover promotes a standby that has not got everything, under load from two processes.
// What was accepted before it fell behind, and after the promotion, arrives; once, in order.
// In every second turn the primary of before is not stopped, and goes on answering.
func TestFailover(t *testing.T) {
	t.Parallel()
	for i := range turns(2) {
		t.Run(strconv.Itoa(i), func(t *testing.T) { failover(t, i%2 == 1) })
	}
}

func failover(t *testing.T, goesOn bool) {
	primary := startServer(t)
	sb := primary.Standby()
	board := faultproxy.NewTCP(t, primary.Address())
	dsn := strings.Replace(primary.DSN(), primary.Address(), board.Address, 1)
	errors := &lossLog{}
	o := Options{DSN: dsn, Partitions: 4, Spread: 2, Lease: 3 * time.Second, SegmentBytes: 256 << 10, Log: errors.logger()}
	stores := []*Store{open(t, o), open(t, o)}
	f := startTraffic(t, stores...)
	await(t, "jobs are accepted", func() bool { return f.accepted(0) > 300 })
	f.turnTo(1)
	here := one[string](t, primary.DSN(), "SELECT pg_current_wal_flush_lsn()::text")
	await(t, "the standby has what was accepted so far", func() bool {
		return one[bool](t, sb.DSN(), "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)", here)
	})
	// It stops receiving: what comes now is on the primary only.
	do(t, sb.DSN(), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	await(t, "the standby receives nothing", func() bool { return one[int](t, sb.DSN(), "SELECT count(*) FROM pg_stat_wal_receiver") == 0 })
	before := f.accepted(1)
	pos := one[int64](t, primary.DSN(), "SELECT sum(pos)::bigint FROM weir.parts")
	await(t, "more is accepted and checkpointed", func() bool {
		return f.accepted(1) > before+300 && one[int64](t, primary.DSN(), "SELECT sum(pos)::bigint FROM weir.parts") > pos+300
	})
	if !goesOn {
		primary.Crash()
	}
	sb.Promote()
	board.To(sb.Address())
	if goesOn {
		// Nobody can know of the promotion who only asks the old one: they look now and then.
		await(t, "both processes have noticed", func() bool {
			return stores[0].history.Load().id.timeline == 2 && stores[1].history.Load().id.timeline == 2
		})
	}
	f.turnTo(2)
	await(t, "jobs are accepted again", func() bool { return f.accepted(2) > 600 })
	f.check(t, stores[0])
	if errors.lost.Load() != 2 {
		t.Errorf("the loss was told %d times, want once by each process:\n%s", errors.lost.Load(), errors.text())
	}
}

// dump is a backup of the store in a database.
func (sv *server) dump(dsn, path string) {
	sv.t.Helper()
	c, err := pgx.Connect(sv.t.Context(), dsn)
	if err != nil {
		sv.t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	for _, text := range []string{"BEGIN", "LOCK TABLE weir.meta IN SHARE MODE"} { // as the page on backups says
		if _, err := c.Exec(sv.t.Context(), text); err != nil {
			sv.t.Fatal(err)
		}
	}
	sv.Run("pg_dump", "-Fc", "-n", "weir", "-f", path, "-d", dsn)
}

// TestRestore restores a backup into the database, again and again, under load from two
// processes: in one transaction, and one table after the other.
func TestRestore(t *testing.T) {
	t.Parallel()
	for i := range turns(2) {
		t.Run(strconv.Itoa(i), func(t *testing.T) { restore(t, i%2 == 0) })
	}
}

func restore(t *testing.T, whole bool) {
	dsn := enginetest.Postgres(t)
	sv := programs(t)
	backup := filepath.Join(t.TempDir(), "backup")
	errors := &lossLog{}
	o := Options{DSN: dsn, Partitions: 4, Spread: 2, Lease: 3 * time.Second, SegmentBytes: 256 << 10, Log: errors.logger()}
	stores := []*Store{open(t, o), open(t, o)}
	f := startTraffic(t, stores...)
	await(t, "jobs are accepted", func() bool { return f.accepted(0) > 300 })
	f.turnTo(1)
	sv.dump(dsn, backup)
	before := f.accepted(1)
	await(t, "more is accepted", func() bool { return f.accepted(1) > before+300 })
	// What was made since the backup is not in it, so the schema is dropped before.
	if whole {
		sv.revert(dsn, backup)
	} else {
		for i := 0; ; i++ {
			out, err := sv.Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", "DROP SCHEMA weir CASCADE").CombinedOutput()
			if err == nil {
				break
			}
			if !strings.Contains(string(out), "deadlock") || i == 20 {
				t.Fatalf("drop: %v\n%s", err, out)
			}
		}
		sv.Run("pg_restore", "--exit-on-error", "-d", dsn, backup)
	}
	f.turnTo(2)
	await(t, "jobs are accepted again", func() bool { return f.accepted(2) > 600 })
	f.check(t, stores[0])
	if errors.lost.Load() != 2 {
		t.Errorf("the loss was told %d times, want once by each process:\n%s", errors.lost.Load(), errors.text())
	}
}
