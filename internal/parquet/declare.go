package parquet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Declare is s with a column for every type that is declared or expected for a field, and, where columns are
// closed and nothing is refused, for the rest. added are the paths of the fields that s does not have. While
// nothing is missing it is s itself.
func (s *Schema) Declare(o Options) (_ *Schema, added []string, err error) {
	t := s.grow(o)
	types := maps.Clone(o.Types)
	if types == nil {
		types = map[string]Type{}
	}
	for path, kind := range o.Expected {
		if _, declared := types[path]; !declared {
			if f := s.Find(path); f == nil || f.Kind == Unknown {
				types[path] = Type{Kind: kind}
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(types)) {
		fresh, err := t.declare(path, types[path], o)
		if err != nil {
			return nil, nil, err
		}
		if fresh {
			added = append(added, path)
		}
	}
	before := t.count
	if o.Closed && !o.Refuse {
		t.rests(t.root, true, o)
	}
	if t.count > o.MaxColumns {
		return nil, nil, fmt.Errorf("the declared types are of more than %d columns", o.MaxColumns)
	}
	if len(added) == 0 && t.count == before {
		return s, nil, nil
	}
	return t.schema(s.Version + 1), added, nil
}

// rests gives the objects that can have a rest one.
func (t *tree) rests(f *Field, can bool, o Options) {
	for _, k := range f.Fields {
		t.rests(k, false, o)
	}
	if f.Elem != nil {
		t.rests(f.Elem, true, o)
	}
	if can && f.Kind == Object && f.rest == nil {
		t.attach(f, &Field{Name: nameFor(f, restName), Kind: JSON, Variant: Rest}, o)
	}
}

// declare has t have a column of the type for the field with the path: its keys with dots between, and []
// after that of a list.
func (t *tree) declare(path string, typ Type, o Options) (fresh bool, err error) {
	f := t.root
	steps := strings.Split(path, ".")
	for i, step := range steps {
		key := strings.TrimRight(step, "[]")
		lists := strings.Count(step[len(key):], "[]")
		if step != key+strings.Repeat("[]", lists) {
			return false, fmt.Errorf("types declares %q, and brackets stand behind a key as []", path)
		}
		kid := f.index[key]
		if kid == nil {
			kid = &Field{Key: key, Name: nameFor(f, key)}
			t.attach(f, kid, o)
		}
		last := i == len(steps)-1
		if f, err = t.through(kid, lists, last, path); err != nil {
			return false, err
		}
		if !last {
			continue
		}
		if f.Kind == Unknown {
			f.declare(typ)
			return true, nil
		}
		if !f.Is(typ) {
			return false, fmt.Errorf("types declares %s as %s, and its column is of type %s", path, typ, f.TypeName())
		}
	}
	return false, nil
}

// through goes from a field through so many lists, or all where none are named and it is on the way
// to another, to what has members or is what was looked for.
func (t *tree) through(f *Field, lists int, last bool, path string) (*Field, error) {
	for !last && lists == 0 && f.Kind == List {
		f = f.Elem
	}
	for range lists {
		switch {
		case f.Kind == Unknown:
			f.Kind, f.Elem = List, &Field{parent: f, path: f.path + "[]"}
			t.count++
		case f.Kind != List:
			return nil, fmt.Errorf("types declares %q in a list, and the column of %s is of type %s", path, f.path, f.TypeName())
		}
		f = f.Elem
	}
	switch {
	case last, f.Kind == Object:
	case f.Kind == Unknown:
		f.Kind = Object
	default:
		return nil, fmt.Errorf("types declares %q in an object, and the column of %s is of type %s", path, f.path, f.TypeName())
	}
	return f, nil
}
