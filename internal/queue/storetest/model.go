package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Model runs a random history of the given number of steps against a store and against a
// plain model in memory, and demands the same answers. One seed is one history, whatever
// the backend: backends that pass it have given the same answers. With a window the
// store may hold back jobs of lanes that have jobs leased.
func Model(t testing.TB, b Backend, seed uint64, steps, window int) {
	t.Helper()
	m := &model{
		TB: t, backend: b, rng: rand.New(rand.NewPCG(seed, 0)), clock: NewClock(),
		window: window, records: map[string]string{}, paused: map[queue.Filter]bool{}, byPayload: map[string]*modelJob{},
	}
	m.cfg = Config{Now: m.clock.Now, Window: window}
	m.store = b.Open(t, m.cfg)
	for m.step = range steps {
		m.one()
		if t.Failed() {
			t.Fatalf("history of seed %d failed at step %d: %s", seed, m.step, m.what)
		}
	}
	m.drain()
}

// modelJob is one job as the model knows it.
type modelJob struct {
	payload string
	queue   string
	scope   queue.Scope
	key     string // of an ordered job
	due     time.Time
	attempt int
	cause   string
	dead    bool
	at      time.Time
	token   uint64 // 0 when not leased
	expires time.Time
	job     queue.Job // as leased last
}

type model struct {
	testing.TB
	backend Backend
	cfg     Config
	store   Store
	rng     *rand.Rand
	clock   *Clock
	window  int
	step    int
	what    string

	jobs      []*modelJob // open and dead, in order of append
	byPayload map[string]*modelJob
	records   map[string]string
	paused    map[queue.Filter]bool
	stale     []queue.Job // jobs whose lease has ended
	made      int
}

// expire ends the leases whose time has come.
func (m *model) expire() {
	now := m.clock.Now()
	for _, j := range m.jobs {
		if j.token != 0 && !now.Before(j.expires) {
			m.stale = append(m.stale, j.job)
			j.token = 0
		}
	}
}

// withheld reports whether an earlier job of j's key is open.
func (m *model) withheld(j *modelJob) bool {
	if j.key == "" {
		return false
	}
	for _, o := range m.jobs {
		if o == j {
			return false
		}
		if !o.dead && o.queue == j.queue && o.scope == j.scope && o.key == j.key {
			return true
		}
	}
	return false
}

func chosen(f queue.Filter, q string, s queue.Scope) bool {
	return (f.Queue == "" || f.Queue == q) && (f.By == "" || f.By == queue.None || f.By.Of(s) == f.Value)
}

func (m *model) eligible(f queue.Filter) (out []*modelJob) {
	now := m.clock.Now()
	for _, j := range m.jobs {
		if !j.dead && j.token == 0 && !j.due.After(now) && chosen(f, j.queue, j.scope) && !m.held(j) && !m.withheld(j) {
			out = append(out, j)
		}
	}
	return out
}

func (m *model) remove(j *modelJob) {
	m.jobs = slices.DeleteFunc(m.jobs, func(o *modelJob) bool { return o == j })
	delete(m.byPayload, j.payload)
}

func (m *model) pick(of ...string) string { return of[m.rng.IntN(len(of))] }

func (m *model) scope() queue.Scope {
	return queue.Scope{Workspace: m.pick("w1", "w2"), Source: m.pick("s1", "s2"), Destination: m.pick("d1", "d2", "")}
}

func (m *model) filter() queue.Filter {
	f := queue.Filter{Queue: m.pick("a", "b"), By: queue.Axis(m.pick("", "none", "workspace", "source", "destination"))}
	f.Value = map[queue.Axis]string{queue.None: "", queue.ByWorkspace: m.pick("w1", "w2"), queue.BySource: m.pick("s1", "s2"), queue.ByDestination: m.pick("d1", "d2", "")}[f.By]
	return f
}

// newJobs makes jobs for one Append.
func (m *model) newJobs(n int) (out []queue.Job, mod []*modelJob) {
	now := m.clock.Now()
	scope, q := m.scope(), m.pick("a", "b")
	for range n {
		if m.rng.IntN(4) == 0 {
			scope, q = m.scope(), m.pick("a", "b")
		}
		m.made++
		j := queue.Job{Queue: q, Scope: scope, Msg: event.New(fmt.Appendf(nil, "job %d %s", m.made, strings.Repeat("x", m.rng.IntN(200))))}
		mj := &modelJob{payload: string(j.Msg.Data), queue: q, scope: scope, at: now}
		if m.rng.IntN(3) > 0 {
			j.Msg.Key = m.pick("k1", "k2", "k3", "k4", "k5")
			if j.Ordered = m.rng.IntN(3) > 0; j.Ordered {
				mj.key = j.Msg.Key
			}
		}
		if m.rng.IntN(6) == 0 {
			j.NotBefore = now.Add(time.Duration(m.rng.IntN(60)-10) * time.Second)
			mj.due = j.NotBefore
		} else if m.rng.IntN(6) == 0 {
			j.After = time.Duration(1+m.rng.IntN(60)) * time.Second
			mj.due = now.Add(j.After)
		}
		out, mod = append(out, j), append(mod, mj)
	}
	return out, mod
}

