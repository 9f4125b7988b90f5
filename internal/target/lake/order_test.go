package lake

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/catalog"
)

// TestColumnsByOrderOfReading: whatever batches are written at once, and whichever is first on
// its way, the columns are those of the batches written one after the other.
func TestColumnsByOrderOfReading(t *testing.T) {
	t.Parallel()
	values := []string{`1`, `2.5`, `"x"`, `true`, `[1]`, `["x"]`, `{"n":1}`, `{"n":"x"}`, `null`, `[]`, `{}`, `"2026-03-01T00:00:00Z"`}
	schema := func(t *rapid.T, path string) string {
		var out bytes.Buffer
		if err := catalog.Schema(context.Background(), &out, path, false); err != nil {
			t.Fatal(err)
		}
		_, columns, _ := strings.Cut(out.String(), "\n") // after the heading, which counts versions
		return columns
	}
	rapid.Check(t, func(rt *rapid.T) {
		var batches [][]string
		for i := range rapid.IntRange(2, 6).Draw(rt, "batches") {
			var b []string
			for range rapid.IntRange(1, 4).Draw(rt, "events") {
				var fields []string
				for c := range 3 {
					if rapid.Bool().Draw(rt, "has") {
						fields = append(fields, fmt.Sprintf(`"c%d":%s`, c, rapid.SampledFrom(values).Draw(rt, "value")))
					}
				}
				b = append(b, fmt.Sprintf(`{"batch":%d,"id":"%d","hour":%d,%s}`, i, rapid.IntRange(0, 9).Draw(rt, "id"), i, strings.Join(append(fields, `"z":1`), ",")))
			}
			batches = append(batches, b)
		}
		dedup := rapid.Bool().Draw(rt, "dedup")
		seed := rapid.Uint64().Draw(rt, "seed")
		of := func(path string) *Target {
			return opened(t, config(path, func(c *Config) {
				c.PartitionBy = nil
				if dedup {
					c.DedupField = "id"
				}
			}))
		}
		one, many := t.TempDir(), t.TempDir()
		alone, busy := of(one), of(many)
		for _, b := range batches {
			writes(t, alone, batch(b...))
		}
		starts := make([]func(), len(batches))
		for i, b := range batches {
			mark, end := busy.Begin()
			starts[i] = func() {
				defer end()
				if err := busy.Write(mark(context.Background()), batch(b...)); err != nil {
					t.Error(err)
				}
			}
		}
		var wg sync.WaitGroup
		for _, i := range rand.New(rand.NewPCG(seed, 1)).Perm(len(starts)) {
			wg.Go(starts[i])
		}
		wg.Wait()
		if a, b := schema(rt, one), schema(rt, many); a != b {
			rt.Fatalf("one after the other:\n%s\nat once:\n%s\nof %v", a, b, batches)
		}
		if a, b := landed(t, one), landed(t, many); !dedup && len(a) != len(b) {
			rt.Fatalf("%d rows, %d at once", len(a), len(b))
		}
		for _, target := range []*Target{alone, busy} {
			if err := target.Close(context.Background()); err != nil {
				rt.Fatal(err)
			}
		}
	})
}
