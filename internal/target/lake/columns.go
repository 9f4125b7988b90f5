package lake

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// Where columns come from, beside "infer".
const (
	columnsAdd    = "add"
	columnsStrict = "strict"
)

// closed reports whether events bring no columns.
func (c Config) closed() bool { return c.Columns == columnsAdd || c.Columns == columnsStrict }

// validateColumns finds what does not go with columns that are declared.
func (c Config) validateColumns(refuse func(field, fix, format string, args ...any)) {
	if !c.closed() {
		return
	}
	if c.DedupField != "" && c.Types[c.DedupField] == "" {
		refuse("dedup_field", fmt.Sprintf("add %q = \"string\" to types", c.DedupField), "with columns = %q there is no column for the dedup_field %q", c.Columns, c.DedupField)
	}
	if c.TimeField != "" && c.Types[c.TimeField] == "" && c.timeKind() == parquet.Unknown {
		refuse("time_field", fmt.Sprintf("add %q = \"timestamp_ns\" to types", c.TimeField), "with columns = %q there is no column for the time_field %q", c.Columns, c.TimeField)
	}
	if len(c.Types) == 0 && c.TimeField == "" {
		refuse("columns", "declare the columns in types", "with columns = %q and no types, the dataset has no columns", c.Columns)
	}
	if _, _, err := (&parquet.Schema{}).Declare(c.decoding()); err != nil {
		refuse("types", "declare a field as an object or a list by its members alone", "%v", err)
	}
}

// declare adds the columns that types declares to a dataset whose events bring none.
func (t *Target) declare(ctx context.Context, d *catalog.Dataset) error {
	if !t.config.closed() {
		return nil
	}
	for {
		have := d.Schema()
		next, added, err := have.Declare(t.options)
		if err != nil {
			return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: %w; remove it from types, or begin a dataset in another path", t.path, err))
		}
		if next == have {
			return nil
		}
		if t.config.Columns == columnsStrict && have.Version > 0 && len(added) > 0 {
			return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: types declares %s, which it has no columns for, and columns = \"strict\" adds none; use \"add\" once, or remove them from types",
				t.path, strings.Join(added, ", ")))
		}
		if err := d.Evolve(ctx, have, next); !errors.Is(err, catalog.ErrStale) {
			return err
		}
	}
}