func (m *model) add(mod []*modelJob) {
	for _, j := range mod {
		m.jobs = append(m.jobs, j)
		m.byPayload[j.payload] = j
	}
}

// leased are jobs of the model that are leased.
func (m *model) leased() (out []*modelJob) {
	for _, j := range m.jobs {
		if j.token != 0 {
			out = append(out, j)
		}
	}
	return out
}

func (m *model) one() {
	m.expire()
	switch n := m.rng.IntN(100); {
	case n < 22:
		m.opUpdate(false)
	case n < 44:
		m.opLease()
	case n < 46:
		m.opClaim()
	case n < 68:
		m.opUpdate(true)
	case n < 74:
		m.opStale()
	case n < 79:
		m.opRenew()
	case n < 87:
		m.what = "advance the clock"
		m.clock.Advance(time.Duration(m.rng.IntN(20)) * time.Second)
	case n < 91:
		m.opStats()
	case n < 94:
		m.opDead()
	case n < 96:
		m.opList()
	case n < 97:
		m.opRecords()
	case n < 98:
		m.opPause()
	default:
		m.opReopen()
	}
}

// opUpdate appends, puts and deletes, and settles leased jobs, in one transaction that
// may fail.
func (m *model) opUpdate(settle bool) {
	m.what = "update"
	jobs, mod := m.newJobs(m.rng.IntN(12))
	if settle {
		jobs, mod = m.newJobs(m.rng.IntN(3))
	}
	var results []queue.Result
	var after []func()
	if held := m.leased(); settle && len(held) > 0 {
		m.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, j := range held[:1+m.rng.IntN(len(held))] {
			results = append(results, m.result(j, &after))
		}
	}
	put, value, drop := m.pick("r1", "r2", "r3"), fmt.Sprint("value ", m.step), m.pick("r1", "r2", "r3")
	fails := m.rng.IntN(10) == 0
	boom := errors.New("boom")
	err := m.store.Update(m.Context(), func(tx queue.Tx) error {
		v, err := tx.Get([]byte(put))
		if want, ok := m.records[put]; (v != nil) != ok || string(v) != want {
			m.Errorf("record %s = %q, want %q (there: %v)", put, v, want, ok)
		}
		if err := errors.Join(err, tx.Append(jobs...), tx.Settle(results...), tx.Delete([]byte(drop)), tx.Put([]byte(put), []byte(value))); err != nil || !fails {
			return err
		}
		return boom
	})
	if fails {
		if err != boom {
			m.Errorf("Update = %v, want the error of its function", err)
		}
		return
	}
	if err != nil {
		m.Errorf("Update of %d jobs, %d results: %v", len(jobs), len(results), err)
		return
	}
	m.add(mod)
	for _, fn := range after {
		fn()
	}
	delete(m.records, drop)
	m.records[put] = value
}

// result settles j somehow; after makes it so in the model.
func (m *model) result(j *modelJob, after *[]func()) queue.Result {
	now := m.clock.Now()
	switch n := m.rng.IntN(10); {
	case n < 6:
		*after = append(*after, func() { m.remove(j) })
		return j.job.Done()
	case n < 9:
		var at time.Time
		if n < 8 {
			at = now.Add(time.Duration(m.rng.IntN(90)-20) * time.Second)
		}
		cause := m.pick("timeout", "refused")
		*after = append(*after, func() {
			j.token, j.attempt, j.cause, j.due = 0, j.attempt+1, cause, at
			if at.Before(now) {
				j.due = now
			}
		})
		return j.job.Again(at, cause)
	default:
		cause := m.pick("bad payload", "gone")
		*after = append(*after, func() { j.token, j.dead, j.cause, j.at = 0, true, cause, now })
		return j.job.Dead(cause)
	}
}

func (m *model) opLease() {
	q := queue.Query{Filter: m.filter(), Limit: 1 + m.rng.IntN(12), For: time.Duration(1+m.rng.IntN(40)) * time.Second}
	if m.rng.IntN(4) == 0 {
		q.Limit = 1000
	}
	if q.By == "" {
		q.Split = queue.Axis(m.pick("", "none", "workspace", "source", "destination"))
	}
	m.what = fmt.Sprintf("lease %+v", q)
	m.lease(q)
}

