package config

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/spelling"
)

// checker finds everything in a body that its schema does not allow, before gohcl
// decodes it.
type checker struct {
	doc *document
	ds  Diagnostics
}

func (c *checker) errorAt(r hcl.Range, what, fix string) {
	c.ds = append(c.ds, c.doc.errorAt(r, what, fix))
}

// place says where in the config a body is, for messages.
type place struct {
	name   string    // `batching`, `use "kafka"`, `pipeline "a"`; empty for the top level
	header hcl.Range // what a missing item is reported at
	outer  *schema   // what the enclosing body allows; nil at the top level

	// Of a source or target whose name a connector of the other kind has too: what that allows.
	other           *schema
	kind, otherKind Kind
}

func (p place) in() string {
	if p.name == "" {
		return " at the top level"
	}
	return " in " + p.name
}

func (c *checker) body(b *hclsyntax.Body, s *schema, at place) {
	c.durations(b, s)
	meant := map[string]bool{} // names that unknown options were probably meant to be
	for _, a := range InOrder(b.Attributes) {
		f, ok := s.attributes[a.Name]
		if !ok {
			if !s.open {
				c.unknownAttribute(a, s, at)
				meant[spelling.Nearest(a.Name, s.order)] = true
			}
			continue
		}
		v, ds := c.doc.value(a.Expr)
		if len(ds) > 0 {
			c.ds = append(c.ds, ds...)
			continue
		}
		c.ds = append(c.ds, c.doc.fits(a.Name, a.Expr, v, f.typ)...)
	}
	c.blocks(b, s, at)
	c.missing(b, s, at, meant)
}

func (c *checker) blocks(b *hclsyntax.Body, s *schema, at place) {
	first := map[string]*hclsyntax.Block{}
	for _, block := range b.Blocks {
		f, ok := s.blocks[block.Type]
		if !ok {
			if !s.open {
				c.unknownBlock(block, s, at)
			}
			continue
		}
		if other := first[block.Type]; other != nil && !f.many {
			c.errorAt(HeaderOf(block),
				fmt.Sprintf("only one %s block is allowed%s, and there is one at %s", block.Type, at.in(), position(other.TypeRange)),
				"keep one of the two")
			continue
		}
		first[block.Type] = block
		if !c.labels(block, f, s) {
			continue
		}
		c.body(block.Body, f.schema(), place{name: HeaderText(block), header: HeaderOf(block), outer: s})
	}
}

// labels checks the number of names after a block's type.
func (c *checker) labels(block *hclsyntax.Block, f blockField, s *schema) bool {
	switch {
	case len(block.Labels) < len(f.labels):
		c.errorAt(HeaderOf(block), fmt.Sprintf("%s needs a name", block.Type), "write "+s.example(block.Type))
	case len(block.Labels) > len(f.labels) && len(f.labels) == 0:
		c.errorAt(block.LabelRanges[0], fmt.Sprintf("a %s block has no name", block.Type), "write "+s.example(block.Type))
	case len(block.Labels) > len(f.labels):
		c.errorAt(block.LabelRanges[len(f.labels)], fmt.Sprintf("%s takes one name", block.Type), "write "+s.example(block.Type))
	default:
		return true
	}
	return false
}

func (c *checker) missing(b *hclsyntax.Body, s *schema, at place, meant map[string]bool) {
	for _, name := range s.order {
		if meant[name] {
			continue
		}
		if f, ok := s.attributes[name]; ok && f.required && b.Attributes[name] == nil {
			c.errorAt(at.header, fmt.Sprintf("%s is required%s", name, at.in()), "add "+s.example(name))
		}
		if f, ok := s.blocks[name]; ok && f.required && !slices.ContainsFunc(b.Blocks, func(x *hclsyntax.Block) bool { return x.Type == name }) {
			c.errorAt(at.header, fmt.Sprintf("a %s block is required%s", name, at.in()), "add "+s.example(name))
		}
	}
}

