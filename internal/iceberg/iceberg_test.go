package iceberg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/directory"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/iceberg/sqlcatalog"
	"github.com/weirdata/weir/internal/parquet"
)

// lake is a folder with data files, and a table of them.
type lake struct {
	t       testing.TB
	dir     string
	bucket  blob.Bucket
	catalog iceberg.Pointer
	table   *iceberg.Table
	schema  *parquet.Schema
	options parquet.Options
	files   int
}

var name = iceberg.Name{"lake", "events"}

func newLake(t testing.TB, o iceberg.Options) *lake {
	t.Helper()
	return lakeIn(t, t.TempDir(), o)
}

func lakeIn(t testing.TB, dir string, o iceberg.Options) *lake {
	t.Helper()
	return lakeWith(t, dir, sqlite(t, dir), o)
}

func sqlite(t testing.TB, dir string) iceberg.Pointer {
	t.Helper()
	c, err := sqlcatalog.SQLite(t.Context(), filepath.Join(dir, "catalog.db"), "weir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func lakeWith(t testing.TB, dir string, c iceberg.Pointer, o iceberg.Options) *lake {
	t.Helper()
	l := lakeOf(t, dir, iceberg.Pointing(c), o)
	l.catalog = c
	return l
}

// lakeOf is one whose table is in any catalog.
func lakeOf(t testing.TB, dir string, c iceberg.Catalog, o iceberg.Options) *lake {
	t.Helper()
	b, err := directory.Make(filepath.Join(dir, "events"), directory.Options{Staging: "_weir/staging"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	l := &lake{t: t, dir: dir, bucket: b, schema: &parquet.Schema{},
		options: parquet.Options{MaxDepth: 10, MaxColumns: 100, Expected: map[string]parquet.Kind{"at": parquet.Timestamp}}}
	if o.Name == nil {
		o.Name = name
	}
	o.Address = "file://" + filepath.ToSlash(filepath.Join(dir, "events"))
	if l.table, err = iceberg.New(c, b, o); err != nil {
		t.Fatal(err)
	}
	return l
}

// rows decodes events, whose new fields become columns.
func (l *lake) rows(events ...string) *parquet.Rows {
	l.t.Helper()
	d := parquet.NewDecoder(l.schema, l.options)
	r := parquet.NewRows()
	for _, e := range events {
		if err := d.Decode([]byte(e)); err != nil {
			l.t.Fatal(err)
		}
		r.Append(d)
	}
	if d.Changed() {
		l.schema = d.Schema()
	}
	return r
}

// file writes events to a data file.
func (l *lake) file(events ...string) iceberg.File {
	l.t.Helper()
	r := l.rows(events...)
	ids, err := l.table.Columns(l.t.Context(), l.schema)
	if err != nil {
		l.t.Fatal(err)
	}
	var buf bytes.Buffer
	said, err := r.WriteTable(&buf, l.schema, ids)
	if err != nil {
		l.t.Fatal(err)
	}
	l.files++
	f := iceberg.File{Name: fmt.Sprintf("events-%06d.parquet", l.files), Size: int64(buf.Len()), Summary: said}
	if _, err := l.bucket.Create(l.t.Context(), f.Name, buf.Bytes()); err != nil {
		l.t.Fatal(err)
	}
	return f
}

func (l *lake) append(n uint64, files ...iceberg.File) {
	l.t.Helper()
	if err := l.table.Append(l.t.Context(), []iceberg.Commit{{Number: n, Files: files}}, true, positions(n)); err != nil {
		l.t.Fatal(err)
	}
}

func positions(n uint64) func(string) string {
	return func(string) string { return fmt.Sprintf("[%d]", n) }
}

func (l *lake) read(filter string) enginetest.PyTable {
	l.t.Helper()
	return enginetest.PyIcebergWith(l.t, map[string]string{"type": "sql", "uri": "sqlite:///" + filepath.Join(l.dir, "catalog.db")}).Read(l.t, name.String(), filter)
}

func event(id int, at time.Time, more string) string {
	return fmt.Sprintf(`{"id":"e%d","at":%q%s}`, id, at.Format(time.RFC3339Nano), more)
}

var noon = time.Date(2026, 4, 7, 12, 0, 0, 0, time.UTC)

func TestPyIcebergReadsWhatWasAppended(t *testing.T) {
	l := newLake(t, iceberg.Options{Unit: "hour", Time: "at"})
	first := l.file(event(1, noon, `,"n":1,"f":1.5,"ok":true,"o":{"x":"a","deep":{"y":2}},"tags":["p","q"]`), event(2, noon.Add(time.Minute), ""))
	second := l.file(event(3, noon.Add(time.Hour), `,"items":[{"price":3,"parts":[["u"]]}],"new":7`))
	early := l.file(event(4, time.Date(1969, 12, 31, 23, 59, 59, 1000, time.UTC), ""))
	l.append(1, first)
	l.append(2, second, early)
	all := l.read("")
	if len(all.Rows) != 4 || all.Files != 3 {
		t.Fatalf("PyIceberg finds %d rows in %d files: %v", len(all.Rows), all.Files, all.Rows)
	}
	want := map[string]string{
		"id": "string", "at": "timestamptz", "n": "long", "f": "double", "ok": "boolean", "tags": "list<string>", "new": "long",
	}
	for column, typ := range want {
		if all.Types[column] != typ {
			t.Errorf("column %s is %q, not %q", column, all.Types[column], typ)
		}
	}
	byID := map[any]map[string]any{}
	for _, r := range all.Rows {
		byID[r["id"]] = r
	}
	for _, c := range []struct{ id, column, want string }{
		{"e1", "at", "2026-04-07T12:00:00+00:00"}, {"e1", "n", "1"}, {"e1", "f", "1.5"}, {"e1", "tags", "[p q]"},
		{"e1", "o", "map[deep:map[y:2] x:a]"}, {"e3", "items", "[map[parts:[[u]] price:3]]"}, {"e3", "new", "7"}, {"e4", "at", "1969-12-31T23:59:59.000001+00:00"},
		{"e2", "n", "<nil>"},
	} {
		if have := fmt.Sprint(byID[c.id][c.column]); have != c.want {
			t.Errorf("%s of %s is %s, not %s", c.column, c.id, have, c.want)
		}
	}
	if len(all.Partitions) != 1 || !strings.Contains(all.Partitions[0], "hour") || !strings.Contains(all.Partitions[0], "1000") {
		t.Errorf("it is partitioned by %v", all.Partitions)
	}
	for where, p := range map[string]map[string]string{"properties": all.Properties, "summary": all.Summary} {
		if p["weir.commit"] != "2" || p["weir.positions"] != "[2]" {
			t.Errorf("the %s are %v", where, p)
		}
	}
	hour := l.read("at >= '2026-04-07T13:00:00+00:00' and at < '2026-04-07T14:00:00+00:00'")
	if len(hour.Rows) != 1 || hour.Files != 1 {
		t.Errorf("one hour is %d rows of %d files", len(hour.Rows), hour.Files)
	}
	bounds := l.read("n > 5")
	if len(bounds.Rows) != 0 || bounds.Files > 1 {
		t.Errorf("a filter by bounds leaves %d rows of %d files", len(bounds.Rows), bounds.Files)
	}
}

func TestEveryUnitIsAPartition(t *testing.T) {
	for unit, first := range map[string]time.Time{
		"year": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "month": time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC),
		"day": time.Date(2026, 4, 7, 0, 0, 0, 0, time.UTC), "hour": noon,
	} {
		t.Run(unit, func(t *testing.T) {
			l := newLake(t, iceberg.Options{Unit: unit, Time: "at"})
			l.append(1, l.file(event(1, first.Add(-time.Microsecond), "")), l.file(event(2, first, ""), event(3, noon.Add(59*time.Minute), "")))
			got := l.read(fmt.Sprintf("at >= '%s'", first.Format("2006-01-02T15:04:05-07:00")))
			if len(got.Rows) != 2 || got.Files != 1 {
				t.Errorf("%d rows of %d files", len(got.Rows), got.Files)
			}
			spans := l.file(event(4, first.Add(-time.Microsecond), ""), event(5, first, ""))
			err := l.table.Append(t.Context(), []iceberg.Commit{{Number: 2, Files: []iceberg.File{spans}}}, false, positions(2))
			if err == nil || !strings.Contains(err.Error(), spans.Name) {
				t.Errorf("a file with two values of %s gives %v", unit, err)
			}
		})
	}
}

func TestNothingIsAppendedTwice(t *testing.T) {
	l := newLake(t, iceberg.Options{})
	a, b, c := l.file(event(1, noon, "")), l.file(event(2, noon, "")), l.file(event(3, noon, ""))
	l.append(4, a)
	l.append(4, a)
	all := []iceberg.Commit{{Number: 4, Files: []iceberg.File{a}}, {Number: 7, Files: []iceberg.File{b}}, {Number: 9}, {Number: 12, Files: []iceberg.File{c}}}
	for range 2 {
		if err := l.table.Append(t.Context(), all, false, positions(12)); err != nil {
			t.Fatal(err)
		}
	}
	if n, known, err := l.table.Through(t.Context()); n != 12 || !known || err != nil {
		t.Errorf("it goes through %d, %v, %v", n, known, err)
	}
	if got := l.read(""); len(got.Rows) != 3 || got.Snapshots != 2 {
		t.Errorf("%d rows in %d snapshots", len(got.Rows), got.Snapshots)
	}
}

func TestColumnsThatCannotChangeAreRefusedByName(t *testing.T) {
	dir := t.TempDir()
	l := lakeIn(t, dir, iceberg.Options{})
	l.append(1, l.file(event(1, noon, `,"n":1,"o":{"x":[1]}`)))
	for field, want := range map[string]string{`,"n":1.5`: `"n"`, `,"n":"text"`: `"n"`, `,"o":{"x":["text"]}`: `"o.x.element"`, `,"o":"text"`: `"o"`} {
		other := lakeIn(t, dir, iceberg.Options{})
		other.rows(event(1, noon, field))
		_, err := other.table.Columns(t.Context(), other.schema)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "lake.events") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestTableOfAnotherDatasetOrPartitioningIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := lakeIn(t, dir, iceberg.Options{Unit: "hour", Time: "at"})
	l.append(1, l.file(event(1, noon, "")))
	b, err := directory.Make(filepath.Join(dir, "other"), directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := iceberg.New(iceberg.Pointing(l.catalog), b, iceberg.Options{Name: name, Address: "file://" + filepath.Join(dir, "other"), Unit: "hour", Time: "at"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Through(t.Context()); err == nil || !strings.Contains(err.Error(), "file://"+filepath.Join(dir, "events")) {
		t.Errorf("another dataset: %v", err)
	}
	day := lakeIn(t, dir, iceberg.Options{Unit: "day", Time: "at"})
	if _, _, err := day.table.Through(t.Context()); err == nil || !strings.Contains(err.Error(), "hour") {
		t.Errorf("another partitioning: %v", err)
	}
	number := newLake(t, iceberg.Options{Unit: "hour", Time: "n"})
	number.rows(event(1, noon, `,"n":5`))
	if _, err := number.table.Columns(t.Context(), number.schema); err == nil || !strings.Contains(err.Error(), "timestamp") {
		t.Errorf("partitions by a number: %v", err)
	}
}

func TestFilesWithoutIDsAreReadByName(t *testing.T) {
	l := newLake(t, iceberg.Options{})
	old := l.rows(event(1, noon, `,"o":{"x":1},"tags":["a"]`))
	var buf bytes.Buffer
	if err := old.Write(&buf, l.schema, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.bucket.Create(t.Context(), "old.parquet", buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	said, err := parquet.ReadSummary(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	fresh := l.file(event(2, noon, `,"o":{"y":2}`))
	l.append(1, iceberg.File{Name: "old.parquet", Size: int64(buf.Len()), Summary: said}, fresh)
	got := map[any]string{}
	for _, r := range l.read("").Rows {
		got[r["id"]] = fmt.Sprint(r["o"], r["tags"])
	}
	if got["e1"] != "map[x:1 y:<nil>] [a]" || got["e2"] != "map[x:<nil> y:2] <nil>" {
		t.Errorf("read as %v", got)
	}
}

func TestEventsWithoutFieldsAreRows(t *testing.T) {
	l := newLake(t, iceberg.Options{})
	l.append(1, l.file(`{}`, `{}`))
	l.append(2, l.file(event(1, noon, "")))
	if got := l.read(""); len(got.Rows) != 3 {
		t.Errorf("%d rows: %v", len(got.Rows), got.Rows)
	}
}

func TestNames(t *testing.T) {
	for text, ok := range map[string]bool{"lake.events": true, "a.b.c": true, "events": false, "": false, ".x": false, "a..b": false, "a.b ": false, "a.b/c": false, `a."b"`: false} {
		if _, err := iceberg.ParseName(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := iceberg.New(nil, nil, iceberg.Options{Name: name, Address: "file:///lake#1"}); err == nil {
		t.Error("an address with # is taken")
	}
}

// faulty loses answers and lets others be first.
type faulty struct {
	iceberg.Pointer
	before func() // a swap
	lose   func() bool
}

var errLost = errors.New("the answer was lost")

func (f *faulty) Swap(ctx context.Context, n iceberg.Name, seen iceberg.Ref, e iceberg.Entry) error {
	if f.before != nil {
		f.before()
	}
	err := f.Pointer.Swap(ctx, n, seen, e)
	if f.lose != nil && f.lose() {
		return errLost
	}
	return err
}
