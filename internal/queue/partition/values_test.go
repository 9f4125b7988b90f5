package partition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/weirdata/weir/internal/queue"
)

// sized is a memory whose partition keeps so many bytes of values that were read.
func sized(t *testing.T, open int) *memory {
	t.Helper()
	m := newMemory(newClock(), 0)
	m.open = open
	m.own(nil)
	t.Cleanup(func() { m.p.Close() })
	return m
}

// big appends n jobs of 500 bytes, as one value of a lane of its own.
func (m *memory) big(lane uint64, n int) {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%d %d %s", lane, i, strings.Repeat("x", 500)))
	}
	jobs := plain(names...)
	for i := range jobs {
		jobs[i].Scope.Destination = fmt.Sprint(lane)
	}
	m.append(lane, jobs...)
}

// size is the size of all values.
func (m *memory) size() (n int) {
	for _, l := range m.lanes {
		for _, v := range l.values {
			n += len(v)
		}
	}
	return n
}

// shares reports whether the payload of a job is part of a value as it is stored.
func (m *memory) shares(j *queue.Job) bool {
	v := m.lanes[j.ID.Lane].values[j.ID.Seq]
	start := uintptr(unsafe.Pointer(unsafe.SliceData(v)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(j.Msg.Data)))
	return at >= start && at < start+uintptr(cap(v))
}

// TestTurnsReadOnce hands out the jobs of many big values one by one: with room for where
// the records are, and for none of the values themselves, each byte is read twice at most,
// once with its value and once alone.
func TestTurnsReadOnce(t *testing.T) {
	t.Parallel()
	const lanes, jobs = 40, 150
	for name, open := range map[string]int{"their bytes": 0, "their records": lanes * (openEach + 8*jobs + 64)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sized(t, open)
			for lane := range uint64(lanes) {
				m.big(lane+1, jobs)
			}
			total := m.size()
			q := queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: lanes / 2, Split: queue.ByDestination,
				Room: func(string) (int, int) { return 1, 1 << 20 }}
			for range 2 * jobs {
				got, err := m.p.Lease(context.Background(), q)
				if err != nil || len(got) != lanes/2 {
					t.Fatalf("%d jobs, want %d: %v", len(got), lanes/2, err)
				}
				for i := range got {
					if want := fmt.Sprintf("%d %d ", got[i].ID.Lane, got[i].ID.Index); !strings.HasPrefix(string(got[i].Msg.Data), want) {
						t.Fatalf("job %s is %.10q", got[i].ID, got[i].Msg.Data)
					}
				}
				m.end(m.begin(t, got...), true)
			}
			if open == 0 && m.read != total || m.read > 2*total {
				t.Errorf("%d bytes were read of %d that are there, %d times of a part", m.read, total, m.parts)
			}
			if m.p.values.bytes > m.p.values.limit {
				t.Errorf("%d bytes are kept, the limit is %d", m.p.values.bytes, m.p.values.limit)
			}
		})
	}
}

// TestFailuresReadOnce settles the jobs of a value as to be tried again, one by one.
func TestFailuresReadOnce(t *testing.T) {
	t.Parallel()
	const jobs = 150
	for _, open := range []int{0, openEach + 8*jobs + 64} {
		m := sized(t, open)
		m.big(1, jobs)
		total := m.size()
		for range jobs {
			got := m.lease(t, 1)
			c, err := m.p.Begin(context.Background(), []queue.Result{got[0].Again(m.clock.now().Add(time.Hour), "later")})
			if err != nil {
				t.Fatal(err)
			}
			m.end(c, true)
		}
		if m.read > 4*total {
			t.Errorf("%d bytes were read of %d that are there", m.read, total)
		}
		m.clock.advance(time.Hour)
		if got := m.lease(t, jobs); len(got) != jobs || string(got[7].Msg.Data) != "1 7 "+strings.Repeat("x", 500) {
			t.Errorf("%d jobs of %d came again", len(got), jobs)
		}
	}
}

// TestLeasesHoldTheirOwn: what is handed out holds memory of about its size.
func TestLeasesHoldTheirOwn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		jobs, limit int
		open        int
		shares      bool
	}{
		{jobs: 100, limit: 1}, {jobs: 100, limit: 1, open: 1}, {jobs: 100, limit: 40},
		{jobs: 100, limit: 60, shares: true}, {jobs: 100, limit: 100, shares: true}, {jobs: 1, limit: 1, shares: true},
	} {
		m := sized(t, tt.open)
		m.big(1, tt.jobs)
		for _, j := range m.lease(t, tt.limit) {
			if m.shares(&j) != tt.shares {
				t.Errorf("%d of %d jobs share the memory of their value: %v, want %v", tt.limit, tt.jobs, !tt.shares, tt.shares)
				break
			}
		}
	}
}

