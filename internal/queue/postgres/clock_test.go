package postgres

import (
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
)

// TestDatabaseClock has answers arrive late, early and after the database's clock was set: what
// is shown is never ahead of it, nor behind by more than the slowest half of an exchange.
func TestDatabaseClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var c databaseClock
		var passed, set time.Duration
		for i := range 200 {
			wasSet := r.IntN(10) == 0 && i > 0
			before := set
			if wasSet {
				set += time.Duration(r.IntN(14400)-7200) * time.Second
			}
			sent := passed
			there, back := time.Duration(r.IntN(900))*time.Millisecond, time.Duration(r.IntN(900))*time.Millisecond
			passed += there
			now := start.Add(passed + set)
			passed += back
			got := c.heard(now, sent, passed)
			if by := set - before; (got != 0) != (by != 0) && by.Abs() > 4*time.Second || got != 0 && (got-by).Abs() > 2*time.Second {
				t.Fatalf("the clock was set by %s, heard was %s", by, got)
			}
			passed += time.Duration(r.IntN(20)) * time.Second
			if behind := start.Add(passed + set).Sub(c.at(passed)); behind < 0 || behind > 900*time.Millisecond {
				t.Fatalf("what is shown is %s behind the database", behind)
			}
		}
	}
}

// TestJobsComeByTheDatabase: with no clock given, jobs are stamped by the database's.
func TestJobsComeByTheDatabase(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t)})
	var before, after time.Time
	read := func(at *time.Time) {
		if err := s.pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.beat(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	read(&before)
	now := s.now()
	read(&after)
	if now.After(after) || before.Sub(now) > time.Minute {
		t.Errorf("the store says %s between %s and %s of the database", now, before, after)
	}
}

// TestAnotherClock: a process whose machine has another time than the database says so at
// once, and again when that changes; what it reads and appends goes by the database.
func TestAnotherClock(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	ahead.Store(int64(2 * time.Hour))
	log := &lineLog{}
	s := open(t, Options{DSN: enginetest.Postgres(t), Log: slog.New(slog.NewTextHandler(log, nil)),
		wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if got := log.with("clock"); len(got) != 1 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], "is ahead of that of the database") || !strings.Contains(got[0], "by=2h0m0") && !strings.Contains(got[0], "by=1h59m59") {
		t.Errorf("after the start: %q", got)
	}
	beat := func(d time.Duration) []string {
		t.Helper()
		ahead.Store(int64(d))
		for range 3 {
			if _, err := s.beat(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		return log.with("clock")[1:]
	}
	if got := beat(2 * time.Hour); len(got) != 0 {
		t.Errorf("with the same clock: %q", got)
	}
	if got := beat(-time.Minute); len(got) != 1 || !strings.Contains(got[0], "is behind that of the database") {
		t.Errorf("with a clock that was set: %q", got)
	}
	if got := beat(0); len(got) != 2 || !strings.Contains(got[1], "level=INFO") {
		t.Errorf("with the right clock: %q", got)
	}
}

// lineLog keeps what is logged.
type lineLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *lineLog) with(text string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}
