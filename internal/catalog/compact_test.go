package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

var decodingEvents = parquet.Options{MaxDepth: 9, MaxColumns: 99, Expected: map[string]parquet.Kind{"at": parquet.Timestamp}}

// day is when the events of tests happen.
var day = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)

// landFile commits a file of events to the partition of at, with their ids.
func landFile(t testing.TB, d *Dataset, at time.Time, name string, events ...string) error {
	t.Helper()
	base := d.Schema()
	decoder := parquet.NewDecoder(base, decodingEvents)
	rows := parquet.NewRows()
	r := Record{At: time.Now().UTC()}
	var ids []ID
	for _, e := range events {
		if err := decoder.Decode([]byte(e)); err != nil {
			t.Fatal(err)
		}
		rows.Append(decoder)
		var x struct {
			ID string    `json:"id"`
			At time.Time `json:"at"`
		}
		if err := json.Unmarshal([]byte(e), &x); err != nil {
			t.Fatal(err)
		}
		if r.First.IsZero() || x.At.Before(r.First) {
			r.First = x.At
		}
		if x.At.After(r.Last) {
			r.Last = x.At
		}
		ids = append(ids, Fingerprint('s', []byte(x.ID)))
	}
	if decoder.Changed() {
		if err := d.Evolve(t.Context(), base, decoder.Schema()); err != nil {
			return err
		}
	}
	r.Rows = int64(rows.Len())
	_, err := d.Commit(t.Context(), File{Partition: d.layout.Partition(at), Name: name, Record: r, IDs: ids,
		Write: func(w io.Writer) error { return rows.Write(w, decoder.Schema(), nil) }})
	return err
}

// rowsOf are the rows of the files of a dataset, by their folder.
func rowsOf(ctx context.Context, d reading) (map[string][]string, int, error) {
	out, files := map[string][]string{}, 0
	err := d.eachFile(ctx, func(f blob.Info) error {
		files++
		return d.rows(ctx, f, func(row []byte) error {
			out[folderOf(f.Name)] = append(out[folderOf(f.Name)], string(row))
			return nil
		})
	})
	return out, files, err
}

func eventAt(i int, at time.Time, more string) string {
	return fmt.Sprintf(`{"id":"e%d","at":%q%s}`, i, at.Format(time.RFC3339Nano), more)
}

