package catalog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pq "github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

var hourly = catalog.Options{Layout: catalog.Units(), MaxIDs: 1000}

func openDataset(t testing.TB, path string, o catalog.Options) *catalog.Dataset {
	t.Helper()
	d, err := catalog.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// filled is a file with the events.
func filled(t testing.TB, d *catalog.Dataset, partition, name string, events ...string) catalog.File {
	t.Helper()
	schema := d.Schema()
	dec := parquet.NewDecoder(schema, parquet.Options{MaxDepth: 10, MaxColumns: 100})
	rows := parquet.NewRows()
	var ids []catalog.ID
	for _, e := range events {
		if err := dec.Decode([]byte(e)); err != nil {
			t.Fatal(err)
		}
		rows.Append(dec)
		ids = append(ids, catalog.Fingerprint('s', []byte(e)))
	}
	if dec.Changed() {
		if err := d.Evolve(t.Context(), schema, dec.Schema()); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2024, 4, 7, 18, 0, 0, 0, time.UTC)
	return catalog.File{Partition: partition, Name: name, IDs: ids,
		Record: catalog.Record{Rows: int64(len(events)), Schema: d.Schema().Version, First: at, Last: at.Add(time.Minute)},
		Write:  func(w io.Writer) error { return rows.Write(w, d.Schema(), nil) }}
}

func commit(t testing.TB, d *catalog.Dataset, f catalog.File) bool {
	t.Helper()
	fresh, err := d.Commit(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return fresh
}

func rowsOf(t testing.TB, path string) []string {
	t.Helper()
	var out []string
	if err := catalog.Rows(t.Context(), path, func(partition string, row []byte) error {
		out = append(out, partition+" "+string(row))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "lake")
	d := openDataset(t, path, hourly)
	const p = "year=2024/month=04/day=07/hour=18"
	if !commit(t, d, filled(t, d, p, "one", `{"a":1}`, `{"a":2}`)) {
		t.Error("the first commit is not fresh")
	}
	if commit(t, d, filled(t, d, p, "one", `{"a":1}`, `{"a":2}`)) {
		t.Error("a commit of the same name is fresh")
	}
	commit(t, d, filled(t, d, "year=2024/month=04/day=07/hour=19", "two", `{"a":3,"b":"x"}`))
	want := []string{p + ` {"a":1}`, p + ` {"a":2}`, `year=2024/month=04/day=07/hour=19 {"a":3,"b":"x"}`}
	if diff := cmp.Diff(want, rowsOf(t, path)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(filepath.Join(path, "_weir", "staging")); err != nil || len(left) > 0 {
		t.Errorf("staging holds %v, %v", left, err)
	}
	versions, err := catalog.Versions(t.Context(), path)
	if diff := cmp.Diff([]int{1, 2}, versions); diff != "" || err != nil {
		t.Errorf("versions (-want +got): %v\n%s", err, diff)
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, hourly)
	f := filled(t, d, "year=2024", "bad", `{"a":1}`)
	broken := errors.New("disk is broken")
	f.Write = func(w io.Writer) error {
		if _, err := w.Write([]byte("PAR1")); err != nil {
			return err
		}
		return broken
	}
	if _, err := d.Commit(t.Context(), f); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if got := rowsOf(t, path); len(got) > 0 {
		t.Errorf("rows %v", got)
	}
}

func TestSeen(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	a, b, c := catalog.Fingerprint('s', []byte(`{"a":1}`)), catalog.Fingerprint('s', []byte(`{"a":2}`)), catalog.Fingerprint('n', []byte(`{"a":1}`))
	check := func(d *catalog.Dataset) {
		t.Helper()
		done, err := d.Exclusive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		s, err := d.Seen(t.Context(), "year=2024")
		if err != nil {
			t.Fatal(err)
		}
		if !s.Has(a) || s.Has(b) || s.Has(c) || s.Unknown != 0 || s.Partial {
			t.Errorf("a %t, b %t, c %t, %+v", s.Has(a), s.Has(b), s.Has(c), s)
		}
		d.Trim()
	}
	d := openDataset(t, path, hourly)
	commit(t, d, filled(t, d, "year=2024", "one", `{"a":1}`))
	commit(t, d, filled(t, d, "year=2025", "two", `{"a":2}`))
	check(d)
	check(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	check(openDataset(t, path, hourly))
}

// TestSeenIsBounded keeps fewer ids than there are: of the newest files, and of the
// partitions used last.
func TestSeenIsBounded(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, catalog.Options{Layout: catalog.Units(), MaxIDs: 2})
	for i := range 4 {
		commit(t, d, filled(t, d, "year=2024", fmt.Sprint("f", i), fmt.Sprintf(`{"a":%d}`, i)))
		rec := filepath.Join(path, "_weir", "files", "year=2024", fmt.Sprintf("f%d.rec", i))
		at := time.Now().Add(time.Duration(i-10) * time.Minute)
		if err := os.Chtimes(rec, at, at); err != nil {
			t.Fatal(err)
		}
	}
	s, err := d.Seen(t.Context(), "year=2024")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if got := s.Has(catalog.Fingerprint('s', fmt.Appendf(nil, `{"a":%d}`, i))); got != (i >= 2) {
			t.Errorf("file %d is known: %t", i, got)
		}
	}
	if !s.Partial {
		t.Error("nobody says that the ids are not all")
	}
}

// TestSeenForgetsTheOldest adds to a partition more than may be kept: the newest stay, and
// nothing is read again.
func TestSeenForgetsTheOldest(t *testing.T) {
	t.Parallel()
	const limit = 10
	d := openDataset(t, t.TempDir(), catalog.Options{Layout: catalog.Units(), MaxIDs: limit})
	id := func(i int) catalog.ID { return catalog.Fingerprint('n', fmt.Append(nil, i)) }
	first, err := d.Seen(t.Context(), "year=2024")
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 100; n += 3 {
		first.Add([]catalog.ID{id(n), id(n + 1), id(n + 2)})
		d.Trim()
		s, err := d.Seen(t.Context(), "year=2024")
		if err != nil || s != first {
			t.Fatalf("after %d ids the partition was forgotten: %v", n+3, err)
		}
		for i := range n + 3 {
			if age := n + 2 - i; age < limit/2 && !s.Has(id(i)) || age >= limit && s.Has(id(i)) {
				t.Errorf("after %d ids: id %d is known: %t", n+3, i, s.Has(id(i)))
			}
		}
		if s.Len() > limit || s.Partial != (n+3 > limit) {
			t.Errorf("after %d ids: %d are known, partial %t", n+3, s.Len(), s.Partial)
		}
	}
}

func TestDamagedRecordIsAnError(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, hourly)
	commit(t, d, filled(t, d, "year=2024", "one", `{"a":1}`))
	rec := filepath.Join(path, "_weir", "files", "year=2024", "one.rec")
	text, err := os.ReadFile(rec)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(rec, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Seen(t.Context(), "year=2024"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("error %v", err)
	}
	if err := os.Remove(rec); err != nil { // as the error says
		t.Fatal(err)
	}
	if s, err := d.Seen(t.Context(), "year=2024"); err != nil || s.Unknown != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := catalog.Describe(t.Context(), path); err != nil || s.Rows != 1 {
		t.Errorf("without the record: %+v, %v", s, err)
	}
}

func TestEvolveIsOrdered(t *testing.T) {
	t.Parallel()
	d := openDataset(t, t.TempDir(), hourly)
	base := d.Schema()
	grown := func(e string) *parquet.Schema {
		dec := parquet.NewDecoder(base, parquet.Options{MaxDepth: 10, MaxColumns: 10})
		if err := dec.Decode([]byte(e)); err != nil {
			t.Fatal(err)
		}
		return dec.Schema()
	}
	if err := d.Evolve(t.Context(), base, grown(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := d.Evolve(t.Context(), base, grown(`{"a":"x"}`)); !errors.Is(err, catalog.ErrStale) {
		t.Errorf("a schema made from an old one: %v", err)
	}
	if d.Schema().Version != 1 {
		t.Errorf("version %d", d.Schema().Version)
	}
}

// TestEvolveTakesWhatIsThere: a version of the schema was written by a try that was not told
// so, or by somebody else; it is never replaced, files may have it already.
func TestEvolveTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, hourly)
	base := d.Schema()
	grown := func(on *parquet.Schema, e string) *parquet.Schema {
		dec := parquet.NewDecoder(on, parquet.Options{MaxDepth: 10, MaxColumns: 10})
		if err := dec.Decode([]byte(e)); err != nil {
			t.Fatal(err)
		}
		return dec.Schema()
	}
	text, err := json.Marshal(grown(base, `{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "_weir", "schema"), 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(path, "_weir", "schema", "00000001.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Evolve(t.Context(), base, grown(base, `{"b":"x"}`)); !errors.Is(err, catalog.ErrStale) {
		t.Errorf("a version that is there: %v", err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, text) {
		t.Errorf("it was replaced by %s, %v", got, err)
	}
	now := d.Schema()
	if now.Version != 1 || len(now.Fields) != 1 || now.Fields[0].Key != "a" {
		t.Fatalf("the schema is %+v", now)
	}
	next := grown(now, `{"b":"x"}`)
	for range 2 { // the second as if the answer to the first was lost
		if err := d.Evolve(t.Context(), now, next); err != nil && !errors.Is(err, catalog.ErrStale) {
			t.Error(err)
		}
	}
	if d.Schema().Version != 2 {
		t.Errorf("version %d", d.Schema().Version)
	}
}

// TestOneNameAtOnce commits one name from many goroutines, while others look at its
// partition: one is fresh, and the record is there.
func TestOneNameAtOnce(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, hourly)
	const p, writers = "year=2024/month=04/day=07/hour=18", 8
	for n := range 5 {
		files := make([]catalog.File, writers)
		for i := range files {
			files[i] = filled(t, d, p, fmt.Sprint("n", n), `{"a":1}`)
		}
		var fresh atomic.Int32
		var wg sync.WaitGroup
		for _, f := range files {
			wg.Go(func() {
				is, err := d.Commit(context.Background(), f)
				if err != nil {
					t.Error(err)
				}
				if is {
					fresh.Add(1)
				}
			})
		}
		done, err := d.Exclusive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Seen(t.Context(), p); err != nil {
			t.Error(err)
		}
		done()
		wg.Wait()
		if fresh.Load() != 1 {
			t.Errorf("%d commits of one name are fresh", fresh.Load())
		}
		if _, err := os.Stat(filepath.Join(path, "_weir", "files", p, fmt.Sprintf("n%d.rec", n))); err != nil {
			t.Errorf("its record: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = openDataset(t, path, hourly) // so that Seen looks at the files again
	}
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	a, b := openDataset(t, path, hourly), openDataset(t, path, hourly)
	if a != b {
		t.Error("two openers in one process do not share the dataset")
	}
	if _, err := catalog.Open(t.Context(), path, catalog.Options{Layout: catalog.Layout{catalog.Year}}); fault.Of(err) != fault.Setup {
		t.Errorf("another layout: %v", err)
	}
	if err := catalog.Check(t.Context(), path, catalog.Layout{catalog.Year}, place.Options{}); fault.Of(err) != fault.Setup {
		t.Errorf("check of another layout: %v", err)
	}
	if err := catalog.Check(t.Context(), filepath.Join(path, "none", "yet"), hourly.Layout, place.Options{}); err != nil {
		t.Errorf("check of a path that is not there: %v", err)
	}
	for _, err := range []error{second(catalog.Open(t.Context(), "s4://bucket/x", hourly)), catalog.Check(t.Context(), "ftp://bucket/x", hourly.Layout, place.Options{}),
		second(catalog.Find(t.Context(), "hdfs://bucket")), second(catalog.Describe(t.Context(), "az://x"))} {
		if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "is not a place for objects that this version knows") {
			t.Errorf("an unknown address: %v", err)
		}
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, filepath.Join(file, "below")} {
		if _, err := catalog.Open(t.Context(), p, hourly); fault.Of(err) != fault.Setup {
			t.Errorf("open %s: %v", p, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestMain is also the child that holds a lock; see TestTwoProcesses.
func TestMain(m *testing.M) {
	if path := os.Getenv("WEIR_TEST_HOLD"); path != "" {
		if _, err := catalog.Open(context.Background(), path, hourly); err != nil {
			fmt.Fprintln(os.Stdout, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, "open")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent goes
		return
	}
	os.Exit(m.Run())
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "WEIR_TEST_HOLD="+path)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4)
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "open" {
		t.Fatalf("the child says %q, %v", said, err)
	}
	if _, err := catalog.Open(t.Context(), path, hourly); fault.Of(err) != fault.Setup || !errors.Is(err, catalog.ErrHeld) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second process: %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	openDataset(t, path, hourly)
}

func TestOpenCleansUp(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, hourly)
	commit(t, d, filled(t, d, "year=2024", "one", `{"a":1}`))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(path, "_weir", "staging", "x.tmp")
	orphan := filepath.Join(path, "_weir", "files", "year=2024", "gone.rec")
	for _, p := range []string{left, orphan} {
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(orphan, past, past); err != nil {
		t.Fatal(err)
	}
	d = openDataset(t, path, hourly)
	if _, err := d.Seen(t.Context(), "year=2024"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{left, orphan} {
		if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, "lessons")
	d := openDataset(t, path, hourly)
	commit(t, d, filled(t, d, "year=2024/month=04/day=07/hour=18", "one", `{"a":1,"o":{"l":[{"k":1}]}}`, `{"a":"x"}`))
	commit(t, d, filled(t, d, "year=2024/month=04/day=07/hour=19", "two", `{"a":1.5}`))
	var b bytes.Buffer
	if err := catalog.List(t.Context(), &b, root, false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(b.String(), path, "PATH")), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), b.String())
	}
	for i, want := range []string{"DATASET PARTITION FILES ROWS SIZE FIRST EVENT LAST EVENT", "PATH year=2024/month=04/day=07/hour=18 1 2 ",
		"PATH year=2024/month=04/day=07/hour=19 1 1 ", "PATH (all 2) 2 3 "} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	b.Reset()
	if err := catalog.List(t.Context(), &b, root, true); err != nil {
		t.Fatal(err)
	}
	var all []catalog.Summary
	if err := json.Unmarshal(b.Bytes(), &all); err != nil || len(all) != 1 || all[0].Rows != 3 || len(all[0].Partitions) != 2 || all[0].Bytes == 0 {
		t.Errorf("%v: %+v", err, all)
	}
	b.Reset()
	if err := catalog.Schema(t.Context(), &b, path, false); err != nil {
		t.Fatal(err)
	}
	want := "COLUMN TYPE VALUES OF\na int64 \"a\"\no object \"o\"\no.l list of object \"o.l\"\no.l[].k int64 \"o.l[].k\"\n" +
		"a__json json \"a\" of other types\na__double double \"a\" that are other numbers\n"
	var got strings.Builder
	for line := range strings.Lines(b.String()) {
		got.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
	b.Reset()
	if err := catalog.Head(t.Context(), &b, path, 2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("{\"a\":1,\"o\":{\"l\":[{\"k\":1}]}}\n{\"a\":\"x\"}\n", b.String()); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
	for _, err := range []error{catalog.List(t.Context(), &b, filepath.Join(root, "none"), false), catalog.List(t.Context(), &b, t.TempDir(), false),
		catalog.Schema(t.Context(), &b, root, false), catalog.Head(t.Context(), &b, root, 1)} {
		if fault.Of(err) != fault.Setup {
			t.Errorf("error %v", err)
		}
	}
}

// TestForeignFile: what somebody else puts into the folders is counted, and does not keep
// the rest from being listed.
func TestForeignFile(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := openDataset(t, path, hourly)
	commit(t, d, filled(t, d, "year=2024/month=04/day=07/hour=18", "one", `{"a":1}`))
	type row struct{ A int64 }
	if err := pq.WriteFile(filepath.Join(path, "year=2024", "month=04", "day=07", "hour=18", "compacted.parquet"), []row{{1}, {2}}); err != nil {
		t.Fatal(err)
	}
	s, err := catalog.Describe(t.Context(), path)
	if err != nil || s.Files != 2 || s.Rows != 3 || len(s.Partitions) != 1 || s.Partitions[0].First.IsZero() {
		t.Errorf("%v: %+v", err, s)
	}
}

// TestBuckets: two times have one bucket only if they have one folder.
func TestBuckets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := catalog.Layout(catalog.Units()[:rapid.IntRange(0, 4).Draw(rt, "levels")])
		at := func(name string) time.Time { return time.Unix(rapid.Int64Range(-5e10, 2e11).Draw(rt, name), 0) }
		a := at("a")
		b := a.Add(time.Duration(rapid.Int64Range(0, 7200).Draw(rt, "later")) * time.Second)
		if (l.Bucket(a) == l.Bucket(b)) != (l.Partition(a) == l.Partition(b)) {
			rt.Fatalf("%v and %v are in bucket %d, but in %s and %s", a, b, l.Bucket(a), l.Partition(a), l.Partition(b))
		}
	})
}
