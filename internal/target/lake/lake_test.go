package lake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/blob/gcs"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// config is the defaults with changes.
func config(path string, change func(*Config)) Config {
	c := *Entry.Default().(*Config)
	c.Path = path
	if change != nil {
		change(&c)
	}
	return c
}

// opened is a target that is closed with the test.
func opened(t testing.TB, c Config) *Target {
	t.Helper()
	if ps := c.Validate(); len(ps) > 0 {
		t.Fatal(ps)
	}
	target, err := New(connector.Deps{}, c)
	if err == nil {
		err = target.Open(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return target
}

func batch(events ...string) event.Batch {
	b := make(event.Batch, len(events))
	for i, e := range events {
		b[i] = event.New([]byte(e))
	}
	return b
}

func writes(t testing.TB, target connector.Target, b event.Batch) {
	t.Helper()
	if err := target.Write(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

// landed is the rows of a dataset, sorted, each after its partition.
func landed(t testing.TB, path string) []string {
	t.Helper()
	var out []string
	if err := catalog.Rows(t.Context(), path, func(partition string, row []byte) error {
		out = append(out, partition+" "+string(row))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func files(t testing.TB, path string) int {
	t.Helper()
	s, err := catalog.Describe(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return s.Files
}

// TestExamples is not parallel: the suite looks at what the process opens.
func TestExamples(t *testing.T) {
	conntest.Examples(t, conntest.One(Entry), "../../..")
}

// object is a target that puts each payload of the suite into a JSON object, and lets
// through what the suite has to be refused.
type object struct{ *Target }

const refused = "refuse me"

func (o object) Write(ctx context.Context, b event.Batch) error {
	wrapped := make(event.Batch, len(b))
	for i, m := range b {
		if string(m.Data) == refused {
			wrapped[i] = m
			continue
		}
		text, err := json.Marshal(map[string]any{"payload": m.Data})
		if err != nil {
			return err
		}
		wrapped[i] = &event.Message{Data: text, Key: m.Key, Meta: m.Meta, Times: m.Times}
	}
	return o.Target.Write(ctx, wrapped)
}

func TestConformance(t *testing.T) {
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			path := filepath.Join(t.TempDir(), "lake")
			open := func() connector.Target {
				target, err := New(connector.Deps{}, config(path, nil))
				if err != nil {
					t.Fatal(err)
				}
				return object{target}
			}
			written := func() (out [][]byte) {
				if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
					return nil
				}
				if err := catalog.Rows(t.Context(), path, func(_ string, row []byte) error {
					var e struct{ Payload []byte }
					if err := json.Unmarshal(row, &e); err != nil {
						return err
					}
					out = append(out, e.Payload)
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				return out
			}
			return open, written
		},
		Refused: [][]byte{[]byte(refused)},
		Broken: func(t *testing.T) connector.Target {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			target, err := New(connector.Deps{}, config(filepath.Join(file, "lake"), nil))
			if err != nil {
				t.Fatal(err)
			}
			return target
		},
		Want:     fault.Setup,
		Features: conntest.TargetFeatures{Binary: true, Empty: true},
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		change func(*Config)
		field  string
	}{
		{func(c *Config) { c.Path = "" }, "path"},
		{func(c *Config) { c.Path = "s3://bucket/x" }, ""},
		{func(c *Config) { c.Path = "s3://Bucket/x" }, "path"},
		{func(c *Config) { c.Path = "s5://bucket/x" }, "path"},
		{func(c *Config) { c.Path, c.GCS = "s3://bucket/x", &gcs.Access{} }, "gcs"},
		{func(c *Config) { c.Path, c.S3 = "s3://bucket/x", &s3.Access{PartBytes: 1} }, "s3.part_bytes"},
		{func(c *Config) { c.Path = "ABFSS://container@account/x" }, "path"},
		{func(c *Config) { c.Path = "file:///tmp/x" }, "path"},
		{func(c *Config) { c.Path = "./s3:/x" }, ""},
		{func(c *Config) { c.TimeFormat = "unix" }, "time_format"},
		{func(c *Config) { c.MissingTime = "drop" }, "missing_time"},
		{func(c *Config) { c.PartitionBy = []string{"day", "hour"} }, "partition_by"},
		{func(c *Config) { c.PartitionBy = []string{"year", "month", "day", "hour", "minute"} }, "partition_by"},
		{func(c *Config) { c.Types = map[string]string{"a": "object"} }, "types"},
		{func(c *Config) { c.Types, c.TimeField = map[string]string{"a": "json"}, "a.t" }, "time_field"},
		{func(c *Config) { c.Types, c.DedupField = map[string]string{"a": "json"}, "a" }, "dedup_field"},
		{func(c *Config) { c.Types, c.DedupField = map[string]string{"a": "double"}, "a" }, "dedup_field"},
		{func(c *Config) { c.TimeField, c.DedupField = "a", "a" }, "dedup_field"},
		{func(c *Config) { c.BufferMaxEvents = 0 }, "buffer_max_events"},
		{func(c *Config) { c.BufferMaxBytes = 2 << 30 }, "buffer_max_bytes"},
		{func(c *Config) { c.BufferMaxBytes = 1000 }, "max_message_bytes"},
		{func(c *Config) { c.MaxDepth = 501 }, "max_depth"},
		{func(c *Config) { c.PartitionBy = nil }, ""},
		{func(c *Config) { c.PartitionBy = []string{"year"} }, ""},
	} {
		ps := config("x", row.change).Validate()
		found := slices.ContainsFunc(ps, func(p connector.Problem) bool { return p.Field == row.field && p.Fix != "" })
		if found != (row.field != "") || row.field == "" && len(ps) > 0 {
			t.Errorf("want a problem of %q, got %+v", row.field, ps)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	const hour = "year=2024/month=04/day=07/hour=18"
	for _, row := range []struct{ format, value, want string }{
		{"rfc3339", `"2024-04-07T18:11:02Z"`, hour},
		{"rfc3339", `"2024-04-07T23:59:59.999999999+05:30"`, hour},
		{"rfc3339", `"2024-04-07"`, "invalid"},
		{"rfc3339", `1712513462`, "invalid"},
		{"rfc3339", `{"x":1}`, "invalid"},
		{"rfc3339", `true`, "invalid"},
		{"rfc3339", `"0000-01-01T00:00:00Z"`, "invalid"},
		{"rfc3339", `null`, "missing"},
		{"epoch_s", `1712513462`, hour},
		{"epoch_s", `1712513462.75`, hour},
		{"epoch_s", `"1712513462"`, "invalid"},
		{"epoch_s", `-1`, "year=1969/month=12/day=31/hour=23"},
		{"epoch_s", `1e300`, "invalid"},
		{"epoch_s", `9223372036854775807`, "invalid"},
		{"epoch_s", `1712513462000`, "invalid"},
		{"epoch_ms", `1712513462000`, hour},
		{"epoch_us", `1712513462000000`, hour},
		{"epoch_ns", `1712513462000000000`, hour},
	} {
		for _, fallback := range []string{"invalid", "read_time"} {
			path := t.TempDir()
			target := opened(t, config(path, func(c *Config) { c.TimeField, c.TimeFormat, c.MissingTime = "p.t", row.format, fallback }))
			m := event.New([]byte(`{"p":{"t":` + row.value + `,"x":1}}`))
			m.Times.Read = time.Date(2026, 11, 20, 10, 35, 0, 0, time.UTC)
			err := target.Write(t.Context(), event.Batch{m})
			want := row.want
			if want == "missing" {
				if want = "invalid"; fallback == "read_time" {
					want = "year=2026/month=11/day=20/hour=10"
				}
			}
			if want == "invalid" {
				if fault.Of(err) != fault.Invalid || len(landed(t, path)) > 0 {
					t.Errorf("%s %s: error %v, rows %v", row.format, row.value, err, landed(t, path))
				}
				continue
			}
			if got := landed(t, path); err != nil || len(got) != 1 || !strings.HasPrefix(got[0], want+" ") {
				t.Errorf("%s %s: %v %v, want %s", row.format, row.value, err, got, want)
			}
		}
	}
}

// TestTimeOfAnotherType: the column of the time holds numbers, and one event has text.
func TestTimeOfAnotherType(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.TimeField, c.TimeFormat = "t", "epoch_s" }))
	writes(t, target, batch(`{"t":1712513462}`))
	err := target.Write(t.Context(), batch(`{"t":"2024-04-07T18:11:02Z"}`, `{"t":1712513462.5}`, `{"t":99999999999999999999}`))
	var p *connector.Partial
	if !errors.As(err, &p) || len(p.Failed) != 2 || p.Failed[1] != nil {
		t.Errorf("error %v", err)
	}
	if got := landed(t, path); len(got) != 2 {
		t.Errorf("rows %v", got)
	}
}

// TestRedelivery delivers the same events again and again, each time cut differently, to new
// targets, and finds each once.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	const n = 100
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`{"id":"%d","t":%d}`, i, 1712513462+i*120)
	}
	for _, cut := range []int{7, 100, 1, 33, 100} {
		target := opened(t, config(path, func(c *Config) {
			c.TimeField, c.TimeFormat, c.DedupField, c.DedupMaxIDs = "t", "epoch_s", "id", 1000
		}))
		for at := 0; at < n; at += cut {
			part := all[at:min(at+cut, n)]
			writes(t, target, batch(append(slices.Clip(part), part[0])...)) // one is twice in the batch
		}
		if err := target.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := landed(t, path); len(got) != n {
			t.Fatalf("after cuts of %d: %d rows, want %d", cut, len(got), n)
		}
	}
}

// TestDedupKeepsWhatHasNoID: only an id in its column makes two events one.
func TestDedupKeepsWhatHasNoID(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.DedupField = "id"; c.PartitionBy = nil }))
	all := []string{`{"id":"1","v":1}`, `{"id":"1","v":2}`, `{"id":null}`, `{"id":null}`, `{"x":1}`, `{"x":1}`, `{"id":1}`, `{"id":1}`, `{"id":["1"]}`, `{"id":["1"]}`}
	writes(t, target, batch(all...))
	writes(t, target, batch(all...))
	got := map[string]int{}
	for _, row := range landed(t, path) {
		got[row]++
	}
	want := map[string]int{`. {"id":"1","v":1}`: 1, `. {}`: 4, `. {"x":1}`: 4, `. {"id":1}`: 4, `. {"id":["1"]}`: 4}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestDedupOfLargeNumbers: whole numbers of any size are ids, whatever column they are in.
func TestDedupOfLargeNumbers(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.DedupField = "u"; c.PartitionBy = nil }))
	var all []string
	for _, id := range []string{"0", "-1", "9223372036854775807", "9223372036854775808", "9223372036854775809", "18446744073709551615", "-9223372036854775809", "340282366920938463463374607431768211455"} {
		all = append(all, `{"u":`+id+`}`, `{"u":`+id+`}`)
	}
	for range 3 {
		writes(t, target, batch(all...))
	}
	if got := landed(t, path); len(got) != len(all)/2 {
		t.Errorf("%d rows of %d ids: %v", len(got), len(all)/2, got)
	}
}

