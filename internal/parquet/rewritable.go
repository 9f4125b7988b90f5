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
func (s *Schema) Rewritable(types map[string]Type, reserved []string) (*Schema, error) {
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

func rewriteInto(t *tree, parent *Field, fields []*Field, types map[string]Type, left map[string]bool, o Options) {
	for _, f := range fields {
		if f.Variant == Rest {
			continue // it comes again for what has no column then
		}
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
		c := &Field{Key: f.Key, Name: nameFor(parent, f.Name), Variant: f.Variant}
		c.declare(writable(f))
		if ok {
			c.declare(declared)
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
func rewriteElem(t *tree, list, f *Field, types map[string]Type, left map[string]bool, o Options) bool {
	c := &Field{parent: list, path: list.path + "[]"}
	if c.declare(writable(f)); c.Kind == Unknown {
		return false
	}
	list.Elem = c
	t.count++
	switch c.Kind {
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

// writable is the type of a column that holds the JSON that f gives, with all its digits.
func writable(f *Field) Type {
	if f.Width > 0 {
		return f.declared()
	}
	kind := f.Kind
	switch f.Kind {
	case Decimal:
		if kind = Double; f.Digits > 15 {
			kind = JSON
		}
	case Timestamp:
		if f.Digits > 6 {
			kind = String
		}
	case Date, TimeOfDay, LocalTime, UUID, Binary:
		kind = String
	case Map, Mixed:
		kind = JSON
	}
	return Type{Kind: kind}
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
