// Package storetest is the definition of a queue store: what queue.Store and queue.Admin
// promise, as tests that every backend passes.
//
//	func TestStore(t *testing.T) { storetest.Run(t, storetest.Backend{Open: ...}) }
//
// [Run] checks each promise on its own; [Model] runs a random history against a store
// and a plain model in memory and demands the same answers.
package storetest

import (
	"context"
	"sort"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 3 * time.Minute

// Store is what a backend provides.
type Store interface {
	queue.Store
	queue.Admin
}

// Config is how a test wants a store opened.
type Config struct {
	Now    func() time.Time // nil means time.Now
	Window int              // 0 means the default
}

// Backend opens stores for tests.
type Backend struct {
	// Open opens a new, empty store that is closed when the test ends.
	Open func(t testing.TB, c Config) Store
	// Reopen closes the store, unless it was, and opens what it held again.
	Reopen func(t testing.TB, s Store, c Config) Store
}

// Clock is a clock that stands still until it is moved.
type Clock struct{ ns atomic.Int64 }

// NewClock returns a clock that stands at a fixed time.
func NewClock() *Clock {
	c := &Clock{}
	c.ns.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

// Now is the time of the clock.
func (c *Clock) Now() time.Time { return time.Unix(0, c.ns.Load()).UTC() }

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) { c.ns.Add(int64(d)) }

// Run checks every promise.
func Run(t *testing.T, b Backend) {
	t.Helper()
	tests := []struct {
		name string
		fn   func(*testing.T, *bundle)
	}{
		{"UpdateIsAllOrNothing", testAtomic},
		{"DurableOnReturn", testDurable},
		{"AnyBytes", testBytes},
		{"LargestPayload", testLargest},
		{"RefusedJobs", testRefused},
		{"LeaseExpires", testExpiry},
		{"Renew", testRenew},
		{"Release", testRelease},
		{"LostLeaseFailsUpdate", testLostLease},
		{"LeasesEndWithTheStore", testReopenLeases},
		{"NotBefore", testNotBefore},
		{"After", testAfter},
		{"AgainAndCause", testAgain},
		{"OrderPerKey", testOrder},
		{"OrderSurvivesReopen", testOrderReopen},
		{"OrderBehindTheWindow", testOrderWindow},
		{"DelayedOrderedJob", testOrderDelayed},
		{"Axes", testAxes},
		{"LanesTakeTurns", testTurns},
		{"ValuesTakeTurns", testSplit},
		{"ValuesHaveRoom", testSplitRoom},
		{"SplitKeepsOrder", testSplitOrder},
		{"Limits", testLimits},
		{"WakeOnAppend", testWakeAppend},
		{"WakeOnDue", testWakeDue},
		{"WakeOnExpiry", testWakeExpiry},
		{"WakeOnKeyRelease", testWakeKey},
		{"WakeIsFiltered", testWakeFilter},
		{"DeadJobs", testDead},
		{"List", testList},
		{"Stats", testStats},
		{"Census", testCensus},
		{"PauseHolds", testPause},
		{"PauseSurvivesReopen", testPauseReopen},
		{"AnyJob", testAny},
		{"PickedJobs", testPick},
		{"Records", testRecords},
		{"RecordsConflict", testConflict},
		{"RecordsTogether", testTogether},
		{"View", testView},
		{"ViewIsOfOneMoment", testViewMoment},
		{"MoveBetweenQueues", testMove},
		{"Observe", testObserve},
		{"ObserveIsAllOrNothing", testObserveFails},
		{"Concurrent", testConcurrent},
		{"Closed", testClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.fn(t, &bundle{T: t, b: b, ctx: t.Context(), clock: NewClock()})
		})
	}
}

// bundle is what one test works with.
type bundle struct {
	*testing.T
	b     Backend
	ctx   context.Context
	clock *Clock
	cfg   Config
	s     Store
}