// TestTheMostDecide: one event that is odd, wherever in a write it is, takes no column.
func TestTheMostDecide(t *testing.T) {
	t.Parallel()
	for _, place := range []int{0, 1, 50, 99} {
		path := t.TempDir()
		target := opened(t, config(path, func(c *Config) { c.PartitionBy = nil }))
		var all []string
		for i := range 100 {
			e := fmt.Sprintf(`{"amount":%d.5,"tags":["a"],"o":{"n":%d}}`, i, i)
			if i == place {
				e = `{"amount":"12 euro","tags":[],"o":7}`
			}
			all = append(all, e)
		}
		writes(t, target, batch(all...))
		var out bytes.Buffer
		if err := catalog.Schema(t.Context(), &out, path, false); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"amount        double ", "tags          list of string ", "o             object "} {
			if !strings.Contains(out.String(), "\n"+line) {
				t.Errorf("the odd one at %d: no %q in\n%s", place, line, &out)
			}
		}
		if got := landed(t, path); len(got) != 100 {
			t.Errorf("%d rows", len(got))
		}
	}
}

// TestTimesOfDeclaredColumns: a declared timestamp takes what time_format takes.
func TestTimesOfDeclaredColumns(t *testing.T) {
	t.Parallel()
	for format, kind := range map[string]string{"epoch_s": "timestamp_s", "epoch_ms": "timestamp_ms", "epoch_us": "timestamp_us"} {
		for _, declared := range []map[string]string{nil, {"t": kind}} {
			path := t.TempDir()
			target := opened(t, config(path, func(c *Config) { c.TimeField, c.TimeFormat, c.Types, c.PartitionBy = "t", format, declared, nil }))
			writes(t, target, batch(`{"t":1712513462}`, `{"t":1712513462.5}`, `{"t":1.712513462e9}`, `{"t":-0.25}`))
			var out bytes.Buffer
			if err := catalog.Schema(t.Context(), &out, path, false); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), kind) || strings.Contains(out.String(), "t__json") {
				t.Errorf("%s: %s", format, &out)
			}
		}
	}
}

