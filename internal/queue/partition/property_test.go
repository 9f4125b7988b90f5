package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/queue"
)

// want is what the model knows of a job that was appended and has not ended.
type want struct {
	id       queue.ID
	payload  string
	key      string // ordering key
	due      time.Time
	after    int64 // steady
	attempt  int
	dead     bool
	token    uint64 // lease; 0 when none
	settling bool
	handed   bool // was leased before
}

// model is what a partition promises, said in the simplest way.
type model struct {
	m       *memory
	jobs    []*want          // open and dead, in order of append within a lane
	expires map[uint64]int64 // steady
	held    []queue.Job      // everything that was ever leased
	pending []pendingChange
	count   int
	lanes   uint64
	turns   map[string]*waits // of the values of an axis, when work is split
}

// pendingChange is results between Begin and End.
type pendingChange struct {
	c       *Change
	results []queue.Result
	wall    time.Time // of Begin
	steady  int64
	stored  bool // is committed; the owner is not told yet
}

func (w *model) job(id queue.ID) *want {
	for _, j := range w.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}

// leased reports whether the lease of j goes on, or its result is being committed.
func (w *model) leased(j *want) bool {
	return j.settling || j.token != 0 && w.expires[j.token] > w.m.clock.steady()
}

// due reports whether the time of j has come.
func (w *model) due(j *want) bool {
	return !j.due.After(w.m.clock.now()) && j.after <= w.m.clock.steady()
}

// eligible reports whether j may be handed out.
func (w *model) eligible(j *want) bool {
	if j.dead || w.leased(j) || !w.due(j) {
		return false
	}
	return j.key == "" || !slices.ContainsFunc(w.jobs, func(o *want) bool {
		return o.key == j.key && o.id.Lane == j.id.Lane && !o.dead && o.id.Before(j.id)
	})
}

func (w *model) append(t *rapid.T) {
	lane := rapid.Uint64Range(1, w.lanes).Draw(t, "lane")
	var jobs []queue.Job
	var wants []*want
	for i := range rapid.IntRange(1, 4).Draw(t, "jobs") {
		w.count++
		j := &want{payload: fmt.Sprint(w.count)}
		add := plain(j.payload)
		if key := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "key"); key != "" {
			j.key = key
			add = keyed(key, j.payload)
		}
		if rapid.IntRange(0, 4).Draw(t, "later") == 0 {
			j.due = w.m.clock.now().Add(time.Duration(rapid.IntRange(-3, 8).Draw(t, "seconds")) * time.Second)
			add[0].NotBefore = j.due
		}
		add[0].Scope.Source, add[0].Scope.Destination = fmt.Sprint(lane), destination(lane)
		j.id.Index = uint32(i)
		jobs, wants = append(jobs, add...), append(wants, j)
	}
	id := w.m.append(lane, jobs...)
	for _, j := range wants {
		j.id.Lane, j.id.Seq = id.Lane, id.Seq
	}
	w.jobs = append(w.jobs, wants...)
}

func (w *model) lease(t *rapid.T) {
	f := queue.Filter{Queue: "q"}
	if one := rapid.IntRange(0, 2).Draw(t, "source"); one > 0 {
		f.By, f.Value = queue.BySource, fmt.Sprint(one)
	}
	limit := rapid.IntRange(1, 7).Draw(t, "limit")
	may := map[*want]bool{} // at some time of the call
	look := func() {
		for _, j := range w.jobs {
			if w.eligible(j) && (f.By == "" || f.Value == fmt.Sprint(j.id.Lane)) {
				may[j] = true
			}
		}
	}
	look()
	alone := true
	var ended any // a draw that found nothing more; it must not end the call that it is beside
	w.m.beside = func() {
		if ended != nil {
			return
		}
		defer func() { ended = recover() }()
		if others := rapid.SampledFrom([]func(*rapid.T){nil, nil, w.store, w.end, w.begin, w.append}).Draw(t, "beside"); others != nil {
			alone = false
			others(t)
			look()
		}
	}
	defer func() { w.m.beside = nil }()
	got, err := w.m.p.Lease(context.Background(), queue.Query{Filter: f, Limit: limit, For: 10 * time.Second})
	w.m.beside = nil
	if ended != nil {
		panic(ended)
	}
	if err != nil {
		t.Fatalf("Lease: %v", err)
	}
	if n := min(limit, len(may)); len(got) > n || w.m.window == 0 && len(got) < n && alone && !w.behind() {
		t.Fatalf("leased %d jobs, want %d", len(got), n)
	}
	newest := map[uint64]queue.ID{}
	for i := range got {
		g := &got[i]
		j := w.job(g.ID)
		if j == nil || !may[j] {
			t.Fatalf("leased job %s, which may not be handed out", g.ID)
		}
		if string(g.Msg.Data) != j.payload || g.Attempt != j.attempt || g.Msg.Key != j.key {
			t.Fatalf("job %s came as %q, key %q, attempt %d, want %+v", g.ID, g.Msg.Data, g.Msg.Key, g.Attempt, j)
		}
		if !j.handed && j.due.IsZero() {
			if last, ok := newest[g.ID.Lane]; ok && alone && g.ID.Before(last) {
				t.Fatalf("new job %s was handed out after %s", g.ID, last)
			}
			newest[g.ID.Lane] = g.ID
		}
		delete(may, j) // each once
		j.token, j.handed = g.Lease.Token, true
	}
	if len(got) > 0 {
		w.expires[got[0].Lease.Token] = w.m.clock.steady() + int64(10*time.Second)
	}
	w.held = append(w.held, got...)
}

