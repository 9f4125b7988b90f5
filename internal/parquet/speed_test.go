package parquet_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/weirdata/weir/internal/parquet"
)

// limit is the most that one event of 288 bytes may cost from JSON to a Parquet file
// with zstd, in nanoseconds of one core.
const limit = 3000

// events are lesson events of about 288 bytes.
func events(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"lesson:started", "lesson:finished", "lesson:paused", "payment:completed", "payment:failed", "account:created"}
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, `{"event_uuid":"%08x-%04x-4%03x-8%03x-%012x","event_name":"%s","created_at":%d,"user_id":%d,"lesson_id":%d,"language":"%s",`+
			`"score":%.2f,"payload":{"session_id":"%016x","client":"web","title":"Lesson %d: greetings"},"event_type":"lesson","event_subtype":"started"}`,
			r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64N(1<<48), names[r.IntN(len(names))], 1712513462+i/300,
			r.IntN(100_000), r.IntN(2000), []string{"de", "en", "es", "fr"}[r.IntN(4)], r.Float64()*100, r.Uint64(), r.IntN(200))
	}
	return out
}

func benchmark(b *testing.B, write bool) {
	in := events(20_000)
	b.SetBytes(int64(len(in[0])))
	b.ReportAllocs()
	s := &parquet.Schema{}
	d := parquet.NewDecoder(s, options)
	rows := parquet.NewRows()
	i := 0
	for b.Loop() {
		if err := d.Decode(in[i]); err != nil {
			b.Fatal(err)
		}
		rows.Append(d)
		if i++; i == len(in) {
			if write {
				if err := rows.Write(io.Discard, d.Schema(), nil); err != nil {
					b.Fatal(err)
				}
			}
			rows.Release()
			rows, i = parquet.NewRows(), 0
		}
	}
}

func BenchmarkDecode(b *testing.B) { benchmark(b, false) }

// BenchmarkJSONToParquet is the whole way; compare ns/op with limit.
func BenchmarkJSONToParquet(b *testing.B) {
	benchmark(b, true)
	b.ReportMetric(limit, "limit-ns/op")
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	in := events(1)[0]
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	if err := d.Decode(in); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Decode(in); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for an event whose columns are known, want none", n)
	}
}

// TestEncodingDoesNotAllocateForEachEvent: what a file allocates is for its columns and pages.
func TestEncodingDoesNotAllocateForEachEvent(t *testing.T) {
	in := events(4000)
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	encode := func() {
		rows := parquet.NewRows()
		defer rows.Release()
		for _, e := range in {
			if err := d.Decode(e); err != nil {
				t.Fatal(err)
			}
			rows.Append(d)
		}
		if err := rows.Write(io.Discard, d.Schema(), nil); err != nil {
			t.Fatal(err)
		}
	}
	encode()
	// A collection of garbage may take the memory that rows share: then it grows once more.
	if n, most := testing.AllocsPerRun(5, encode), float64(len(in)/8); n > most {
		t.Errorf("%v allocations for a file of %d events, want at most %v", n, len(in), most)
	}
}
