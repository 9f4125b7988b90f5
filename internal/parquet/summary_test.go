package parquet_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/weirdata/weir/internal/parquet"
)

// idsFor gives every field of the schema an id, from 1 on.
func idsFor(fields []*parquet.Field, above string, ids map[string]int32) {
	for _, f := range fields {
		if f.Kind == parquet.Unknown {
			continue
		}
		full := parquet.FullName(above, f.Name)
		ids[full] = int32(len(ids) + 1)
		for ; f.Elem != nil; f = f.Elem {
			full = parquet.FullName(full, parquet.Element)
			ids[full] = int32(len(ids) + 1)
		}
		idsFor(f.Fields, full, ids)
	}
}

func decoded(t *testing.T, events ...string) (*parquet.Rows, *parquet.Schema) {
	t.Helper()
	d := parquet.NewDecoder(&parquet.Schema{}, parquet.Options{MaxDepth: 10, MaxColumns: 100})
	r := parquet.NewRows()
	for _, e := range events {
		if err := d.Decode([]byte(e)); err != nil {
			t.Fatal(err)
		}
		r.Append(d)
	}
	return r, d.Schema()
}

func TestFieldIDs(t *testing.T) {
	r, s := decoded(t, `{"id":"a","n":3,"o":{"x":1.5,"list":true},"tags":["p","q"],"items":[{"price":1},{"price":2,"parts":[[1]]}]}`, `{"id":"b","n":-4}`)
	ids := map[string]int32{}
	idsFor(s.Fields, "", ids)
	var with, without bytes.Buffer
	said, err := r.WriteTable(&with, s, ids)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(&without, s, nil); err != nil {
		t.Fatal(err)
	}
	f, err := pq.OpenFile(bytes.NewReader(with.Bytes()), int64(with.Len()))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int32{}
	var walk func(c *pq.Column, above string)
	walk = func(c *pq.Column, above string) {
		for _, k := range c.Columns() {
			full := parquet.FullName(above, k.Name())
			if k.ID() == 0 { // the repeated group of a list
				full = above
			} else {
				have[full] = int32(k.ID())
			}
			walk(k, full)
		}
	}
	walk(f.Root(), "")
	if !reflect.DeepEqual(have, ids) {
		t.Errorf("the file has the ids %v, not %v", have, ids)
	}
	for _, want := range []string{"items.element.parts.element.element", "o.list", "tags.element"} {
		if ids[want] == 0 {
			t.Errorf("no id for %s in %v", want, ids)
		}
	}
	read, err := parquet.ReadSummary(bytes.NewReader(with.Bytes()), int64(with.Len()))
	if err != nil || !reflect.DeepEqual(read, said) {
		t.Errorf("the file says %+v (%v), its writer said %+v", read, err, said)
	}
	plain, err := pq.OpenFile(bytes.NewReader(without.Bytes()), int64(without.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range plain.Metadata().Schema {
		if e.FieldID != 0 {
			t.Errorf("a file of no table has the id %d for %s", e.FieldID, e.Name)
		}
	}
	byName := map[string]parquet.ColumnSummary{}
	for _, c := range said.Columns {
		byName[c.Name] = c
	}
	number := func(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
	if c := byName["n"]; c.Values != 2 || c.Nulls != 0 || !bytes.Equal(c.Min, number(-4)) || !bytes.Equal(c.Max, number(3)) || c.InList {
		t.Errorf("n is summed up as %+v", c)
	}
	if c := byName["id"]; string(c.Min) != "a" || string(c.Max) != "b" {
		t.Errorf("id is summed up as %+v", c)
	}
	if c := byName["o.list"]; c.Nulls != 1 || c.InList {
		t.Errorf("o.list is summed up as %+v", c)
	}
	if c := byName["tags.element"]; !c.InList {
		t.Errorf("tags is summed up as %+v", c)
	}
}

func TestColumnWithoutAnIDIsRefused(t *testing.T) {
	r, s := decoded(t, `{"a":1,"b":[2]}`)
	_, err := r.WriteTable(new(bytes.Buffer), s, map[string]int32{"a": 1, "b": 2})
	if err == nil || !strings.Contains(err.Error(), "b.element") {
		t.Errorf("an element without an id gives %v", err)
	}
}

func TestEventsWithoutFieldsHaveAColumnWithAnID(t *testing.T) {
	r, s := decoded(t, `{}`, `{}`)
	var b bytes.Buffer
	said, err := r.WriteTable(&b, s, map[string]int32{"_": 1})
	if err != nil {
		t.Fatal(err)
	}
	if want := "_ 2 2"; fmt.Sprintln(said.Columns[0].Name, said.Columns[0].Values, said.Columns[0].Nulls) != want+"\n" {
		t.Errorf("summed up as %+v", said)
	}
}
