package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/queue"
)

// This file is what the model does to the work of others: it pauses it, and takes jobs that
// nobody else may.

func (m *model) held(j *modelJob) bool {
	for f := range m.paused {
		if chosen(f, j.queue, j.scope) {
			return true
		}
	}
	return false
}

// opPause pauses a filter, or resumes it.
func (m *model) opPause() {
	f := m.filter()
	if f.By == "" {
		f.By = queue.None
	}
	m.what = fmt.Sprintf("pause or resume %+v", f)
	if len(m.paused) > 0 && m.rng.IntN(2) == 0 {
		was, err := queue.EndPause(m.Context(), m.store, f)
		if was != m.paused[f] || err != nil {
			m.Errorf("EndPause = %v, %v, want %v", was, err, m.paused[f])
		}
		delete(m.paused, f)
	} else {
		if err := queue.SetPause(m.Context(), m.store, queue.Pause{Filter: f, Since: m.clock.Now(), Who: "model"}); err != nil {
			m.Errorf("SetPause: %v", err)
		}
		m.paused[f] = true
	}
	all, err := queue.PausesOf(m.Context(), m.store)
	got := map[queue.Filter]bool{}
	for _, p := range all {
		got[p.Filter] = true
	}
	if diff := cmp.Diff(m.paused, got); diff != "" || err != nil {
		m.Errorf("pauses (-want +got), %v:\n%s", err, diff)
	}
}

func (m *model) resumeAll() {
	for f := range m.paused {
		if was, err := queue.EndPause(m.Context(), m.store, f); !was || err != nil {
			m.Errorf("EndPause = %v, %v", was, err)
		}
	}
	clear(m.paused)
}

// claimable are the jobs that a query for any job may get.
func (m *model) claimable(q queue.Query) (out []*modelJob) {
	for _, j := range m.jobs {
		if !j.dead && j.token == 0 && chosen(q.Filter, j.queue, j.scope) && !m.withheld(j) && m.picked(q, j) {
			out = append(out, j)
		}
	}
	return out
}

// picked reports whether q.Pick chooses j, as opClaim makes it.
func (m *model) picked(q queue.Query, j *modelJob) bool {
	return q.Pick == nil || q.Pick(queue.ID{}, j.at, j.cause)
}

// opClaim leases jobs whatever keeps them from being worked on, and gives most of them back.
func (m *model) opClaim() {
	q := queue.Query{Filter: m.filter(), Limit: 1 + m.rng.IntN(12), For: time.Minute, Any: true}
	if m.rng.IntN(3) == 0 {
		q.Limit = 1000
	}
	switch m.rng.IntN(3) {
	case 0:
		cause := m.pick("timeout", "refused")
		q.Pick = func(_ queue.ID, _ time.Time, c string) bool { return strings.Contains(c, cause) }
	case 1:
		before := m.clock.Now().Add(-time.Duration(m.rng.IntN(40)) * time.Second)
		q.Pick = func(_ queue.ID, at time.Time, _ string) bool { return at.Before(before) }
	}
	m.what = fmt.Sprintf("lease any of %+v", q.Filter)
	jobs := m.lease(q)
	if m.Failed() || m.rng.IntN(3) == 0 {
		return
	}
	m.what = fmt.Sprintf("release any of %+v", q.Filter)
	if err := m.store.Release(m.Context(), jobs); err != nil {
		m.Errorf("Release: %v", err)
	}
	for i := range jobs {
		m.byPayload[string(jobs[i].Msg.Data)].token = 0
	}
}
