package config

import (
	"cmp"
	"reflect"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/weirdata/weir/internal/connector"
)

// defaulter is a struct of an optional block that has defaults of its own. It is called
// before decoding when the block is there and nothing has been set in its place.
type defaulter interface{ SetDefaults() }

// decode sets what a checked body says on into, a pointer to a struct, and validates it.
// Each problem passes through the edits before it becomes a diagnostic.
func (d *document) decode(b *hclsyntax.Body, into any, header hcl.Range, edits ...func(*connector.Problem)) Diagnostics {
	prefill(b, reflect.ValueOf(into).Elem())
	if diags := gohcl.DecodeBody(b, d.scope(cmp.Or(b.SrcRange.Filename, header.Filename)), into); diags.HasErrors() {
		return d.decoding(diags, header)
	}
	v, ok := into.(connector.Validator)
	if !ok {
		return nil
	}
	var ds Diagnostics
	hidden := d.hiddenValues(b)
	for _, p := range v.Validate() {
		for _, edit := range edits {
			edit(&p)
		}
		ds = append(ds, d.problem(b, header, p, hidden))
	}
	if doubtful, ok := into.(interface{ Doubts() []connector.Problem }); ok && !ds.HasErrors() {
		for _, p := range doubtful.Doubts() {
			w := d.problem(b, header, p, hidden)
			w.Severity = Warning
			ds = append(ds, w)
		}
	}
	return ds
}

// decoding reports what gohcl refuses and the checker did not.
func (d *document) decoding(diags hcl.Diagnostics, header hcl.Range) Diagnostics {
	var ds Diagnostics
	for _, g := range diags {
		r := header
		if g.Subject != nil {
			r = *g.Subject
		}
		ds = append(ds, d.errorAt(r, lowerFirst(g.Summary), "see the reference of this block"))
	}
	return ds
}

// prefill makes the structs of the optional blocks that b has and that are nil in v, so
// that gohcl decodes into their defaults.
func prefill(b *hclsyntax.Body, v reflect.Value) {
	for f := range fieldsOf(v.Type()) {
		field := v.FieldByIndex(f.Index)
		switch f.kind {
		case "remain":
			if field.Kind() == reflect.Struct {
				prefill(b, field)
			}
		case "block":
			prefillBlocks(BlocksOf(b, f.name), field)
		}
	}
}

func prefillBlocks(blocks []*hclsyntax.Block, field reflect.Value) {
	if len(blocks) == 0 {
		return
	}
	switch field.Kind() {
	case reflect.Struct:
		prefill(blocks[0].Body, field)
	case reflect.Pointer:
		if field.IsNil() {
			field.Set(newDefault(field.Type().Elem()))
		}
		prefill(blocks[0].Body, field.Elem())
	case reflect.Slice:
		if !field.IsNil() {
			return
		}
		list := reflect.MakeSlice(field.Type(), len(blocks), len(blocks))
		for i, b := range blocks {
			elem := list.Index(i)
			if elem.Kind() == reflect.Pointer {
				elem.Set(newDefault(elem.Type().Elem()))
				elem = elem.Elem()
			} else {
				elem.Set(newDefault(elem.Type()).Elem())
			}
			prefill(b.Body, elem)
		}
		field.Set(list)
	}
}

func newDefault(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if s, ok := reflect.TypeAssert[defaulter](v); ok {
		s.SetDefaults()
	}
	return v
}

// BlocksOf lists the blocks in b of a type.
func BlocksOf(b *hclsyntax.Body, name string) []*hclsyntax.Block {
	var out []*hclsyntax.Block
	for _, block := range b.Blocks {
		if block.Type == name {
			out = append(out, block)
		}
	}
	return out
}

// problem is the diagnostic of a Problem of the struct that b was decoded into.
func (d *document) problem(b *hclsyntax.Body, header hcl.Range, p connector.Problem, hidden []hiddenValue) Diagnostic {
	r, a := locate(b, header, p.Field)
	var own []hiddenValue
	if a != nil {
		own = d.hiddenIn(a)
	}
	return d.errorAt(r, scrub(p.What, own, hidden), scrub(p.Fix, own, hidden))
}

// locate finds what a path of names names: "batching.max_batch_bytes", "rule[1].type",
// "headers.accept". It is the value of the attribute, or else the innermost block of the
// path that is written, or else header.
func locate(b *hclsyntax.Body, header hcl.Range, path string) (hcl.Range, *hclsyntax.Attribute) {
	name, rest, more := strings.Cut(path, ".")
	name, index := indexed(name)
	if a := b.Attributes[name]; a != nil {
		if o, ok := a.Expr.(*hclsyntax.ObjectConsExpr); ok && more {
			for _, item := range o.Items {
				if hcl.ExprAsKeyword(item.KeyExpr) == rest || literal(item.KeyExpr) == rest {
					return item.ValueExpr.Range(), a
				}
			}
		}
		return a.Expr.Range(), a
	}
	blocks := BlocksOf(b, name)
	if more && index == 0 { // "rule.1.type" means "rule[1].type"
		if n, after, _ := strings.Cut(rest, "."); isIndex(n) {
			index, _ = strconv.Atoi(n)
			rest = after
		}
	}
	if index >= len(blocks) {
		return header, nil
	}
	return locate(blocks[index].Body, HeaderOf(blocks[index]), rest)
}

func indexed(name string) (string, int) {
	open := strings.IndexByte(name, '[')
	if open < 0 || !strings.HasSuffix(name, "]") {
		return name, 0
	}
	n, err := strconv.Atoi(name[open+1 : len(name)-1])
	if err != nil || n < 0 {
		return name, 0
	}
	return name[:open], n
}

func isIndex(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0
}

// literal is the text of a constant expression.
func literal(e hclsyntax.Expression) string {
	v, diags := e.Value(nil)
	if diags.HasErrors() || v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
		return ""
	}
	return v.AsString()
}
