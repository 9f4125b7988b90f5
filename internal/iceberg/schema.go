package iceberg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	ice "github.com/apache/iceberg-go"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// Properties of tables.
const (
	nameMapping   = "schema.name-mapping.default"
	propCommit    = "weir.commit"
	propPositions = "weir.positions"
)

// attempts is how often a commit is tried when others commit at the same time.
const attempts = 100

// cover makes the table have every column of s, and says their ids.
func (t *Table) cover(ctx context.Context, s *parquet.Schema) (map[string]int32, error) {
	for range attempts {
		ids, done, err := t.coverOnce(ctx, s)
		if done || err != nil && !errors.Is(err, ErrConflict) {
			return ids, err
		}
	}
	return nil, fmt.Errorf("change the columns of the table %s: %w, %d times", t.o.Name, ErrConflict, attempts)
}

func (t *Table) coverOnce(ctx context.Context, s *parquet.Schema) (ids map[string]int32, done bool, err error) {
	f := t.files(ctx)
	m, err := t.load(ctx, f)
	if errors.Is(err, ErrNoTable) {
		err = t.create(ctx, f, s)
		if err == nil || errors.Is(err, ErrConflict) {
			return nil, false, nil // and look at it
		}
		return nil, false, err
	}
	if err != nil {
		return nil, false, err
	}
	have := m.schema
	g := &growth{next: m.lastColumn, ids: map[string]int32{}}
	fields, err := g.merge(have.Fields(), s.Columns(), "")
	if err != nil {
		return nil, false, fault.New(fault.Setup, fmt.Errorf("the table %s cannot have the columns of the dataset %s: %w", t.o.Name, t.o.Address, err))
	}
	if !g.changed && m.properties[nameMapping] != "" {
		return g.ids, true, nil
	}
	if !g.changed { // files that have no ids are read by it
		mapping, err := mappingOf(have)
		if err == nil {
			err = t.change(ctx, f, m, change{properties: map[string]string{nameMapping: mapping}})
		}
		return nil, false, err
	}
	newID, err := m.newSchemaID()
	if err != nil {
		return nil, false, err
	}
	next := ice.NewSchemaWithIdentifiers(newID, have.IdentifierFieldIDs, fields...)
	mapping, err := mappingOf(next)
	if err != nil {
		return nil, false, err
	}
	return nil, false, t.change(ctx, f, m, change{schema: next, lastColumn: g.next, properties: map[string]string{nameMapping: mapping}})
}

// change changes what the table says of its columns.
func (t *Table) change(ctx context.Context, f *files, seen *metadata, c change) error {
	err := t.catalog.commit(ctx, t.o.Name, f, seen, c)
	if errors.Is(err, ErrConflict) {
		f.discard()
	} else if err != nil {
		err = fmt.Errorf("change the columns of the table %s: %w", t.o.Name, err)
	}
	return err
}

