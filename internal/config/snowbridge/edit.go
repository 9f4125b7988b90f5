package snowbridge

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
)

// span is a range of bytes: from is in it, to is not.
type span struct{ from, to int }

// edit replaces the bytes from (included) to (excluded) of a file.
type edit struct {
	span
	text string
}

// applied is src with the edits, which do not overlap. Of several at one place, the one
// noted first comes first.
func applied(src []byte, edits []edit) []byte {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, e := range edits {
		if e.from > at {
			out = append(out, src[at:e.from]...)
		}
		out = append(out, e.text...)
		at = max(at, e.to)
	}
	return append(out, src[at:]...)
}

// spread writes the blocks that stand on one line over several.
func spread(src []byte, blocks []*hclsyntax.Block) []byte {
	seen := map[int]bool{}
	var edits []edit
	for _, b := range blocks {
		from, to := b.OpenBraceRange.End.Byte, b.CloseBraceRange.Start.Byte
		if seen[from] {
			continue
		}
		seen[from] = true
		inner := strings.TrimSpace(string(src[from:to]))
		if inner != "" {
			inner = "\n" + inner
		}
		edits = append(edits, edit{span{from, to}, inner + "\n"})
	}
	return applied(src, edits)
}

// touch notes that the content of b, which is nil for the file itself, is to be changed.
func (r *rewriter) touch(b *hclsyntax.Block) {
	if b != nil && b.OpenBraceRange.Start.Line == b.CloseBraceRange.Start.Line && b.CloseBraceRange.End.Byte > 0 {
		r.cramped = append(r.cramped, b)
	}
}

func (r *rewriter) replaceText(from, to int, text string) {
	r.edits = append(r.edits, edit{span{from, to}, text})
}

// drop takes an attribute out. A comment above it goes too, unless another attribute
// follows at once, which the comment may be about as well.
func (r *rewriter) drop(b *hclsyntax.Block, a *hclsyntax.Attribute) {
	r.touch(b)
	delete(b.Body.Attributes, a.Name)
	from, to := r.linesOf(a.SrcRange)
	if r.closes(to) {
		from -= len(r.commentsAbove(a.SrcRange))
	}
	r.removeLines(from, to)
}

// dropBlock takes a block out of another, with the comment above it.
func (r *rewriter) dropBlock(from, block *hclsyntax.Block) {
	r.touch(from)
	from.Body.Blocks = slices.DeleteFunc(slices.Clone(from.Body.Blocks), func(b *hclsyntax.Block) bool { return b == block })
	header := config.HeaderOf(block)
	rg := header
	rg.End = block.CloseBraceRange.End
	start, end := r.linesOf(rg)
	r.removeLines(start-len(r.commentsAbove(header)), end)
}

// closes reports whether the line at is empty or ends a block.
func (r *rewriter) closes(at int) bool {
	after := bytes.TrimLeft(r.file.Src[at:], " \t\r")
	return len(after) == 0 || after[0] == '\n' || after[0] == '}'
}

// replace writes another attribute in the place of one.
func (r *rewriter) replace(b *hclsyntax.Block, old *hclsyntax.Attribute, name string, v value) {
	r.touch(b)
	delete(b.Body.Attributes, old.Name)
	b.Body.Attributes[name] = &hclsyntax.Attribute{Name: name, Expr: v.expr, SrcRange: old.SrcRange, NameRange: old.NameRange, EqualsRange: old.EqualsRange}
	end, above := old.SrcRange.End.Byte, ""
	if bytes.HasSuffix(r.file.Src[:end], []byte("\n")) { // a heredoc takes its last line end with it
		v.text = strings.TrimRight(v.text, "\n") + "\n"
	} else if _, behind := r.commentsOf(old.SrcRange); behind != "" && strings.HasPrefix(v.text, "<<") {
		// Nothing may stand behind the marker that ends a heredoc.
		_, end = r.linesOf(old.SrcRange)
		above = behind + "\n"
		v.text += "\n"
	}
	r.replaceText(old.SrcRange.Start.Byte, end, above+name+" = "+v.text)
}

// add writes an attribute at the end of a block. Diagnostics speak of the place at.
func (r *rewriter) add(b *hclsyntax.Block, name string, v value, at hcl.Range) {
	r.touch(b)
	b.Body.Attributes[name] = &hclsyntax.Attribute{Name: name, Expr: v.expr, SrcRange: at, NameRange: at, EqualsRange: at}
	r.addText(b, name+" = "+v.text+"\n")
}

// addText writes lines at the end of a block.
func (r *rewriter) addText(b *hclsyntax.Block, lines string) {
	end := b.CloseBraceRange.Start.Byte
	from := end
	for from > 0 && (r.file.Src[from-1] == ' ' || r.file.Src[from-1] == '\t') {
		from--
	}
	r.replaceText(from, from, lines)
}

// setting is an attribute of a nested block, made from older ones beside that block.
type setting struct {
	name string
	v    value
	from []*hclsyntax.Attribute
	at   hcl.Range
}