// pick chooses jobs that were leased at some time, each once or, rarely, twice.
func (w *model) pick(t *rapid.T) []queue.Job {
	if len(w.held) == 0 {
		return nil
	}
	from := max(len(w.held)-12, 0)
	index := rapid.SliceOfN(rapid.IntRange(from, len(w.held)-1), 1, 6).Draw(t, "held")
	twice := rapid.IntRange(0, 9).Draw(t, "twice") == 0
	var out []queue.Job
	for n, i := range index {
		if twice || !slices.Contains(index[:n], i) {
			out = append(out, w.held[i])
		}
	}
	return out
}

// holds reports whether the lease of g holds and no result of it is being committed.
func (w *model) holds(g *queue.Job) bool {
	j := w.job(g.ID)
	return j != nil && !j.dead && j.token == g.Lease.Token && !j.settling && w.leased(j)
}

func (w *model) begin(t *rapid.T) {
	jobs := w.pick(t)
	if len(w.pending) == 3 || len(jobs) == 0 {
		return
	}
	var results []queue.Result
	good := true
	seen := map[queue.ID]bool{}
	for i := range jobs {
		g := &jobs[i]
		good = good && w.holds(g) && !seen[g.ID]
		seen[g.ID] = true
		switch rapid.IntRange(0, 3).Draw(t, "verdict") {
		case 0:
			d := time.Duration(rapid.IntRange(0, 8).Draw(t, "after")) * time.Second
			if rapid.Bool().Draw(t, "named") {
				results = append(results, g.Again(w.m.clock.now().Add(d), "again"))
			} else {
				results = append(results, g.AgainAfter(d, "again"))
			}
		case 1:
			results = append(results, g.Dead("dead"))
		default:
			results = append(results, g.Done())
		}
	}
	c, err := w.m.p.Begin(context.Background(), results)
	if good != (err == nil) || err != nil && !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Begin with leases that hold (%v) = %v", good, err)
	}
	if err != nil {
		return
	}
	for _, r := range results {
		w.job(r.ID).settling = true
	}
	w.pending = append(w.pending, pendingChange{c: c, results: results, wall: w.m.clock.now(), steady: w.m.clock.steady()})
}

// behind reports whether the owner does not know yet all that is committed: it may hand out
// less then, and never more.
func (w *model) behind() bool { return len(w.pending) > 0 && w.pending[0].stored }

// store commits the oldest change that is not committed; the owner is told later.
func (w *model) store(*rapid.T) {
	for i := range w.pending {
		if p := &w.pending[i]; !p.stored {
			w.m.commit(p.c)
			p.stored = true
			w.settled(p)
			return
		}
	}
}

// end ends the oldest change.
func (w *model) end(t *rapid.T) {
	if len(w.pending) == 0 {
		return
	}
	next := w.pending[0]
	w.pending = w.pending[1:]
	if next.stored {
		w.m.p.End(next.c, true)
		return
	}
	if rapid.IntRange(0, 3).Draw(t, "refused") > 0 {
		w.m.end(next.c, true)
		w.settled(&next)
		return
	}
	w.m.end(next.c, false)
	for _, r := range next.results {
		w.job(r.ID).settling = false
	}
}

// settled says that p is committed.
func (w *model) settled(p *pendingChange) {
	for _, r := range p.results {
		j := w.job(r.ID)
		j.settling, j.token = false, 0
		switch r.Verdict {
		case queue.Done:
			w.jobs = slices.DeleteFunc(w.jobs, func(o *want) bool { return o == j })
		case queue.Again:
			j.attempt++
			if j.due, j.after = r.At, 0; !r.At.After(p.wall) {
				j.due, j.after = time.Time{}, p.steady+int64(r.After)
			}
		case queue.Dead:
			j.dead = true
		}
	}
}

func (w *model) renew(t *rapid.T) {
	jobs := w.pick(t)
	good := true
	for i := range jobs {
		if !w.holds(&jobs[i]) {
			good = false
		}
	}
	err := w.m.p.Renew(jobs, 20*time.Second)
	if good != (err == nil) || err != nil && !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Renew of leases that hold (%v) = %v", good, err)
	}
	for i := range jobs {
		if w.holds(&jobs[i]) {
			w.expires[jobs[i].Lease.Token] = w.m.clock.steady() + int64(20*time.Second)
		}
	}
}

