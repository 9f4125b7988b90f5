package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// settableClock makes a database whose clock can be set, for sessions of the returned DSN.
func settableClock(t *testing.T) (dsn string, set func(by time.Duration)) {
	t.Helper()
	plain := enginetest.Postgres(t)
	do(t, plain, "CREATE SCHEMA clock", "CREATE TABLE clock.ahead (seconds double precision)", "INSERT INTO clock.ahead VALUES (0)",
		"CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + (SELECT seconds * interval ''1 second'' FROM clock.ahead)'")
	separator := "?"
	if strings.Contains(plain, "?") {
		separator = "&"
	}
	return plain + separator + "search_path=clock,pg_catalog", func(by time.Duration) {
		do(t, plain, fmt.Sprintf("UPDATE clock.ahead SET seconds = %f", by.Seconds()))
	}
}

// TestDatabaseClockIsSet sets the clock of the database by an hour, back and forth, under three
// processes of which one is killed just before it is set back: work goes on, what that process had
// is taken over as soon as ever, and what was acknowledged arrives, once, in order.
func TestDatabaseClockIsSet(t *testing.T) {
	t.Parallel()
	dsn, set := settableClock(t)
	a, b, c := startChild(t, dsn, "a", ""), startChild(t, dsn, "b", ""), startChild(t, dsn, "c", "")
	o := childOptions(dsn, "test")
	o.Log = discard()
	s := open(t, o)
	end := s.Subscribe("in")
	defer end()
	moving, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { moveJobs(moving, s, quiet) })
	defer wg.Wait()
	defer stop()
	// A process that is not heard of when the clock is set has its sessions ended by who takes over,
	// this one too.
	out := func() (n int64) {
		await(t, "the queue is counted", func() bool {
			st, err := s.Stats(t.Context(), queue.Filter{Queue: "out"})
			n = st.Waiting
			return err == nil
		})
		return n
	}
	ownedBy := func(name string) int {
		return one[int](t, dsn, "SELECT count(*) FROM weir.parts t LEFT JOIN weir.processes p ON p.id = t.owner AND "+heardSQL+" WHERE coalesce(p.name, '') = $1", name)
	}
	goesOn := func(what string) {
		t.Helper()
		before, acked := out(), len(a.acknowledged())+len(b.acknowledged())
		await(t, "work goes on "+what, func() bool {
			return out() > before+500 && len(a.acknowledged())+len(b.acknowledged()) > acked+500
		})
		await(t, "every partition has an owner "+what, func() bool { return ownedBy("") == 0 })
	}
	goesOn("at first")
	ahead := time.Duration(0)
	for _, by := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour, time.Hour} {
		ahead += by
		set(ahead)
		goesOn(fmt.Sprintf("after the clock was set by %s", by))
	}
	c.kill()
	killed := time.Now()
	set(ahead - time.Hour)
	await(t, "the partitions of the killed process are taken over", func() bool { return ownedBy("c") == 0 && ownedBy("") == 0 })
	t.Logf("taken over %s after the kill", time.Since(killed).Round(10*time.Millisecond))
	goesOn("after a process was killed and the clock set back")
	a.write("no more")
	b.write("no more")
	await(t, "everything is moved", func() bool {
		st, err := s.Stats(t.Context(), queue.Filter{Queue: "in"})
		return err == nil && st.Open() == 0
	})
	a.finish()
	b.finish()
	checkOut(t, s, append(append(a.acknowledged(), b.acknowledged()...), c.acknowledged()...))
}

// TestWaitOverSetClock: what waits goes by the clock of the database, of which it is said that it was
// set. It comes as soon as that says so, and stays where it is until then.
func TestWaitOverSetClock(t *testing.T) {
	t.Parallel()
	dsn, set := settableClock(t)
	log := &lineLog{}
	s := open(t, Options{DSN: dsn, Partitions: 1, Log: slog.New(slog.NewTextHandler(log, nil))})
	waiting := func() int64 {
		st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"})
		if err != nil {
			t.Fatal(err)
		}
		return st.Open()
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte("x")), After: 50 * time.Minute})
	}); err != nil {
		t.Fatal(err)
	}
	told := func(n int) {
		t.Helper()
		await(t, "it is said that the clock was set", func() bool { return len(log.with("the time of the database was set")) == n })
	}
	set(-time.Hour)
	told(1)
	if jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}}); err != nil || len(jobs) != 0 || waiting() != 1 {
		t.Fatalf("with the clock set back, %d jobs came and %d are open: %v", len(jobs), waiting(), err)
	}
	set(time.Hour)
	told(2)
	settleAll(t, s, leaseMany(t, s, "a", 1))
	if n := waiting(); n != 0 {
		t.Errorf("%d jobs are left", n)
	}
}
