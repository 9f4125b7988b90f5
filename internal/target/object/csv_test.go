package object_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/target/object"
)

func separated(change func(*object.CSV)) func(*object.Config) {
	return func(c *object.Config) {
		c.CSV = &object.CSV{}
		c.CSV.SetDefaults()
		c.CSV.Columns = []string{"id", "shop.name", "note"}
		if change != nil {
			change(c.CSV)
		}
		c.Name = "!{unique}!{extension}"
	}
}

// only is the content of the only object.
func only(t *testing.T, dir string) string {
	t.Helper()
	all := objects(t, dir)
	if len(all) != 1 {
		t.Fatalf("there are %d objects", len(all))
	}
	for name, text := range all {
		if !strings.HasSuffix(name, ".csv") {
			t.Errorf("it is called %s", name)
		}
		return text
	}
	return ""
}

// TestCSV: the lines of objects.
func TestCSV(t *testing.T) {
	t.Parallel()
	const first, second = `{"id":1,"shop":{"name":"a, \"b\""},"note":"two\nlines"}`, `{"note":"","id":-1.50e3,"shop":{"name":null,"more":[1]}}`
	const third = `{"id":true,"note":{"a": [1, "x"]},"shop":{"name":" x"}}`
	for name, row := range map[string]struct {
		change func(*object.Config)
		want   string
	}{
		"as it comes": {separated(nil), "id,shop.name,note\n1,\"a, \"\"b\"\"\",\"two\nlines\"\n-1.50e3,,\"\"\ntrue,\" x\",\"{\"\"a\"\":[1,\"\"x\"\"]}\"\n"},
		"otherwise": {func(c *object.Config) {
			separated(func(v *object.CSV) { v.Header, v.Separator, v.Quote, v.Null = false, ";", "all", `\N` })(c)
			end := "\r\n"
			c.Delimiter = &end
		}, "\"1\";\"a, \"\"b\"\"\";\"two\nlines\"\r\n\"-1.50e3\";\\N;\"\"\r\n\"true\";\" x\";\"{\"\"a\"\":[1,\"\"x\"\"]}\"\r\n"},
	} {
		dir := t.TempDir()
		target := opened(t, dir, row.change)
		failed := write(t, target, at(1, first), at(2, "[1]"), at(3, second), at(4, `{"id":`), at(5, third))
		if len(failed) != 2 || failed[1] == nil || failed[3] == nil {
			t.Errorf("%s: %v", name, failed)
		}
		if got := only(t, dir); got != row.want {
			t.Errorf("%s:\n%q, want\n%q", name, got, row.want)
		}
	}
	dir := t.TempDir()
	target := opened(t, dir, separated(func(v *object.CSV) { v.UnknownKeys = "invalid" }))
	if failed := write(t, target, at(1, `{"id":1}`), at(2, `{"id":2,"else":0}`)); len(failed) != 1 || failed[1] == nil {
		t.Errorf("unknown keys: %v", failed)
	}
}

// TestCSVComesBack: whatever texts are, a reader of CSV has them as they were, and tells an empty one from
// one that is not there.
func TestCSVComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := opened(t, dir, func(c *object.Config) {
		separated(nil)(c)
		c.Name = "!{unique}.csv"
	})
	n, outer := 0, t
	rapid.Check(t, func(t *rapid.T) {
		n++
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"", " ", "a", `"`, `""`, ",", "\n", "a\r\n,\"b\"", "ä;\t", "NULL", "\\N", "x y "}), 3, 3).Draw(t, "texts")
		payload, err := json.Marshal(map[string]any{"id": texts[0], "shop": map[string]string{"name": texts[1]}, "note": texts[2]})
		if err != nil {
			t.Fatal(err)
		}
		if err := target.Write(t.Context(), event.Batch{at(n, string(payload))}); err != nil {
			t.Fatal(err)
		}
		var read []string // the reader of the standard library makes one character of a line end within a value
		for _, text := range texts {
			read = append(read, strings.ReplaceAll(text, "\r\n", "\n"))
		}
		for name, text := range objects(outer, dir) {
			if err := os.Remove(filepath.Join(dir, "out", name)); err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
			if err != nil || len(rows) != 2 || !slices.Equal(rows[1], read) {
				t.Fatalf("%q became %q, which is read as %q: %v", texts, text, rows, err)
			}
			return
		}
		t.Fatal("nothing was written")
	})
}

// TestCSVByDuckDB: DuckDB reads what was written.
func TestCSVByDuckDB(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	dir := t.TempDir()
	target := opened(t, dir, func(c *object.Config) {
		separated(nil)(c)
		c.Compression = "gzip"
		c.Name = "!{unique}!{extension}"
	})
	if failed := write(t, target, at(1, `{"id":1,"shop":{"name":"a,\"b\"\n"},"note":""}`), at(2, `{"id":2}`)); len(failed) > 0 {
		t.Fatal(failed)
	}
	got := duck.Query(t, fmt.Sprintf(`SELECT * FROM read_csv('%s', all_varchar = true, allow_quoted_nulls = false) ORDER BY id`, filepath.Join(dir, "out", "*.csv.gz")))
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"id":"1","note":"","shop.name":"a,\"b\"\n"},{"id":"2","note":null,"shop.name":null}]`; string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
}
