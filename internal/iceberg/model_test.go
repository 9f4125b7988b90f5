package iceberg_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/iceberg/sqlcatalog"
)

// chance is a source of random numbers that goroutines share.
type chance struct {
	sync.Mutex
	r *rand.Rand
}

func (c *chance) below(n int) int {
	c.Lock()
	defer c.Unlock()
	return c.r.IntN(n)
}

// TestConflictsAndLostAnswers has several processes that each believe that the dataset is theirs
// append the same numbered commits, in any cuts, while swaps conflict and answers are lost. In the
// end every file is in the table once.
func TestConflictsAndLostAnswers(t *testing.T) {
	runs := 3
	if n, err := strconv.Atoi(os.Getenv("WEIR_MODEL_RUNS")); err == nil {
		runs = n
	}
	for run := range runs {
		t.Run(strconv.Itoa(run), func(t *testing.T) {
			dir := t.TempDir()
			open := func() iceberg.Pointer { return sqlite(t, dir) }
			conflicts(t, uint64(run), dir, name, losing(open), lakeWith(t, dir, open(), iceberg.Options{}).read)
		})
	}
}

// losing opens catalogs whose answers are lost when lose says so.
func losing(open func() iceberg.Pointer) func(lose func() bool) iceberg.Catalog {
	return func(lose func() bool) iceberg.Catalog { return iceberg.Pointing(&faulty{Pointer: open(), lose: lose}) }
}

