package lakesql_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/lakesql"
)

// TestPage: a page has no more rows, bytes and bytes of a value than it may, and says what it left out;
// another query goes on behind it.
func TestPage(t *testing.T) {
	t.Parallel()
	h := newHours(t, "orders")
	h.land(time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC), `{"n":1,"text":"aé"}`, `{"n":2,"text":null}`, `{"n":3,"text":"`+strings.Repeat("x", 100)+`"}`)
	s, err := catalog.Look(t.Context(), h.path)
	if err != nil {
		t.Fatal(err)
	}
	if about, err := s.Describe(t.Context()); err != nil || about.Rows != 3 || about.Written.IsZero() {
		t.Errorf("%+v, %v", about, err)
	}
	db, err := lakesql.Of(t.Context(), h.path, []*catalog.Snapshot{s}, lakesql.Options{MaxValue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if c := db.Columns(); len(c) != 6 || c[0] != (lakesql.Column{Name: "n", Type: "int64"}) {
		t.Errorf("columns %v", c)
	}
	page := func(query string, most lakesql.PageLimits) *lakesql.Page {
		t.Helper()
		rows, err := db.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		p, err := rows.Page(most)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	all := lakesql.PageLimits{Rows: 3, Bytes: 1000, Cell: 1000}
	if p := page("SELECT n, text FROM orders ORDER BY n", all); len(p.Rows) != 3 || p.More || p.Cut || *p.Rows[0][1] != "aé" || p.Rows[1][1] != nil || *p.Rows[2][0] != "3" {
		t.Errorf("all of it: %+v", p)
	}
	if p := page("SELECT n FROM orders", lakesql.PageLimits{Rows: 2, Bytes: 1000, Cell: 1000}); len(p.Rows) != 2 || !p.More {
		t.Errorf("two rows: %+v", p)
	}
	if p := page("SELECT text FROM orders ORDER BY n DESC", lakesql.PageLimits{Rows: 9, Bytes: 50, Cell: 1000}); len(p.Rows) != 1 || !p.More || p.Cut {
		t.Errorf("50 bytes: %+v", p)
	}
	if p := page("SELECT text FROM orders ORDER BY n LIMIT 1", lakesql.PageLimits{Rows: 9, Bytes: 50, Cell: 2}); !p.Cut || *p.Rows[0][0] != "a\uFFFD" {
		t.Errorf("a cell of 2 bytes: %+v", p)
	}
	rows, err := db.Query(t.Context(), "SELECT hex(zeroblob(2000))")
	if err == nil {
		_, err = rows.Page(all)
	}
	if err == nil || !strings.Contains(err.Error(), "too big") {
		t.Errorf("a value that is too long: %v", err)
	}
}