// TestSameFileAgain delivers a batch of messages with ids of the source again, in another
// order: it is the same file. Without such ids, equal messages are different events.
func TestSameFileAgain(t *testing.T) {
	t.Parallel()
	make3 := func(ids ...string) event.Batch {
		b := batch(`{"a":1}`, `{"a":2}`, `{"a":2}`)
		for i, id := range ids {
			b[i].Meta.ID = id
		}
		return b
	}
	for _, row := range []struct {
		name        string
		first, then event.Batch
		rows        int
	}{
		{"the same", make3("x", "y", "z"), make3("x", "y", "z"), 3},
		{"another id", make3("x", "y", "z"), make3("x", "y", "w"), 6},
		{"no ids", make3(), make3(), 6},
		{"one without an id", make3("x", "y"), make3("x", "y"), 6},
	} {
		path := t.TempDir()
		target := opened(t, config(path, func(c *Config) { c.PartitionBy = nil }))
		writes(t, target, row.first)
		slices.Reverse(row.then)
		writes(t, target, row.then)
		if got := landed(t, path); len(got) != row.rows {
			t.Errorf("%s: %d rows, want %d", row.name, len(got), row.rows)
		}
	}
}

// TestSameIDOtherPayload: a split message gives its children its id; none is lost.
func TestSameIDOtherPayload(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, nil))
	m := event.New([]byte("x"))
	m.Meta.ID = "1"
	for _, child := range m.Split([]byte(`{"a":1}`), []byte(`{"a":2}`)) {
		writes(t, target, event.Batch{child})
	}
	if got := landed(t, path); len(got) != 2 {
		t.Errorf("rows %v", got)
	}
}

