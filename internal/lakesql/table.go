package lakesql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"modernc.org/sqlite/vtab"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/parquet"
)

const (
	// mostColumns is how many columns SQLite takes; those of objects, by their paths, are left
	// out where there are more.
	mostColumns = 2000
	jsonType    = "JSON TEXT"
	boolType    = "BOOLEAN"
	fileColumn  = "_file"
)

// column is one of a table.
type column struct {
	path   string // its name in SQL
	kind   parquet.Kind
	unit   int    // one more than the place of the key of folders; 0 for none
	file   bool   // it is the name of the file
	inner  bool   // it is in an object
	hidden bool   // SELECT * leaves it out
	parts  []part // the columns of files that its values are in
}

// part is a column of a file.
type part struct {
	names   []string
	variant parquet.Variant
	kind    parquet.Kind
	keys    []string // of its values in the rest
}

// columnsOf are the columns of the table of a dataset.
func columnsOf(s *catalog.Snapshot) []column {
	var out, inner []column
	rest := ""
	for _, f := range s.Schema.Fields {
		if f.Variant == parquet.Rest {
			rest = f.Name
		}
	}
	fields(s.Schema.Fields, nil, nil, rest, func(c column) {
		if c.inner {
			c.hidden = true
			inner = append(inner, c)
		} else {
			out = append(out, c)
		}
	})
	if rest != "" {
		out = append(out, column{path: rest, kind: parquet.JSON, parts: []part{{names: []string{rest}, kind: parquet.JSON}}})
	}
	taken := map[string]bool{}
	for _, c := range out {
		taken[strings.ToLower(c.path)] = true
	}
	for i, k := range s.Keys() {
		if !taken[strings.ToLower(k.Name)] {
			out = append(out, column{path: k.Name, kind: k.Kind, unit: i + 1})
		}
	}
	if !taken[fileColumn] {
		out = append(out, column{path: fileColumn, kind: parquet.String, file: true, hidden: true})
	}
	if len(out)+len(inner) <= mostColumns {
		out = append(out, inner...)
	}
	return out
}

// fields calls f with the column of each key at the top and in objects, in no list. Values that have no
// column are in that of the rest, if there is one, below their keys.
func fields(fs []*parquet.Field, above, keys []string, rest string, f func(column)) {
	for _, main := range fs {
		if main.Variant != parquet.Main {
			continue
		}
		c := column{path: strings.Join(append(slices.Clip(above), main.Name), "."), kind: main.Kind, inner: len(above) > 0}
		for _, v := range fs {
			if v.Key == main.Key && v.Kind != parquet.Unknown {
				c.parts = append(c.parts, part{append(slices.Clip(above), v.Name), v.Variant, v.Kind, nil})
			}
		}
		here := append(slices.Clip(keys), main.Key)
		if rest != "" {
			c.parts = append(c.parts, part{[]string{rest}, parquet.Rest, parquet.JSON, here})
		}
		if len(c.parts) == 0 {
			continue
		}
		f(c)
		if main.Kind == parquet.Object {
			fields(main.Fields, append(slices.Clip(above), main.Name), here, rest, f)
		}
	}
}

// declaration is the column as SQLite is told of it.
func (c column) declaration() string {
	kind := ""
	switch {
	case c.nested():
		kind = jsonType
	case len(c.parts) > 1 && c.parts[1].variant != parquet.Rest: // values of several types
	default:
		switch c.kind {
		case parquet.Bool:
			kind = boolType
		case parquet.Int:
			kind = "INTEGER"
		case parquet.Double:
			kind = "REAL"
		case parquet.Unknown, parquet.Mixed: // values beside the column only, or of several types
		case parquet.Decimal:
			kind = "REAL"
		case parquet.String:
			kind = "TEXT"
		default:
			kind = "TEXT"
		}
	}
	for name, unit := range collations {
		if unit == c.kind {
			kind += " COLLATE " + name
		}
	}
	if c.hidden {
		kind += " HIDDEN"
	}
	return quoted(c.path) + " " + kind
}

// nested reports whether the values are JSON text.
func (c column) nested() bool {
	return c.kind == parquet.Object || c.kind == parquet.List || c.kind == parquet.Map || c.kind == parquet.JSON
}

// table is a dataset as a table of SQLite.
type table struct {
	db       *DB
	dataset  *catalog.Snapshot
	name     string
	columns  []column
	distinct int // one more than the column whose values occur once; 0 for none
}

// module makes the tables.
type module struct{ d *DB }

// Create implements vtab.Module.
func (m module) Create(ctx vtab.Context, args []string) (vtab.Table, error) {
	return m.Connect(ctx, args)
}

// Connect implements vtab.Module. The argument is the number of the table.
func (m module) Connect(ctx vtab.Context, args []string) (vtab.Table, error) {
	n, err := strconv.Atoi(args[len(args)-1])
	if err != nil || n < 0 || n >= len(m.d.tables) {
		return nil, fmt.Errorf("there is no table %q", args[len(args)-1])
	}
	t := m.d.tables[n]
	all := make([]string, len(t.columns))
	for i, c := range t.columns {
		all[i] = c.declaration()
	}
	return t, ctx.Declare("CREATE TABLE x(" + strings.Join(all, ", ") + ")")
}

// BestIndex implements vtab.Table: conditions that may pass over files are asked for. SQLite
// checks all of them itself.
func (t *table) BestIndex(info *vtab.IndexInfo) error {
	var plan []string
	cost := 1e9
	for i := range info.Constraints {
		c := &info.Constraints[i]
		c.ArgIndex = -1
		if !c.Usable || c.Column < 0 || c.Column >= len(t.columns) || !slices.Contains(pruning, c.Op) {
			continue
		}
		c.ArgIndex = len(plan)
		plan = append(plan, fmt.Sprintf("%d:%d", c.Column, c.Op))
		if cost /= 2; t.columns[c.Column].unit > 0 {
			cost /= 5
		}
	}
	info.IdxStr = strings.Join(plan, ",")
	info.EstimatedCost, info.EstimatedRows = cost, int64(cost/10)
	return nil
}

// pruning are the operators that pass over files.
var pruning = []vtab.ConstraintOp{vtab.OpEQ, vtab.OpGT, vtab.OpGE, vtab.OpLT, vtab.OpLE}

// Open implements vtab.Table.
func (t *table) Open() (vtab.Cursor, error) { return &cursor{t: t}, nil }

// Disconnect implements vtab.Table.
func (t *table) Disconnect() error { return nil }

// Destroy implements vtab.Table.
func (t *table) Destroy() error { return nil }
