package partition

import (
	"context"
	"fmt"
	"testing"

	"github.com/weirdata/weir/internal/queue"
)

// BenchmarkSplit leases ten jobs of values that take turns, and settles them: all of 10,000
// have work, and 9,000 of them no room.
func BenchmarkSplit(b *testing.B) {
	const values = 10_000
	for _, full := range []int{0, 9 * values / 10} {
		b.Run(fmt.Sprintf("full=%d", full), func(b *testing.B) {
			m := newMemory(newClock(), 0)
			defer m.p.Close()
			more := func(v uint64) {
				job := plain("payload")
				job[0].Scope.Destination = fmt.Sprint(v)
				m.append(v, job...)
			}
			rooms := map[string]int{}
			for v := range uint64(values) {
				more(v + 1)
				if int(v) >= full {
					rooms[fmt.Sprint(v+1)] = 1
				}
			}
			q := queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: 10, Split: queue.ByDestination,
				Room: func(v string) (int, int) { return rooms[v], 1 << 20 }}
			for b.Loop() {
				jobs, err := m.p.Lease(context.Background(), q)
				if err != nil || len(jobs) != 10 {
					b.Fatalf("%d jobs: %v", len(jobs), err)
				}
				m.end(m.begin(b, jobs...), true)
				for i := range jobs {
					more(jobs[i].ID.Lane)
				}
				m.log = m.log[:0]
			}
		})
	}
}