func TestOneFailedFileFailsItsOwnEvents(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.TimeField, c.DedupField = "t", "id" }))
	if err := os.WriteFile(filepath.Join(path, "year=2025"), nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	b := batch(`{"id":"a","t":"2024-01-01T00:00:00Z"}`, `{"id":"b","t":"2025-01-01T00:00:00Z"}`, `{"id":"b","t":"2025-01-01T00:00:00Z"}`, `[]`)
	var p *connector.Partial
	err := target.Write(t.Context(), b)
	if !errors.As(err, &p) || len(p.Failed) != 3 || p.Failed[0] != nil {
		t.Fatalf("error %v", err)
	}
	if fault.Of(p.Failed[1]) != fault.Setup || fault.Of(p.Failed[2]) != fault.Setup || fault.Of(p.Failed[3]) != fault.Invalid {
		t.Errorf("kinds: %v", p.Failed)
	}
	if err := os.Remove(filepath.Join(path, "year=2025")); err != nil {
		t.Fatal(err)
	}
	writes(t, target, b[:3])
	if got := landed(t, path); len(got) != 2 {
		t.Errorf("rows %v", got)
	}
}

// TestUnknownOutcome: a file gets its name, and then its folder is away, so that nobody can
// tell whether the name survives. The write fails; when it is repeated, under another name,
// the events are known once the folder is back.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target, err := New(connector.Deps{}, config(path, func(c *Config) { c.TimeField, c.DedupField = "t", "id" }))
	if err != nil {
		t.Fatal(err)
	}
	here, away := filepath.Join(path, "year=2025"), filepath.Join(path, "_away")
	armed := false
	target.step = func(step string) {
		if _, err := os.Stat(here); armed && step == "linked" && err == nil && files(t, path) == 2 {
			armed = false
			if err := os.Rename(here, away); err != nil {
				t.Error(err)
			}
		}
	}
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	writes(t, target, batch(`{"id":"a","t":"2025-01-01T00:00:00Z"}`))
	armed = true
	b := batch(`{"id":"b","t":"2025-01-01T00:00:00Z"}`)
	if err := target.Write(t.Context(), b); err == nil || armed {
		t.Fatalf("error %v, armed %t", err, armed)
	}
	if err := os.Rename(away, here); err != nil {
		t.Fatal(err)
	}
	writes(t, target, b)
	if got := landed(t, path); len(got) != 2 {
		t.Errorf("rows %v", got)
	}
	if err := target.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestManyPartitionsAndFiles(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) {
		c.TimeField, c.TimeFormat, c.MaxOpenPartitions, c.MaxFileBytes = "t", "epoch_s", 3, 60
	}))
	var b []string
	for i := range 200 { // hours in turn, and a new column now and then
		b = append(b, fmt.Sprintf(`{"t":%d,"c%d":%d}`, (i%20)*3600, i/50, i))
	}
	writes(t, target, batch(b...))
	got := landed(t, path)
	if len(got) != 200 || len(slices.Compact(got)) != 200 {
		t.Errorf("%d rows", len(got))
	}
	if n := files(t, path); n < 60 {
		t.Errorf("%d files: the limits were not kept", n)
	}
}

