package lake

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
)

// columnsOf are the columns of a dataset, as weir lake schema prints them.
func columnsOf(t testing.TB, path string) []string {
	t.Helper()
	var b strings.Builder
	if err := catalog.Schema(t.Context(), &b, path, false); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n")[1:] {
		words := strings.Fields(line)
		out = append(out, words[0]+" "+words[1])
	}
	return out
}

// rowsIn are the rows of a dataset without folders.
func rowsIn(t testing.TB, path string) []string {
	t.Helper()
	out := landed(t, path)
	for i := range out {
		_, out[i], _ = strings.Cut(out[i], " ")
	}
	return out
}

// declaring is a dataset whose columns are declared.
func declaring(path, columns, misfits string, types map[string]string) Config {
	return config(path, func(c *Config) {
		c.TimeField, c.PartitionBy, c.Columns, c.Misfits, c.Types = "at", nil, columns, misfits, types
	})
}

const unfit = `{"at":"2026-11-29T10:00:03Z","id":3,"price":"a lot","user":{"name":"c","more":[1]},"new":{"x":1}}`

// TestColumnsAreDeclared: with "add" and "strict" events bring no columns, and what has none is whole in
// the column of the rest, for DuckDB and for SQL, and comes back where it was.
func TestColumnsAreDeclared(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	for _, mode := range []string{"add", "strict"} {
		path := filepath.Join(t.TempDir(), "lake")
		target := opened(t, declaring(path, mode, "column", map[string]string{"id": "int64", "price": "decimal(9,2)", "user.name": "string", "tags[]": "string"}))
		want := []string{"at timestamp", "id int64", "price decimal(9,2)", "tags list", "user object", "user.name string", "_rest json"}
		if diff := cmp.Diff(want, columnsOf(t, path)); diff != "" {
			t.Fatalf("%s: columns before the first event (-want +got):\n%s", mode, diff)
		}
		writes(t, target, batch(`{"at":"2026-11-29T10:00:01Z","id":1,"price":12.5,"user":{"name":"a"},"tags":["x"]}`, `{"at":"2026-11-29T10:00:02Z","id":2,"price":0.1,"tags":[]}`, unfit))
		if diff := cmp.Diff(want, columnsOf(t, path)); diff != "" {
			t.Errorf("%s: columns (-want +got):\n%s", mode, diff)
		}
		if diff := cmp.Diff([]string{`{"at":"2026-11-29T10:00:01Z","id":1,"price":12.50,"tags":["x"],"user":{"name":"a"}}`, `{"at":"2026-11-29T10:00:02Z","id":2,"price":0.10,"tags":[]}`,
			`{"at":"2026-11-29T10:00:03Z","id":3,"user":{"name":"c","more":[1]},"price":"a lot","new":{"x":1}}`}, rowsIn(t, path)); diff != "" {
			t.Errorf("%s: rows (-want +got):\n%s", mode, diff)
		}
		got := duck.Query(t, fmt.Sprintf(`SELECT id, CAST(price AS VARCHAR) AS price, _rest->'price' AS other, _rest->'user'->'more' AS more FROM read_parquet('%s/*.parquet') ORDER BY id`, path))
		if diff := cmp.Diff("[map[id:1 more:<nil> other:<nil> price:12.50] map[id:2 more:<nil> other:<nil> price:0.10] map[id:3 more:[1] other:a lot price:<nil>]]", fmt.Sprint(got)); diff != "" {
			t.Errorf("%s: DuckDB (-want +got):\n%s", mode, diff)
		}
		if err := target.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		more, err := New(connector.Deps{}, declaring(path, mode, "column", map[string]string{"new.x": "int64"}))
		if err != nil {
			t.Fatal(err)
		}
		switch err = more.Open(t.Context()); {
		case mode == "strict" && (fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "new.x")):
			t.Errorf("strict: another column: %v", err)
		case mode == "add" && err != nil:
			t.Error(err)
		case mode == "add":
			writes(t, more, batch(unfit))
			if all := columnsOf(t, path); !slices.Contains(all, "new.x int64") {
				t.Errorf("columns %v", all)
			}
		}
		if err := more.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestMisfitsAreInvalid: they fail whole, and alone.
func TestMisfitsAreInvalid(t *testing.T) {
	t.Parallel()
	for _, columns := range []string{"infer", "add", "strict"} {
		path := filepath.Join(t.TempDir(), "lake")
		target := opened(t, declaring(path, columns, "invalid", map[string]string{"id": "int64", "price": "decimal(9,2)"}))
		err := target.Write(t.Context(), batch(`{"at":"2026-11-29T10:00:01Z","id":1,"price":1}`, `{"at":"2026-11-29T10:00:02Z","id":2,"price":1.001}`, `{"at":"2026-11-29T10:00:03Z","id":3,"new":[]}`))
		var p *connector.Partial
		if !errors.As(err, &p) {
			t.Fatal(columns, err)
		}
		want := map[int]bool{1: true, 2: columns != "infer"} // a list without a type waits for one there
		for i := range 3 {
			if failed := p.Failed[i]; (failed != nil) != want[i] || failed != nil && fault.Of(failed) != fault.Invalid {
				t.Errorf("%s: event %d: %v", columns, i, failed)
			}
		}
	}
}

// TestTheMostDecideWhatIsInvalid: one value that comes first takes no column from the others.
func TestTheMostDecideWhatIsInvalid(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	target := opened(t, config(path, func(c *Config) { c.PartitionBy, c.Misfits = nil, "invalid" }))
	err := target.Write(t.Context(), batch(`{"a":"x"}`, `{"a":1}`, `{"a":2}`, `no JSON`))
	var p *connector.Partial
	if !errors.As(err, &p) || len(p.Failed) != 2 || p.Failed[0] == nil || p.Failed[3] == nil {
		t.Errorf("failed: %v", err)
	}
	if diff := cmp.Diff([]string{`{"a":1}`, `{"a":2}`}, rowsIn(t, path)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestListsThatWait: one that is empty before its type is known is in its column when the same write
// tells the type, and otherwise in that of the rest.
func TestListsThatWait(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	target := opened(t, config(path, func(c *Config) { c.PartitionBy = nil }))
	events := []string{`{"a":1,"tags":[],"items":[{"sku":1,"parts":[]}]}`, `{"a":2,"tags":["x"],"items":[{"sku":2,"parts":[{"n":1}]}]}`}
	writes(t, target, batch(events...))
	want := []string{"a int64", "tags list", "items list", "items[].sku int64", "items[].parts list", "items[].parts[].n int64"}
	if diff := cmp.Diff(want, columnsOf(t, path)); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	writes(t, target, batch(`{"a":3,"late":[]}`))
	version := target.dataset.Schema().Version
	writes(t, target, batch(`{"a":4,"late":[]}`))
	if now := target.dataset.Schema().Version; now != version {
		t.Errorf("the schema went from version %d to %d for nothing", version, now)
	}
	writes(t, target, batch(`{"a":5,"late":[7]}`, `{"a":6,"late":[]}`))
	if diff := cmp.Diff(append(want, "late list", "_rest json"), columnsOf(t, path)); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	got := rowsIn(t, path)
	slices.Sort(got)
	if diff := cmp.Diff(append(events, `{"a":3,"late":[]}`, `{"a":4,"late":[]}`, `{"a":5,"late":[7]}`, `{"a":6,"late":[]}`), got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestTypesOfATable: a table has every type that is declared, with bounds that filters go by.
func TestTypesOfATable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	target := opened(t, tabled(path, func(c *Config) {
		c.Types = map[string]string{"small": "decimal(5,2)", "middle": "decimal(18,6)", "large": "decimal(30,10)", "uid": "uuid", "born": "date", "local": "timestamp_local", "ms": "timestamp_ms", "list[]": "decimal(20,1)"}
		c.Columns = "strict"
	}))
	at := func(i int, more string) string {
		return fmt.Sprintf(`{"at":"2026-11-29T10:%02d:00Z"%s}`, i, more)
	}
	writes(t, target, batch(at(1, `,"small":-1.25,"middle":123456789012.000001,"large":-12345678901234567890.0123456789,"uid":"123e4567-e89b-12d3-a456-426614174000","born":"2026-11-29","local":"2026-11-29T01:02:03.5","ms":1712513462001,"list":[1.5,null]`)))
	writes(t, target, batch(at(2, `,"small":200,"middle":-1,"large":5,"uid":"00000000-0000-0000-0000-000000000001","born":"1969-12-31","local":"0001-01-01 00:00:00","ms":-1,"list":[],"else":1`)))
	types := table(t, path, "").Types
	want := map[string]string{"at": "timestamptz", "small": "decimal(5, 2)", "middle": "decimal(18, 6)", "large": "decimal(30, 10)", "uid": "uuid", "born": "date", "local": "timestamp", "ms": "timestamptz", "_rest": "string"}
	for name, typ := range want {
		if types[name] != typ {
			t.Errorf("column %s is of type %s, want %s", name, types[name], typ)
		}
	}
	for filter, row := range map[string]string{
		"small < 0":                     "small:-1.25",
		"middle > 1":                    "middle:123456789012.000001",
		"large < 0":                     "large:-12345678901234567890.0123456789",
		"born > '2000-01-01'":           "born:2026-11-29",
		"local < '1000-01-01T00:00:00'": "local:0001-01-01T00:00:00",
		"uid = '00000000-0000-0000-0000-000000000001'": "uid:00000000-0000-0000-0000-000000000001",
	} {
		found := table(t, path, filter)
		if len(found.Rows) != 1 || found.Files != 1 || !strings.Contains(fmt.Sprint(found.Rows[0]), row) {
			t.Errorf("%s: %v of %d files, want %s", filter, found.Rows, found.Files, row)
		}
	}
}

// TestColumnsAreValidated finds what contradicts itself before anything starts.
func TestColumnsAreValidated(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		change func(*Config)
		field  string
	}{
		{func(c *Config) { c.Columns = "open" }, "columns"},
		{func(c *Config) { c.Misfits = "drop" }, "misfits"},
		{func(c *Config) { c.Columns = "strict" }, "columns"},
		{func(c *Config) { c.Columns, c.TimeField = "strict", "at" }, ""},
		{func(c *Config) { c.Columns, c.TimeField, c.TimeFormat = "add", "at", "epoch_ns" }, "time_field"},
		{func(c *Config) { c.Columns, c.TimeField, c.DedupField = "add", "at", "id" }, "dedup_field"},
		{func(c *Config) { c.Columns, c.Types = "add", map[string]string{"a": "string", "a.b": "string"} }, "types"},
		{func(c *Config) { c.Types = map[string]string{"a": "decimal(40,2)"} }, "types"},
		{func(c *Config) { c.TimeField, c.Types = "at", map[string]string{"at": "uuid"} }, "time_field"},
		{func(c *Config) { c.DedupField, c.Types = "id", map[string]string{"id": "uuid"} }, ""},
	} {
		ps := config("x", row.change).Validate()
		found := slices.ContainsFunc(ps, func(p connector.Problem) bool { return p.Field == row.field && p.Fix != "" })
		if found != (row.field != "") || row.field == "" && len(ps) > 0 {
			t.Errorf("want a problem of %q, got %+v", row.field, ps)
		}
	}
}

// TestDedupByUUID: one and the same, however it is spelt, and in files of earlier writers.
func TestDedupByUUID(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	c := config(path, func(c *Config) { c.PartitionBy, c.DedupField, c.Types = nil, "id", map[string]string{"id": "uuid"} })
	target := opened(t, c)
	writes(t, target, batch(`{"id":"123e4567-e89b-12d3-a456-42661417400a"}`, `{"id":"123E4567-E89B-12D3-A456-42661417400A"}`))
	writes(t, target, batch(`{"id":"123e4567-e89b-12d3-a456-42661417400A"}`, `{"id":"223e4567-e89b-12d3-a456-42661417400a"}`))
	if got := rowsIn(t, path); len(got) != 2 {
		t.Errorf("landed %v", got)
	}
}
