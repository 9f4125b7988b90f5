package postgres

import (
	"math/rand/v2"
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
