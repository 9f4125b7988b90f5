package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/parquet"
)

// python runs a script with an argument.
func python(t testing.TB, interpreter, script string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), interpreter, append([]string{"-c", script}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func crawled(t testing.TB, root string, o CrawlOptions) (all []Crawl) {
	t.Helper()
	if err := CrawlAll(t.Context(), root, o, func(c Crawl) { all = append(all, c) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func headOf(t testing.TB, path string) []string {
	t.Helper()
	var b bytes.Buffer
	if err := Head(t.Context(), &b, path, 1000); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

// columnsOf are the columns of the dataset at path with their types.
func columnsAt(t testing.TB, path string) (out []string) {
	t.Helper()
	s, err := Look(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range typesOf(s.Schema.Fields, "", nil) {
		out = append(out, c.column+" "+c.kind)
	}
	return out
}

const arrowFolder = `
import sys, datetime as dt, decimal, pyarrow as pa, pyarrow.dataset as ds
utc = dt.timezone.utc
t = pa.table({
  "id": pa.array([1, 2, None], pa.int32()),
  "u8": pa.array([1, 255, None], pa.uint8()),
  "u64": pa.array([18446744073709551615, 5, None], pa.uint64()),
  "f": pa.array([0.1, float("nan"), None], pa.float32()),
  "price": pa.array([decimal.Decimal("12.50"), decimal.Decimal("-0.05"), None], pa.decimal128(9, 2)),
  "big": pa.array([decimal.Decimal("12345678901234567890.123456789"), decimal.Decimal("-1"), None], pa.decimal128(38, 9)),
  "day": pa.array([dt.date(2026, 11, 29), dt.date(1969, 12, 31), None]),
  "clock": pa.array([dt.time(10, 0, 1, 5), dt.time(0), None], pa.time64("us")),
  "ms": pa.array([dt.datetime(2026, 11, 29, 10, tzinfo=utc), dt.datetime(1969, 1, 1, tzinfo=utc), None], pa.timestamp("ms", "Europe/Vienna")),
  "ns": pa.array([1764410400123456789, -1, None], pa.timestamp("ns", "UTC")),
  "local": pa.array([dt.datetime(2026, 11, 29, 10, 0, 0, 5), dt.datetime(1969, 1, 1), None], pa.timestamp("us")),
  "raw": pa.array([b"\x00\xff", b"", None]),
  "uuid": pa.array([bytes(range(16)), bytes(16), None], pa.uuid()),
  "tags": pa.array([[("a", 1), ("b", None)], [], None], pa.map_(pa.string(), pa.int64())),
  "codes": pa.array([[(7, "x")], [], None], pa.map_(pa.int32(), pa.string())),
  "l": pa.array([[1, None], [], None], pa.list_(pa.int64())),
  "ll": pa.array([[[1], None, []], [], None], pa.list_(pa.list_(pa.int16()))),
  "s": pa.array([{"x": 1, "y": [{"k": "a"}]}, {"x": None, "y": None}, None], pa.struct([("x", pa.int8()), ("y", pa.list_(pa.struct([("k", pa.string())])))])),
  "nothing": pa.nulls(3),
  "empty": pa.array([[], None, []], pa.list_(pa.null())),
  "odd name.with dots": pa.array(["x", "", None]),
  "dic": pa.array(["x", "x", None]).dictionary_encode(),
  "country": pa.array(["DE", "A T/1", None]),
})
ds.write_dataset(t, sys.argv[1], format="parquet", partitioning=ds.partitioning(pa.schema([("country", pa.string())]), flavor="hive"))
`

// TestCrawlReadsWhatArrowWrites adopts a folder of pyarrow with a column of every type: rows are
// as they were written, and DuckDB's view of it has them all.
func TestCrawlReadsWhatArrowWrites(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "lake")
	path := filepath.Join(root, "things")
	python(t, enginetest.PyIcebergPython(t), arrowFolder, path)
	dry := crawled(t, root, CrawlOptions{Policy: Add, DryRun: true})
	if len(dry) != 1 || !dry[0].New || dry[0].Written || dry[0].Rows != 3 || dry[0].Files != 3 {
		t.Fatalf("the dry run said %+v", dry)
	}
	if _, err := os.Stat(filepath.Join(path, folder)); !os.IsNotExist(err) {
		t.Fatalf("the dry run left %v", err)
	}
	if all := crawled(t, root, CrawlOptions{Policy: Add}); !all[0].Written {
		t.Fatalf("%+v", all)
	}
	if again := crawled(t, root, CrawlOptions{Policy: Add}); again[0].New || again[0].Differs() {
		t.Fatalf("a second crawl found %+v", again)
	}
	want := []string{
		`{"id":2,"u8":255,"u64":5,"f":"NaN","price":-0.05,"big":-1.000000000,"day":"1969-12-31","clock":"00:00:00","ms":"1969-01-01T00:00:00Z","ns":"1969-12-31T23:59:59.999999999Z","local":"1969-01-01T00:00:00","raw":"","uuid":"00000000-0000-0000-0000-000000000000","tags":{},"codes":{},"l":[],"ll":[],"s":{},"odd name.with dots":"","dic":"x"}`,
		`{"id":1,"u8":1,"u64":18446744073709551615,"f":0.1,"price":12.50,"big":12345678901234567890.123456789,"day":"2026-11-29","clock":"10:00:01.000005","ms":"2026-11-29T10:00:00Z","ns":"2025-11-29T10:00:00.123456789Z","local":"2026-11-29T10:00:00.000005","raw":"AP8=","uuid":"00010203-0405-0607-0809-0a0b0c0d0e0f","tags":{"a":1,"b":null},"codes":{"7":"x"},"l":[1,null],"ll":[[1],null,[]],"s":{"x":1,"y":[{"k":"a"}]},"empty":[],"odd name.with dots":"x","dic":"x"}`,
		`{"empty":[]}`,
	}
	if diff := cmp.Diff(want, headOf(t, path)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	var view bytes.Buffer
	if err := View(t.Context(), &view, path, "v", false); err != nil {
		t.Fatal(err)
	}
	got := enginetest.DuckDB(t).Run(t, view.String(), `SELECT country, id, price::VARCHAR AS price, tags['a'] AS a, s.x AS x FROM v ORDER BY id`)
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"a":1,"country":"DE","id":1,"price":"12.50","x":1},{"a":null,"country":"A T/1","id":2,"price":"-0.05","x":null},{"a":null,"country":null,"id":null,"price":null,"x":null}]`; string(text) != want {
		t.Errorf("DuckDB reads %s", text)
	}
}

// firstOf is a row as far as its first member.
func firstOf(row string) string {
	first, _, _ := strings.Cut(row, ",")
	return first
}

// TestCrawlReadsWhatDuckDBWrites adopts what DuckDB writes: partitions by two columns, and JSON lines.
func TestCrawlReadsWhatDuckDBWrites(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	root := t.TempDir()
	duck.Run(t, fmt.Sprintf(`
CREATE TABLE e AS SELECT i AS id, 2026 AS year, i %% 12 + 1 AS month, 'n' || i AS name, TIMESTAMPTZ '2026-11-29 10:00:00Z' + INTERVAL (i) SECOND AS at,
	{'a': i, 'l': [i, i + 1]} AS o, (i * 1.25)::DECIMAL(10, 3) AS price, ('00000000-0000-0000-0000-' || lpad(i::VARCHAR, 12, '0'))::UUID AS u FROM range(1000) t(i);
COPY e TO '%[1]s/e' (FORMAT parquet, PARTITION_BY (year, month));
COPY (SELECT id, name, o FROM e) TO '%[1]s/lines.d' (FORMAT json, PER_THREAD_OUTPUT);`, root), "SELECT 1")
	if all := crawled(t, root, CrawlOptions{Policy: Update}); len(all) != 2 || all[0].Rows != 1000 || all[1].Rows != 1000 || all[0].Format == all[1].Format {
		t.Fatalf("%+v", all)
	}
	rows := headOf(t, filepath.Join(root, "e"))
	slices.SortFunc(rows, func(a, b string) int { return strings.Compare(firstOf(a), firstOf(b)) })
	if want := `{"id":0,"name":"n0","at":"2026-11-29T10:00:00Z","o":{"a":0,"l":[0,1]},"price":0.000,"u":"00000000-0000-0000-0000-000000000000"}`; rows[0] != want {
		t.Errorf("the first row is %s", rows[0])
	}
	var view bytes.Buffer
	for _, name := range []string{"e", "lines.d"} {
		if err := View(t.Context(), &view, filepath.Join(root, name), strings.TrimSuffix(name, ".d"), false); err != nil {
			t.Fatal(err)
		}
	}
	got := duck.Run(t, view.String(), `SELECT count(*) AS n, sum(e.id) = sum(l.id) AS same, sum(e.o.a) = sum(l.o.a) AS deep, min(month) AS low, max(month) AS high FROM e JOIN lines l USING (id)`)
	text, _ := json.Marshal(got)
	if want := `[{"deep":true,"high":12,"low":1,"n":1000,"same":true}]`; string(text) != want {
		t.Errorf("DuckDB reads %s", text)
	}
}

// TestCrawlPolicies changes a folder under a dataset that was adopted: columns come, change and go.
func TestCrawlPolicies(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	for policy, want := range map[Policy]struct {
		columns []string
		applied string
	}{
		Add:    {[]string{"id int64", "amount int64", "old string", "more bool"}, "amount false, more true, old false"},
		Update: {[]string{"id int64", "amount double", "more bool"}, "amount true, more true, old true"},
		Log:    {[]string{"id int64", "amount int64", "old string"}, "amount false, more true, old false"},
	} {
		root := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		duck.Run(t, fmt.Sprintf("COPY (SELECT 1 AS id, 5 AS amount, 'x' AS old) TO '%s/a.parquet';", root), "SELECT 1")
		crawled(t, root, CrawlOptions{Policy: Add})
		duck.Run(t, fmt.Sprintf("COPY (SELECT 2 AS id, 1.5::DOUBLE AS amount, true AS more) TO '%[1]s/b.parquet'; COPY (SELECT 3 AS id, 6 AS amount) TO '%[1]s/a.parquet';", root), "SELECT 1")
		all := crawled(t, root, CrawlOptions{Policy: policy})
		var applied []string
		for _, x := range all[0].Changes {
			applied = append(applied, fmt.Sprintf("%s %t", x.Column, x.Applied))
		}
		if got := strings.Join(applied, ", "); got != want.applied {
			t.Errorf("%s: changes %s, not %s", policy, got, want.applied)
		}
		if diff := cmp.Diff(want.columns, columnsAt(t, root)); diff != "" {
			t.Errorf("%s: columns (-want +got):\n%s", policy, diff)
		}
		if all[0].More != 2 || all[0].Written != (policy != Log) {
			t.Errorf("%s: %+v", policy, all[0])
		}
		if policy == Log {
			continue
		}
		if again := crawled(t, root, CrawlOptions{Policy: policy}); again[0].Differs() {
			t.Errorf("%s: a second crawl found %+v", policy, again[0])
		}
		if diff := cmp.Diff([]string{`{"id":3,"amount":6}`, `{"id":2,"amount":1.5,"more":true}`}, headOf(t, root)); diff != "" {
			t.Errorf("%s: rows (-want +got):\n%s", policy, diff)
		}
	}
}

// TestCrawlJSON adopts JSON lines in every spelling: packed, several objects on a line, folders
// without keys, and what is no object. The types are what most values have.
func TestCrawlJSON(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, `{"id":3,"amount":"high"}{"id":4,"amount":2,"l":[]}`+"\n")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write("2026/11/29/a.json", "\xef\xbb\xbf"+`{"id":1,"amount":1}`+"\r\n\n"+`{"id":2,"amount":1.5,"o":{"k":"v"}}`)
	write("2026/11/30/b.jsonl.gz", packed.String())
	write("2026/11/30/c.ndjson", `[1]`+"\n"+`{"id":5} and more`+"\n{\"id\":6,\"l\":[\"s\"]}\n\xff\xfe")
	write("2026/11/30/README.md", "none")
	write("2026/11/_tmp/d.json", `{"id":99}`)
	all := crawled(t, root, CrawlOptions{Policy: Add})
	if c := all[0]; len(all) != 1 || c.Rows != 9 || c.Malformed != 3 || c.Others != 1 || c.Format != jsonFiles {
		t.Fatalf("%+v", all)
	}
	if diff := cmp.Diff([]Key{{"partition_0", parquet.Int}, {"partition_1", parquet.Int}, {"partition_2", parquet.Int}}, all[0].Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	want := []string{`{"id":1,"amount":1}`, `{"id":2,"amount":1.5,"o":{"k":"v"}}`, `{"id":3,"amount":"high"}`, `{"id":4,"amount":2,"l":[]}`,
		`{"_malformed":"[1]"}`, `{"id":5}`, `{"_malformed":"and more"}`, `{"id":6,"l":["s"]}`, `{"_malformed":"` + "\uFFFD" + `"}`}
	if diff := cmp.Diff(want, headOf(t, root)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	var view bytes.Buffer
	if err := View(t.Context(), &view, root, "v", false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(view.String(), "no JSON object is not in this view") {
		t.Errorf("the view says nothing of what it leaves out: %s", view.String())
	}
}

// TestAdoptedIsNotWrittenTo: nobody else's files are landed in, or compacted.
func TestAdoptedIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "a.json"), []byte(`{"id":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	crawled(t, root, CrawlOptions{Policy: Add})
	_, err := Open(t.Context(), root, Options{Layout: Layout{Year}})
	for _, err := range []error{err, Compact(t.Context(), root, CompactOptions{}), Check(t.Context(), root, Layout{Year}, noStore)} {
		if err == nil || !strings.Contains(err.Error(), "written by others") {
			t.Errorf("error %v", err)
		}
	}
	own := filepath.Join(t.TempDir(), "own")
	d, err := Open(t.Context(), own, Options{Layout: Layout{}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if all := crawled(t, own, CrawlOptions{Policy: Add}); !all[0].Own || all[0].Written {
		t.Errorf("its own dataset: %+v", all)
	}
}

// TestCrawlThatDies ends a crawl after each object that it creates: nothing is adopted before the
// description, and the next one makes it whole.
func TestCrawlThatDies(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("%d.json", i)), fmt.Appendf(nil, `{"id":%d}`, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for allowed := 0; ; allowed++ {
		b, err := openToRead(t.Context(), root, noStore)
		if err != nil {
			t.Fatal(err)
		}
		dying := &dyingBucket{Bucket: b}
		dying.left.Store(int64(allowed))
		c := &crawler{reading: reading{path: root, bucket: dying, about: dataset{Format: formatAlien, PartitionBy: Layout{}}}, result: Crawl{New: true}, known: map[string]bool{}}
		err = c.run(t.Context(), CrawlOptions{Policy: Add})
		_, lookErr := look(t.Context(), root)
		if err == nil {
			if lookErr != nil {
				t.Fatal(lookErr)
			}
			break
		}
		if lookErr == nil {
			t.Fatalf("a crawl that died after %d objects has adopted the folder", allowed)
		}
		if allowed > 50 {
			t.Fatal("it never ends")
		}
	}
	if diff := cmp.Diff([]string{`{"id":0}`, `{"id":1}`, `{"id":2}`}, headOf(t, root)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if all := crawled(t, root, CrawlOptions{Policy: Add}); all[0].Differs() {
		t.Errorf("a second crawl found %+v", all[0])
	}
}

// dyingBucket creates so many objects, and none after that.
type dyingBucket struct {
	blob.Bucket
	left atomic.Int64
}

func (b *dyingBucket) Create(ctx context.Context, name string, data []byte) (blob.Version, error) {
	if b.left.Add(-1) < 0 {
		return "", errors.New("dead")
	}
	return b.Bucket.Create(ctx, name, data)
}