func (c *checker) unknownAttribute(a *hclsyntax.Attribute, s *schema, at place) {
	if _, ok := s.blocks[a.Name]; ok {
		c.errorAt(a.NameRange, fmt.Sprintf("%s is a block, so it takes no =", a.Name), "write "+s.example(a.Name))
		return
	}
	c.errorAt(a.NameRange, fmt.Sprintf("unknown option: %s%s", a.Name, at.in()), suggestion(a.Name, a.Expr, s, at))
}

func (c *checker) unknownBlock(b *hclsyntax.Block, s *schema, at place) {
	if _, ok := s.attributes[b.Type]; ok {
		c.errorAt(HeaderOf(b), fmt.Sprintf("%s is an option, not a block", b.Type), "write "+s.example(b.Type))
		return
	}
	c.errorAt(HeaderOf(b), fmt.Sprintf("unknown block: %s%s", b.Type, at.in()), suggestion(b.Type, nil, s, at))
}

// suggestion is what to write instead of an unknown name; value is that of an option.
func suggestion(name string, value hclsyntax.Expression, s *schema, at place) string {
	paths := s.inside(name)
	if len(paths) == 1 {
		path := paths[0]
		return fmt.Sprintf("%s belongs in the %s block:\n%s", name, path[len(path)-1], nested(path, schemaAt(s, path).example(name)))
	}
	if at.outer != nil && at.outer.knows(name) {
		return fmt.Sprintf("%s belongs one level up, beside %s", name, at.name)
	}
	if at.other != nil && at.other.knows(name) {
		return fmt.Sprintf("remove it: %s is an option of the %s, and this is the %s (%s)", name, at.otherKind, at.kind, at.name)
	}
	if n := spelling.Nearest(name, s.order); n != "" {
		return "write " + s.instead(name, value, n)
	}
	if len(paths) > 1 {
		var blocks []string
		for _, path := range paths {
			blocks = append(blocks, path[len(path)-1])
		}
		return fmt.Sprintf("%s belongs in a block: %s", name, strings.Join(blocks, " or "))
	}
	if len(s.order) == 0 {
		return "remove it: nothing can be set here"
	}
	known := slices.Clone(s.order)
	sort.Strings(known)
	return "remove it; what can be set here: " + strings.Join(known, ", ")
}

func schemaAt(s *schema, path []string) *schema {
	for _, b := range path {
		s = s.blocks[b].schema()
	}
	return s
}

// nested writes inner within the blocks of path.
func nested(path []string, inner string) string {
	for _, b := range slices.Backward(path) {
		inner = b + " {\n  " + strings.ReplaceAll(inner, "\n", "\n  ") + "\n}"
	}
	return inner
}

// InOrder lists attributes as they are in the file.
func InOrder(as hclsyntax.Attributes) []*hclsyntax.Attribute {
	list := make([]*hclsyntax.Attribute, 0, len(as))
	for _, a := range as {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int {
		return cmp.Or(
			strings.Compare(a.SrcRange.Filename, b.SrcRange.Filename),
			a.SrcRange.Start.Byte-b.SrcRange.Start.Byte,
			strings.Compare(a.Name, b.Name)) // a dialect makes several of one
	})
	return list
}

// HeaderOf is the range of a block's type and labels.
func HeaderOf(b *hclsyntax.Block) hcl.Range {
	r := b.TypeRange
	if n := len(b.LabelRanges); n > 0 {
		r = hcl.RangeBetween(r, b.LabelRanges[n-1])
	}
	return r
}

// HeaderText is a block's type and labels as users write them.
func HeaderText(b *hclsyntax.Block) string {
	var s strings.Builder
	s.WriteString(b.Type)
	for _, l := range b.Labels {
		fmt.Fprintf(&s, " %q", l)
	}
	return s.String()
}

func position(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", oneLine(r.Filename), r.Start.Line, r.Start.Column)
}