// together is a Storage that reads values into one piece of memory.
type together struct{ *memory }

func (s together) Values(ctx context.Context, lane, seq uint64, bytes int) ([]Value, error) {
	vs, err := s.memory.Values(ctx, lane, seq, bytes)
	var in []byte
	for _, v := range vs {
		in = append(in, v.Data...)
	}
	at := 0
	for i := range vs {
		end := at + len(vs[i].Data)
		vs[i].Data, vs[i].In = in[at:end:end], in
		at = end
	}
	return vs, err
}

// TestValuesReadTogether: a value that was read with others does not hold them.
func TestValuesReadTogether(t *testing.T) {
	t.Parallel()
	m := sized(t, 0)
	m.p.cfg.Storage = together{m}
	for range 50 {
		m.big(1, 4)
	}
	for _, n := range []int{4, 1, 120, 50, 25} {
		jobs := m.lease(t, n)
		var held, used int
		seen := map[*byte]bool{}
		// A payload is followed by what else is in its memory.
		for i := range jobs {
			used += len(jobs[i].Msg.Data)
			seen[unsafe.SliceData(jobs[i].Msg.Data)] = true
		}
		for _, l := range m.p.values.byKey {
			held += l.Value.(*openEntry).v.held()
		}
		if len(jobs) != n || len(seen) != n || held > 2*m.p.values.bytes {
			t.Errorf("%d jobs came, want %d; %d bytes of values are kept, and %d counted", len(jobs), n, held, m.p.values.bytes)
		}
	}
}

// TestDamagedPart has a byte of a record change after its value was verified.
func TestDamagedPart(t *testing.T) {
	t.Parallel()
	m := sized(t, 2*(openEach+8*10+64))
	m.big(1, 10)
	m.big(2, 10)
	q := queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: 1, Split: queue.ByDestination}
	first, err := m.p.Lease(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	lane := first[0].ID.Lane
	v := m.lanes[lane].values[1]
	v[queue.HeaderSize+len(v)/10+100] ^= 1 // of the second record
	q.Limit = 19
	got, err := m.p.Lease(context.Background(), q)
	if err != nil || len(got) == 0 {
		t.Fatalf("%d jobs of the value that is whole: %v", len(got), err)
	}
	for i := range got {
		if got[i].ID.Lane == lane && got[i].ID.Index == 1 {
			t.Fatalf("a damaged job came: %.20q", got[i].Msg.Data)
		}
	}
	if st := m.p.Stats(queue.Filter{Queue: "q"}); st.Leased != int64(1+len(got)) || st.Open() != 20 {
		t.Errorf("stats %+v, with %d jobs leased", st, 1+len(got))
	}
	m.end(m.begin(t, append(got, first...)...), true)
	if _, alone := m.p.part(context.Background(), lane, &opened{seq: 1, ends: []uint32{0, 5}, sums: []uint32{1}}, 0, 1); !errors.Is(alone, queue.ErrCorrupt) {
		t.Errorf("a part that is not what it was: %v", alone)
	}
}

// TestDueAreReadTogether: rows that are due are not read one by one, however few come in a turn.
func TestDueAreReadTogether(t *testing.T) {
	t.Parallel()
	m := sized(t, 0)
	const lanes, jobs = 4, 60
	for lane := range uint64(lanes) {
		m.big(lane+1, jobs)
	}
	var rs []queue.Result
	for _, j := range m.lease(t, lanes*jobs) {
		rs = append(rs, j.Again(m.clock.now(), "again"))
	}
	c, err := m.p.Begin(context.Background(), rs)
	if err != nil {
		t.Fatal(err)
	}
	m.end(c, true)
	got, err := m.p.Lease(context.Background(), queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: lanes * jobs / 2, Split: queue.ByDestination})
	if err != nil || len(got) != lanes*jobs/2 || m.dues > 2*lanes {
		t.Errorf("%d jobs came, want %d, with %d reads: %v", len(got), lanes*jobs/2, m.dues, err)
	}
	for i := 1; i < len(got); i++ {
		if got[i].Scope == got[i-1].Scope {
			t.Fatalf("two jobs of %s came in a row", got[i].Scope.Destination)
		}
	}
	if rest := m.lease(t, lanes*jobs); len(rest) != lanes*jobs/2 {
		t.Errorf("%d jobs are left, want %d", len(rest), lanes*jobs/2)
	}
}
