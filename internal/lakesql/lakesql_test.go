package lakesql_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/lakesql"
	"github.com/weirdata/weir/internal/parquet"
)

var decoding = parquet.Options{MaxDepth: 10, MaxColumns: 3000, Types: map[string]parquet.Type{"at": {Kind: parquet.Timestamp}, "created_at": {Kind: parquet.Timestamp}, "s_at": {Kind: parquet.TimestampS}}}

// hours is a dataset that is written to, by the hour.
type hours struct {
	t    *testing.T
	path string
	d    *catalog.Dataset
	n    int
}

func newHours(t *testing.T, name string) *hours {
	t.Helper()
	h := &hours{t: t, path: filepath.Join(t.TempDir(), name)}
	d, err := catalog.Open(t.Context(), h.path, catalog.Options{Layout: catalog.Units()})
	if err != nil {
		t.Fatal(err)
	}
	h.d = d
	t.Cleanup(func() { _ = d.Close() })
	return h
}

// land commits a file of the events to the hour of at.
func (h *hours) land(at time.Time, events ...string) {
	h.t.Helper()
	base := h.d.Schema()
	d := parquet.NewDecoder(base, decoding)
	rows := parquet.NewRows()
	for _, e := range events {
		if err := d.Decode([]byte(e)); err != nil {
			h.t.Fatalf("%v: %s", err, e)
		}
		rows.Append(d)
	}
	if d.Changed() {
		if err := h.d.Evolve(h.t.Context(), base, d.Schema()); err != nil {
			h.t.Fatal(err)
		}
	}
	h.n++
	_, err := h.d.Commit(h.t.Context(), catalog.File{
		Partition: catalog.Layout(catalog.Units()).Partition(at), Name: fmt.Sprintf("events-%04d", h.n),
		Record: catalog.Record{Rows: int64(rows.Len()), First: at, Last: at, At: at},
		Write:  func(w io.Writer) error { return rows.Write(w, d.Schema(), nil) },
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// ask is the answer to a query as JSON, a line for each row.
func ask(t *testing.T, path, query string, o lakesql.Options) (string, error) {
	t.Helper()
	db, err := lakesql.Open(t.Context(), path, o)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := db.Query(t.Context(), query)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = rows.WriteJSON(&b)
	return b.String(), err
}

func (h *hours) ask(query string, want ...string) {
	h.t.Helper()
	got, err := ask(h.t, h.path, query, lakesql.Options{})
	if err != nil {
		h.t.Errorf("%v: %s", err, query)
		return
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.TrimSuffix(got, "\n")); diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", query, diff)
	}
}

var ten = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)

// TestAnswers asks for every kind of value, in every way in which one is read.
func TestAnswers(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	h.land(ten,
		`{"id":"a","at":"2026-11-29T10:00:00Z","s_at":1795946400,"n":1,"x":1.5,"ok":true,"o":{"k":"v","l":[1,2]},"l":[{"q":1},null],"mixed":5}`,
		`{"id":"b","at":"2026-11-29T11:30:00.25+01:00","s_at":1795948200.25,"n":2,"x":-0.0,"ok":false,"o":{"k":"w"},"l":[],"mixed":"high"}`)
	h.land(ten.Add(time.Hour),
		`{"id":"c","at":"2026-11-29T11:00:00Z","n":9223372036854775807,"later":"here","mixed":1.25}`,
		`{"id":"d","at":"2026-11-29T11:59:59.999999Z","mixed":[1],"Ünï cödé \" key":"\u0001\n"}`)

	h.ask(`SELECT count(*) AS n FROM events`, `{"n":4}`)
	h.ask(`SELECT * FROM events WHERE id = 'a'`,
		`{"id":"a","at":"2026-11-29T10:00:00Z","s_at":"2026-11-29T10:00:00Z","n":1,"x":1.5,"ok":true,"o":{"k":"v","l":[1,2]},"l":[{"q":1},null],"mixed":5,"later":null,"Ünï_cödé___key":null,"year":2026,"month":11,"day":29,"hour":10}`)
	h.ask(`SELECT typeof(mixed) t, mixed FROM events ORDER BY id`,
		`{"t":"integer","mixed":5}`, `{"t":"text","mixed":"high"}`, `{"t":"real","mixed":1.25}`, `{"t":"text","mixed":"[1]"}`)
	h.ask(`SELECT json_extract(o, '$.l[1]') a, o ->> '$.k' b, "o.k" c FROM events WHERE o IS NOT NULL ORDER BY id`, `{"a":2,"b":"v","c":"v"}`, `{"a":null,"b":"w","c":"w"}`)
	h.ask(`SELECT value ->> 'q' q FROM events, json_each(l) WHERE value IS NOT NULL`, `{"q":1}`)
	h.ask(`SELECT "Ünï_cödé___key" u, later FROM events WHERE n = 9223372036854775807 OR u IS NOT NULL ORDER BY id`, `{"u":null,"later":"here"}`, `{"u":"\u0001\n","later":null}`)
	h.ask(`SELECT sum(ok) n, max(x) x FROM events`, `{"n":1,"x":1.5}`)
	h.ask(`SELECT hour, count(*) n FROM events GROUP BY 1 ORDER BY 1`, `{"hour":10,"n":2}`, `{"hour":11,"n":2}`)
	h.ask(`SELECT count(DISTINCT _file) n, min(_file) f FROM events`, `{"n":2,"f":"year=2026/month=11/day=29/hour=10/events-0001.parquet"}`)
	h.ask(`SELECT a.id FROM events a JOIN events b ON a.n = b.n + 1`, `{"id":"b"}`)
}

// TestTimesAreCompared as times, however they are written and wherever in a query.
func TestTimesAreCompared(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	h.land(ten, `{"id":"a","at":"2026-11-29T10:00:00Z","s_at":1795946400}`, `{"id":"b","at":"2026-11-29T10:30:00.25Z","s_at":1795948200.25}`)
	h.land(ten.Add(time.Hour), `{"id":"c","at":"2026-11-29T11:00:00Z","s_at":1795950000}`)
	for _, x := range [][2]string{
		{`at = '2026-11-29T10:00:00Z'`, "a"}, {`at = '2026-11-29 10:00:00'`, "a"}, {`at = '2026-11-29 11:00:00+01:00'`, "a"}, {`at = '2026-11-29 10:00'`, "a"},
		{`at >= '2026-11-29'`, "abc"}, {`at < '2026-11-29'`, ""}, {`at > '2026-11-29T10:30:00Z'`, "bc"}, {`at > '2026-11-29T10:30:00.250000Z'`, "c"},
		{`at BETWEEN '2026-11-29 10:00' AND '2026-11-29 10:59:59.999'`, "ab"}, {`at >= datetime('2026-11-29 10:30')`, "bc"}, {`at IN ('2026-11-29 11:00')`, "c"},
		{`NOT (at < '2026-11-29 11:00:00')`, "c"}, {`CASE WHEN at <= '2026-11-29 10:00' THEN 1 END`, "a"}, {`date(at) = '2026-11-29'`, "abc"}, {`strftime('%H', at) = '11'`, "c"},
		{`s_at = 1795946400`, "a"}, {`s_at >= 1795948200.25`, "bc"}, {`s_at > '2026-11-29 10:00'`, "bc"}, {`at = (SELECT max(at) FROM events)`, "c"},
		{`at LIKE '2026-11-29T10%'`, "ab"}, {`hour = 10`, "ab"}, {`hour >= 11 AND day = 29`, "c"}, {`day = 28`, ""}, {`id = 'A' COLLATE nocase`, "a"}, {`at = NULL`, ""},
		{`at >= '2026'`, "abc"}, {`s_at >= '2027'`, ""}, {`at < '2026-12' AND s_at >= '2026-11'`, "abc"},
	} {
		h.ask(`SELECT coalesce(group_concat(id, ''), '') s FROM (SELECT * FROM events ORDER BY at) WHERE `+x[0], fmt.Sprintf(`{"s":%q}`, x[1]))
	}
}

// TestWhatIsWrongIsSaid with what to do.
func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	h.land(ten, `{"event_name":"a","user":{"id":1,"Plan B":true},"at":"2026-11-29T10:00:00Z"}`)
	for query, want := range map[string]string{
		`SELECT evnt_name FROM events`:                            `no column evnt_name; did you mean event_name?`,
		`SELECT e.evnt_name FROM events e`:                        `no column e.evnt_name; did you mean event_name?`,
		`SELECT "evnt_name" FROM events`:                          `no column evnt_name; did you mean event_name?`,
		`SELECT user.id FROM events`:                              `the name of the column needs quotes: "user.id"`,
		`SELECT 1 FROM evens`:                                     `no table evens; did you mean events? (there is events)`,
		`SELECT date_trunc('hour', at) FROM events`:               `no function date_trunc`,
		`SELECT zzzzzzzz FROM events`:                             `weir lake schema`,
		`SELECT frm WHERE`:                                        `incomplete input`,
		`DROP TABLE events`:                                       `not with DROP`,
		`ATTACH 'x' AS y`:                                         `not with ATTACH`,
		`PRAGMA query_only = 0`:                                   `not with PRAGMA`,
		`SELECT 1; DROP TABLE events`:                             `another begins at "DROP TABLE events"`,
		`WITH x AS (SELECT 1) INSERT INTO events SELECT 1 FROM x`: ``,
		` ; -- nothing`:                                           `the query is empty`,
	} {
		got, err := ask(t, h.path, query, lakesql.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want an error with %q", query, got, err, want)
		}
	}
	for query, want := range map[string]string{
		`SELECT ';' AS x -- ; more` + "\n;": `{"x":";"}`,
		`/* ; */ VALUES (1)`:                `{"column1":1}`,
	} {
		if got, err := ask(t, h.path, query, lakesql.Options{}); err != nil || strings.TrimSpace(got) != want {
			t.Errorf("%s: %q, %v; want %s", query, got, err, want)
		}
	}
	if _, err := ask(t, h.path, `SELECT 1`, lakesql.Options{Distinct: "event_nam"}); err == nil || !strings.Contains(err.Error(), "did you mean event_name?") {
		t.Errorf("an unknown field to be distinct by: %v", err)
	}
}

