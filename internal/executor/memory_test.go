package executor_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// memory is a queue store that keeps its promises in memory and has no clock of its own: a
// year on the virtual clock costs what happens in it. One Update runs at a time.
type memory struct {
	mu      sync.Mutex
	jobs    []*queue.Job // in order of append
	dead    []*queue.Job
	records map[string][]byte
	seq     uint64
	token   uint64
	wake    chan struct{}
	alarm   *time.Timer
}

func newMemory() *memory {
	return &memory{records: map[string][]byte{}, wake: make(chan struct{})}
}

type memoryTx struct {
	m       *memory
	appends []queue.Job
	results []queue.Result
	puts    map[string][]byte // nil: deleted
}

func (t *memoryTx) Append(jobs ...queue.Job) error {
	t.appends = append(t.appends, jobs...)
	return nil
}
func (t *memoryTx) Settle(rs ...queue.Result) error { t.results = append(t.results, rs...); return nil }
func (t *memoryTx) Put(key, value []byte) error {
	t.puts[string(key)] = slices.Clone(value)
	return nil
}
func (t *memoryTx) Delete(key []byte) error { t.puts[string(key)] = nil; return nil }
func (t *memoryTx) Get(key []byte) ([]byte, error) {
	if v, ok := t.puts[string(key)]; ok {
		return v, nil
	}
	return t.m.records[string(key)], nil
}

func (t *memoryTx) GetAll(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = t.Get(key) // it does not fail
	}
	return values, nil
}

func (m *memory) Update(_ context.Context, fn func(queue.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memoryTx{m: m, puts: map[string][]byte{}}
	if err := fn(tx); err != nil {
		return err
	}
	for _, r := range tx.results {
		if j := m.find(r.ID); j == nil || j.Lease.Token != r.Token || !j.Lease.Expires.After(time.Now()) {
			return queue.ErrLeaseLost
		}
	}
	for _, r := range tx.results {
		j := m.find(r.ID)
		j.Lease, j.Cause = queue.Lease{}, r.Cause
		switch r.Verdict {
		case queue.Again:
			if j.NotBefore = r.At; r.After > 0 {
				j.NotBefore = time.Now().Add(r.After)
			}
			j.Attempt++
			continue
		case queue.Dead:
			m.dead = append(m.dead, j)
		}
		m.jobs = slices.DeleteFunc(m.jobs, func(o *queue.Job) bool { return o == j })
	}
	for k, v := range tx.puts {
		if m.records[k] = v; v == nil {
			delete(m.records, k)
		}
	}
	for _, j := range tx.appends {
		m.seq++
		j.ID, j.At = queue.ID{Lane: 1, Seq: m.seq}, time.Now()
		if j.After > 0 {
			j.NotBefore = j.At.Add(j.After)
		}
		m.jobs = append(m.jobs, &j)
	}
	m.ring()
	return nil
}

func (m *memory) find(id queue.ID) *queue.Job {
	for _, j := range m.jobs {
		if j.ID == id {
			return j
		}
	}
	return nil
}

// ring wakes everybody, and again when the next job is due.
func (m *memory) ring() {
	close(m.wake)
	m.wake = make(chan struct{})
	if m.alarm != nil {
		m.alarm.Stop()
		m.alarm = nil
	}
	var next time.Time
	for _, j := range m.jobs {
		if j.Lease.Token == 0 && j.NotBefore.After(time.Now()) && (next.IsZero() || j.NotBefore.Before(next)) {
			next = j.NotBefore
		}
	}
	if !next.IsZero() {
		m.alarm = time.AfterFunc(time.Until(next), func() { m.mu.Lock(); defer m.mu.Unlock(); m.ring() })
	}
}

func (m *memory) Lease(_ context.Context, q queue.Query) ([]queue.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token++
	now := time.Now()
	var out []queue.Job
	for _, j := range m.jobs {
		if j.Queue == q.Queue && len(out) < q.Limit && !j.NotBefore.After(now) && !j.Lease.Expires.After(now) {
			j.Lease = queue.Lease{Token: m.token, Expires: now.Add(q.For)}
			out = append(out, *j)
		}
	}
	return out, nil
}

func (m *memory) Renew(_ context.Context, jobs []queue.Job, d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, held := range jobs {
		if j := m.find(held.ID); j != nil && j.Lease.Token == held.Lease.Token {
			j.Lease.Expires = time.Now().Add(d)
		}
	}
	return nil
}

func (m *memory) Release(_ context.Context, jobs []queue.Job) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, held := range jobs {
		if j := m.find(held.ID); j != nil && j.Lease.Token == held.Lease.Token {
			j.Lease = queue.Lease{}
		}
	}
	m.ring()
	return nil
}

func (m *memory) View(_ context.Context, fn func(queue.Reader) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(memoryView{m})
}

type memoryView struct{ m *memory }

func (v memoryView) Get(key []byte) ([]byte, error) { return v.m.records[string(key)], nil }

func (v memoryView) Scan(prefix, after []byte) iter.Seq2[queue.Record, error] {
	return func(yield func(queue.Record, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(v.m.records)) {
			if strings.HasPrefix(k, string(prefix)) && k > string(after) && !yield(queue.Record{Key: []byte(k), Value: v.m.records[k]}, nil) {
				return
			}
		}
	}
}

func (m *memory) Active(context.Context, string, queue.Axis) ([]string, error) { return nil, nil }

func (m *memory) Stats(_ context.Context, f queue.Filter) (st queue.Stats, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.jobs {
		switch {
		case j.Queue != f.Queue:
		case j.Lease.Expires.After(time.Now()):
			st.Leased++
		default:
			st.Waiting++
		}
	}
	st.Dead = int64(len(m.dead))
	return st, nil
}

func (m *memory) Wake(queue.Filter) <-chan struct{} { m.mu.Lock(); defer m.mu.Unlock(); return m.wake }
func (m *memory) Observe(queue.Observer) func()     { return func() {} }
func (m *memory) Close() error                      { return nil }

// executions is the records of executions.
func (m *memory) executions() (values [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.records {
		if strings.HasPrefix(k, "machine/m/x/") {
			values = append(values, v)
		}
	}
	return values
}

func (m *memory) Now() time.Time { return time.Now() }
