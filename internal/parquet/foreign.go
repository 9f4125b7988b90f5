package parquet

import (
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/weirdata/weir/internal/jsontext"
)

// element is a node of a file's schema.
type element struct {
	*format.SchemaElement
	kids []*element
}

// elements is the schema of a file as a tree.
func elements(in []format.SchemaElement) (*element, error) {
	if len(in) == 0 {
		return nil, errors.New("the file has no schema")
	}
	top, rest, err := elementOf(in, 1)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("the schema of the file is damaged: %d elements are left", len(rest))
	}
	return top, err
}

func elementOf(in []format.SchemaElement, depth int) (e *element, rest []format.SchemaElement, err error) {
	if len(in) == 0 || depth > deepest {
		return nil, nil, errors.New("the schema of the file is damaged: it ends within a group, or is too deep")
	}
	e, rest = &element{SchemaElement: &in[0]}, in[1:]
	for range e.NumChildren.V {
		var kid *element
		if kid, rest, err = elementOf(rest, depth+1); err != nil {
			return nil, nil, err
		}
		e.kids = append(e.kids, kid)
	}
	if (len(e.kids) > 0) == e.Type.Valid && depth > 1 {
		return nil, nil, fmt.Errorf("the schema of the file is damaged: %q is neither a group nor a column", e.Name)
	}
	return e, rest, nil
}

func (e *element) repetition() format.FieldRepetitionType { return e.RepetitionType.V }

func (e *element) isList() bool {
	_, ok := e.LogicalType.Value.(*format.ListType)
	return ok || e.ConvertedType == thrift.New(deprecated.List)
}

func (e *element) isMap() bool {
	_, ok := e.LogicalType.Value.(*format.MapType)
	return ok || e.ConvertedType == thrift.New(deprecated.Map) || e.ConvertedType == thrift.New(deprecated.MapKeyValue)
}

// adopt makes the nodes of a file that somebody else wrote, from its schema alone.
func (r *Reader) adopt(in []format.SchemaElement) error {
	top, err := elements(in)
	if err != nil {
		return err
	}
	r.Schema = &Schema{}
	if r.top, err = r.adoptAll(top.kids, 0, 0); err != nil {
		return err
	}
	r.Schema.Fields = fieldsOf(r.top)
	return nil
}

func fieldsOf(nodes []*node) (out []*Field) {
	for _, n := range nodes {
		out = append(out, n.field)
	}
	return out
}

func (r *Reader) adoptAll(members []*element, def, lists int) (out []*node, err error) {
	taken := map[string]bool{}
	for _, e := range members {
		if e.Name == "" || taken[e.Name] {
			return nil, fmt.Errorf("the name %q of a column is empty, or another one's", e.Name)
		}
		taken[e.Name] = true
		n, err := r.adoptOne(e, def, lists)
		if err != nil {
			return nil, err
		}
		n.field.Key, n.field.Name = e.Name, e.Name
		n.key = append(jsontext.AppendString(nil, e.Name), ':')
		out = append(out, n)
	}
	return out, nil
}

// adoptOne makes the node of an element within one that is there at the level def.
func (r *Reader) adoptOne(e *element, def, lists int) (*node, error) {
	switch e.repetition() {
	case format.Repeated: // a list without a group around it
		elem, err := r.adoptContent(e, def+1, lists+1)
		if err != nil {
			return nil, err
		}
		return listOf(elem, def, lists), nil
	case format.Optional:
		def++
	}
	return r.adoptContent(e, def, lists)
}

// adoptContent makes the node of an element that is there at the level def.
func (r *Reader) adoptContent(e *element, def, lists int) (*node, error) {
	if len(e.kids) == 0 {
		return r.adoptLeaf(e, def, lists)
	}
	inner := e.kids[0]
	wrapped := len(e.kids) == 1 && inner.repetition() == format.Repeated
	if wrapped && e.isMap() && len(inner.kids) == 2 && len(inner.kids[0].kids) == 0 && inner.kids[0].repetition() != format.Repeated {
		return r.adoptMap(inner, def, lists)
	}
	if wrapped && (e.isList() || e.isMap()) {
		var elem *node
		var err error
		if inner.isElement(e.Name) {
			elem, err = r.adoptContent(inner, def+1, lists+1)
		} else {
			elem, err = r.adoptOne(inner.kids[0], def+1, lists+1)
		}
		if err != nil {
			return nil, err
		}
		return listOf(elem, def, lists), nil
	}
	kids, err := r.adoptAll(e.kids, def, lists)
	if err != nil {
		return nil, err
	}
	n := &node{field: &Field{Kind: Object, Fields: fieldsOf(kids)}, def: def, lists: lists, kids: kids, leaf: kids[0].leaf}
	n.join()
	return n, nil
}

// isElement reports whether the repeated element of a list is what the list holds, as older
// writers have it, and not a group around that.
func (e *element) isElement(list string) bool {
	return len(e.kids) != 1 || e.Name == "array" || e.Name == list+"_tuple" || e.kids[0].repetition() == format.Repeated
}

func listOf(elem *node, def, lists int) *node {
	n := &node{field: &Field{Kind: List, Elem: elem.field}, def: def, lists: lists, rep: lists + 1, kids: []*node{elem}, leaf: elem.leaf}
	n.join()
	return n
}

// adoptMap makes the node of a map, whose entries are e.
func (r *Reader) adoptMap(e *element, def, lists int) (*node, error) {
	key, err := r.adoptOne(e.kids[0], def+1, lists+1)
	if err != nil {
		return nil, err
	}
	value, err := r.adoptOne(e.kids[1], def+1, lists+1)
	if err != nil {
		return nil, err
	}
	n := &node{field: &Field{Kind: Map, Elem: value.field}, def: def, lists: lists, rep: lists + 1, kids: []*node{key, value}, leaf: key.leaf}
	n.join()
	return n, nil
}

// join has the kids of n know it.
func (n *node) join() {
	for _, k := range n.kids {
		k.up = n
	}
}

// adoptLeaf makes the node of a column.
func (r *Reader) adoptLeaf(e *element, def, lists int) (*node, error) {
	n := &node{def: def, lists: lists, physical: e.Type.V}
	n.leaf = n
	kind, f, err := foreignType(e.SchemaElement)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", e.Name, err)
	}
	n.field, n.foreign = &Field{Kind: kind, Digits: digitsOf(e.SchemaElement)}, f
	r.leaves = append(r.leaves, n)
	return n, nil
}