// newSchemaID is an id that no schema has.
func (m *metadata) newSchemaID() (int, error) {
	id := 0
	for _, raw := range m.schemas {
		var s struct {
			ID int `json:"schema-id"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return 0, fmt.Errorf("read the schemas of the table: %w", err)
		}
		id = max(id, s.ID+1)
	}
	return id, nil
}

func mappingOf(s *ice.Schema) (string, error) {
	text, err := json.Marshal(s.NameMapping())
	return string(text), err
}

// growth makes a table's columns cover those of a dataset.
type growth struct {
	next    int // the last id that is given
	changed bool
	ids     map[string]int32
}

func (g *growth) id() int {
	g.next++
	g.changed = true
	return g.next
}

// merge is the fields of a struct with those that want has beyond them.
func (g *growth) merge(have []ice.NestedField, want []*parquet.Field, above string) ([]ice.NestedField, error) {
	at := map[string]int{}
	for i, f := range have {
		at[f.Name] = i
	}
	for _, w := range want {
		if w.Kind == parquet.Unknown {
			continue
		}
		full := parquet.FullName(above, w.Name)
		i, ok := at[w.Name]
		if !ok {
			f := ice.NestedField{ID: g.id(), Name: w.Name}
			g.ids[full] = int32(f.ID)
			var err error
			if f.Type, err = g.typeOf(w, full); err != nil {
				return nil, err
			}
			have = append(have, f)
			continue
		}
		typ, err := g.fit(have[i].Type, w, full)
		if err != nil {
			return nil, err
		}
		g.ids[full] = int32(have[i].ID)
		have[i].Type = typ
		if have[i].Required {
			have[i].Required, g.changed = false, true
		}
	}
	return have, nil
}

// fit is the type of a column of the table as it must be to hold what w has.
func (g *growth) fit(have ice.Type, w *parquet.Field, full string) (ice.Type, error) {
	switch h := have.(type) {
	case *ice.StructType:
		if w.Kind != parquet.Object {
			break
		}
		fields, err := g.merge(h.FieldList, w.Fields, full)
		return &ice.StructType{FieldList: fields}, err
	case *ice.ListType:
		if w.Kind != parquet.List {
			break
		}
		elem := parquet.FullName(full, parquet.Element)
		typ, err := g.fit(h.Element, w.Elem, elem)
		if err != nil {
			return nil, err
		}
		g.ids[elem] = int32(h.ElementID)
		if h.ElementRequired {
			g.changed = true
		}
		return &ice.ListType{ElementID: h.ElementID, Element: typ}, nil
	default:
		want, ok := primitive(w)
		switch {
		case ok && have.Equals(want):
			return have, nil
		case ok && (have.Equals(ice.PrimitiveTypes.Int32) && w.Kind == parquet.Int || have.Equals(ice.PrimitiveTypes.Float32) && w.Kind == parquet.Double):
			g.changed = true
			return want, nil
		}
	}
	return nil, fmt.Errorf("its column %q is of type %s, and the dataset's of type %s, which it cannot become; drop or rename the table's column, declare the type in a new dataset, or rewrite this one", full, have, w.TypeName())
}

// typeOf is the type of a new column.
func (g *growth) typeOf(w *parquet.Field, full string) (ice.Type, error) {
	switch w.Kind {
	case parquet.Object:
		fields, err := g.merge(nil, w.Fields, full)
		return &ice.StructType{FieldList: fields}, err
	case parquet.List:
		elem := parquet.FullName(full, parquet.Element)
		l := &ice.ListType{ElementID: g.id()}
		g.ids[elem] = int32(l.ElementID)
		var err error
		l.Element, err = g.typeOf(w.Elem, elem)
		return l, err
	}
	if p, ok := primitive(w); ok {
		return p, nil
	}
	return nil, fmt.Errorf("the column %q is of type %s, which tables of version 2 do not have; declare another type, as timestamp_us, in a new dataset, or rewrite this one", full, w.TypeName())
}

// primitive is the type of a column that has no others below it.
func primitive(w *parquet.Field) (ice.Type, bool) {
	switch w.Kind {
	case parquet.Bool:
		return ice.PrimitiveTypes.Bool, true
	case parquet.Int:
		return ice.PrimitiveTypes.Int64, true
	case parquet.Double:
		return ice.PrimitiveTypes.Float64, true
	case parquet.String, parquet.JSON:
		return ice.PrimitiveTypes.String, true
	case parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs:
		return ice.PrimitiveTypes.TimestampTz, true
	case parquet.LocalTime:
		return ice.PrimitiveTypes.Timestamp, true
	case parquet.Date:
		return ice.PrimitiveTypes.Date, true
	case parquet.UUID:
		return ice.PrimitiveTypes.UUID, true
	case parquet.Decimal:
		return ice.DecimalTypeOf(w.Digits, w.Scale), true
	}
	return nil, false
}

// hiveType is a type as Hive, and so Glue, writes it.
func hiveType(t ice.Type) string {
	switch t := t.(type) {
	case *ice.StructType:
		fields := make([]string, len(t.FieldList))
		for i, f := range t.FieldList {
			fields[i] = f.Name + ":" + hiveType(f.Type)
		}
		return "struct<" + strings.Join(fields, ",") + ">"
	case *ice.ListType:
		return "array<" + hiveType(t.Element) + ">"
	case *ice.MapType:
		return "map<" + hiveType(t.KeyType) + "," + hiveType(t.ValueType) + ">"
	case ice.DecimalType, ice.Float64Type, ice.BooleanType, ice.StringType, ice.DateType, ice.Float32Type:
		return t.String()
	case ice.Int32Type:
		return "int"
	case ice.Int64Type:
		return "bigint"
	case ice.TimestampType, ice.TimestampTzType:
		return "timestamp"
	case ice.BinaryType, ice.FixedType:
		return "binary"
	}
	return "string"
}

// create makes the table.
func (t *Table) create(ctx context.Context, f *files, s *parquet.Schema) error {
	g := &growth{ids: map[string]int32{}}
	fields, err := g.merge(nil, s.Columns(), "")
	if err != nil {
		return err
	}
	schema := ice.NewSchema(0, fields...)
	spec, err := t.spec(schema, s)
	if err != nil {
		return err
	}
	mapping, err := mappingOf(schema)
	if err != nil {
		return err
	}
	d := definition{schema: schema, spec: *spec, location: t.o.Address, properties: maps.Clone(properties)}
	d.properties[nameMapping] = mapping
	err = t.catalog.create(ctx, t.o.Name, f, d)
	if errors.Is(err, ErrConflict) {
		f.discard()
	}
	if err != nil {
		return fmt.Errorf("create the table %s: %w", t.o.Name, err)
	}
	return nil
}

// properties are what a new table has. They keep the cost of a commit what it was at first.
var properties = map[string]string{
	"write.parquet.compression-codec":            "zstd",
	"commit.manifest-merge.enabled":              "true",
	"commit.manifest.min-count-to-merge":         "20",
	"write.metadata.delete-after-commit.enabled": "true",
	"write.metadata.previous-versions-max":       "20",
}