// TestWritersAgreeOnTheSchema has two targets in one process write new columns of different
// types at once: every file has the types of the newest schema, and nothing is lost.
func TestWritersAgreeOnTheSchema(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	const writers, each = 6, 10
	targets := []*Target{opened(t, config(path, nil)), opened(t, config(path, nil))}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				v := fmt.Sprint(w*each + i)
				if w%2 == 0 {
					v = `"` + v + `"`
				}
				if err := targets[w%2].Write(context.Background(), batch(fmt.Sprintf(`{"c%d":%s,"n":%s}`, i, v, v))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := landed(t, path); len(slices.Compact(got)) != writers*each {
		t.Errorf("%d different rows, want %d", len(got), writers*each)
	}
}

// TestFormat1 goes on with a dataset of format 1 as the first version that had it left it,
// killed in the middle of a write: rows, columns and ids are known, and readers see the old
// and the new files in one place.
func TestFormat1(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := os.CopyFS(path, os.DirFS("testdata/format1")); err != nil {
		t.Fatal(err)
	}
	const six, seven = "year=2024/month=04/day=07/hour=18 ", "year=2024/month=04/day=07/hour=19 "
	old := []string{six + `{"id":"a","t":1712513462,"n":1}`, six + `{"id":"c","t":1712513462,"m":1.5}`, seven + `{"id":"b","t":1712517062,"n":"x"}`}
	if diff := cmp.Diff(old, landed(t, path)); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	target := opened(t, config(path, func(c *Config) { c.TimeField, c.TimeFormat, c.DedupField = "t", "epoch_s", "id" }))
	writes(t, target, batch(`{"id":"b","t":1712517062,"n":"x"}`, `{"id":"a","t":1712513462,"n":1}`, `{"id":"d","t":1712513462,"n":"y"}`))
	want := append(old, six+`{"id":"d","t":1712513462,"n":"y"}`)
	slices.Sort(want)
	if diff := cmp.Diff(want, landed(t, path)); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(filepath.Join(path, "_weir", "staging")); err != nil || len(left) > 0 {
		t.Errorf("staging holds %v, %v", left, err)
	}
}

func TestDeclaredTypesMustAgree(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	writes(t, opened(t, config(path, nil)), batch(`{"a":1,"o":{"b":"x"},"l":[[{"p":1}]]}`))
	for _, row := range []struct{ field, kind, says string }{
		{"o.b", "timestamp", "o.b as timestamp"},
		{"l.p", "double", "l[][].p as double"},
		{"l[][].p", "double", "l[][].p as double"},
		{"a", "int64", ""},
		{"l.p", "int64", ""},
		{"l.q", "double", ""},
	} {
		target, err := New(connector.Deps{}, config(path, func(c *Config) { c.Types = map[string]string{"a": "int64", row.field: row.kind} }))
		if err != nil {
			t.Fatal(err)
		}
		err = target.Open(t.Context())
		if row.says != "" && (fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), row.says)) || row.says == "" && err != nil {
			t.Errorf("%s as %s: error %v", row.field, row.kind, err)
		}
		if err := target.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	target := opened(t, config(path, func(c *Config) { c.DedupField = "a" }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Write(ctx, batch(`{"a":1}`)); err == nil && len(landed(t, path)) != 1 {
		t.Error("a cancelled write says it is done and is not")
	}
	done, err := target.dataset.Exclusive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Write(ctx, batch(`{"a":2}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for another writer: %v", err)
	}
	done()
}
