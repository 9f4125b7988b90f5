//go:build unix

package parquet_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/weirdata/weir/internal/parquet"
)

// flatEvent and nestedEvent are events of about 300 and 440 bytes.
func flatEvent(r *rand.Rand, i int) string {
	return fmt.Sprintf(`{"event_uuid":"%016x%016x","event_name":"lesson:%d","created_at":%d,"user_id":%d,"lesson_id":%d,"language":"%c","session":"%016x","client":"web","title":"Lesson %d: travel","score":%d}`,
		r.Uint64(), r.Uint64(), r.IntN(20), 1796032502+i/20, r.IntN(50000), r.IntN(2000), 'a'+rune(r.IntN(20)), r.Uint64N(9000), r.IntN(200), r.IntN(100))
}

func nestedEvent(r *rand.Rand, i int) string {
	return fmt.Sprintf(`{"event_uuid":"%016x%016x","event_name":"lesson:%d","created_at":%d,"user":{"id":%d,"plan":"plan %d","address":{"country":"%c","city":"city %d"}},"items":[{"sku":"sku-%d","price":%d.%02d,"tags":["t%d","t%d"]},{"sku":"sku-%d","price":%d.5,"tags":[]}],"payload":{"session_id":"%016x","client":"web","title":"Lesson %d: greetings","score":%.3f},"ok":%t}`,
		r.Uint64(), r.Uint64(), r.IntN(20), 1796032502+i/20, r.IntN(50000), r.IntN(4), 'a'+rune(r.IntN(20)), r.IntN(500), r.IntN(5000), r.IntN(100), r.IntN(100), r.IntN(30), r.IntN(30),
		r.IntN(5000), r.IntN(90), r.Uint64N(9000), r.IntN(200), r.Float64()*100, r.IntN(2) == 0)
}

// BenchmarkCompact is what compaction does with the rows of ten files of 20,000: load, sort, write. It reports
// rows in a second of one core, and, for comparison in the same run, those of reading the same files by
// parquet-go alone, and of flat ones also of writing what it reads (of doubles it cannot).
func BenchmarkCompact(b *testing.B) {
	for _, row := range []struct {
		name   string
		event  func(*rand.Rand, int) string
		sorted bool
		least  float64
	}{{"flat", flatEvent, false, 1e6}, {"flat-sorted", flatEvent, true, 0}, {"nested", nestedEvent, false, 0}, {"nested-sorted", nestedEvent, true, 250_000}} {
		const files, each = 10, 20_000
		r := rand.New(rand.NewPCG(1, 1))
		var all [][]byte
		s := &parquet.Schema{}
		for range files {
			d := parquet.NewDecoder(s, options)
			rows := parquet.NewRows()
			for i := range each {
				if err := d.Decode([]byte(row.event(r, i))); err != nil {
					b.Fatal(err)
				}
				rows.Append(d)
			}
			s = d.Schema()
			var file bytes.Buffer
			if err := rows.Write(&file, s, nil); err != nil {
				b.Fatal(err)
			}
			all = append(all, file.Bytes())
			rows.Release()
		}
		order := make([]int32, files*each)
		for i := range order { // those of one time in each file, one after the other
			order[i] = int32(i%files*each + i/files)
		}
		b.Run(row.name, func(b *testing.B) {
			begin := cpu(b)
			for range b.N {
				compactOnce(b, all, s, order, row.sorted)
			}
			b.ReportMetric(float64(b.N)*float64(len(order))/(cpu(b)-begin).Seconds(), "rows/cpu-s")
			b.ReportMetric(row.least, "least-rows/cpu-s")
			begin = cpu(b)
			peer(b, all, strings.HasPrefix(row.name, "flat"))
			b.ReportMetric(float64(len(order))/(cpu(b)-begin).Seconds(), "parquet-go-rows/cpu-s")
		})
	}
}

func compactOnce(b *testing.B, files [][]byte, s *parquet.Schema, order []int32, sorted bool) {
	loaded := parquet.NewRows()
	for _, data := range files {
		f, err := parquet.NewReader("x", closer{bytes.NewReader(data)}, int64(len(data)))
		if err != nil {
			b.Fatal(err)
		}
		if err := loaded.Load(f, s, nil); err != nil {
			b.Fatal(err)
		}
	}
	if sorted {
		picked := loaded.Pick(order)
		loaded.Release()
		loaded = picked
	}
	if err := loaded.Write(io.Discard, s, nil); err != nil {
		b.Fatal(err)
	}
	loaded.Release()
}

// peer reads the rows of files, and may write them into one.
func peer(b *testing.B, files [][]byte, write bool) {
	var w *pq.GenericWriter[any]
	for _, data := range files {
		f, err := pq.OpenFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			b.Fatal(err)
		}
		if w == nil {
			w = pq.NewGenericWriter[any](io.Discard, f.Schema(), pq.Compression(&pq.Zstd))
		}
		for _, g := range f.RowGroups() {
			rows := g.Rows()
			var to pq.RowWriter = w
			if !write {
				to = nowhere{}
			}
			if _, err := pq.CopyRows(to, rows); err != nil {
				b.Fatal(err)
			}
			if err := rows.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Close(); write && err != nil {
		b.Fatal(err)
	}
}

// nowhere takes rows.
type nowhere struct{}

func (nowhere) WriteRows(rows []pq.Row) (int, error) { return len(rows), nil }
