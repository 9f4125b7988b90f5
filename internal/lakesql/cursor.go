package lakesql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"modernc.org/sqlite/vtab"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/parquet"
)

// mostIDs is how many ids a table of distinct rows remembers, at about 45 bytes each.
const mostIDs = 50_000_000

// checkEvery is after how many rows a cursor looks whether its query was given up.
const checkEvery = 4096

// cursor reads the rows of a table, file by file.
type cursor struct {
	t          *table
	conditions []condition
	file       int // the next one
	reader     *parquet.Reader
	group      int // the next row group of reader
	scan       *parquet.Scan
	row, rows  int64    // in scan
	before     int64    // rows of the file before scan
	keys       []any    // of the file's folders; nil where they are not known
	cells      []opened // by column
	seen       catalog.Index[struct{}]
	done       bool
}

// opened are the parts of a column that are being read.
type opened struct {
	known bool
	parts []reading
}

type reading struct {
	*parquet.Cells
	part
}

// fail keeps an error for the query: SQLite does not pass it on.
func (c *cursor) fail(err error) error {
	if err != nil && c.t.db.failed == nil {
		c.t.db.failed = err
	}
	return err
}

// Filter implements vtab.Cursor.
func (c *cursor) Filter(_ int, plan string, values []vtab.Value) error {
	if err := c.end(); err != nil {
		return c.fail(err)
	}
	*c = cursor{t: c.t, cells: make([]opened, len(c.t.columns))}
	if plan != "" {
		for i, text := range strings.Split(plan, ",") {
			col, op, _ := strings.Cut(text, ":")
			n, err := strconv.Atoi(col)
			k, opErr := strconv.Atoi(op)
			if err != nil || opErr != nil || i >= len(values) {
				return c.fail(fmt.Errorf("a plan %q of %d values", plan, len(values)))
			}
			c.conditions = append(c.conditions, newCondition(&c.t.columns[n], vtab.ConstraintOp(k), values[i], c.t.db.exact))
		}
	}
	err := c.next()
	if err == nil {
		err = c.distinct()
	}
	return c.fail(err)
}

// next goes to the next row group that may have rows of the answer.
func (c *cursor) next() error {
	ctx := c.t.db.ctx
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.reader == nil {
			if c.file >= len(c.t.dataset.Files) {
				c.done = true
				return nil
			}
			if err := c.open(ctx); err != nil {
				return err
			}
			continue
		}
		if err := c.leaveGroup(); err != nil {
			return err
		}
		if c.group >= c.reader.Groups() {
			if err := c.end(); err != nil {
				return err
			}
			continue
		}
		c.scan = c.reader.Scan(c.group)
		c.group++
		c.row, c.rows = 0, c.scan.Len()
		if c.rows > 0 && !c.pruned() {
			return nil
		}
	}
}

// open opens the next file that may have rows of the answer.
func (c *cursor) open(ctx context.Context) (err error) {
	file := c.t.dataset.Files[c.file]
	c.file++
	keys, known := c.t.dataset.Values(file)
	c.keys = keys
	if known {
		for _, x := range c.conditions {
			if x.column.unit > 0 && !x.allows(keys[x.column.unit-1]) {
				return nil
			}
		}
	}
	c.reader, err = c.t.dataset.Open(ctx, file)
	c.group, c.before = 0, 0
	return err
}

// pruned reports whether no row of the row group can be in the answer. A table of distinct rows
// has to see them all.
func (c *cursor) pruned() bool {
	if c.t.distinct > 0 {
		return false
	}
	for _, x := range c.conditions {
		if x.column.unit == 0 && !x.column.file && x.excludes(c.scan) {
			return true
		}
	}
	return false
}

func (c *cursor) leaveGroup() error {
	if c.scan == nil {
		return nil
	}
	var errs []error
	for i := range c.cells {
		for _, p := range c.cells[i].parts {
			errs = append(errs, p.Close())
		}
		c.cells[i] = opened{}
	}
	c.before += c.rows
	c.scan = nil
	return errors.Join(errs...)
}

// end closes the file.
func (c *cursor) end() error {
	err := c.leaveGroup()
	if c.reader != nil {
		err = errors.Join(err, c.reader.Close())
		c.reader = nil
	}
	return err
}

// Next implements vtab.Cursor.
func (c *cursor) Next() error {
	c.row++
	err := c.settle()
	if err == nil {
		err = c.distinct()
	}
	return c.fail(err)
}

