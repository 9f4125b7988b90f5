package serde

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/parquet"
)

// Schema is the columns as files have them. The error names a column whose type a file would not
// have as the table declares it, which no reader of the table could read.
func (r *Reader) Schema() (*parquet.Schema, error) {
	fields, err := members(r.top, "")
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(parquet.Schema{Version: 1, Fields: fields})
	if err != nil {
		return nil, fmt.Errorf("make the schema of the columns: %w", err)
	}
	return parquet.Parse(text)
}

func members(c *column, within string) ([]*parquet.Field, error) {
	fields := make([]*parquet.Field, len(c.names))
	for i, name := range c.names {
		f, err := field(c.fields[i], within+name)
		if err != nil {
			return nil, err
		}
		f.Key, f.Name = name, name
		fields[i] = f
	}
	return fields, nil
}

// field is a type as a file has it; path is that of the column.
func field(c *column, path string) (*parquet.Field, error) {
	fix := "string"
	switch c.kind {
	case isDate, isDecimal:
	case isMap:
		fix = "string, or struct<...>"
	case isBoolean:
		return &parquet.Field{Kind: parquet.Bool}, nil
	case isInteger:
		if c.bits == 64 {
			return &parquet.Field{Kind: parquet.Int}, nil
		}
		fix = "bigint"
	case isFloat:
		if !c.single {
			return &parquet.Field{Kind: parquet.Double}, nil
		}
		fix = "double"
	case isString:
		return &parquet.Field{Kind: parquet.String}, nil
	case isTimestamp:
		return &parquet.Field{Kind: parquet.Timestamp}, nil
	case isArray:
		of, err := field(c.of, path+"[]")
		return &parquet.Field{Kind: parquet.List, Elem: of}, err
	case isStruct:
		fields, err := members(c, path+".")
		return &parquet.Field{Kind: parquet.Object, Fields: fields}, err
	}
	return nil, fmt.Errorf("column %s: files are not written with the type %s, and readers of the table would refuse another: declare %s, in the catalog too", path, c.called(), fix)
}

// called is the type as it is declared, as far as it matters here.
func (c *column) called() string {
	switch c.kind {
	case isInteger:
		return map[int]string{8: "tinyint", 16: "smallint", 32: "int"}[c.bits]
	case isFloat:
		return "float"
	case isDecimal:
		return fmt.Sprintf("decimal(%d,%d)", c.digits, c.scale)
	}
	return strings.ToLower(c.kind.String())
}
