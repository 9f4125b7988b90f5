package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
)

// lossLog counts the errors that tell of a loss.
type lossLog struct {
	lost atomic.Int64
	mu   sync.Mutex
	buf  bytes.Buffer
}

func (l *lossLog) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "level=ERROR") && strings.Contains(string(p), "has lost what was accepted") {
		l.lost.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lossLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (l *lossLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// revert puts a store back to a backup, in one transaction.
func (sv *server) revert(dsn, backup string) {
	sv.t.Helper()
	script := backup + ".sql"
	if _, err := os.Stat(script); err != nil {
		sv.Run("pg_restore", "-f", script, backup)
	}
	for i := 0; ; i++ {
		out, err := sv.Command("psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", "DROP SCHEMA weir CASCADE", "-f", script).CombinedOutput()
		if err == nil {
			return
		}
		if !strings.Contains(string(out), "deadlock") || i == 50 { // with a process: nothing has changed
			sv.t.Fatalf("restore: %v\n%s", err, out)
		}
	}
}

// past is what a store is to hold: the open jobs of each queue in order, and one record.
type past struct {
	open   map[string][]string
	record int
}

func (p past) clone() past {
	open := map[string][]string{}
	for q, jobs := range p.open {
		open[q] = slices.Clone(jobs)
	}
	return past{open, p.record}
}

// revision is a random history of two stores on one database, which is put back to any moment
// of it while they go on.
type revision struct {
	t       *testing.T
	rng     *rand.Rand
	stores  [2]*Store
	is      past
	payload int
}

const revisionQueues = 6

// store is the one that leases from a queue.
func (m *revision) store(q int) *Store { return m.stores[q%2] }

func (m *revision) step() {
	switch m.rng.IntN(5) {
	case 0, 1, 2:
		m.append(m.rng.IntN(2), 1+m.rng.IntN(3))
	case 3:
		m.lease(m.rng.IntN(revisionQueues), true)
	default:
		m.count(m.rng.IntN(2), nil)
	}
}

func name(q int) string { return "q" + strconv.Itoa(q) }

func (m *revision) append(store, n int) {
	m.t.Helper()
	q := name(m.rng.IntN(revisionQueues))
	jobs := make([]queue.Job, n)
	for i := range jobs {
		m.payload++
		jobs[i] = queue.Job{Queue: q, Msg: message("job " + strconv.Itoa(m.payload))}
		m.is.open[q] = append(m.is.open[q], "job "+strconv.Itoa(m.payload))
	}
	m.update("append", m.stores[store], func(tx queue.Tx) error { return tx.Append(jobs...) })
}

// update tries until the store answers: what was refused is not there.
func (m *revision) update(what string, s *Store, fn func(tx queue.Tx) error) {
	m.t.Helper()
	var last error
	await(m.t, what, func() bool {
		last = s.Update(m.t.Context(), fn)
		if last != nil {
			m.t.Logf("%s: %v", what, last)
		}
		return last == nil
	})
}

// lease leases all that is in a queue, which must be what is in the model, and settles some.
func (m *revision) lease(q int, settle bool) []queue.Job {
	m.t.Helper()
	s, want := m.store(q), m.is.open[name(q)]
	var jobs []queue.Job
	var got []string
	// Until a process has noticed, it leases from what it knows: those leases are void.
	for deadline := time.Now().Add(patience); ; pauseFor(m.t, 20*time.Millisecond) {
		more, err := s.Lease(m.t.Context(), queue.Query{Filter: queue.Filter{Queue: name(q)}, For: time.Hour, Limit: 1000})
		if err != nil {
			m.t.Log(err)
		}
		got = got[:0]
		jobs = append(jobs, more...)
		for i := range jobs {
			got = append(got, string(jobs[i].Msg.Data))
		}
		if slices.Equal(got, want) && (len(jobs) == 0 || s.Renew(m.t.Context(), jobs, time.Hour) == nil) {
			break
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("queue %s holds %q, want %q", name(q), got, want)
		}
		if len(got) >= len(want) || s.Renew(m.t.Context(), jobs, time.Hour) != nil {
			_ = s.Release(m.t.Context(), jobs) // some may be lost already
			jobs = nil
		}
	}
	if !settle {
		return jobs
	}
	n := m.rng.IntN(len(jobs) + 1)
	if n > 0 {
		m.update("settle", s, func(tx queue.Tx) error {
			var errs []error
			for i := range jobs[:n] {
				errs = append(errs, tx.Settle(jobs[i].Done()))
			}
			return errors.Join(errs...)
		})
	}
	m.is.open[name(q)] = slices.Clone(want[n:])
	if err := s.Release(m.t.Context(), jobs[n:]); err != nil && n < len(jobs) {
		m.t.Fatalf("release: %v", err)
	}
	return nil
}

// count adds one to the record; between reads it and writes it, now happens.
func (m *revision) count(store int, now func()) {
	m.t.Helper()
	m.update("count", m.stores[store], func(tx queue.Tx) error {
		value, err := tx.Get([]byte("counter"))
		if err != nil {
			return err
		}
		n := 0
		if value != nil {
			if n, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
		if now != nil {
			now()
			now = nil
		}
		return tx.Put([]byte("counter"), []byte(strconv.Itoa(n+1)))
	})
	m.is.record++
}

func (m *revision) check() {
	m.t.Helper()
	for q := range revisionQueues {
		jobs := m.lease(q, false)
		if err := m.store(q).Release(m.t.Context(), jobs); err != nil && len(jobs) > 0 {
			m.t.Fatal(err)
		}
	}
	for i, s := range m.stores {
		got := 0
		await(m.t, "the record can be read", func() bool {
			return s.View(m.t.Context(), func(r queue.Reader) error {
				value, err := r.Get([]byte("counter"))
				if err == nil && value != nil {
					got, err = strconv.Atoi(string(value))
				}
				return err
			}) == nil
		})
		if got != m.is.record {
			m.t.Fatalf("store %d reads %d from the record, want %d", i, got, m.is.record)
		}
	}
}

// TestHistory puts a database back to every moment of a history, while two processes go on with
// what they remember: what each of them does from then on is right for what the database holds.
func TestHistory(t *testing.T) {
	t.Parallel()
	runs := 1
	if n, err := strconv.Atoi(os.Getenv("WEIR_MODEL_RUNS")); err == nil {
		runs = max(1, n)
	}
	for seed := range uint64(runs) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			revise(t, rand.New(rand.NewPCG(seed, 4)))
		})
	}
}