// distinct passes over rows whose id came before.
func (c *cursor) distinct() error {
	if c.t.distinct == 0 {
		return nil
	}
	for !c.done {
		id, known, err := c.id()
		if err != nil {
			return err
		}
		if _, before := c.seen.Get(id); !known || !before {
			if known {
				c.seen.Set(id, struct{}{})
			}
			if c.seen.Len() > mostIDs {
				return errIDs
			}
			return nil
		}
		c.row++
		if err := c.settle(); err != nil {
			return err
		}
	}
	return nil
}

// id is the fingerprint of the row's id; a row without one is like no other.
func (c *cursor) id() (id catalog.ID, known bool, err error) {
	parts, err := c.parts(c.t.distinct - 1)
	if err != nil {
		return id, false, err
	}
	for _, p := range parts {
		cell, err := p.at(c.row)
		if err != nil {
			return id, false, err
		}
		switch cell.Kind {
		case parquet.Unknown:
			continue
		case parquet.String:
			return catalog.Fingerprint('s', cell.Text), true, nil
		case parquet.JSON:
			return catalog.Fingerprint('j', cell.Text), true, nil
		case parquet.Double:
			return catalog.Fingerprint('d', strconv.AppendFloat(nil, cell.Real, 'g', -1, 64)), true, nil
		}
		return catalog.Fingerprint('n', strconv.AppendInt(nil, cell.Int, 10)), true, nil
	}
	return id, false, nil
}

// settle makes the cursor stand at a row of the table.
func (c *cursor) settle() error {
	if c.row < c.rows && c.row%checkEvery != 0 {
		return nil
	}
	if ctx := c.t.db.ctx; ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.row < c.rows {
		return nil
	}
	return c.next()
}

// Eof implements vtab.Cursor.
func (c *cursor) Eof() bool { return c.done }

// Column implements vtab.Cursor.
func (c *cursor) Column(n int) (vtab.Value, error) {
	col := &c.t.columns[n]
	if col.file {
		return c.t.dataset.Files[c.file-1].Name, nil
	}
	if col.unit > 0 {
		if col.unit > len(c.keys) {
			return nil, nil
		}
		return c.keys[col.unit-1], nil
	}
	parts, err := c.parts(n)
	if err != nil {
		return nil, c.fail(err)
	}
	var object []byte // what has a column of it
	for _, p := range parts {
		cell, err := p.at(c.row)
		if err != nil {
			return nil, c.fail(err)
		}
		switch {
		case cell.Kind == parquet.Unknown:
		case object != nil:
			return string(parquet.AppendMerged(nil, object, cell.Text)), nil
		case col.kind == parquet.Object && p.variant == parquet.Main && len(parts) > 1:
			object = cell.Text
		default:
			return valueOf(cell, (p.variant == parquet.AsJSON || p.variant == parquet.Rest) && !col.nested()), nil
		}
	}
	if object != nil {
		return string(object), nil
	}
	return nil, nil
}

// at is the cell of a row: in the rest, what is below the keys.
func (r reading) at(row int64) (parquet.Cell, error) {
	cell, err := r.At(row)
	if err != nil || r.variant != parquet.Rest || cell.Kind == parquet.Unknown {
		return cell, err
	}
	value, found := jsontext.FindBytes(cell.Text, r.keys)
	if !found {
		return parquet.Cell{}, nil
	}
	return parquet.Cell{Kind: parquet.JSON, Text: value}, nil
}

// parts are those of a column that the row group has.
func (c *cursor) parts(n int) ([]reading, error) {
	o := &c.cells[n]
	if o.known {
		return o.parts, nil
	}
	for _, p := range c.t.columns[n].parts {
		cells, err := c.scan.Column(p.names...)
		if err != nil {
			return nil, err
		}
		if cells != nil {
			o.parts = append(o.parts, reading{cells, p})
		}
	}
	o.known = true
	return o.parts, nil
}

// Rowid implements vtab.Cursor: the same for a row however it was found.
func (c *cursor) Rowid() (int64, error) {
	return int64(c.file-1)<<36 | (c.before + c.row), nil
}

// Close implements vtab.Cursor.
func (c *cursor) Close() error { return c.end() }

var errIDs = fault.New(fault.Setup, fmt.Errorf("the answer needs more than %d distinct ids to be remembered; narrow it by year, month, day or hour, or compact the dataset", mostIDs))
