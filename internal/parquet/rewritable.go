package parquet

import (
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/fault"
)

// Rewritable is the schema that rows of s are written with anew: with the types that are declared for
// fields, by their dotted path, and names that no other column and none of the reserved has. Kinds
// that only files of others have become those that hold the same JSON. A field whose type is declared
// loses its variants, which come again for what does not fit.
func (s *Schema) Rewritable(types map[string]Kind, reserved []string) (*Schema, error) {
	o := Options{Reserved: reserved}
	t := (&Schema{}).grow(o)
	left := map[string]bool{}
	for path := range types {
		left[path] = true
	}
	rewriteInto(t, t.root, s.Fields, types, left, o)
	for path := range left {
		return nil, fault.New(fault.Setup, fmt.Errorf("there is no field %q to give a type", path))
	}
	return t.schema(1), nil
}

func rewriteInto(t *tree, parent *Field, fields []*Field, types map[string]Kind, left map[string]bool, o Options) {
	for _, f := range fields {
		path := f.Key
		if parent.path != "" {
			path = parent.path + "." + f.Key
		}
		declared, ok := types[path]
		if ok {
			delete(left, path)
		}
		if ok && f.Variant != Main || f.Kind == Unknown && !ok && !hasVariant(fields, f) {
			continue
		}
		c := &Field{Key: f.Key, Name: nameFor(parent, f.Name), Kind: writable(f), Variant: f.Variant}
		if ok {
			c.Kind = declared
		}
		t.attach(parent, c, o)
		switch c.Kind {
		case Object:
			rewriteInto(t, c, f.Fields, types, left, o)
		case List:
			if !rewriteElem(t, c, f.Elem, types, left, o) {
				c.Kind = JSON
			}
		}
	}
}

// rewriteElem makes the element of a list, unless it is one that Weir's lists do not have.
func rewriteElem(t *tree, list, f *Field, types map[string]Kind, left map[string]bool, o Options) bool {
	kind := writable(f)
	if kind == Unknown {
		return false
	}
	c := &Field{Kind: kind, parent: list, path: list.path + "[]"}
	list.Elem = c
	t.count++
	switch kind {
	case Object:
		rewriteInto(t, c, f.Fields, types, left, o)
		if len(c.Fields) == 0 {
			list.Elem = nil
			return false
		}
	case List:
		if !rewriteElem(t, c, f.Elem, types, left, o) {
			c.Kind = JSON
		}
	}
	return true
}

func hasVariant(fields []*Field, f *Field) bool {
	for _, v := range fields {
		if v.Key == f.Key && v.Variant != Main {
			return true
		}
	}
	return false
}

// writable is the kind of a column that holds the JSON that f gives, with all its digits.
func writable(f *Field) Kind {
	switch f.Kind {
	case Decimal:
		if f.Digits > 15 {
			return JSON
		}
		return Double
	case Timestamp:
		if f.Digits > 6 {
			return String
		}
	case Date, TimeOfDay, LocalTime, UUID, Binary:
		return String
	case Map, Mixed:
		return JSON
	}
	return f.Kind
}

// Find is the field with the dotted path of keys; nil for none.
func (s *Schema) Find(path string) *Field {
	fields, found := s.Fields, (*Field)(nil)
	for key := range strings.SplitSeq(path, ".") {
		found = nil
		for _, f := range fields {
			if f.Key == key && f.Variant == Main {
				found = f
			}
		}
		if found == nil {
			return nil
		}
		fields = found.Fields
	}
	return found
}
