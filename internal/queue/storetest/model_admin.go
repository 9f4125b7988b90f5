package storetest

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/queue"
)

// This file is what the model does as an operator: counts, dead jobs, lists, records, and
// opening the store again.

func (m *model) opStats() {
	f := m.filter()
	m.what = fmt.Sprintf("stats of %+v", f)
	var want queue.Stats
	active := map[string]bool{}
	for _, j := range m.jobs {
		if j.queue == f.Queue && !j.dead {
			active[f.By.Of(j.scope)] = true
		}
		switch {
		case !chosen(f, j.queue, j.scope):
		case j.dead:
			want.Dead++
		case j.token != 0:
			want.Leased++
		case j.attempt > 0:
			want.Retrying++
		default:
			want.Waiting++
		}
	}
	got, err := m.store.Stats(m.Context(), f)
	got.Bytes = 0
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		m.Errorf("Stats (-want +got), %v:\n%s", err, diff)
	}
	var values []string
	for v := range active {
		values = append(values, v)
	}
	sort.Strings(values)
	list, err := m.store.Active(m.Context(), f.Queue, f.By)
	if diff := cmp.Diff(values, list); diff != "" || err != nil {
		m.Errorf("Active (-want +got), %v:\n%s", err, diff)
	}
}

// opDead requeues or drops dead jobs.
func (m *model) opDead() {
	s := queue.Search{Filter: m.filter(), State: queue.Buried, Cause: m.pick("", "bad", "gone")}
	if m.rng.IntN(3) == 0 {
		s.Before = m.clock.Now().Add(-time.Duration(m.rng.IntN(30)) * time.Second)
	}
	m.what = fmt.Sprintf("dead jobs %+v", s)
	var want []*modelJob
	for _, j := range m.jobs {
		if j.dead && chosen(s.Filter, j.queue, j.scope) && strings.Contains(j.cause, s.Cause) && (s.Before.IsZero() || j.at.Before(s.Before)) {
			want = append(want, j)
		}
	}
	requeue := m.rng.IntN(2) == 0
	op := m.store.Drop
	if requeue {
		op = m.store.Requeue
	}
	page, err := m.store.List(m.Context(), s, queue.ID{}, 10000)
	if err != nil {
		m.Errorf("List: %v", err)
	}
	n, err := op(m.Context(), s)
	if n != len(want) || len(page.Jobs) != n || err != nil {
		m.Errorf("requeue %v: %d jobs, listed %d, want %d: %v", requeue, n, len(page.Jobs), len(want), err)
	}
	for _, j := range want {
		m.remove(j)
	}
	if requeue {
		// They are appended in the order of their IDs.
		for i := range page.Jobs {
			j := &page.Jobs[i]
			mj := &modelJob{payload: string(j.Msg.Data), queue: j.Queue, scope: j.Scope, at: m.clock.Now()}
			if j.Ordered {
				mj.key = j.Msg.Key
			}
			m.add([]*modelJob{mj})
		}
	}
}

func (m *model) opList() {
	m.what = "list open jobs"
	f := m.filter()
	want := []string{}
	for _, j := range m.jobs {
		if !j.dead && chosen(f, j.queue, j.scope) {
			want = append(want, j.payload)
		}
	}
	sort.Strings(want)
	var got []queue.Job
	var after queue.ID
	for {
		p, err := m.store.List(m.Context(), queue.Search{Filter: f}, after, 1+m.rng.IntN(50))
		if err != nil {
			m.Errorf("List: %v", err)
			return
		}
		got = append(got, p.Jobs...)
		if after = p.Next; after == (queue.ID{}) {
			break
		}
	}
	if diff := cmp.Diff(want, payloads(got)); diff != "" {
		m.Errorf("open jobs (-want +got):\n%s", diff)
	}
}

func (m *model) opRecords() {
	m.what = "list records"
	rs, err := Records(m.Context(), m.store, []byte("r"), nil, 100)
	got := map[string]string{}
	for _, r := range rs {
		got[string(r.Key)] = string(r.Value)
	}
	if diff := cmp.Diff(m.records, got); diff != "" || err != nil {
		m.Errorf("records (-want +got), %v:\n%s", err, diff)
	}
}

func (m *model) opReopen() {
	m.what = "reopen"
	for _, j := range m.leased() {
		m.stale = append(m.stale, j.job)
		j.token = 0
	}
	m.store = m.backend.Reopen(m, m.store, m.cfg)
}