func revise(t *testing.T, rng *rand.Rand) {
	dsn := enginetest.Postgres(t)
	sv := programs(t)
	folder := t.TempDir()
	log := &lossLog{}
	o := Options{DSN: dsn, Partitions: 2, SegmentBytes: 16 << 10, Log: log.logger()}
	m := &revision{t: t, rng: rng, stores: [2]*Store{open(t, o), open(t, o)}, is: past{open: map[string][]string{}}}
	for q := range revisionQueues {
		t.Cleanup(m.store(q).Subscribe(name(q)))
	}
	const moments = 7
	var pasts []past
	for i := range moments {
		for range 4 {
			m.step()
		}
		pasts = append(pasts, m.is.clone())
		sv.dump(dsn, filepath.Join(folder, strconv.Itoa(i)))
	}
	for range 8 {
		m.step()
	}
	m.check()
	for _, i := range rng.Perm(moments) {
		q := rng.IntN(revisionQueues)
		m.append(0, 2)
		held := m.lease(q, false)
		back := func() {
			sv.revert(dsn, filepath.Join(folder, strconv.Itoa(i)))
			m.is = pasts[i].clone()
		}
		if rng.IntN(2) == 0 {
			back()
		} else {
			m.count(rng.IntN(2), back)
		}
		if len(held) > 0 {
			err := m.store(q).Update(context.WithoutCancel(t.Context()), func(tx queue.Tx) error { return tx.Settle(held[0].Done()) })
			if !errors.Is(err, queue.ErrLeaseLost) && !errors.Is(err, errPast) {
				t.Fatalf("a lease of a history that is over can be settled: %v", err)
			}
		}
		for range 4 {
			m.step()
		}
		m.check()
	}
	if log.lost.Load() == 0 {
		t.Errorf("no loss was told:\n%s", log.text())
	}
}

// TestForbiddenIdentity works with a role that may not ask which timeline a server is on, says so
// once, and notices a restore.
func TestForbiddenIdentity(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	database := one[string](t, dsn, "SELECT quote_ident(current_database())")
	role := "blind_" + database
	do(t, dsn, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", "CREATE ROLE "+role+" LOGIN", "ALTER DATABASE "+database+" OWNER TO "+role)
	t.Cleanup(func() {
		do(t, dsn, "REASSIGN OWNED BY "+role+" TO CURRENT_USER", "DROP OWNED BY "+role, "DROP ROLE "+role)
	})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	sv := programs(t)
	backup := filepath.Join(t.TempDir(), "backup")
	log := &lossLog{}
	s := open(t, Options{DSN: u.String(), Partitions: 1, Log: log.logger()})
	if err := appendTo(s, "a", "kept"); err != nil {
		t.Fatal(err)
	}
	sv.dump(dsn, backup)
	if err := appendTo(s, "a", "lost"); err != nil {
		t.Fatal(err)
	}
	sv.revert(dsn, backup)
	await(t, "the loss is told", func() bool { return log.lost.Load() == 1 })
	if jobs := leaseMany(t, s, "a", 1); string(jobs[0].Msg.Data) != "kept" {
		t.Errorf("job %q", jobs[0].Msg.Data)
	}
	if n := strings.Count(log.text(), "may not ask which timeline"); n != 1 {
		t.Errorf("it is said %d times that the timeline is not known", n)
	}
}
