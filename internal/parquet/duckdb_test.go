package parquet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/parquet"
)

// TestDuckDBReads compares what DuckDB reads with what was written.
func TestDuckDBReads(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	o := options
	o.Types = map[string]parquet.Type{"ts": {Kind: parquet.Timestamp}}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	path := file(t, d,
		`{"i":-7,"b":true,"d":1.5,"s":"fuchs 🦊","ts":"2024-04-07T18:11:02.5Z","o":{"x":1,"l":[{"k":"a"},{"k":null},null]},"l":[1,null,3],"ll":[[1],[]],"empty":[]}`,
		`{"i":9223372036854775807,"b":false,"d":-0.0,"s":"","o":{"x":2},"l":[]}`,
		`{"s":5}`, `{}`)
	got := duck.Query(t, fmt.Sprintf("SELECT * FROM read_parquet('%s')", path))
	row := func(text string) map[string]any {
		var m map[string]any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{"i", "b", "d", "s", "ts", "o", "l", "ll", "_rest", "s__json"} {
			if _, ok := m[c]; !ok {
				m[c] = nil
			}
		}
		return m
	}
	want := []map[string]any{
		row(`{"i":-7,"b":true,"d":1.5,"s":"fuchs 🦊","ts":"2024-04-07 18:11:02.5+00","o":{"x":1,"l":[{"k":"a"},{"k":null},null]},"l":[1,null,3],"ll":[[1],[]],"_rest":{"empty":[]}}`),
		row(`{"i":9223372036854775807,"b":false,"d":-0.0,"s":"","o":{"x":2,"l":null},"l":[]}`),
		row(`{"s__json":5}`), row(`{}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestDuckDBReadsALargeFile has pages, dictionaries and levels of every length, and filters
// that use the statistics.
func TestDuckDBReadsALargeFile(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	rows := parquet.NewRows()
	const n = 200_000
	sum := 0
	for i := range n {
		e := fmt.Sprintf(`{"i":%d,"id":"id-%d","type":"t%d","o":{"a":%d.25}`, i*7-n, i, i%11, i)
		if i%3 == 0 {
			e += fmt.Sprintf(`,"l":[%d,%d],"flag":%t`, i, i+1, i%2 == 0)
			sum += 2*i + 1
		}
		if err := d.Decode([]byte(e + "}")); err != nil {
			t.Fatal(err)
		}
		rows.Append(d)
	}
	path := save(t, rows, d.Schema())
	got := duck.Query(t, fmt.Sprintf(`SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(i)::BIGINT AS i, sum(list_sum(l))::BIGINT AS l, count(flag) AS flags,
		count(*) FILTER (type = 't3') AS t3, sum(o.a)::DOUBLE AS a, min(id) AS low, max(id) AS high,
		(SELECT count(*) FROM '%[1]s' WHERE i = -200000) AS first, (SELECT count(*) FROM '%[1]s' WHERE id = 'id-199999' AND o.a > 199999) AS last,
		(SELECT count(*) FROM '%[1]s' WHERE i > 1200000) AS beyond FROM '%[1]s'`, path))
	number := func(x int) json.Number { return json.Number(fmt.Sprint(x)) }
	want := []map[string]any{{"n": number(n), "ids": number(n), "i": number(7*n*(n-1)/2 - n*n), "l": number(sum), "flags": number((n + 2) / 3),
		"t3": number((n - 3 + 10) / 11), "a": json.Number("19999950000.0"), "low": "id-0", "high": "id-99999",
		"first": number(1), "last": number(1), "beyond": number(0)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