// conflicts has them append to the table of the name in a catalog that open opens, and read reads.
func conflicts(t *testing.T, seed uint64, dir string, n iceberg.Name, open func(lose func() bool) iceberg.Catalog, read func(filter string) enginetest.PyTable) {
	t.Helper()
	const writers, numbers = 3, 25
	c := &chance{r: rand.New(rand.NewPCG(seed, 7))}
	first := lakeOf(t, dir, open(nil), iceberg.Options{Name: n, Snapshots: 4})
	all := make([]iceberg.Commit, numbers)
	var want []string
	for i := range all {
		all[i].Number = uint64(2*i + 1)
		for k := range c.below(3) {
			id := 10*i + k
			all[i].Files = append(all[i].Files, first.file(event(id, noon.Add(time.Duration(i)*time.Minute), "")))
			want = append(want, fmt.Sprintf("e%d", id))
		}
	}
	var group sync.WaitGroup
	lost, done := make([]int, writers), make([]error, writers)
	for w := range writers {
		l := lakeOf(t, dir, open(func() bool {
			if c.below(4) > 0 {
				return false
			}
			lost[w]++
			return true
		}), iceberg.Options{Name: n, Snapshots: 4})
		group.Go(func() {
			for at := 0; at < numbers; {
				n := 1 + c.below(4)
				from := max(0, at-c.below(3)) // what it has appended already comes again
				end := min(at+n, numbers)
				err := l.table.Append(t.Context(), all[from:end], true, positions(all[end-1].Number))
				if err != nil && !errors.Is(err, errLost) && fault.Of(err) != fault.Transient {
					done[w] = err
					return
				}
				if err == nil {
					at = end
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(done...); err != nil {
		t.Fatal(err)
	}
	got := read("")
	var ids []string
	for _, r := range got.Rows {
		ids = append(ids, fmt.Sprint(r["id"]))
	}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("the table has %v, not %v", ids, want)
	}
	if got.Snapshots > 8 {
		t.Errorf("it has %d snapshots", got.Snapshots)
	}
	if n, known, err := first.table.Through(t.Context()); err != nil || !known {
		t.Errorf("it goes through %d, %v, %v", n, known, err)
	}
}

// TestPostgreSQL keeps the catalog in a database, which PyIceberg reads too.
func TestPostgreSQL(t *testing.T) {
	url := enginetest.Postgres(t)
	dir := t.TempDir()
	c := postgres(t, url)
	l := lakeWith(t, dir, c, iceberg.Options{Unit: "hour", Time: "at"})
	for i := range 3 {
		l.append(uint64(i+1), l.file(event(i, noon.Add(time.Duration(i)*time.Hour), "")))
	}
	// Another process conflicts, and is told.
	other := lakeWith(t, dir, &faulty{Pointer: postgres(t, url), before: func() {}}, iceberg.Options{Unit: "hour", Time: "at"})
	other.schema = l.schema
	other.files = 100
	other.append(4, other.file(event(9, noon, "")))
	got := enginetest.PyIcebergWith(t, map[string]string{"type": "sql", "uri": "postgresql+psycopg2" + url[len("postgres"):]}).Read(t, name.String(), "at >= '2026-04-07T13:00:00+00:00'")
	if len(got.Rows) != 2 || got.Files != 2 {
		t.Errorf("PyIceberg finds %d rows in %d files", len(got.Rows), got.Files)
	}
	if got.Properties["weir.commit"] != "4" {
		t.Errorf("its properties are %v", got.Properties)
	}
}

// TestOldMetadataIsRemoved counts what a thousandth commit would have to list: the files that stay
// depend on what is kept, and not on how many commits there were.
func TestOldMetadataIsRemoved(t *testing.T) {
	l := newLake(t, iceberg.Options{Snapshots: 5})
	f := l.file(event(1, noon, ""))
	count := func() int {
		names, err := filepath.Glob(filepath.Join(l.dir, "events", "metadata", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	n := uint64(0)
	most := 0
	for range 120 {
		n++
		l.append(n, f)
		if n > 60 {
			most = max(most, count())
		}
	}
	// 21 versions of the metadata, up to 10 snapshots with a list and 20 manifests each at most.
	if most > 120 {
		t.Errorf("%d files of metadata are there after %d commits", most, n)
	}
	if got := l.read(""); len(got.Rows) != 120 || got.Snapshots > 10 {
		t.Errorf("%d rows, %d snapshots", len(got.Rows), got.Snapshots)
	}
}

func postgres(t testing.TB, dsn string) iceberg.Pointer {
	t.Helper()
	c, err := sqlcatalog.PostgreSQL(t.Context(), dsn, "weir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func BenchmarkCommit(b *testing.B) {
	for _, before := range []int{0, 1000} {
		b.Run(strconv.Itoa(before), func(b *testing.B) {
			l := newLake(b, iceberg.Options{Unit: "hour", Time: "at"})
			f := l.file(event(1, noon, `,"n":1,"f":1.5,"text":"abc"`))
			n := uint64(0)
			for range before {
				n++
				l.append(n, f)
			}
			for b.Loop() {
				n++
				l.append(n, f)
			}
		})
	}
}

// overtaken makes a swap, has others change the table again, and says that there was a conflict, as
// a request does whose answer was lost and that was sent again.
type overtaken struct {
	iceberg.Pointer
	after func()
}

func (o *overtaken) Swap(ctx context.Context, n iceberg.Name, seen iceberg.Ref, e iceberg.Entry) error {
	err := o.Pointer.Swap(ctx, n, seen, e)
	if o.after == nil || err != nil {
		return err
	}
	after := o.after
	o.after = nil
	after()
	return iceberg.ErrConflict
}

// TestAConflictThatWasNone: what a commit has made stays when it was made after all.
func TestAConflictThatWasNone(t *testing.T) {
	dir := t.TempDir()
	other := lakeIn(t, dir, iceberg.Options{})
	other.append(1, other.file(event(1, noon, "")))
	pointer := &overtaken{Pointer: sqlite(t, dir)}
	l := lakeWith(t, dir, pointer, iceberg.Options{})
	ours, theirs := other.file(event(2, noon, "")), other.file(event(3, noon, ""))
	pointer.after = func() { other.append(3, theirs) }
	l.append(2, ours)
	if pointer.after != nil {
		t.Fatal("nobody was overtaken")
	}
	if got := other.read(""); len(got.Rows) != 3 {
		t.Errorf("the table has %d rows, not 3", len(got.Rows))
	}
}
