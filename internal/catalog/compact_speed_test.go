//go:build unix

package catalog

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCompact is a whole compaction of ten files of 20,000 rows, of the columns and rows alone in package
// parquet: what it reads, orders, writes, copies aside, commits and removes. It reports rows in a second of one
// core, of all that the process and the kernel do for it.
func BenchmarkCompact(b *testing.B) {
	for _, row := range []struct {
		name  string
		event func(r *rand.Rand, i int) string
		least float64
	}{
		{"flat", func(r *rand.Rand, i int) string {
			return fmt.Sprintf(`{"id":"%016x%016x","event_name":"lesson:%d","second":%d,"user_id":%d,"lesson_id":%d,"language":"%c","session":"%016x","client":"web","title":"Lesson %d: travel","score":%d}`,
				r.Uint64(), r.Uint64(), r.IntN(20), 1796032502+i/20, r.IntN(50000), r.IntN(2000), 'a'+rune(r.IntN(20)), r.Uint64N(9000), r.IntN(200), r.IntN(100))
		}, 1e6},
		{"nested-sorted", func(r *rand.Rand, i int) string {
			return fmt.Sprintf(`{"id":"%016x%016x","event_name":"lesson:%d","at":%q,"user":{"id":%d,"plan":"plan %d","address":{"country":"%c","city":"city %d"}},"items":[{"sku":"sku-%d","price":%d.%02d,"tags":["t%d","t%d"]},{"sku":"sku-%d","price":%d.5,"tags":[]}],"payload":{"session_id":"%016x","client":"web","title":"Lesson %d: greetings","score":%.3f},"ok":%t}`,
				r.Uint64(), r.Uint64(), r.IntN(20), day.Add(time.Duration(i)*100*time.Millisecond).Format(time.RFC3339Nano), r.IntN(50000), r.IntN(4), 'a'+rune(r.IntN(20)), r.IntN(500), r.IntN(5000), r.IntN(100), r.IntN(100), r.IntN(30), r.IntN(30),
				r.IntN(5000), r.IntN(90), r.Uint64N(9000), r.IntN(200), r.Float64()*100, r.IntN(2) == 0)
		}, 250_000},
	} {
		b.Run(row.name, func(b *testing.B) {
			const files, each = 10, 20_000
			used, rows := time.Duration(0), int64(0)
			for n := range b.N {
				b.StopTimer()
				path := filepath.Join(b.TempDir(), fmt.Sprint(n))
				d, err := Open(b.Context(), path, Options{Layout: Layout{Year, Month, Day, Hour}, MaxIDs: 1})
				if err != nil {
					b.Fatal(err)
				}
				r := rand.New(rand.NewPCG(1, 1))
				for i := range files {
					events := make([]string, each)
					for k := range events {
						events[k] = row.event(r, k)
					}
					if err := landFile(b, d, day, fmt.Sprintf("events-%d", i), events...); err != nil {
						b.Fatal(err)
					}
				}
				o := CompactOptions{Small: 1 << 30, Large: 1 << 30, Memory: 128 << 20, now: day.Add(48 * time.Hour), Done: func(c Compaction) { rows += c.Rows }}
				b.StartTimer()
				begin := cpu(b)
				if err := Compact(b.Context(), path, o); err != nil {
					b.Fatal(err)
				}
				used += cpu(b) - begin
				b.StopTimer()
				if err := d.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(rows)/used.Seconds(), "rows/cpu-s")
			b.ReportMetric(row.least, "least-rows/cpu-s")
		})
	}
}

// cpu is the time that the process has had on all cores.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
