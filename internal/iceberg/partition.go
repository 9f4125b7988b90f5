package iceberg

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	ice "github.com/apache/iceberg-go"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// firstPartition is the first id that a field of a partitioning may have.
const firstPartition = 1000

// transforms are those of the units.
var transforms = map[string]ice.Transform{
	"year": ice.YearTransform{}, "month": ice.MonthTransform{}, "day": ice.DayTransform{}, "hour": ice.HourTransform{},
}

// Timed finds the column of the field that keys with dots between lead to, which must be a
// timestamp in no list. Its name is full.
func Timed(s *parquet.Schema, keys string) (column string, err error) {
	f, full := lookUp(s.Fields, keys, "", "")
	switch {
	case f == nil:
		return "", fmt.Errorf("the dataset has no column for %s yet", keys)
	case f.Kind < parquet.Timestamp || f.Kind > parquet.TimestampUs:
		return "", fmt.Errorf("the column %s is of type %s, and hidden partitions need a timestamp", full, f.Kind)
	}
	return full, nil
}

func lookUp(fields []*parquet.Field, keys, above, full string) (*parquet.Field, string) {
	for _, f := range fields {
		if f.Variant != parquet.Main {
			continue
		}
		path, name := f.Key, parquet.FullName(full, f.Name)
		if above != "" {
			path = above + "." + f.Key
		}
		if path == keys {
			return f, name
		}
		if f.Kind == parquet.Object && strings.HasPrefix(keys, path+".") {
			if found, at := lookUp(f.Fields, keys, path, name); found != nil {
				return found, at
			}
		}
	}
	return nil, ""
}

// spec is the partitioning of a new table.
func (t *Table) spec(schema *ice.Schema, s *parquet.Schema) (*ice.PartitionSpec, error) {
	if t.o.Unit == "" {
		return ice.UnpartitionedSpec, nil
	}
	column, err := Timed(s, t.o.Time)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("create the table %s: %w", t.o.Name, err))
	}
	name := strings.ReplaceAll(column, ".", "_") + "_" + t.o.Unit
	id := firstPartition
	spec, err := ice.NewPartitionSpecOpts(ice.AddPartitionFieldByName(column, name, transforms[t.o.Unit], schema, &id))
	if err != nil {
		return nil, fmt.Errorf("create the table %s: partition it by %s: %w", t.o.Name, t.o.Unit, err)
	}
	return &spec, nil
}

// checkSpec refuses a table that is partitioned otherwise: files would not have one value.
func (t *Table) checkSpec(m *metadata) error {
	n := m.spec.NumFields()
	want := 0
	if t.o.Unit != "" {
		want = 1
	}
	if n == want && (n == 0 || m.spec.Field(0).Transform == transforms[t.o.Unit]) {
		return nil
	}
	return fault.New(fault.Setup, fmt.Errorf("the table %s is partitioned by %s, and the dataset by %q: a table's partitions follow partition_by of its dataset; drop the table (without its files) so that it is made anew",
		t.o.Name, m.spec.String(), t.o.Unit))
}

// partition is the partition of a file, by the id of the partition's field.
func partition(m *metadata, s *parquet.Summary) (map[int]any, error) {
	if m.spec.NumFields() == 0 {
		return nil, nil
	}
	field := m.spec.Field(0)
	column, ok := m.schema.FindColumnName(field.SourceID())
	if !ok {
		return nil, fmt.Errorf("the table has no column %d, by which it is partitioned", field.SourceID())
	}
	for _, c := range s.Columns {
		if c.Name != column {
			continue
		}
		if c.Nulls == c.Values {
			break
		}
		if len(c.Min) != 8 || len(c.Max) != 8 || c.Nulls > 0 {
			return nil, fmt.Errorf("%d of its %d rows have no %s, by which the table is partitioned", c.Nulls, c.Values, column)
		}
		low, high := unitOf(field.Transform, c.Min), unitOf(field.Transform, c.Max)
		if low != high {
			return nil, fmt.Errorf("its rows have several values of %s(%s), by which the table is partitioned", field.Transform, column)
		}
		return map[int]any{field.FieldID: low}, nil
	}
	return map[int]any{field.FieldID: nil}, nil
}

// unitOf is how many units lie between 1970 and a time in microseconds.
func unitOf(tr ice.Transform, bound []byte) int32 {
	at := time.UnixMicro(int64(binary.LittleEndian.Uint64(bound))).UTC()
	switch tr.(type) {
	case ice.YearTransform:
		return int32(at.Year() - 1970)
	case ice.MonthTransform:
		return int32((at.Year()-1970)*12 + int(at.Month()) - 1)
	}
	seconds := int64(3600)
	if _, ok := tr.(ice.DayTransform); ok {
		seconds *= 24
	}
	s := at.Unix()
	n := s / seconds
	if s%seconds < 0 {
		n--
	}
	return int32(n)
}
