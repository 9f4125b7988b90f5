package object

import (
	"context"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose/serde"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/parquet"
)

// FormatConversion makes Parquet of JSON records, by the columns of a table: what Amazon Data Firehose
// calls record format conversion. A record that does not fit them is invalid, as a whole
// (format-conversion-failed).
type FormatConversion struct {
	// Columns are those of the table with their types, as Hive and Glue declare them: { id = "bigint",
	// at = "timestamp", tags = "array<string>", user = "struct<id:bigint,name:string>" }. Names are
	// lower-case letters, digits and _. Types are boolean, bigint, double, string, char(n), varchar(n),
	// timestamp, array<...> and struct<name:...>. The files have them in the order of their names.
	Columns map[string]string `hcl:"columns,optional"`
	// CatalogTable takes the columns from a table in AWS Glue instead, when the target is opened.
	CatalogTable *CatalogTable `hcl:"catalog_table,block"`

	// CompressionLevel says how hard files are compressed, by zstd: "balanced" (default) compresses a
	// column fast where more time would gain next to nothing, "fast" all of them, which takes a quarter
	// less of the processor for files that are about an eighth larger, and "thorough" none.
	CompressionLevel string `hcl:"compression_level,optional"`

	serde.Options `hcl:",remain"`
}

// CatalogTable is a table in the Data Catalog of AWS Glue.
type CatalogTable struct {
	// Name is that of its database and its own: "lake.orders".
	Name string `hcl:"name"`
	// VersionID is the version of the table whose columns count; "LATEST" by default.
	VersionID string `hcl:"version_id,optional"`

	glue.Access `hcl:",remain"`
}

// SetDefaults sets what a format_conversion block need not say.
func (f *FormatConversion) SetDefaults() {
	f.Options, f.CompressionLevel = serde.Defaults(), parquet.Levels[parquet.Balanced]
}

// SetDefaults sets what a catalog_table block need not say.
func (t *CatalogTable) SetDefaults() { t.VersionID = glue.Latest }

// problems are what is wrong with the block.
func (f *FormatConversion) problems() []connector.Problem {
	var types map[string]string
	if f.CatalogTable == nil {
		types = f.Columns
	}
	ps := f.Options.Problems(types)
	if _, ok := parquet.ParseLevel(f.CompressionLevel); !ok {
		ps = append(ps, connector.Problem{Field: "compression_level", What: fmt.Sprintf("compression_level must not be %q", f.CompressionLevel), Fix: "use one of " + strings.Join(parquet.Levels, ", ")})
	}
	switch t := f.CatalogTable; {
	case t == nil && len(f.Columns) == 0:
		ps = append(ps, connector.Problem{Field: "columns", What: "neither columns nor a catalog_table says which columns the files have", Fix: `write columns = { id = "bigint" }`})
	case t != nil && len(f.Columns) > 0:
		ps = append(ps, connector.Problem{Field: "columns", What: "there are both columns and a catalog_table", Fix: "keep one of the two"})
	case t == nil && len(ps) == 0:
		if _, err := f.conversion(serde.Columns(f.Columns)); err != nil {
			ps = append(ps, connector.Problem{Field: "columns", What: err.Error(), Fix: "declare another type"})
		}
	case t != nil:
		if _, err := t.table(); err != nil {
			ps = append(ps, connector.Problem{Field: "catalog_table.name", What: err.Error(), Fix: `write DATABASE.TABLE in lower case, as "lake.orders"`})
		}
		ps = append(ps, connector.Under("catalog_table", t.Access.Problems())...)
	}
	return ps
}

func (t *CatalogTable) table() (iceberg.Name, error) {
	n, err := iceberg.ParseName(t.Name)
	if err == nil {
		err = glue.CheckName(n)
	}
	return n, err
}

// conversion is how payloads become rows.
type conversion struct {
	reader *serde.Reader
	schema *parquet.Schema
	level  parquet.Level
}

func (f *FormatConversion) conversion(columns []serde.Column) (*conversion, error) {
	r, err := serde.New(columns, f.Options)
	if err != nil {
		return nil, err
	}
	s, err := r.Schema()
	if err != nil {
		return nil, err
	}
	level, _ := parquet.ParseLevel(f.CompressionLevel) // it was checked
	return &conversion{r, s, level}, nil
}

// resolve finds the columns, which the catalog may have to be asked for.
func (f *FormatConversion) resolve(ctx context.Context, version string) (*conversion, error) {
	if f.CatalogTable == nil {
		c, err := f.conversion(serde.Columns(f.Columns))
		if err != nil {
			return nil, fault.New(fault.Setup, err)
		}
		return c, nil
	}
	name, err := f.CatalogTable.table()
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	found, err := glue.Columns(ctx, f.CatalogTable.Access, version, name, f.CatalogTable.VersionID)
	if err != nil {
		return nil, err
	}
	columns := make([]serde.Column, len(found))
	for i, c := range found {
		columns[i] = serde.Column(c)
	}
	c, err := f.conversion(columns)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("the table %s in Glue: %w", name, err))
	}
	return c, nil
}

// Bounds of what a declared column may be; types nest less, and there are fewer of them.
const (
	mostNested  = 100
	mostColumns = 1_000_000
)

// decoder reads converted records.
func (c *conversion) decoder() *parquet.Decoder {
	return parquet.NewDecoder(c.schema, parquet.Options{MaxDepth: mostNested, MaxColumns: mostColumns})
}

// decode has d hold the row of a record. What no column holds is refused: a file has the columns that
// its table declares, and no others.
func (c *conversion) decode(d *parquet.Decoder, m *event.Message) error {
	row, err := c.reader.Convert(make([]byte, 0, len(m.Data)), m.Data)
	if err != nil {
		return err
	}
	if err := d.Decode(row); err != nil {
		return serde.Refuse("%v", err)
	}
	if d.Changed() {
		d.Forget()
		return serde.Refuse("a value fits its column only with a loss, such as a whole number beyond 2^53 in a double, or half of a surrogate pair in a string")
	}
	return nil
}
