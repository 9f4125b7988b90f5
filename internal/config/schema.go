package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// schema is what a struct's hcl tags allow in a body. Tags mean what gohcl says they
// mean; a block whose field is a pointer or slice is optional.
type schema struct {
	attributes map[string]attributeField
	blocks     map[string]blockField
	// open is set when the struct takes whatever is left undecoded: anything goes.
	open bool
	// order holds all names in the order of the struct.
	order []string
}

type attributeField struct {
	required bool
	typ      reflect.Type
}

type blockField struct {
	labels   []string
	required bool
	many     bool
	typ      reflect.Type // the struct
}

func (b blockField) schema() *schema { return schemaOf(b.typ) }

var (
	bodyType       = reflect.TypeFor[hcl.Body]()
	attributesType = reflect.TypeFor[hcl.Attributes]()
	attributeType  = reflect.TypeFor[*hcl.Attribute]()
)

var schemas sync.Map // reflect.Type -> *schema

// schemaOf is the schema of a struct type. Structs come from connectors, so there are few.
func schemaOf(t reflect.Type) *schema {
	if s, ok := schemas.Load(t); ok {
		return s.(*schema)
	}
	s := &schema{attributes: map[string]attributeField{}, blocks: map[string]blockField{}}
	s.add(t)
	schemas.Store(t, s)
	return s
}

func (s *schema) add(t reflect.Type) {
	for f := range fieldsOf(t) {
		switch f.kind {
		case "attr", "optional":
			s.attributes[f.name] = attributeField{required: f.kind == "attr", typ: f.Type}
			s.order = append(s.order, f.name)
		case "block":
			b := blockField{typ: f.Type, required: true}
			if b.typ.Kind() == reflect.Slice {
				b.typ, b.many, b.required = b.typ.Elem(), true, false
			}
			if b.typ.Kind() == reflect.Pointer {
				b.typ, b.required = b.typ.Elem(), false
			}
			for l := range fieldsOf(b.typ) {
				if l.kind == "label" {
					b.labels = append(b.labels, l.name)
				}
			}
			s.blocks[f.name] = b
			s.order = append(s.order, f.name)
		case "remain":
			switch {
			case f.Type == bodyType, f.Type == attributesType, f.Type.Kind() == reflect.Map:
				s.open = true
			default:
				s.add(f.Type)
			}
		}
	}
}

// taggedField is a struct field with an hcl tag.
type taggedField struct {
	reflect.StructField
	name, kind string
}

// fieldsOf yields the fields of t that have an hcl tag, in order.
func fieldsOf(t reflect.Type) func(yield func(taggedField) bool) {
	return func(yield func(taggedField) bool) {
		if t.Kind() != reflect.Struct {
			return
		}
		for f := range t.Fields() {
			tag := f.Tag.Get("hcl")
			if tag == "" {
				continue
			}
			name, kind, found := strings.Cut(tag, ",")
			if !found {
				kind = "attr"
			}
			if !yield(taggedField{f, name, kind}) {
				return
			}
		}
	}
}

// union is a schema that allows what any of ts allows.
func union(ts ...reflect.Type) *schema {
	s := &schema{attributes: map[string]attributeField{}, blocks: map[string]blockField{}}
	for _, t := range ts {
		s.add(t)
	}
	return s
}

// knows reports whether name is an attribute or block of s.
func (s *schema) knows(name string) bool { return slices.Contains(s.order, name) }

// inside lists the paths of the blocks of s, or of its blocks, that have the given attribute or
// block: the outermost ones, which are all of the same depth.
func (s *schema) inside(name string) [][]string {
	for depth := 1; depth <= 3; depth++ {
		if paths := s.pathsTo(name, depth); len(paths) > 0 {
			return paths
		}
	}
	return nil
}

// pathsTo lists the paths of blocks, of exactly that depth, that have the name.
func (s *schema) pathsTo(name string, depth int) [][]string {
	if depth == 0 {
		if s.knows(name) {
			return [][]string{nil}
		}
		return nil
	}
	var paths [][]string
	for _, b := range s.order {
		f, ok := s.blocks[b]
		if !ok {
			continue
		}
		for _, p := range f.schema().pathsTo(name, depth-1) {
			paths = append(paths, append([]string{b}, p...))
		}
	}
	return paths
}

// instead is how the attribute or block meant is written in the place of an option that is
// called name: with the value that stands there, if it is a number or a truth value that both
// can have. A time keeps its length where the names differ in their unit.
func (s *schema) instead(name string, value hclsyntax.Expression, meant string) string {
	f, ok := s.attributes[meant]
	if !ok || value == nil || f.typ == nil {
		return s.example(meant)
	}
	v, ds := value.Value(nil)
	if ds.HasErrors() || v.IsNull() || !v.IsKnown() {
		return s.example(meant)
	}
	t := f.typ
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case v.Type() == cty.Bool && t.Kind() == reflect.Bool:
		return fmt.Sprintf("%s = %t", meant, v.True())
	case v.Type() != cty.Number || !isInteger(t) && t.Kind() != reflect.Float64:
		return s.example(meant)
	}
	number := v.AsBigFloat().Text('f', -1)
	to, _, isTimed := unitOf(meant, t)
	if !isTimed {
		return meant + " = " + number
	}
	from, _, wasTimed := unitOf(name, t)
	switch {
	case !wasTimed:
		return s.example(meant)
	case from.size != to.size:
		return fmt.Sprintf("%s = %q", meant, number+from.short)
	}
	return meant + " = " + number
}

// example is how the attribute or block name is written.
func (s *schema) example(name string) string {
	if b, ok := s.blocks[name]; ok {
		for _, l := range b.labels {
			name += fmt.Sprintf(" %q", l)
		}
		return name + " { ... }"
	}
	return name + " = " + exampleOf(s.attributes[name].typ)
}

func exampleOf(t reflect.Type) string {
	switch {
	case t == nil:
		return "..."
	case t.Kind() == reflect.Pointer:
		return exampleOf(t.Elem())
	case t.Kind() == reflect.String:
		return `"..."`
	case t.Kind() == reflect.Bool:
		return "true"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64:
		return "1"
	case t.Kind() == reflect.Slice:
		return "[" + exampleOf(t.Elem()) + "]"
	case t.Kind() == reflect.Map:
		return "{ name = " + exampleOf(t.Elem()) + " }"
	}
	return "..."
}
