// Package conversion is the transform "formatConversion": it reads JSON records as a table of Hive does,
// by the columns that the table declares, as Amazon Data Firehose does before it writes Parquet. What
// it writes is JSON with those columns, in their types; the target "lake" makes Parquet of it.
//
// How records are read is package serde's. A record that it refuses is invalid as a whole, and whole in
// the failure target.
package conversion

import (
	"context"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose/serde"
)

// Config is the transform's HCL block.
type Config struct {
	// Columns are those of the table with their types, as Hive and Glue declare them: { id = "bigint",
	// at = "timestamp", tags = "array<string>", user = "struct<id:bigint,name:string>" }. Names are
	// lower-case letters, digits and _. Types are boolean, tinyint, smallint, int, bigint, float, double,
	// decimal(p,s), string, char(n), varchar(n), date, timestamp, array<...>, map<string,...> and
	// struct<name:...>.
	Columns map[string]string `hcl:"columns"`

	serde.Options `hcl:",remain"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.Problems(c.Columns)
	if len(c.Columns) == 0 {
		ps = append(ps, connector.Problem{Field: "columns", What: "columns declares none", Fix: `write columns = { id = "bigint" }`})
	}
	return ps
}

// Entry is the transform's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "formatConversion",
	Summary:   "Reads JSON records by the columns of a table, by the rules of the OpenX or Hive JSON SerDe.",
	Stability: connector.Experimental,
	Default:   func() Config { return Config{Options: serde.Defaults()} },
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Transform, error) {
		r, err := serde.New(serde.Columns(c.Columns), c.Options)
		if err != nil {
			return nil, err
		}
		return connector.Stateless(worker{r}), nil
	},
})

type worker struct{ reader *serde.Reader }

// Apply implements connector.Worker.
func (w worker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	data, err := w.reader.Convert(make([]byte, 0, len(m.Data)), m.Data)
	if err != nil {
		return out, err
	}
	m.Replace(data)
	return append(out, m), nil
}