// TestAQueryEnds when its context does, within a file too.
func TestAQueryEnds(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	var events []string
	for i := range 3000 {
		events = append(events, fmt.Sprintf(`{"n":%d}`, i))
	}
	h.land(ten, events...)
	db, err := lakesql.Open(t.Context(), h.path, lakesql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	late := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(late) })
	rows, err := db.Query(ctx, `SELECT count(*) FROM events a, events b, events c, events d WHERE a.n + b.n + c.n + d.n < 0`)
	if err == nil {
		err = rows.WriteJSON(io.Discard)
	}
	if !errors.Is(err, late) {
		t.Errorf("the query ended with %v", err)
	}
	rows, err = db.Query(t.Context(), `SELECT count(*) AS n FROM events`)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := rows.WriteJSON(&b); err != nil || b.String() != "{\"n\":3000}\n" {
		t.Errorf("afterwards: %q, %v", b.String(), err)
	}
}

// TestADamagedFileIsNamed and the answer is none.
func TestADamagedFileIsNamed(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	h.land(ten, `{"n":1}`)
	h.land(ten, `{"n":2}`)
	name := filepath.Join(h.path, "year=2026", "month=11", "day=29", "hour=10", "events-0002.parquet")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { c := bytes.Clone(b); clear(c[4:40]); return c },
	} {
		if err := os.WriteFile(name, damage(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ask(t, h.path, `SELECT sum(n) FROM events`, lakesql.Options{}); err == nil || !strings.Contains(err.Error(), "events-0002.parquet") {
			t.Errorf("answered %q, %v", got, err)
		}
	}
}

// TestDistinct has each id once, and all events that have none.
func TestDistinct(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	r := rand.New(rand.NewPCG(1, 2))
	total, ids, none := 0, map[string]bool{}, 0
	for i := range 6 {
		var events []string
		for range 2000 {
			id := fmt.Sprintf("id-%d", r.IntN(4000))
			if r.IntN(50) == 0 {
				events = append(events, `{"x":1}`)
				none++
				continue
			}
			ids[id] = true
			total++
			events = append(events, fmt.Sprintf(`{"event_uuid":%q}`, id))
		}
		h.land(ten.Add(time.Duration(i/2)*time.Hour), events...)
	}
	got, err := ask(t, h.path, `SELECT (SELECT count(event_uuid) FROM events) AS total, count(DISTINCT event_uuid) AS ids, count(event_uuid) AS n, count(*) AS rows FROM events_distinct`,
		lakesql.Options{Distinct: "event_uuid"})
	want := fmt.Sprintf("{\"total\":%d,\"ids\":%d,\"n\":%d,\"rows\":%d}\n", total, len(ids), len(ids), len(ids)+none)
	if err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	duck := enginetest.DuckDB(t)
	var views bytes.Buffer
	if err := catalog.Views(t.Context(), &views, h.path, "event_uuid"); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(views.String(), ";\n")
	rows := duck.Run(t, strings.Join(lines, ""), `SELECT count(event_uuid) AS n, count(*) AS rows FROM events_distinct`)
	if diff := cmp.Diff([]map[string]any{{"n": json.Number(fmt.Sprint(len(ids))), "rows": json.Number(fmt.Sprint(len(ids) + none))}}, rows); diff != "" {
		t.Errorf("DuckDB (-want +got):\n%s", diff)
	}
}

// TestDuckDBAgrees asks DuckDB the same of the same data: with conditions that pass over
// partitions and row groups, and without.
func TestDuckDBAgrees(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	h := newHours(t, "events")
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 12 {
		var events []string
		for k := range 1000 {
			at := ten.Add(time.Duration(i) * time.Hour / 2).Add(time.Duration(r.IntN(1800)) * time.Second)
			e := fmt.Sprintf(`{"id":"%d-%d","created_at":%q,"n":%d,"kind":"k%d"`, i, k, at.Format(time.RFC3339), i*1000+r.IntN(2000)-6000, r.IntN(5)+i/4)
			if r.IntN(4) > 0 {
				e += fmt.Sprintf(`,"x":%d.%d,"o":{"p":%d,"q":"t%d"}`, r.IntN(200)-100, 1+r.IntN(9), r.IntN(9), r.IntN(3))
			}
			if i > 5 && r.IntN(2) == 0 {
				e += fmt.Sprintf(`,"late":%t`, r.IntN(2) == 0)
			}
			events = append(events, e+"}")
		}
		h.land(ten.Add(time.Duration(i)*time.Hour/2).Truncate(time.Hour), events...)
	}
	var view bytes.Buffer
	if err := catalog.View(t.Context(), &view, h.path, "events", false); err != nil {
		t.Fatal(err)
	}
	conditions := []string{"1 = 1"}
	for range 60 {
		number := func() string { return fmt.Sprint(r.IntN(9000) - 6500) }
		op := func() string { return []string{"=", "<", "<=", ">", ">="}[r.IntN(5)] }
		one := func() string {
			switch r.IntN(7) {
			case 0:
				return "n " + op() + " " + number()
			case 1:
				return "n " + op() + " " + number() + ".5"
			case 2:
				return "x " + op() + " " + fmt.Sprint(r.IntN(200)-100)
			case 3:
				return fmt.Sprintf("kind %s 'k%d'", op(), r.IntN(9))
			case 4:
				return fmt.Sprintf("created_at %s '2026-11-29 %d:%02d:00Z'", op(), 10+r.IntN(6), r.IntN(60))
			case 5:
				return fmt.Sprintf("hour %s %d", op(), 9+r.IntN(8))
			}
			return "id = '3-7'"
		}
		conditions = append(conditions, one(), "("+one()+" AND "+one()+")", "("+one()+" OR "+one()+")", "(NOT "+one()+" AND "+one()+")")
	}
	var parts []string
	for i, c := range conditions {
		parts = append(parts, fmt.Sprintf("SELECT %d AS i, count(*) AS rows, count(x) AS xs, count(late) AS lates, coalesce(sum(n), 0) AS n, coalesce(min(kind), '') AS kind FROM events WHERE %s", i, c))
	}
	want := duck.Run(t, view.String(), strings.ReplaceAll(strings.Join(parts, " UNION ALL "), "coalesce(sum(n), 0)", "coalesce(sum(n), 0)::BIGINT")+" ORDER BY i")
	db, err := lakesql.Open(t.Context(), h.path, lakesql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i, part := range parts {
		rows, err := db.Query(t.Context(), part)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := rows.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		d := json.NewDecoder(&b)
		d.UseNumber()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("WHERE %s (-DuckDB +SQLite):\n%s", conditions[i], diff)
		}
	}
}

// TestManyColumns are more than a table of SQLite has: those of objects are left out first.
func TestManyColumns(t *testing.T) {
	t.Parallel()
	h := newHours(t, "events")
	var b strings.Builder
	b.WriteString(`{"o":{"x":1`)
	for i := range 1500 {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	b.WriteString(`}`)
	for i := range 1000 {
		fmt.Fprintf(&b, `,"c%d":%d`, i, i)
	}
	h.land(ten, b.String()+"}")
	h.ask(`SELECT c999, o ->> 'k1499' AS k FROM events`, `{"c999":999,"k":1499}`)
}
