package lake

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/iceberg/restcatalog"
)

// tabled is a config with a table, in a catalog beside the dataset.
func tabled(path string, change func(*Config)) Config {
	return config(path, func(c *Config) {
		c.TimeField = "at"
		c.Table = &Table{Name: "lake.events", SQLite: &SQLite{Path: filepath.Join(filepath.Dir(path), "catalog.db")}}
		if change != nil {
			change(c)
		}
	})
}

// table is what PyIceberg finds in the table of the dataset.
func table(t testing.TB, path, filter string) enginetest.PyTable {
	t.Helper()
	return enginetest.PyIcebergWith(t, map[string]string{"type": "sql", "uri": "sqlite:///" + filepath.Join(filepath.Dir(path), "catalog.db")}).Read(t, "lake.events", filter)
}

// ids are those of the rows, sorted.
func ids(rows []map[string]any) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = fmt.Sprint(r["id"])
	}
	slices.Sort(out)
	return out
}

func timed(id int, minute int) string {
	return fmt.Sprintf(`{"id":"e%03d","at":%q}`, id, time.Date(2026, 4, 7, 12, minute, 0, 0, time.UTC).Format(time.RFC3339))
}

// placed are messages with positions, which are recognised when they come again.
func placed(from int, events ...string) event.Batch {
	b := batch(events...)
	for i, m := range b {
		m.Meta.Origin = &event.Origin{Stream: "orders", Partition: "0", Position: []byte(fmt.Sprintf("%08d", from+i))}
	}
	return b
}

func TestTableHasWhatLanded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	target := opened(t, tabled(path, nil))
	writes(t, target, batch(timed(1, 0), timed(2, 59), timed(3, 60)))
	writes(t, target, placed(1, timed(4, 61), `{"id":"e005","at":"2026-04-07T13:30:00Z","more":{"n":1,"tags":["x"]}}`))
	writes(t, target, placed(1, timed(4, 61), `{"id":"e005","at":"2026-04-07T13:30:00Z","more":{"n":1,"tags":["x"]}}`, timed(6, 120)))
	got := table(t, path, "")
	if want := []string{"e001", "e002", "e003", "e004", "e005", "e006"}; !slices.Equal(ids(got.Rows), want) {
		t.Errorf("the table has %v", ids(got.Rows))
	}
	if got.Types["at"] != "timestamptz" || !strings.Contains(got.Types["more"], "list<string>") {
		t.Errorf("its columns are %v", got.Types)
	}
	for where, p := range map[string]map[string]string{"properties": got.Properties, "summary": got.Summary} {
		if p["weir.commit"] != "3" || !strings.Contains(p["weir.positions"], `"orders"`) {
			t.Errorf("the %s are %v", where, p)
		}
	}
	hour := table(t, path, "at >= '2026-04-07T13:00:00+00:00' and at < '2026-04-07T14:00:00+00:00'")
	if want := []string{"e003", "e004", "e005"}; !slices.Equal(ids(hour.Rows), want) || hour.Files != 2 {
		t.Errorf("one hour is %v, in %d files", ids(hour.Rows), hour.Files)
	}
}

func TestTableOfADatasetThatIsThereAlready(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	before, err := New(connector.Deps{}, config(path, func(c *Config) { c.TimeField = "at" }))
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	writes(t, before, batch(timed(1, 0), timed(2, 60)))
	writes(t, before, placed(1, timed(3, 0)))
	if err := before.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := opened(t, tabled(path, nil))
	if want := []string{"e001", "e002", "e003"}; !slices.Equal(ids(table(t, path, "").Rows), want) {
		t.Errorf("the table has %v", ids(table(t, path, "").Rows))
	}
	writes(t, target, batch(timed(4, 30)))
	got := table(t, path, "")
	if want := []string{"e001", "e002", "e003", "e004"}; !slices.Equal(ids(got.Rows), want) {
		t.Errorf("the table has %v", ids(got.Rows))
	}
	// From now on nobody leaves the table behind.
	if err := target.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{
		config(path, func(c *Config) { c.TimeField = "at" }),
		tabled(path, func(c *Config) { c.Table.Name = "lake.others" }),
	} {
		other, err := New(connector.Deps{}, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "lake.events") {
			t.Errorf("a dataset without its table opens with %v", err)
		}
	}
}

func TestTimeThatDoesNotFitItsColumnIsInvalid(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	target := opened(t, tabled(path, func(c *Config) { c.Types = map[string]string{"at": "timestamp_s"} }))
	err := target.Write(t.Context(), batch(timed(1, 0)))
	if p, ok := err.(*connector.Partial); !ok || len(p.Failed) != 1 || !strings.Contains(p.Failed[0].Error(), "partitioned") {
		t.Errorf("it gives %v", err)
	}
}

func TestTableIsValidated(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"table.name":         func(c *Config) { c.Table.Name = "events" },
		"table":              func(c *Config) { c.Table.SQLite = nil },
		"table.sqlite.path":  func(c *Config) { c.Table.SQLite.Path = "" },
		"table.postgres.dsn": func(c *Config) { c.Table.SQLite, c.Table.PostgreSQL = nil, &PostgreSQL{DSN: "postgres://u:p^%@h/d"} },
		"missing_time":       func(c *Config) { c.MissingTime = "read_time" },
		"time_format":        func(c *Config) { c.TimeFormat = "epoch_ns" },
		"table.rest.url":     func(c *Config) { c.Table.SQLite, c.Table.REST = nil, &restcatalog.Access{URL: "catalog"} },
		"table.glue.region": func(c *Config) {
			c.Table.SQLite, c.Table.Glue, c.Path = nil, &glue.Access{Region: "Frankfurt am Main"}, "s3://lake/events"
		},
		"path":  func(c *Config) { c.Table.SQLite, c.Table.Glue = nil, &glue.Access{} },
		"types": func(c *Config) { c.Types = map[string]string{"at": "string"} },
	} {
		if ps := tabled("lake", change).Validate(); len(ps) != 1 || ps[0].Field != want {
			t.Errorf("%s: %v", want, ps)
		}
	}
	for _, n := range []string{"lake.Events", "lake.web-events", "a.b.c"} {
		ps := tabled("s3://lake/events", func(c *Config) { c.Table.SQLite, c.Table.Glue, c.Table.Name = nil, &glue.Access{}, n }).Validate()
		if len(ps) != 1 || ps[0].Field != "table.name" {
			t.Errorf("%s in Glue: %v", n, ps)
		}
	}
	if ps := tabled("lake", func(c *Config) { c.TimeField = "" }).Validate(); len(ps) != 1 {
		t.Errorf("without time_field: %v", ps)
	}
	if ps := tabled("lake", func(c *Config) { c.TimeField, c.PartitionBy = "", []string{} }).Validate(); len(ps) != 0 {
		t.Errorf("without partitions: %v", ps)
	}
}
