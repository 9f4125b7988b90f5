//go:build unix

// Package chaos kills the whole product while it works, and counts what is left.
//
// The quickstart of examples/quickstart runs as a process of its own, with HTTP sources in
// the place of its generators. Clients post events to it and write down every event whose
// request was answered with 2xx. The process is killed with SIGKILL at random moments,
// during its start too, and started again on the same data. In the end every event that was
// acknowledged must be in each of its sinks:
//
//	webhook, archive    files of the two destinations that the gateway's sources are connected to
//	valid, error, orphan  directories in which the state machine puts orders
//	lake                Parquet files; an event once, whatever was delivered twice
//	replica             a file; the lines as they were posted
//
// Delivery is at least once, so that files hold some events twice: these are counted and
// reported, beside how many a client posted twice itself because it got no answer.
//
// WEIR_CHAOS_RUNS is how often the process is killed; 3 by default.
package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// patience is how long nothing new may arrive in any sink before what is missing is lost. An
// orphan order is tried for about ten seconds.
const patience = 3 * time.Minute

// How long the process lives at most before it is killed: every third time long enough for
// the lake to land what has waited for five seconds.
const (
	shortLife = 1500 * time.Millisecond
	longLife  = 8 * time.Second
)

// runs is how often to kill.
func runs(t *testing.T) int {
	t.Helper()
	v := os.Getenv("WEIR_CHAOS_RUNS")
	if v == "" {
		return 3
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("WEIR_CHAOS_RUNS is %q, not how often to kill", v)
	}
	return n
}

func TestQuickstart(t *testing.T) {
	t.Parallel()
	kills := runs(t)
	q := newQuickstart(t)
	l := &ledger{begin: time.Now(), acknowledged: map[sink]map[string]moment{}}
	clients := startClients(t, q, l)

	early := 0
	for kill := range kills {
		l.nextRun()
		p := q.start()
		life := rand.N(shortLife)
		if kill%3 == 0 {
			life = longLife - rand.N(2*time.Second)
		}
		if kill == 0 {
			q.untilReady(p) // so that there is something to lose
		}
		if !q.waits(p, life) {
			early++
		}
		p.kill()
	}
	l.nextRun()
	p := q.start()
	l.untilEverySink(t)
	clients.stop()

	missing := q.drain(p, l)
	p.stop()
	q.report(l, kills, early)
	if len(missing) > 0 {
		t.Errorf("lost after %d kills:\n%s", kills, q.obituary(l, missing))
	}
	q.verify(l)
}

// sink is a place where events end.
type sink string

const (
	webhook sink = "webhook"
	archive sink = "archive"
	valid   sink = "orders/valid"
	failing sink = "orders/error"
	orphan  sink = "orders/orphan"
	lake    sink = "lake"
	replica sink = "replica"
)

var sinks = []sink{webhook, archive, valid, failing, orphan, lake, replica}

// moment is when an event was acknowledged.
type moment struct {
	run   int // of the process, from 1
	after time.Duration
}

func (m moment) String() string {
	return fmt.Sprintf("acknowledged %s after the start of run %d", m.after.Round(time.Millisecond), m.run)
}

// ledger is what was acknowledged.
type ledger struct {
	mu           sync.Mutex
	begin        time.Time // of the run
	run          int
	acknowledged map[sink]map[string]moment
	repeated     int // events that a client posted again, because it got no answer
	requests     int // that were answered with 2xx
}

// nextRun notes that the process is started.
func (l *ledger) nextRun() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run++
	l.begin = time.Now()
}

// untilEverySink waits until an event was acknowledged for each sink.
func (l *ledger) untilEverySink(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		l.mu.Lock()
		n := len(l.acknowledged)
		l.mu.Unlock()
		if n == len(sinks) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s there are acknowledged events for %d sinks of %d", patience, n, len(sinks))
		}
		pause(t.Context(), 20*time.Millisecond)
	}
}

// note writes down the events of a request that was answered.
func (l *ledger) note(es []event, posts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := moment{l.run, time.Since(l.begin)}
	l.requests++
	if posts > 1 {
		l.repeated += len(es)
	}
	for _, e := range es {
		for _, s := range e.sinks {
			if l.acknowledged[s] == nil {
				l.acknowledged[s] = map[string]moment{}
			}
			l.acknowledged[s][e.id] = at
		}
	}
}
