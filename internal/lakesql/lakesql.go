// Package lakesql answers SQL about datasets of package catalog, with nothing installed: SQLite
// asks, by virtual tables, for rows and columns of Parquet files.
//
// # Tables
//
// A dataset is a table called like its folder. A key of the events is one column of it, whatever
// types its values have: what the files keep in columns beside each other (amount, amount__json)
// is one column again, since a column of SQLite may hold values of any type.
//
//	string, bool, int64, double   text, 0 or 1, integer, real
//	timestamp, of every unit      text such as 2026-11-29T10:30:00.25Z, compared as a time
//	object, list, map, json       JSON text, for json_extract, -> and ->>
//	decimal                       real, which has 15 digits
//	date, time, UUID, binary      text; binary as base64
//
// Columns of objects are there a second time by their path, "user.id", so that a query need not
// read and write whole objects; they, and _file, are hidden: SELECT * leaves them out. The folders
// of a partition are the columns year, month, day and hour. DATASET_distinct is the table without
// rows whose id came before in it.
//
// # What is read
//
// Of a file, the columns that a query asks for, and of those only as far as rows are asked for. A
// partition whose year, month, day or hour no condition allows is not opened; a row group whose
// least and greatest values no condition allows is passed over. SQLite checks every condition
// itself, so this only ever leaves out rows that would not be in the answer.
//
// # Limits
//
// One file at a time is open for a table in a query, with a page of each column. What SQLite sorts
// and groups beyond its cache goes to temporary files; a value has at most 64 MiB. A context ends
// a query within a few thousand rows.
package lakesql

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"modernc.org/sqlite"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
	"github.com/weirdata/weir/internal/spelling"
)

// Options are how datasets are opened.
type Options struct {
	// Distinct is the field with the id of an event, as keys with dots between; with it each
	// dataset that has the field has a second table, NAME_distinct.
	Distinct string
	// MaxValue is how long a value may be, in bytes; 64 MiB where it is 0.
	MaxValue int
}

// DB is datasets that can be asked. It is for one goroutine.
type DB struct {
	db        *sql.DB
	conn      *sql.Conn
	snapshots []*catalog.Snapshot
	tables    []*table
	ctx       context.Context // of the query in progress
	failed    error           // of a table in it: SQLite only says that there was one
	exact     bool            // whether texts are compared byte by byte in it
}

// Open takes a snapshot of the dataset at path, or of each one in the folder path.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	paths, err := catalog.Find(ctx, path)
	if err != nil {
		return nil, err
	}
	var snapshots []*catalog.Snapshot
	for _, p := range paths {
		s, err := catalog.Look(ctx, p)
		if err != nil {
			for _, s := range snapshots {
				s.Close()
			}
			return nil, err
		}
		snapshots = append(snapshots, s)
	}
	return Of(ctx, path, snapshots, o)
}

// Of is the datasets of snapshots, which it closes; path is what they are called together.
func Of(ctx context.Context, path string, snapshots []*catalog.Snapshot, o Options) (_ *DB, err error) {
	d := &DB{snapshots: snapshots}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	for _, s := range snapshots {
		if err := d.add(s, o); err != nil {
			return nil, err
		}
	}
	if o.Distinct != "" && !slices.ContainsFunc(d.tables, func(t *table) bool { return t.distinct > 0 }) {
		return nil, fault.New(fault.Setup, fmt.Errorf("no dataset in %s has the field %q that tells events apart%s", path, o.Distinct, d.tables[0].near(o.Distinct)))
	}
	err = d.connect(ctx, cmp.Or(o.MaxValue, most))
	return d, err
}

// add makes the tables of a dataset.
func (d *DB) add(s *catalog.Snapshot, o Options) error {
	name, err := catalog.Name(s.Path)
	if err != nil {
		return err
	}
	t := &table{db: d, dataset: s, name: d.free(name), columns: columnsOf(s)}
	if n := len(t.columns); n > mostColumns {
		return fault.New(fault.Setup, fmt.Errorf("the dataset %s has %d columns, and a table of SQLite %d at most; ask DuckDB, with --engine duckdb", s.Path, n, mostColumns))
	}
	d.tables = append(d.tables, t)
	if o.Distinct == "" {
		return nil
	}
	if i := slices.IndexFunc(t.columns, func(c column) bool { return c.path == o.Distinct && c.unit == 0 && !c.file }); i >= 0 {
		distinct := *t
		distinct.name, distinct.distinct = d.free(t.name+"_distinct"), i+1
		d.tables = append(d.tables, &distinct)
	}
	return nil
}

