package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Explain is config files with what their blocks stand for written out. The text outside of such
// blocks stays as it is, and so do the blocks that are copied out of them; comments between those
// do not.
func Explain(files []File, env func(name string) (string, bool)) ([]File, Diagnostics) {
	d := &document{env: env}
	var ds Diagnostics
	for _, f := range files {
		ds = append(ds, d.parse(f.Name, f.Src)...)
	}
	if ds.HasErrors() {
		return nil, ds.Sorted(d.names()...)
	}
	d.prepare()
	if ds = d.expand(); ds.HasErrors() {
		return nil, ds.Sorted(d.names()...)
	}
	out := make([]File, len(d.files))
	for i, f := range d.files {
		out[i] = File{Name: f.Name, Src: f.explained()}
	}
	return out, nil
}

// explained is the text of f with each collect block replaced by what it stands for.
func (f *Syntax) explained() []byte {
	var out strings.Builder
	from := 0
	for _, b := range BlocksOf(f.Body, "collect") {
		out.Write(f.Src[from:b.TypeRange.Start.Byte])
		first := true
		for _, made := range f.made {
			if made.LabelRanges[0] != b.LabelRanges[0] {
				continue
			}
			if !first {
				out.WriteString("\n")
			}
			first = false
			f.print(&out, made)
		}
		from = b.CloseBraceRange.End.Byte
		if end := bytes.IndexByte(f.Src[from:], '\n'); end >= 0 {
			from += end + 1
		} else {
			from = len(f.Src)
		}
	}
	out.Write(f.Src[from:])
	return hclwrite.Format([]byte(out.String()))
}

// print writes a block that was made: what is in it as it is written elsewhere, where it is.
func (f *Syntax) print(out *strings.Builder, b *hclsyntax.Block) {
	if b.CloseBraceRange.Start.Byte > b.TypeRange.End.Byte {
		out.Write(f.Src[b.TypeRange.Start.Byte:b.CloseBraceRange.End.Byte])
		out.WriteString("\n")
		return
	}
	out.WriteString(HeaderText(b))
	if len(b.Body.Attributes)+len(b.Body.Blocks) == 0 {
		out.WriteString(" {}\n")
		return
	}
	out.WriteString(" {\n")
	attributes := InOrder(b.Body.Attributes)
	slices.SortStableFunc(attributes, func(a, b *hclsyntax.Attribute) int {
		if a.Name == "name" {
			return -1 // what a thing is called comes first; no two of a body have one name
		}
		if b.Name == "name" {
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	for _, a := range attributes {
		fmt.Fprintf(out, "%s = ", a.Name)
		if made, ok := a.Expr.(*hclsyntax.LiteralValueExpr); ok && made.SrcRange == a.NameRange {
			out.Write(hclwrite.TokensForValue(made.Val).Bytes())
		} else {
			r := a.Expr.Range()
			out.Write(f.Src[r.Start.Byte:r.End.Byte])
		}
		out.WriteString("\n")
	}
	for _, inner := range b.Body.Blocks {
		f.print(out, inner)
	}
	out.WriteString("}\n")
}