// nest moves settings into the nested block with a name, which is made if it is not
// there; the attributes they are made of, and those in gone, are taken out. Comments move
// with them.
func (r *rewriter) nest(b *hclsyntax.Block, name string, settings []setting, gone ...*hclsyntax.Attribute) {
	r.touch(b)
	var olds []*hclsyntax.Attribute
	var lines []string
	taken := map[*hclsyntax.Attribute]bool{}
	for _, s := range settings {
		above, behind := "", ""
		for _, a := range s.from {
			if taken[a] {
				continue
			}
			taken[a] = true
			olds = append(olds, a)
			up, end := r.commentsOf(a.SrcRange)
			above += up
			if end != "" {
				behind += " " + end
			}
		}
		lines = append(lines, above+s.name+" = "+s.v.text+behind)
	}
	olds = append(olds, gone...)
	for _, a := range olds {
		delete(b.Body.Attributes, a.Name)
	}
	nested := r.nested(b, name, settings)
	for _, s := range settings {
		nested.Body.Attributes[s.name] = &hclsyntax.Attribute{Name: s.name, Expr: s.v.expr, SrcRange: s.at, NameRange: s.at, EqualsRange: s.at}
	}
	text := strings.Join(lines, "\n") + "\n"
	first := -1
	if nested.CloseBraceRange.End.Byte > 0 {
		r.touch(nested)
		r.addText(nested, text)
	} else if len(settings) > 0 {
		text = name + " {\n" + text + "}\n"
		if len(olds) == 0 {
			r.addText(b, text)
		} else {
			first = slices.MinFunc(olds, func(x, y *hclsyntax.Attribute) int { return x.SrcRange.Start.Byte - y.SrcRange.Start.Byte }).SrcRange.Start.Byte
		}
	}
	for _, a := range olds {
		from, to := r.linesOf(a.SrcRange)
		if taken[a] {
			up, _ := r.commentsOf(a.SrcRange)
			from -= len(up)
		}
		if a.SrcRange.Start.Byte == first {
			r.replaceText(from, to, text)
			continue
		}
		r.removeLines(from, to)
	}
}

// nested is the block called name in b. One that is made has no place of its own.
func (r *rewriter) nested(b *hclsyntax.Block, name string, settings []setting) *hclsyntax.Block {
	if found := config.BlocksOf(b.Body, name); len(found) > 0 {
		return found[0]
	}
	at := config.HeaderOf(b)
	if len(settings) > 0 {
		at = settings[0].at
	}
	made := newBlock(name, at)
	if len(settings) > 0 {
		b.Body.Blocks = append(b.Body.Blocks, made)
	}
	return made
}

func newBlock(name string, at hcl.Range) *hclsyntax.Block {
	return &hclsyntax.Block{Type: name, TypeRange: at,
		Body: &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: at, EndRange: at}}
}

// copyOf is b with a body of its own.
func copyOf(b *hclsyntax.Block) *hclsyntax.Block {
	c, body := *b, *b.Body
	body.Attributes = maps.Clone(b.Body.Attributes)
	c.Body = &body
	return &c
}

// linesOf is the whole lines that rg covers, with the line end.
func (r *rewriter) linesOf(rg hcl.Range) (from, to int) {
	src := r.file.Src
	from = bytes.LastIndexByte(src[:rg.Start.Byte], '\n') + 1
	to = rg.End.Byte
	if to > 0 && to > from && src[to-1] == '\n' { // a heredoc
		return from, to
	}
	if i := bytes.IndexByte(src[to:], '\n'); i >= 0 {
		return from, to + i + 1
	}
	return from, len(src)
}

// commentsOf is the comment lines directly above rg, whole, and the comment behind it.
func (r *rewriter) commentsOf(rg hcl.Range) (above, behind string) {
	src := r.file.Src
	from, to := r.linesOf(rg)
	start := from
	for start > 0 {
		line := bytes.LastIndexByte(src[:start-1], '\n') + 1
		if text := strings.TrimSpace(string(src[line:start])); !strings.HasPrefix(text, "#") && !strings.HasPrefix(text, "//") {
			break
		}
		start = line
	}
	if end := rg.End.Byte; end < to {
		behind = strings.TrimSpace(string(src[end:to]))
	}
	return string(src[start:from]), behind
}

// removeLines takes lines out, and one of two empty lines that would meet.
func (r *rewriter) removeLines(from, to int) {
	src := r.file.Src
	if before := bytes.TrimRight(src[:from], " \t\r"); r.closes(to) && bytes.HasSuffix(before, []byte("\n")) {
		before = bytes.TrimRight(before[:len(before)-1], " \t\r")
		if bytes.HasSuffix(before, []byte("\n")) {
			from = len(before)
		}
	}
	r.replaceText(from, to, "")
}

// inside is the text between the braces of b, as whole lines.
func (r *rewriter) inside(b *hclsyntax.Block) string {
	text := string(r.file.Src[b.OpenBraceRange.End.Byte:b.CloseBraceRange.Start.Byte])
	return strings.TrimSpace(text) + "\n"
}

// commentsAbove is the comment lines directly above rg.
func (r *rewriter) commentsAbove(rg hcl.Range) string {
	above, _ := r.commentsOf(rg)
	return above
}

// lineEndAt is a line end when the text before at does not end with one.
func (r *rewriter) lineEndAt(at int) string {
	if at > 0 && r.file.Src[at-1] != '\n' {
		return "\n"
	}
	return ""
}
