package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/queue"
)

// testCensus compares what a store says of all lanes with a model, through a random history:
// how many jobs there are, and when the oldest was appended. A store that knows no census is
// none.
func testCensus(t *testing.T, b *bundle) {
	b.open()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &censusModel{bundle: b, r: rand.New(rand.NewPCG(seed, 1)), open: map[string]*censused{}}
	for step := range 30 {
		m.step()
		if step == 15 {
			b.reopen()
			m.leased = nil
		}
		b.clock.Advance(time.Duration(1+m.r.IntN(1000)) * time.Millisecond)
		m.compare(step)
	}
}

// censused is a job of the model.
type censused struct {
	queue    string
	scope    queue.Scope
	at       time.Time
	dead     bool
	retrying bool
}

type censusModel struct {
	*bundle
	r      *rand.Rand
	n      int
	open   map[string]*censused // by payload
	leased []queue.Job
}

func (m *censusModel) step() {
	var jobs []queue.Job
	for range m.r.IntN(5) {
		m.n++
		j := job(fmt.Sprint("q", m.r.IntN(2)), fmt.Sprint(m.n), scoped("", "", fmt.Sprint("d", m.r.IntN(3))))
		if m.r.IntN(3) == 0 {
			ordered(fmt.Sprint("k", m.r.IntN(2)))(&j)
		}
		m.open[string(j.Msg.Data)] = &censused{queue: j.Queue, scope: j.Scope, at: m.clock.Now()}
		jobs = append(jobs, j)
	}
	if len(jobs) > 0 {
		m.append(jobs...)
	}
	m.leased = append(m.leased, m.lease(fmt.Sprint("q", m.r.IntN(2)), limit(3), lasting(24*time.Hour))...)
	m.r.Shuffle(len(m.leased), func(i, k int) { m.leased[i], m.leased[k] = m.leased[k], m.leased[i] })
	n := m.r.IntN(len(m.leased) + 1)
	var results []queue.Result
	for _, j := range m.leased[:n] {
		name := string(j.Msg.Data)
		switch m.r.IntN(3) {
		case 0:
			results = append(results, j.Done())
			delete(m.open, name)
		case 1:
			results = append(results, j.Again(m.clock.Now().Add(time.Duration(m.r.IntN(5000))*time.Millisecond), "later"))
			m.open[name].retrying = true
		case 2:
			results = append(results, j.Dead("no"))
			m.open[name].dead = true
		}
	}
	m.settle(results...)
	m.leased = m.leased[n:]
}

func (m *censusModel) compare(step int) {
	m.Helper()
	c, can := m.s.(queue.Census)
	if !can {
		m.Fatalf("%T knows no census", m.s)
	}
	got, err := c.Lanes(m.ctx)
	if err != nil {
		m.Fatal(err)
	}
	for i := range got {
		if got[i].Bytes <= 0 {
			m.Errorf("step %d: %+v holds no bytes", step, got[i])
		}
		got[i].Bytes = 0
		got[i].Oldest = got[i].Oldest.UTC()
	}
	want := []queue.LaneState{}
	for _, x := range m.open {
		s := queue.LaneState{Queue: x.queue, Scope: x.scope, Open: 1, Oldest: x.at}
		switch {
		case x.dead:
			s.Open, s.Dead, s.Oldest = 0, 1, time.Time{}
		case x.retrying:
			s.Retrying = 1
		}
		want = append(want, s)
	}
	want = queue.JoinLanes(want)
	for _, ls := range [][]queue.LaneState{got, want} {
		slices.SortFunc(ls, func(a, b queue.LaneState) int {
			return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Scope.Destination, b.Scope.Destination))
		})
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		m.Fatalf("step %d: the census (-want +got):\n%s", step, diff)
	}
}
