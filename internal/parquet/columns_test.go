package parquet_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/parquet"
)

// makers make the values of one column each, as JSON: between them they need every encoding,
// with and without a dictionary, pages of all sizes, and both ways of compression.
var makers = map[string]func(r *rand.Rand, i int) string{
	"constant": func(*rand.Rand, int) string { return `"web"` },
	"few":      func(r *rand.Rand, _ int) string { return fmt.Sprintf(`"kind %d"`, r.IntN(7)) },
	"some":     func(r *rand.Rand, _ int) string { return fmt.Sprintf(`"%d"`, int(math.Exp(r.Float64()*11))) },
	"blocks":   func(_ *rand.Rand, i int) string { return fmt.Sprintf(`"block %d"`, i/500) },
	"hex":      func(r *rand.Rand, _ int) string { return fmt.Sprintf(`"%016x%016x"`, r.Uint64(), r.Uint64()) },
	"unicode": func(r *rand.Rand, i int) string {
		return fmt.Sprintf(`"%sü🦊\u00e9\n%d"`, strings.Repeat("ß", r.IntN(9)), i)
	},
	"empty": func(r *rand.Rand, i int) string { return `"` + strings.Repeat("x", r.IntN(2)*(i%300)) + `"` },
	"url": func(r *rand.Rand, i int) string {
		return fmt.Sprintf(`"https://example.org/products/%d?ref=%x"`, r.IntN(1e4), r.Uint32()+uint32(i))
	},
	"rising": func(_ *rand.Rand, i int) string { return fmt.Sprint(1712513462 + i/3) },
	"whole":  func(r *rand.Rand, _ int) string { return fmt.Sprint(int64(r.Uint64())) },
	"small":  func(r *rand.Rand, _ int) string { return fmt.Sprint(r.IntN(9) - 4) },
	"money":  func(r *rand.Rand, _ int) string { return fmt.Sprintf("%d.%02d", r.IntN(1e4)-5000, r.IntN(100)) },
	"double": func(r *rand.Rand, _ int) string {
		return fmt.Sprintf("%.1f", r.NormFloat64()*math.Pow(10, float64(r.IntN(30)-15)))
	},
	"bool": func(r *rand.Rand, _ int) string { return fmt.Sprint(r.IntN(3) == 0) },
	"array": func(r *rand.Rand, i int) string {
		return []string{"[]", `["a",null]`, fmt.Sprintf(`["%d","b"]`, i)}[r.IntN(3)]
	},
	"null": func(*rand.Rand, int) string { return "null" },
	"object": func(r *rand.Rand, i int) string {
		return []string{"{}", fmt.Sprintf(`{"a":%d,"b":"%x"}`, i, r.Uint32())}[r.IntN(2)]
	},
	"always":  func(_ *rand.Rand, i int) string { return fmt.Sprintf(`{"a":%d,"deep":{"b":"b%d"}}`, i, i%3) },
	"changed": func(r *rand.Rand, _ int) string { return []string{"1", "2.5", `"x"`}[r.IntN(3)] },
}

// table makes rows with the named columns, each missing now and then as missing says. The
// first row has them all.
func table(seed uint64, n int, names []string, missing func(name string) float64) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]string, n)
	for i := range out {
		var parts []string
		for _, name := range names {
			if i > 0 && r.Float64() < missing(name) {
				continue
			}
			if i == 0 && (name == "array" || name == "object") { // with a type from the beginning
				parts = append(parts, fmt.Sprintf(`%q:%s`, name, map[string]string{"array": `["a"]`, "object": `{"a":1,"b":"x"}`}[name]))
				continue
			}
			parts = append(parts, fmt.Sprintf(`%q:%s`, name, makers[name](r, i)))
		}
		out[i] = "{" + strings.Join(parts, ",") + "}"
	}
	return out
}

// TestAnyColumns writes and reads tables of any shape.
func TestAnyColumns(t *testing.T) {
	t.Parallel()
	all := slices.Sorted(maps.Keys(makers))
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 4, rapid.ID).Draw(rt, "columns")
		n := rapid.SampledFrom([]int{1, 2, 7, 8, 9, 511, 512, 513, 1100}).Draw(rt, "rows")
		often := rapid.SampledFrom([]float64{0, 0, 0.01, 0.9}).Draw(rt, "missing")
		events := table(rapid.Uint64().Draw(rt, "seed"), n, names, func(string) float64 { return often })
		same(t, readAll(t, file(t, parquet.NewDecoder(&parquet.Schema{}, options), events...)), events)
	})
}

// TestDuckDBReadsEveryEncoding has DuckDB read a file with all the columns, of pages large
// enough for both ways of compression.
func TestDuckDBReadsEveryEncoding(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	names := slices.Sorted(maps.Keys(makers))
	for _, n := range []int{1, 6_000} {
		events := table(7, n, names, func(name string) float64 {
			return map[string]float64{"few": 0.5, "hex": 0.001, "whole": 0.3, "array": 0.2, "object": 0.4}[name]
		})
		path := file(t, parquet.NewDecoder(&parquet.Schema{}, options), events...)
		got := duck.Query(t, fmt.Sprintf("SELECT * FROM read_parquet('%s')", path))
		if len(got) != n {
			t.Fatalf("%d rows of %d", len(got), n)
		}
		wrong := 0
		for i, row := range got {
			for _, key := range []string{"changed__json", "changed__double"} {
				if row[key] != nil {
					row["changed"] = row[key]
				}
				delete(row, key)
			}
			if want, have := meaning(t, events[i]), canonical(row); !reflect.DeepEqual(want, have) {
				text, err := json.Marshal(row)
				t.Errorf("row %d is %s (%v), was %s", i, text, err, events[i])
				if wrong++; wrong > 3 {
					t.FailNow()
				}
			}
		}
	}
}
