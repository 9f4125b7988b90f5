package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/parquet"
)

// hourly makes a dataset of events by the hour, whose amounts are whole numbers, others, and texts.
func hourly(t testing.TB, path string, files int) (events []string) {
	t.Helper()
	d, err := Open(t.Context(), path, Options{Layout: Layout{Year, Month, Day, Hour}, MaxIDs: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		var batch []string
		hour := day.Add(time.Duration(i*7) * time.Hour)
		for k := range 20 {
			n := 20*i + k
			amount := []string{"5", "7", "2.5", `"high"`, "[1]"}[[]int{0, 1, 2, 3, 4}[r.IntN(5)]]
			if n == 0 {
				amount = "1" // the type of the column
			}
			batch = append(batch, eventAt(n, hour.Add(time.Duration(k)*time.Minute), fmt.Sprintf(`,"o":{"n":%d},"amount":%s`, n, amount)))
		}
		if err := landFile(t, d, hour, fmt.Sprintf("events-%03d", i), batch...); err != nil {
			t.Fatal(err)
		}
		events = append(events, batch...)
	}
	slices.Sort(events)
	return events
}

// inOrder are the rows of the dataset at path, sorted.
func inOrder(t testing.TB, path string) []string {
	t.Helper()
	rows := headOf(t, path)
	slices.Sort(rows)
	return rows
}

func rewriting(layout ...Unit) RewriteOptions {
	return RewriteOptions{Layout: layout, TimeField: "at", DedupField: "id", Types: map[string]parquet.Type{"amount": {Kind: parquet.Double}}, Large: 1 << 20, Memory: 4000}
}

// TestRewrite gives a column another type and a dataset other partitions: coarser, finer, none. All
// rows are there, each in its folder, and what was landed in several columns is in one.
func TestRewrite(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	from := filepath.Join(root, "from")
	want := hourly(t, from, 8)
	for _, layout := range []Layout{{Year}, {Year, Month, Day}, {Year, Month, Day, Hour}, {}} {
		to := filepath.Join(root, fmt.Sprint("to", len(layout)))
		o := rewriting(layout...)
		o.DryRun = true
		said, err := Rewrite(t.Context(), from, to, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(to); !os.IsNotExist(err) {
			t.Fatalf("a dry run left %v", err)
		}
		o.DryRun = false
		done, err := Rewrite(t.Context(), from, to, o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(said, done); diff != "" {
			t.Errorf("the dry run said something else (-dry +done):\n%s", diff)
		}
		if diff := cmp.Diff(want, inOrder(t, to)); diff != "" {
			t.Fatalf("%v: rows (-want +got):\n%s", layout, diff)
		}
		s, err := Look(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		columns := columnsAt(t, to)
		if !slices.Contains(columns, "amount double") || slices.Contains(columns, "amount__double double") || !slices.Contains(columns, "amount__json json") {
			t.Errorf("%v: columns %v", layout, columns)
		}
		ids := 0
		for _, f := range s.Files {
			r, got, err := readRecord(t.Context(), s.d.bucket, recordNameOf(f.Name), f.Name, true)
			if err != nil {
				t.Fatal(err)
			}
			ids += len(got)
			if len(layout) > 0 && folderOf(f.Name) != layout.Partition(r.First) || len(layout) > 0 && folderOf(f.Name) != layout.Partition(r.Last) {
				t.Errorf("%s has events from %s to %s", f.Name, r.First, r.Last)
			}
		}
		s.Close()
		if ids != len(want) {
			t.Errorf("%v: %d ids of %d events are known", layout, ids, len(want))
		}
	}
	for _, bad := range []struct{ to, want string }{{filepath.Join(root, "to1"), "already"}, {from, "in each other"}, {filepath.Join(from, "x"), "in each other"}} {
		if _, err := Rewrite(t.Context(), from, bad.to, rewriting(Year)); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("a rewrite into %s: %v", bad.to, err)
		}
	}
	o := rewriting(Year)
	o.Types["amont"] = parquet.Type{Kind: parquet.Int}
	if _, err := Rewrite(t.Context(), from, filepath.Join(root, "x"), o); err == nil || !strings.Contains(err.Error(), `"amont"`) {
		t.Errorf("a type for a field that is not there: %v", err)
	}
	o = rewriting(Year)
	o.TimeField = "id"
	if _, err := Rewrite(t.Context(), from, filepath.Join(root, "x"), o); err == nil || !strings.Contains(err.Error(), "no time") {
		t.Errorf("rows without a time: %v", err)
	}
	if diff := cmp.Diff(want, inOrder(t, from)); diff != "" {
		t.Errorf("the dataset that was rewritten (-want +got):\n%s", diff)
	}
}

// TestRewriteOfAdopted makes an own dataset of files that others wrote: what is in the names of
// their folders is a column then, and no digit is lost.
func TestRewriteOfAdopted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	from, to := filepath.Join(root, "from"), filepath.Join(root, "to")
	python(t, enginetest.PyIcebergPython(t), arrowFolder, from)
	crawled(t, from, CrawlOptions{Policy: Add})
	if _, err := Rewrite(t.Context(), from, to, RewriteOptions{Layout: Layout{}, Large: 1 << 20, Memory: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	plain := func(rows []string) (out []any) {
		for _, row := range rows {
			var v map[string]any
			d := json.NewDecoder(strings.NewReader(row))
			d.UseNumber()
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			delete(v, "country")
			for _, name := range []string{"big", "price"} {
				if n, ok := v[name].(json.Number); ok {
					v[name] = strings.TrimRight(strings.TrimRight(n.String(), "0"), ".")
				}
			}
			out = append(out, v)
		}
		return out
	}
	got := headOf(t, to)
	if diff := cmp.Diff(plain(headOf(t, from)), plain(got)); diff != "" {
		t.Errorf("rows (-adopted +rewritten):\n%s", diff)
	}
	if all := strings.Join(got, "\n"); !strings.Contains(all, `"country":"DE"`) || !strings.Contains(all, `"country":"A T/1"`) {
		t.Errorf("the names of the folders are lost: %s", all)
	}
}

// TestRewriteThatDies ends a rewrite at each of its calls, before it is done or behind that, and
// begins it again: the new dataset is empty or whole, whatever dies.
func TestRewriteThatDies(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "from")
	want := hourly(t, from, 4)
	for _, done := range []bool{false, true} {
		for calls := 0; ; calls++ {
			if calls > 300 {
				t.Fatal("it never ends")
			}
			m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
			sound := func() blob.Bucket { return (&hand{m: m, fate: func() fate { return well }}).bucket(false) }
			err := rewriteIn(t, from, &mortal{Bucket: sound(), left: calls, done: done})
			whole := rowsIn(t, sound(), len(want))
			if err == nil {
				if !whole {
					t.Fatal("it has ended, and has landed nothing")
				}
				break
			}
			if whole { // behind its commit: nothing is begun again
				continue
			}
			if err := rewriteIn(t, from, sound()); err != nil {
				t.Fatalf("begun again after a death at call %d: %v", calls, err)
			}
			if !rowsIn(t, sound(), len(want)) {
				t.Fatalf("begun again after a death at call %d it has landed nothing", calls)
			}
		}
	}
}

// rewriteIn rewrites the dataset at path into a bucket.
func rewriteIn(t *testing.T, path string, to blob.Bucket) error {
	t.Helper()
	w, schema, err := readToRewrite(t.Context(), path, "s3://new/one", rewriting(Year, Month, Day))
	if err != nil {
		t.Fatal(err)
	}
	defer w.from.Close()
	d, err := openIn(t.Context(), to, "new", true, Options{Layout: w.o.Layout, MaxIDs: 1, MaxLanded: 1})
	if err != nil {
		return err
	}
	return w.land(t.Context(), d, schema)
}

// rowsIn reports whether a reader finds all rows; it finds all or none.
func rowsIn(t *testing.T, b blob.Bucket, all int) bool {
	t.Helper()
	rows, _, err := rowsOf(t.Context(), reading{path: "new", bucket: b})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	n := 0
	for _, r := range rows {
		for _, row := range r {
			seen[row] = true
			n++
		}
	}
	if n != 0 && n != all || len(seen) != n {
		t.Fatalf("a reader finds %d rows, %d of them different, of %d", n, len(seen), all)
	}
	return n > 0
}

// mortal is a bucket that dies at one of its calls, with that done or not.
type mortal struct {
	blob.Bucket
	mu   sync.Mutex
	left int
	done bool
	dead bool
}

func (m *mortal) do(call func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	if m.left > 0 {
		m.left--
		return call()
	}
	m.dead = true
	if m.done {
		_ = call()
	}
	return errDead
}

func (m *mortal) Create(ctx context.Context, name string, data []byte) (v blob.Version, err error) {
	err = m.do(func() (err error) { v, err = m.Bucket.Create(ctx, name, data); return err })
	return v, err
}

func (m *mortal) Replace(ctx context.Context, name string, seen blob.Version, data []byte) (v blob.Version, err error) {
	err = m.do(func() (err error) { v, err = m.Bucket.Replace(ctx, name, seen, data); return err })
	return v, err
}

func (m *mortal) Delete(ctx context.Context, names ...string) error {
	return m.do(func() error { return m.Bucket.Delete(ctx, names...) })
}

func (m *mortal) Writer(ctx context.Context, name string) (blob.Writer, error) {
	w, err := m.Bucket.Writer(ctx, name)
	return mortalWriter{w, m}, err
}

type mortalWriter struct {
	blob.Writer
	m *mortal
}

func (w mortalWriter) Commit(ctx context.Context) error {
	return w.m.do(func() error { return w.Writer.Commit(ctx) })
}