// free is name, or one like it that no table has.
func (d *DB) free(name string) string {
	for n, base := 2, name; slices.ContainsFunc(d.tables, func(t *table) bool { return strings.EqualFold(t.name, name) }); n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

// moduleName is what SQLite calls the tables' implementation.
const moduleName = "weir_lake"

// most is how long a value may be, in bytes.
const most = 64 << 20

// opener opens connections of one driver.
type opener struct{ driver *sqlite.Driver }

func (o opener) Driver() driver.Driver { return o.driver }

func (o opener) Connect(context.Context) (driver.Conn, error) {
	// Names in double quotes are names, and never text when they are misspelt.
	return o.driver.Open("file::memory:?_dqs=0&_pragma=temp_store(1)")
}

func (d *DB) connect(ctx context.Context, most int) error {
	own := &sqlite.Driver{}
	err := own.RegisterModule(moduleName, module{d})
	for name, unit := range collations {
		if err == nil {
			err = own.RegisterCollationUtf8(name, func(a, b string) int { return compareTimes(a, b, unit) })
		}
	}
	if err != nil {
		return fmt.Errorf("prepare SQLite: %w", err)
	}
	d.db = sql.OpenDB(opener{own})
	d.ctx = ctx
	if d.conn, err = d.db.Conn(ctx); err != nil {
		return fmt.Errorf("start SQLite: %w", err)
	}
	const limitLength = 0 // SQLITE_LIMIT_LENGTH
	if _, err := sqlite.Limit(d.conn, limitLength, most); err != nil {
		return fmt.Errorf("start SQLite: %w", err)
	}
	for i, t := range d.tables {
		if _, err := d.conn.ExecContext(ctx, fmt.Sprintf("CREATE VIRTUAL TABLE temp.%s USING %s(%d)", quoted(t.name), moduleName, i)); err != nil {
			return fmt.Errorf("make a table of the dataset %s: %w", t.dataset.Path, d.explain(err))
		}
	}
	if _, err := d.conn.ExecContext(ctx, "PRAGMA query_only = 1"); err != nil {
		return fmt.Errorf("start SQLite: %w", err)
	}
	return nil
}

// Close ends the use of the datasets.
func (d *DB) Close() error {
	var err error
	if d.conn != nil {
		err = d.conn.Close()
	}
	if d.db != nil {
		err = errors.Join(err, d.db.Close())
	}
	for _, s := range d.snapshots {
		s.Close()
	}
	return err
}

// Tables are the names of the tables.
func (d *DB) Tables() (names []string) {
	for _, t := range d.tables {
		names = append(names, t.name)
	}
	return names
}

// Column is a column of a table: its name in SQL, and what its values are.
type Column struct{ Name, Type string }

// Columns are those of the first table, without those that SELECT * leaves out.
func (d *DB) Columns() (columns []Column) {
	for i := range d.tables[0].columns {
		if c := &d.tables[0].columns[i]; !c.hidden {
			columns = append(columns, Column{c.path, c.kind.String()})
		}
	}
	return columns
}

// Query asks one question.
func (d *DB) Query(ctx context.Context, query string) (*Rows, error) {
	if err := readsOnly(query); err != nil {
		return nil, err
	}
	d.ctx, d.failed = ctx, nil
	d.exact = !strings.Contains(strings.ToLower(query), "collate")
	rows, err := d.conn.QueryContext(ctx, query) //nolint:rowserrcheck // Rows closes them, and says how they ended
	if err != nil {
		return nil, d.explain(err)
	}
	r := &Rows{d: d, rows: rows}
	if r.Columns, err = rows.Columns(); err == nil {
		var types []*sql.ColumnType
		types, err = rows.ColumnTypes()
		for _, t := range types {
			r.json = append(r.json, t.DatabaseTypeName() == jsonType)
			r.truth = append(r.truth, t.DatabaseTypeName() == boolType)
		}
	}
	if err != nil {
		return nil, errors.Join(d.explain(err), rows.Close()) //nolint:sqlclosecheck // the caller gets them otherwise
	}
	return r, nil
}

// Rows are the rows of an answer.
type Rows struct {
	Columns []string
	d       *DB
	rows    *sql.Rows
	json    []bool // which columns hold JSON text
	truth   []bool // and which true and false, as 1 and 0
	values  []any
	err     error
}

// Next is the next row, valid until the one after it; ok is false after the last.
func (r *Rows) Next() (values []any, ok bool) {
	if !r.rows.Next() {
		r.err = r.rows.Err()
		return nil, false
	}
	r.values = slices.Grow(r.values[:0], len(r.Columns))[:len(r.Columns)]
	into := make([]any, len(r.values))
	for i := range into {
		r.values[i] = nil
		into[i] = &r.values[i]
	}
	if r.err = r.rows.Scan(into...); r.err != nil {
		return nil, false
	}
	for i, v := range r.values {
		if n, ok := v.(int64); ok && r.truth[i] {
			r.values[i] = n != 0
		}
	}
	return r.values, true
}

// Close ends the answer, and says why it ended.
func (r *Rows) Close() error {
	err := r.err
	if closeErr := r.rows.Close(); err == nil {
		err = closeErr
	}
	if err == nil && r.d.failed != nil {
		err = r.d.failed
	}
	return r.d.explain(err)
}

var (
	noColumn = regexp.MustCompile(`no such column: (.+?)(?: - should this be a string literal in single-quotes\?)? \(1\)$`)
	noTable  = regexp.MustCompile(`no such table: (.+) \(1\)$`)
	noName   = regexp.MustCompile(`no such function: (.+) \(1\)$`)
	code     = regexp.MustCompile(` \(\d+\)$`)
)

// explain says what to do about an error of SQLite.
func (d *DB) explain(err error) error {
	if err == nil {
		return nil
	}
	if d.failed != nil {
		return d.failed
	}
	if d.ctx != nil && d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	text := err.Error()
	setup := func(format string, args ...any) error { return fault.New(fault.Setup, fmt.Errorf(format, args...)) }
	if m := noColumn.FindStringSubmatch(text); m != nil {
		name := strings.ReplaceAll(m[1], `"`, "")
		return setup("there is no column %s%s", name, d.nearColumn(name))
	}
	if m := noTable.FindStringSubmatch(text); m != nil {
		near := ""
		if n := spelling.Nearest(m[1], d.Tables()); n != "" {
			near = fmt.Sprintf("; did you mean %s?", named(n))
		}
		return setup("there is no table %s%s (there is %s)", m[1], near, strings.Join(quotedAll(d.Tables()), ", "))
	}
	if m := noName.FindStringSubmatch(text); m != nil {
		return setup("SQLite has no function %s; sqlite.org/lang_corefunc.html lists its own, and --engine duckdb asks a DuckDB of yours", m[1])
	}
	return setup("%s", code.ReplaceAllString(strings.TrimPrefix(text, "SQL logic error: "), ""))
}

// nearColumn is what was probably meant by the name of a column, for a sentence.
func (d *DB) nearColumn(name string) string {
	own, short := d.tables, name
	if head, rest, ok := strings.Cut(name, "."); ok {
		for _, t := range d.tables {
			if t.name == head {
				own, short = []*table{t}, rest
			}
		}
	}
	for _, t := range own {
		for _, n := range []string{name, short} {
			if near := t.near(n); near != "" {
				return near
			}
		}
	}
	return fmt.Sprintf("; weir lake schema %s lists the columns", d.tables[0].dataset.Path)
}

// near is the column that was probably meant, for a sentence; "" when none is close.
func (t *table) near(name string) string {
	var names []string
	for _, c := range t.columns {
		names = append(names, c.path)
		if c.path == name {
			return fmt.Sprintf("; the name of the column needs quotes: %s", quoted(name))
		}
	}
	near := spelling.Nearest(name, names)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", named(near))
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// named is a name as it is written in SQL.
func named(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return quoted(name)
}

func quotedAll(names []string) (out []string) {
	for _, n := range names {
		out = append(out, named(n))
	}
	return out
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// collations are the ways in which texts of times are compared, and what a number means in them.
var collations = map[string]parquet.Kind{
	"weir_time": parquet.Timestamp, "weir_time_s": parquet.TimestampS, "weir_time_ms": parquet.TimestampMs, "weir_time_us": parquet.TimestampUs,
	"weir_time_ns": parquet.TimestampNs,
}