// restart has another owner take over: every lease is lost, and what was not committed.
func (w *model) restart(t *rapid.T) {
	var snapshot []Lane
	if !w.behind() && rapid.Bool().Draw(t, "snapshot") {
		// What is being settled is not in a snapshot.
		snapshot = w.m.snapshot()
	}
	w.m.own(snapshot)
	w.pending = nil
	for _, j := range w.jobs {
		j.token, j.settling = 0, false
	}
}

// set sets the wall clock, by hours or by what is short against a lease.
func (w *model) set(t *rapid.T) {
	unit := rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "unit")
	w.m.clock.set.Store(int64(time.Duration(rapid.IntRange(-5, 5).Draw(t, "set")) * unit))
	w.m.p.Stepped()
}

// check compares the counters.
func (w *model) check(t *rapid.T) {
	if w.behind() {
		return
	}
	var want queue.Stats
	for _, j := range w.jobs {
		switch {
		case j.dead:
			want.Dead++
		case w.leased(j):
			want.Leased++
		case j.attempt > 0:
			want.Retrying++
		default:
			want.Waiting++
		}
	}
	got := w.m.p.Stats(queue.Filter{Queue: "q"})
	if len(w.jobs) == 0 && got.Bytes != 0 {
		t.Fatalf("%d bytes are counted of an empty queue", got.Bytes)
	}
	got.Bytes = 0
	if got != want {
		t.Fatalf("stats %+v, want %+v", got, want)
	}
}

// drain settles everything, to see that nothing was lost.
func (w *model) drain(t *rapid.T) {
	for len(w.pending) > 0 {
		w.end(t)
	}
	open := 0
	for _, j := range w.jobs {
		if !j.dead {
			open++
		}
	}
	w.m.clock.advance(time.Hour)
	w.m.clock.set.Store(int64(24 * time.Hour))
	for open > 0 {
		jobs, err := w.m.p.Lease(context.Background(), queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: 5})
		if err != nil || len(jobs) == 0 {
			t.Fatalf("%d jobs are open, but none is handed out: %v", open, err)
		}
		var results []queue.Result
		for i := range jobs {
			if j := w.job(jobs[i].ID); j == nil || j.dead {
				t.Fatalf("job %s was handed out, which has ended", jobs[i].ID)
			}
			w.jobs = slices.DeleteFunc(w.jobs, func(j *want) bool { return j.id == jobs[i].ID })
			results = append(results, jobs[i].Done())
		}
		c, err := w.m.p.Begin(context.Background(), results)
		if err != nil {
			t.Fatal(err)
		}
		w.m.end(c, true)
		open -= len(jobs)
	}
	w.check(t)
}

// TestProperties runs random histories of appends, leases, results, refused commits,
// expiry, renewal and takeovers against the model, with a large window and a tiny one.
func TestProperties(t *testing.T) {
	t.Parallel()
	for _, window := range []int{0, 0, 0, 3, 3, 3} { // one Check runs a hundred histories
		t.Run(fmt.Sprintf("window=%d", window), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { history(t, window) })
		})
	}
}

func history(t *rapid.T, window int) {
	w := newModel(t, window)
	defer func() { w.m.p.Close() }()
	t.Repeat(map[string]func(*rapid.T){
		"append":  w.append,
		"lease":   w.lease,
		"begin":   w.begin,
		"store":   w.store,
		"end":     w.end,
		"renew":   w.renew,
		"restart": w.restart,
		"set":     w.set,
		"advance": func(t *rapid.T) {
			w.m.clock.advance(time.Duration(rapid.IntRange(0, 12).Draw(t, "seconds")) * time.Second)
		},
		"": w.check,
	})
	w.drain(t)
}

// FuzzLease leases from a value of any bytes: jobs, or an error that says that it is
// damaged, never a panic.
func FuzzLease(f *testing.F) {
	tx := NewTx(time.Unix(1, 0), nil, nil)
	jobs := append(plain("one", "two"), keyed("k", "three", "four")...)
	jobs[1].NotBefore = time.Unix(1<<33, 0)
	if err := tx.Append(jobs...); err != nil {
		f.Fatal(err)
	}
	a := tx.Finish().Appends[0]
	f.Add(a.Value, a.Count)
	f.Add(a.Value[:len(a.Value)-1], a.Count)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, value []byte, count int) {
		if count < 1 || count > 1<<10 {
			return
		}
		m := newMemory(newClock(), 0)
		defer m.p.Close()
		m.appendValue(Lane{ID: 1, Queue: "q"}, value, count)
		got, err := m.p.Lease(context.Background(), queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: 3})
		if err != nil {
			if !errors.Is(err, queue.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		if len(got) > 0 {
			m.end(m.begin(t, got...), true)
		}
	})
}