func (m *model) lease(q queue.Query) []queue.Job {
	want := m.eligible(q.Filter)
	if q.Any {
		want = m.claimable(q)
	}
	jobs, err := m.store.Lease(m.Context(), q)
	if err != nil {
		m.Errorf("Lease: %v", err)
		return nil
	}
	now := m.clock.Now()
	for i := range jobs {
		m.leasedJob(&jobs[i], want, now.Add(q.For))
	}
	least := min(q.Limit, len(want))
	if m.window > 0 && len(jobs) < least && len(m.leased()) > 0 {
		return jobs // the window of a lane is full of leased jobs
	}
	if len(jobs) != least {
		m.Errorf("Lease gave %d jobs of %d that may be handed out; missing: %q", len(jobs), len(want), m.missing(want, jobs))
	}
	return jobs
}

func (m *model) missing(want []*modelJob, jobs []queue.Job) (out []string) {
	got := payloads(jobs)
	for _, j := range want {
		if !slices.Contains(got, j.payload) {
			out = append(out, fmt.Sprintf("%.12s key %q due %v attempt %d", j.payload, j.key, j.due, j.attempt))
		}
	}
	return out
}

// leasedJob compares a job that was leased with the model.
func (m *model) leasedJob(j *queue.Job, want []*modelJob, expires time.Time) {
	mj := m.byPayload[string(j.Msg.Data)]
	if mj == nil || !slices.Contains(want, mj) || mj.token != 0 {
		m.Errorf("Lease gave %.12q (key %q, attempt %d), which may not be handed out: %+v", j.Msg.Data, j.Msg.Key, j.Attempt, mj)
		return
	}
	type view struct {
		Queue, Cause, Key string
		Scope             queue.Scope
		Attempt           int
		At, Expires       time.Time
	}
	key := j.Msg.Key
	if !j.Ordered {
		key = ""
	}
	if diff := cmp.Diff(view{mj.queue, mj.cause, mj.key, mj.scope, mj.attempt, mj.at, expires},
		view{j.Queue, j.Cause, key, j.Scope, j.Attempt, j.At, j.Lease.Expires}); diff != "" {
		m.Errorf("leased job %.12q (-want +got):\n%s", j.Msg.Data, diff)
	}
	mj.token, mj.expires, mj.job = j.Lease.Token, expires, *j
}

// opStale settles with a lease that has ended, among others that hold.
func (m *model) opStale() {
	m.what = "settle with a lost lease"
	if len(m.stale) == 0 {
		return
	}
	old := m.stale[m.rng.IntN(len(m.stale))]
	results := []queue.Result{old.Done()}
	for _, j := range m.leased() {
		results = append(results, j.job.Done())
	}
	m.rng.Shuffle(len(results), func(i, j int) { results[i], results[j] = results[j], results[i] })
	err := m.store.Update(m.Context(), func(tx queue.Tx) error {
		return errors.Join(tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte("never"))}), tx.Settle(results...), tx.Put([]byte("r1"), []byte("never")))
	})
	if !errors.Is(err, queue.ErrLeaseLost) {
		m.Errorf("Update = %v, want ErrLeaseLost", err)
	}
}

func (m *model) opRenew() {
	m.what = "renew"
	held := m.leased()
	if len(held) == 0 {
		return
	}
	d := time.Duration(1+m.rng.IntN(60)) * time.Second
	one := held[m.rng.IntN(len(held))]
	jobs := []queue.Job{one.job}
	lost := m.rng.IntN(4) == 0 && len(m.stale) > 0
	if lost {
		jobs = append([]queue.Job{m.stale[m.rng.IntN(len(m.stale))]}, jobs...)
	}
	err := m.store.Renew(m.Context(), jobs, d)
	if lost != errors.Is(err, queue.ErrLeaseLost) || !lost && err != nil {
		m.Errorf("Renew = %v, want a lost lease: %v", err, lost)
	}
	for _, j := range held {
		if j.token == one.token {
			j.expires = m.clock.Now().Add(d)
		}
	}
}

// drain does every job that is left, in rounds, and finds the store empty.
func (m *model) drain() {
	m.what = "drain"
	m.resumeAll()
	m.clock.Advance(time.Hour)
	m.expire()
	for range 100 * (len(m.jobs) + 1) {
		n := 0
		for _, q := range []string{"a", "b"} {
			jobs := m.lease(queue.Query{Filter: queue.Filter{Queue: q}, Limit: 1000, For: time.Minute})
			n += len(jobs)
			results := make([]queue.Result, len(jobs))
			for i := range jobs {
				results[i] = jobs[i].Done()
				m.remove(m.byPayload[string(jobs[i].Msg.Data)])
			}
			if err := m.store.Update(context.Background(), func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
				m.Fatalf("settle: %v", err)
			}
		}
		if n == 0 {
			break
		}
	}
	for _, j := range m.jobs {
		if !j.dead {
			m.Errorf("job %.12q (key %q, due %v, attempt %d) was never handed out", j.payload, j.key, j.due, j.attempt)
		}
	}
	if m.Failed() {
		m.FailNow()
	}
}
