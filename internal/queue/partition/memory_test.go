package partition

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// clock is the time of a test.
type clock struct {
	nanos atomic.Int64 // steady
	set   atomic.Int64 // how far the wall clock was set
}

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()+c.set.Load()).UTC() }
func (c *clock) steady() int64           { return c.nanos.Load() }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// newModel is a model whose partition keeps much, little or nothing of values that were read.
func newModel(t *rapid.T, window int) *model {
	m := newMemory(newClock(), window)
	m.open = rapid.SampledFrom([]int{0, 1, 2 * openEach, 1000}).Draw(t, "open")
	m.own(nil)
	return &model{m: m, expires: map[uint64]int64{}, lanes: 2}
}

// memory is a Storage in memory: what a backend keeps on disk, and the Partition that owns
// it. Values of which every job has left are deleted, and changes go through their
// encoding, as with a backend.
type memory struct {
	clock  *clock
	window int
	p      *Partition

	mu      sync.Mutex
	lanes   map[uint64]*stored
	sides   map[queue.ID]Side
	log     []func(*Partition) error // every commit, in order
	refuses func() error             // the outcome of Move, when it is set
	reading func()                   // called by Values, when it is set
	headed  func()                   // called by Heads when it has read, when it is set
	beside  func()                   // called before and after what Lease reads or moves, when it is set
	open    int                      // Config.OpenBytes
	read    int                      // bytes of values that were read
	parts   int                      // calls of Part
	dues    int                      // calls of Due
}

// stored is what memory holds of a lane.
type stored struct {
	ref    Lane
	tail   uint64
	values map[uint64][]byte
	left   map[uint64]int // jobs that have not left a value
}

func newMemory(c *clock, window int) *memory {
	m := &memory{clock: c, window: window, lanes: map[uint64]*stored{}, sides: map[queue.ID]Side{}}
	m.own(nil)
	return m
}

var epochs atomic.Uint32

// own begins ownership anew, with the given snapshot of the lanes or by replay of
// everything.
func (m *memory) own(snapshot []Lane) {
	if m.p != nil {
		m.p.Close()
	}
	m.p = New(Config{Storage: m, Epoch: epochs.Add(1), Window: m.window, OpenBytes: m.open, Now: m.clock.now, Steady: m.clock.steady, Lasting: true, Hub: NewHub()})
	if snapshot != nil {
		if err := m.p.Restore(snapshot); err != nil {
			panic(err)
		}
	} else {
		for _, apply := range m.log {
			if err := apply(m.p); err != nil {
				panic(err)
			}
		}
	}
	m.p.Start()
}

// snapshot is what a backend would have kept of the lanes.
func (m *memory) snapshot() []Lane {
	out := []Lane{}
	for id := range m.lanes {
		l, ok := m.p.StateOf(id)
		if !ok {
			panic("a lane that was appended to is not there")
		}
		out = append(out, l)
	}
	return out
}

// append appends jobs as one value of the lane id.
func (m *memory) append(id uint64, jobs ...queue.Job) queue.ID {
	tx := NewTx(m.clock.now(), nil, nil)
	if err := tx.Append(jobs...); err != nil {
		panic(err)
	}
	t := tx.Finish()
	if len(t.Appends) != 1 {
		panic("the jobs are of several lanes")
	}
	a := t.Appends[0]
	return m.appendValue(Lane{ID: id, Queue: a.Queue, Scope: a.Scope}, a.Value, a.Count)
}

func (m *memory) appendValue(ref Lane, value []byte, count int) queue.ID {
	m.mu.Lock()
	s := m.lanes[ref.ID]
	if s == nil {
		s = &stored{ref: ref, tail: 1, values: map[uint64][]byte{}, left: map[uint64]int{}}
		m.lanes[ref.ID] = s
	}
	seq := s.tail
	s.tail++
	s.values[seq], s.left[seq] = slices.Clone(value), count
	apply := func(p *Partition) error { return p.Appended(ref, seq, count, len(value)) }
	m.log = append(m.log, apply)
	m.mu.Unlock()
	if err := apply(m.p); err != nil {
		panic(err)
	}
	return queue.ID{Lane: ref.ID, Seq: seq}
}

