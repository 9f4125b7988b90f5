package lake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/enginetest"
)

// TestDuckDBReadsAGrowingDataset adds columns at every level, one write at a time: DuckDB
// reads all files as one table of the newest schema.
func TestDuckDBReadsAGrowingDataset(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.TimeField, c.TimeFormat = "seconds", "epoch_s" }))
	for i, more := range []string{
		`"a":1`,
		`"a":1.5,"o":{"x":1}`,
		`"a":"high","o":{"y":"z","deep":{"k":true}},"year":1999`,
		`"o":{"x":2,"deep":{"l":[1]}},"items":[{"sku":"a"}],"e":{},"n":[]`,
		`"items":[{"sku":"b","price":1.5},null],"o":[],"e":{"now":1},"n":["s"]`,
		`"Größe":9007199254740993,"A":"other case","s":"\u0000\ud83e\udd8a"`,
	} {
		writes(t, target, batch(fmt.Sprintf(`{"seconds":%d,%s}`, 1712512800+i*1800, more)))
	}
	got := duck.Query(t, fmt.Sprintf(`SELECT * FROM read_parquet('%s/**/*.parquet', hive_partitioning = true, union_by_name = true) ORDER BY seconds`, path))
	var rows []string
	for _, row := range got {
		for _, name := range []string{"seconds", "year", "month", "day"} {
			delete(row, name)
		}
		text, err := json.Marshal(bare(row))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, string(text))
	}
	want := []string{
		`{"a":1,"hour":18}`,
		`{"a__double":1.5,"hour":18,"o":{"x":1}}`,
		`{"a__json":"high","hour":19,"o":{"deep":{"k":true},"y":"z"},"year_2":1999}`,
		`{"_rest":{"e":{},"n":[]},"hour":19,"items":[{"sku":"a"}],"o":{"deep":{"l":[1]},"x":2}}`,
		`{"e":{"now":1},"hour":20,"items":[{"price":1.5,"sku":"b"},null],"n":["s"],"o__json":[]}`,
		`{"A_2":"other case","Größe":9007199254740993,"hour":20,"s":"\u0000🦊"}`,
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestViewOfAGrownDataset: in the view that is printed each key is one column, whatever the
// types of its values were.
func TestViewOfAGrownDataset(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	path := filepath.Join(t.TempDir(), "it's a lake")
	target := opened(t, config(path, func(c *Config) { c.TimeField, c.TimeFormat = "ts", "epoch_s" }))
	for i, more := range []string{
		`"a":1,"n":1`, `"a":1.5,"n":2.5`, `"a":"high"`, `"a":{"k":[true]},"odd name":"x"`, `"e":{}`, `"odd name":7`,
	} {
		writes(t, target, batch(fmt.Sprintf(`{"ts":%d,%s}`, 1712512800+i, more)))
	}
	var view bytes.Buffer
	if err := catalog.View(t.Context(), &view, path, "v", false); err != nil {
		t.Fatal(err)
	}
	_, from, _ := strings.Cut(strings.TrimSuffix(view.String(), ";\n"), " AS\n")
	got := duck.Query(t, "SELECT a, n, odd_name, e, hour FROM ("+from+") ORDER BY ts")
	var rows []string
	for _, row := range got {
		text, err := json.Marshal(bare(row))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, string(text))
	}
	want := []string{`{"a":1,"hour":18,"n":1.0}`, `{"a":1.5,"hour":18,"n":2.5}`, `{"a":"high","hour":18}`,
		`{"a":{"k":[true]},"hour":18,"odd_name":"x"}`, `{"e":{},"hour":18}`, `{"hour":18,"odd_name":7}`}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s\n%s", diff, &view)
	}
}

// bare is v without members that are null.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if x == nil {
				delete(v, k)
			} else {
				v[k] = bare(x)
			}
		}
	case []any:
		for i, x := range slices.Clone(v) {
			v[i] = bare(x)
		}
	}
	return v
}