// open opens a store whose clock stands still.
func (b *bundle) open() {
	b.Helper()
	b.cfg.Now = b.clock.Now
	b.s = b.b.Open(b.T, b.cfg)
}

// live opens a store with the real clock.
func (b *bundle) live() {
	b.Helper()
	b.s = b.b.Open(b.T, b.cfg)
}

func (b *bundle) reopen() {
	b.Helper()
	b.s = b.b.Reopen(b.T, b.s, b.cfg)
}

func job(q, payload string, opts ...func(*queue.Job)) queue.Job {
	j := queue.Job{Queue: q, Msg: event.New([]byte(payload))}
	for _, o := range opts {
		o(&j)
	}
	return j
}

func ordered(key string) func(*queue.Job) {
	return func(j *queue.Job) { j.Msg.Key, j.Ordered = key, true }
}

func scoped(w, s, d string) func(*queue.Job) {
	return func(j *queue.Job) { j.Scope = queue.Scope{Workspace: w, Source: s, Destination: d} }
}

func notBefore(at time.Time) func(*queue.Job) {
	return func(j *queue.Job) { j.NotBefore = at }
}

func (b *bundle) update(fn func(queue.Tx) error) {
	b.Helper()
	if err := b.s.Update(b.ctx, fn); err != nil {
		b.Fatalf("Update: %v", err)
	}
}

func (b *bundle) append(jobs ...queue.Job) {
	b.Helper()
	b.update(func(tx queue.Tx) error { return tx.Append(jobs...) })
}

func (b *bundle) settle(rs ...queue.Result) {
	b.Helper()
	b.update(func(tx queue.Tx) error { return tx.Settle(rs...) })
}

func (b *bundle) lease(q string, opts ...func(*queue.Query)) []queue.Job {
	b.Helper()
	query := queue.Query{Filter: queue.Filter{Queue: q}}
	for _, o := range opts {
		o(&query)
	}
	jobs, err := b.s.Lease(b.ctx, query)
	if err != nil {
		b.Fatalf("Lease(%+v): %v", query, err)
	}
	return jobs
}

func limit(n int) func(*queue.Query)             { return func(q *queue.Query) { q.Limit = n } }
func lasting(d time.Duration) func(*queue.Query) { return func(q *queue.Query) { q.For = d } }
func by(a queue.Axis, v string) func(*queue.Query) {
	return func(q *queue.Query) { q.By, q.Value = a, v }
}

// Records returns up to limit records of a store whose key starts with prefix and is greater
// than after.
func Records(ctx context.Context, s queue.Store, prefix, after []byte, limit int) (out []queue.Record, err error) {
	err = s.View(ctx, func(r queue.Reader) error {
		out = nil
		for rec, err := range r.Scan(prefix, after) {
			if err != nil {
				return err
			}
			if out = append(out, rec); len(out) == limit {
				break
			}
		}
		return nil
	})
	return out, err
}

// payloads of jobs, sorted.
func payloads(jobs []queue.Job) []string {
	out := make([]string, len(jobs))
	for i := range jobs {
		out[i] = string(jobs[i].Msg.Data)
	}
	sort.Strings(out)
	return out
}

func (b *bundle) want(got []queue.Job, want ...string) {
	b.Helper()
	sort.Strings(want)
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, payloads(got)); diff != "" {
		b.Fatalf("jobs (-want +got):\n%s", diff)
	}
}

func (b *bundle) stats(q string) queue.Stats {
	b.Helper()
	st, err := b.s.Stats(b.ctx, queue.Filter{Queue: q})
	if err != nil {
		b.Fatalf("Stats: %v", err)
	}
	st.Bytes = 0
	return st
}

func (b *bundle) wantStats(q string, want queue.Stats) {
	b.Helper()
	if diff := cmp.Diff(want, b.stats(q)); diff != "" {
		b.Fatalf("stats of %s (-want +got):\n%s", q, diff)
	}
}