// commit makes c durable; the owner is not told.
func (m *memory) commit(c *Change) {
	c, rest, err := DecodeChange(c.Encode(nil))
	if err != nil || len(rest) != 0 {
		panic(fmt.Sprint("a change that cannot be read back: ", err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, func(p *Partition) error { return p.Replay(c) })
	for i := range c.Left {
		f := &c.Left[i]
		s := m.lanes[f.Lane]
		if f.Index == nil {
			s.left[f.Seq] = 0
		}
		if s.left[f.Seq] -= len(f.Index); s.left[f.Seq] <= 0 {
			delete(s.values, f.Seq)
		}
	}
	for _, r := range c.Side {
		if r.State == Gone {
			delete(m.sides, r.ID)
			continue
		}
		if r.Record == nil {
			r.Record = m.sides[r.ID].Record
		}
		r.Was, r.WasDue, r.WasAttempt = Gone, 0, 0
		m.sides[r.ID] = r
	}
}

// end commits c and tells the owner, or tells it that c was not committed.
func (m *memory) end(c *Change, commits bool) {
	if commits {
		m.commit(c)
	}
	m.p.End(c, commits)
}

// Values implements Storage.
func (m *memory) Values(_ context.Context, lane, seq uint64, bytes int) ([]Value, error) {
	if m.reading != nil {
		m.reading()
	}
	ended := m.others()
	defer ended()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Value
	for ; ; seq++ {
		v, there := m.lanes[lane].values[seq]
		if !there || len(out) > 0 && len(v) > bytes {
			return out, nil
		}
		bytes -= len(v)
		m.read += len(v)
		out = append(out, Value{Seq: seq, Data: v})
	}
}

// others has others do something before and after what is read.
func (m *memory) others() (after func()) {
	beside := m.beside
	if beside == nil {
		return func() {}
	}
	run := func() {
		m.beside = nil // what they do reads too
		beside()
		m.beside = beside
	}
	run()
	return run
}

// rows are the side rows of a lane that choose chooses, in order of ID.
func (m *memory) rows(lane uint64, choose func(*Side) bool) []Side {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Side
	for id, r := range m.sides {
		if id.Lane == lane && choose(&r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Side) int {
		return pos{a.ID.Seq, a.ID.Index}.compare(pos{b.ID.Seq, b.ID.Index})
	})
	return out
}

// Part implements Storage.
func (m *memory) Part(_ context.Context, lane, seq uint64, from, size int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts++
	m.read += size
	v := m.lanes[lane].values[seq]
	if from+size > len(v) {
		return nil, fmt.Errorf("value %d of lane %d: it is not there: %w", seq, lane, queue.ErrCorrupt)
	}
	return slices.Clone(v[from : from+size]), nil
}

// Due implements Storage.
func (m *memory) Due(_ context.Context, lane uint64, from DueKey, until int64, limit, bytes int) ([]Side, int64, error) {
	ended := m.others()
	defer ended()
	rows := m.rows(lane, func(r *Side) bool { return r.State == Retry && from.compare(r.key()) < 0 })
	slices.SortFunc(rows, func(a, b Side) int { return a.key().compare(b.key()) })
	m.mu.Lock()
	m.dues++
	m.mu.Unlock()
	n := 0
	for n < len(rows) && n < limit && rows[n].Due <= until && (n == 0 || len(rows[n].Record) <= bytes) {
		bytes -= len(rows[n].Record)
		n++
	}
	if n < len(rows) {
		return rows[:n], rows[n].Due, nil
	}
	return rows, 0, nil
}

// Heads implements Storage.
func (m *memory) Heads(_ context.Context, lane uint64, hashes []uint64) ([]Side, error) {
	ended := m.others()
	defer ended()
	out := make([]Side, len(hashes))
	for i, h := range hashes {
		if rows := m.rows(lane, func(r *Side) bool { return r.Open() && r.Hash == h }); len(rows) > 0 {
			out[i] = rows[0]
		}
	}
	if m.headed != nil {
		m.headed()
	}
	return out, nil
}

// Sweep implements Storage.
func (m *memory) Sweep(_ context.Context, lane, after uint64, limit int) ([]Side, error) {
	ended := m.others()
	defer ended()
	var out []Side
	for _, r := range m.rows(lane, func(r *Side) bool { return r.Open() && r.Hash > after }) {
		if !slices.ContainsFunc(out, func(o Side) bool { return o.Hash == r.Hash }) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Side) int { return cmp.Compare(a.Hash, b.Hash) })
	return out[:min(limit, len(out))], nil
}

// Move implements Storage.
func (m *memory) Move(_ context.Context, c *Change) error {
	if m.refuses != nil {
		err := m.refuses()
		m.end(c, false)
		return err
	}
	m.commit(c)
	m.others()
	m.p.End(c, true)
	return nil
}

// lease leases up to limit jobs of every lane for ten seconds.
func (m *memory) lease(t testing.TB, limit int) []queue.Job {
	t.Helper()
	jobs, err := m.p.Lease(context.Background(), queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: limit, For: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// begin begins to settle jobs as done.
func (m *memory) begin(t testing.TB, jobs ...queue.Job) *Change {
	t.Helper()
	results := make([]queue.Result, len(jobs))
	for i := range jobs {
		results[i] = jobs[i].Done()
	}
	c, err := m.p.Begin(context.Background(), results)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plain are jobs without a key.
func plain(payloads ...string) []queue.Job {
	var out []queue.Job
	for _, p := range payloads {
		out = append(out, queue.Job{Queue: "q", Msg: event.New([]byte(p))})
	}
	return out
}

// keyed are jobs in the order of one key.
func keyed(key string, payloads ...string) []queue.Job {
	out := plain(payloads...)
	for i := range out {
		out[i].Msg.Key, out[i].Ordered = key, true
	}
	return out
}

func payloads(jobs []queue.Job) []string {
	out := []string{}
	for i := range jobs {
		out = append(out, string(jobs[i].Msg.Data))
	}
	return out
}