// TestCompact makes few files of many: the same rows, in the order of their time, each id once
// and the first of it, in files that DuckDB reads. Records keep what they knew.
func TestCompact(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	d, err := Open(t.Context(), path, Options{Layout: Layout{Year, Month, Day, Hour}, MaxIDs: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n, want := 0, map[string]string{}
	for hour := range 3 {
		for file := range 5 {
			var events []string
			for k := range 40 {
				id, more := n, fmt.Sprintf(`,"o":{"k":%d},"l":[%d,null]`, n%7, k)
				if k%10 == 9 {
					id = n - 5 - file // that came before, perhaps in another file, with another content
					more = `,"again":true`
				}
				at := day.Add(time.Duration(hour)*time.Hour + time.Duration((id*7919)%3600_000)*time.Millisecond)
				e := eventAt(id, at, more)
				if key := fmt.Sprintf("%d/%d", hour, id); want[key] == "" {
					want[key] = e
				}
				events = append(events, e)
				n++
			}
			if err := landFile(t, d, day.Add(time.Duration(hour)*time.Hour), fmt.Sprintf("events-%03d-%d", 5*hour+file, file), events...); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, err := Describe(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := Look(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer listed.Close()
	options := CompactOptions{Small: 1 << 20, Large: 4 << 20, Settled: time.Hour, Memory: 4000, Dedup: "id", now: day.Add(3*time.Hour + 59*time.Minute)}
	var done []Compaction
	options.Done = func(c Compaction) { done = append(done, c) }
	options.DryRun = true
	if err := Compact(t.Context(), path, options); err != nil {
		t.Fatal(err)
	}
	if after, err := Describe(t.Context(), path); err != nil || !cmp.Equal(before, after) {
		t.Fatalf("a dry run has changed %v to %v, %v", before, after, err)
	}
	would := slices.Clone(done)
	done, options.DryRun = nil, false
	if err := Compact(t.Context(), path, options); err != nil {
		t.Fatal(err)
	}
	for i := range done {
		if len(done) != 2 || done[i].Into != 1 || done[i].Files != 5 || done[i].Rows != would[i].Rows || done[i].Duplicates == 0 {
			t.Fatalf("compacted %+v", done) // the last hour is not over for an hour
		}
	}
	d2, err := look(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer d2.close()
	got, files, err := rowsOf(t.Context(), d2)
	if err != nil || files != 2+5 {
		t.Fatalf("%d files, %v", files, err)
	}
	for hour := range 2 {
		folder := d.layout.Partition(day.Add(time.Duration(hour) * time.Hour))
		var all []string
		for key, e := range want {
			if strings.HasPrefix(key, fmt.Sprint(hour, "/")) {
				all = append(all, e)
			}
		}
		at := func(e string) string {
			var x struct{ At time.Time }
			if err := json.Unmarshal([]byte(e), &x); err != nil {
				t.Fatal(err)
			}
			return x.At.Format("15:04:05.000000000")
		}
		if !slices.IsSortedFunc(got[folder], func(a, b string) int { return strings.Compare(at(a), at(b)) }) {
			t.Errorf("the rows of hour %d are not in the order of their time", hour)
		}
		slices.Sort(all)
		mine := slices.Clone(got[folder])
		slices.Sort(mine)
		if diff := cmp.Diff(all, mine); diff != "" {
			t.Errorf("hour %d (-want +got):\n%s", hour, diff)
		}
	}
	// Who had listed the files before reads them still.
	total := 0
	for _, f := range listed.Files {
		if err := listed.d.rows(t.Context(), f, func([]byte) error { total++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if total != n {
		t.Errorf("a snapshot from before has %d rows of %d", total, n)
	}
	// Nothing is left to do, and what is known of ids is known still.
	done = nil
	if err := Compact(t.Context(), path, options); err != nil || done != nil {
		t.Errorf("once more: %v, %v", done, err)
	}
	free, err := d.Exclusive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen, err := d.Seen(t.Context(), d.layout.Partition(day))
	if err != nil || !seen.Has(Fingerprint('s', []byte("e3"))) || seen.Unknown != 0 {
		t.Errorf("the ids of the compacted partition: %+v, %v", seen, err)
	}
	free()
	// A file that is delivered again as a whole is known by its name, though it is not there.
	if err := landFile(t, d, day, "events-000-0", eventAt(0, day, "")); err != nil {
		t.Fatal(err)
	}
	if again, _, err := rowsOf(t.Context(), d2); err != nil || !cmp.Equal(got, again) {
		t.Errorf("a file that was compacted has landed again: %v", err)
	}
	duck := enginetest.DuckDB(t)
	rows := duck.Query(t, fmt.Sprintf(`SELECT count(*) AS n, count(DISTINCT id) AS ids FROM read_parquet('%s/**/*.parquet', hive_partitioning = true, union_by_name = true, hive_types = {'hour': BIGINT}) WHERE hour < 2`, path))
	unique := 0
	for key := range want {
		if !strings.HasPrefix(key, "2/") {
			unique++
		}
	}
	if fmt.Sprintf("%v %v", rows[0]["n"], rows[0]["ids"]) != fmt.Sprintf("%d %d", unique, unique) {
		t.Errorf("DuckDB counts %v, and %d ids were landed", rows, unique)
	}
	expired, err := Expire(t.Context(), path, time.Now().Add(-time.Hour), false)
	if err != nil || expired.Files != 0 {
		t.Errorf("nothing is an hour old: %+v, %v", expired, err)
	}
	expired, err = Expire(t.Context(), path, time.Now().Add(time.Hour), false)
	if err != nil || expired.Files != 10 {
		t.Errorf("expired %+v, %v", expired, err)
	}
	if err := listed.d.rows(t.Context(), listed.Files[0], func([]byte) error { return nil }); err == nil {
		t.Error("what is expired is read")
	}
	if again, _, err := rowsOf(t.Context(), d2); err != nil || !cmp.Equal(got, again) {
		t.Errorf("an expiry has changed the rows: %v", err)
	}
}

// TestCompactionNeverShows is a random history of compactions whose calls fail, whose answers are
// lost and which die at every call. After each call, a reader finds every row once.
func TestCompactionNeverShows(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct{ lock, distant bool }{"locked": {lock: true}, "unlocked": {}, "store": {distant: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) { compactsUnseen(t, rt, how.lock, how.distant) })
		})
	}
}

func compactsUnseen(t *testing.T, rt *rapid.T, lock, distant bool) {
	ctx := context.Background()
	m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
	sound := func() blob.Bucket { return (&hand{m: m, fate: func() fate { return well }}).bucket(distant) }
	d, err := openIn(ctx, sound(), "lake", false, Options{Layout: Layout{Year}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	land := func() {
		var events []string
		for range rapid.IntRange(1, 2).Draw(rt, "events") {
			events = append(events, eventAt(n, day.Add(-time.Duration((n*37)%50)*time.Second), ""))
			n++
		}
		if err := landFile(t, d, day.AddDate(-rapid.IntRange(0, 1).Draw(rt, "year"), 0, 0), fmt.Sprintf("events-%d", n), events...); err != nil {
			t.Fatal(err)
		}
	}
	for range rapid.IntRange(2, 4).Draw(rt, "files") {
		land()
	}
	check := func() int {
		rows, files, err := rowsOf(ctx, reading{path: "lake", bucket: sound()})
		if err != nil {
			rt.Fatalf("a reader: %v", err)
		}
		seen := map[string]bool{}
		for _, row := range slices.Concat(slices.Collect(maps.Values(rows))...) {
			if seen[row] {
				rt.Fatalf("%s is there twice", row)
			}
			seen[row] = true
		}
		if len(seen) != n {
			rt.Fatalf("a reader finds %d of %d rows", len(seen), n)
		}
		return files
	}
	calm := false
	var other *compactor
	draw := func() fate {
		check()
		if !lock && !calm && rapid.IntRange(0, 5).Draw(rt, "another") == 0 {
			if _, err := compactIn(ctx, sound(), "lake", false, nil); err != nil { // which undoes what is planned
				rt.Fatal(err)
			}
			check()
		}
		if calm || rapid.IntRange(0, 7).Draw(rt, "trouble") > 0 {
			return well
		}
		return fate(rapid.IntRange(0, int(last)).Draw(rt, "fate"))
	}
	options := CompactOptions{Small: 1 << 20, Large: 1 << 20, Memory: 500, now: day.AddDate(5, 0, 0)}
	for range rapid.IntRange(1, 3).Draw(rt, "compactions") {
		c, err := compactIn(ctx, (&hand{m: m, fate: draw}).bucket(distant), "lake", lock, nil)
		if err == nil {
			if !lock && other != nil && rapid.Bool().Draw(rt, "the other goes on") {
				_ = other.compact(ctx, options)
			}
			_ = c.compact(ctx, options)
			other = c
		}
		check()
		if rapid.Bool().Draw(rt, "land") {
			land()
		}
	}
	calm = true
	for range 2 {
		c, err := compactIn(ctx, (&hand{m: m, fate: draw}).bucket(distant), "lake", lock, nil)
		if err == nil {
			err = c.compact(ctx, options)
		}
		if err != nil {
			rt.Fatalf("a compaction without trouble: %v", err)
		}
	}
	if files := check(); files > 2 {
		rt.Fatalf("%d files are left of two partitions", files)
	}
	if !lock {
		return
	}
	for name := range m.objects {
		if strings.HasSuffix(name, suffix) {
			continue
		}
		if strings.HasPrefix(name, compactions) && strings.HasSuffix(name, ".json") {
			rt.Fatalf("%s is left", name)
		}
		if rec, ok := strings.CutSuffix(name, recSuffix); ok && strings.HasPrefix(name, records) && m.objects[strings.TrimPrefix(rec, records+"/")+suffix] == nil {
			rt.Fatalf("%s is left of a file that is gone", name)
		}
	}
}

// TestCompactWhileItLands has one land, one compact and one read at the same time.
func TestCompactWhileItLands(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	d, err := Open(t.Context(), path, Options{Layout: Layout{Year, Month, Day}, MaxIDs: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const files, each = 60, 20
	if err := landFile(t, d, day, "events-first", eventAt(0, day, "")); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	landed, ended := 1, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(ended)
		for f := range files {
			var events []string
			for k := range each {
				events = append(events, eventAt(1+f*each+k, day.Add(time.Duration(f*k)*time.Second), ""))
			}
			if err := landFile(t, d, day, fmt.Sprintf("events-%d", f), events...); err != nil {
				t.Errorf("land: %v", err)
				return
			}
			mu.Lock()
			landed += each
			mu.Unlock()
			free, err := d.Exclusive(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			d.Unsure(d.layout.Partition(day)) // so that the ids are read again
			seen, err := d.Seen(t.Context(), d.layout.Partition(day))
			if err != nil || seen.Len() != 1+(f+1)*each {
				t.Errorf("after %d files %d ids are known: %v", f+1, seen.Len(), err)
			}
			free()
		}
	})
	again := func(f func()) {
		for {
			select {
			case <-ended:
				return
			default:
				f()
			}
		}
	}
	wg.Go(func() {
		again(func() {
			err := Compact(t.Context(), path, CompactOptions{Small: 1 << 20, Large: 1 << 30, Memory: 1 << 20, now: day.AddDate(1, 0, 0)})
			if err != nil {
				t.Errorf("compact: %v", err)
			}
		})
	})
	wg.Go(func() {
		again(func() {
			mu.Lock()
			least := landed
			mu.Unlock()
			seen := map[string]bool{}
			err := Rows(t.Context(), path, func(_ string, row []byte) error {
				if seen[string(row)] {
					return fmt.Errorf("%s is there twice", row)
				}
				seen[string(row)] = true
				return nil
			})
			if err != nil || len(seen) < least {
				t.Errorf("a reader finds %d rows of %d: %v", len(seen), least, err)
			}
		})
	})
	wg.Wait()
	if err := Compact(t.Context(), path, CompactOptions{Small: 1 << 20, Large: 1 << 30, Memory: 1 << 20, now: day.AddDate(1, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	s, err := Describe(t.Context(), path)
	if err != nil || s.Files != 1 || s.Rows != 1+files*each {
		t.Errorf("at the end: %+v, %v", s, err)
	}
	c, err := openCompactor(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.close() }()
	if err := Compact(t.Context(), path, CompactOptions{}); err == nil || !strings.Contains(err.Error(), "another process compacts it") {
		t.Errorf("two at once: %v", err)
	}
}

// TestCompactLeavesTables: the files of a table are its own.
func TestCompactLeavesTables(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d, err := Open(t.Context(), path, Options{Layout: Layout{Day}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	about := filepath.Join(path, filepath.FromSlash(description))
	if err := os.WriteFile(about, []byte(`{"format":3,"partition_by":["day"],"table":"lake.events"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Compact(t.Context(), path, CompactOptions{}); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "Iceberg table lake.events") {
		t.Errorf("Compact of a dataset that is a table = %v", err)
	}
}

// TestCompactionOfATakenNumber: a compactor of a store that has slept through a whole compaction
// plans its number again. A third one settles that plan while the sleeper goes on: what it then
// creates is no part of the dataset.
func TestCompactionOfATakenNumber(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m := &memory{objects: map[string][]byte{}, marks: map[string]string{}}
	sound := func() blob.Bucket { return (&hand{m: m, fate: func() fate { return well }}).bucket(true) }
	d, err := openIn(ctx, sound(), "lake", false, Options{Layout: Layout{Year}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	land := func() {
		for range 2 {
			n++
			if err := landFile(t, d, day, fmt.Sprint("events-", n), eventAt(n, day, "")); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() (rows int) {
		all, _, err := rowsOf(ctx, reading{path: "lake", bucket: sound()})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			rows += len(r)
		}
		return rows
	}
	land()
	options := CompactOptions{Small: 1 << 20, Large: 1 << 20, Memory: 500, now: day.AddDate(5, 0, 0)}
	settled := false
	sleeper, err := compactIn(ctx, sound(), "lake", false, func(step string) {
		if step != "planned" {
			return
		}
		if _, err := compactIn(ctx, sound(), "lake", false, nil); err != nil {
			t.Error(err)
		}
		settled = true
	})
	if err != nil {
		t.Fatal(err)
	}
	awake, err := compactIn(ctx, sound(), "lake", false, nil)
	if err == nil {
		err = awake.compact(ctx, options)
	}
	if err != nil {
		t.Fatal(err)
	}
	land()
	if err := sleeper.compact(ctx, options); err == nil {
		t.Error("the number is another one's, and nobody is told")
	}
	if !settled {
		t.Fatal("the sleeper has planned nothing")
	}
	if got := count(); got != n {
		t.Errorf("a reader finds %d rows of %d", got, n)
	}
}
