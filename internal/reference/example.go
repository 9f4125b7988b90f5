package reference

import (
	"bytes"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// excerpt is the example src as far as it is about the connector of the given name: all
// of it when it uses no other, and otherwise the top-level blocks that use it, with the
// uses of others left out. src must parse.
func excerpt(src []byte, name string) string {
	whole := strings.TrimSpace(string(src)) + "\n"
	f, diags := hclsyntax.ParseConfig(src, "example.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return whole
	}
	body := f.Body.(*hclsyntax.Body)
	var out []string
	others := false
	for _, block := range body.Blocks {
		mine, foreign := uses(block, name)
		others = others || len(mine) > 0 && len(foreign) > 0 || len(mine) == 0
		if len(mine) > 0 {
			out = append(out, without(src, block, foreign))
		}
	}
	if !others || len(out) == 0 {
		return whole
	}
	return strings.Join(out, "\n")
}

// uses divides the use blocks of block, and of the blocks of a pipeline, into those of the connector
// and the others.
func uses(block *hclsyntax.Block, name string) (mine, others []*hclsyntax.Block) {
	for _, u := range block.Body.Blocks {
		switch {
		case block.Type == "pipeline":
			m, o := uses(u, name)
			mine, others = append(mine, m...), append(others, o...)
		case u.Type != "use":
		case len(u.Labels) == 1 && u.Labels[0] == name:
			mine = append(mine, u)
		default:
			others = append(others, u)
		}
	}
	return mine, others
}

// without is the source of block without the lines of the given blocks in it, and of the
// comments directly above them.
func without(src []byte, block *hclsyntax.Block, drop []*hclsyntax.Block) string {
	lines := bytes.Split(src, []byte("\n"))
	gone := map[int]bool{}
	for _, d := range drop {
		first, last := d.TypeRange.Start.Line, d.CloseBraceRange.End.Line
		for first-1 > block.TypeRange.Start.Line && isComment(lines[first-2]) {
			first--
		}
		for n := first; n <= last; n++ {
			gone[n] = true
		}
	}
	first := block.TypeRange.Start.Line
	for first > 1 && isComment(lines[first-2]) {
		first--
	}
	var out []string
	for n := first; n <= block.CloseBraceRange.End.Line; n++ {
		line := strings.TrimRight(string(lines[n-1]), " \t\r")
		blank := line == ""
		if gone[n] || blank && (len(out) == 0 || out[len(out)-1] == "" || strings.HasSuffix(out[len(out)-1], "{")) {
			continue
		}
		if strings.TrimSpace(line) == "}" && out[len(out)-1] == "" {
			out = out[:len(out)-1]
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n") + "\n"
}

func isComment(line []byte) bool {
	line = bytes.TrimSpace(line)
	return bytes.HasPrefix(line, []byte("#")) || bytes.HasPrefix(line, []byte("//"))
}

// Unset lists the paths of p's options that its full example does not set.
func Unset(p Page) []string {
	f, diags := hclsyntax.ParseConfig([]byte(p.Full), "example.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return nil // Build has loaded the example
	}
	set := map[string]bool{}
	var walk func(b *hclsyntax.Body, prefix string)
	walk = func(b *hclsyntax.Body, prefix string) {
		for name := range b.Attributes {
			set[prefix+name] = true
		}
		for _, block := range b.Blocks {
			set[prefix+block.Type] = true
			walk(block.Body, prefix+block.Type+".")
		}
	}
	for _, block := range f.Body.(*hclsyntax.Body).Blocks {
		mine, _ := uses(block, p.Name)
		for _, u := range mine {
			walk(u.Body, "")
		}
	}
	var unset []string
	for _, o := range p.Options {
		if !set[o.Path] {
			unset = append(unset, o.Path)
		}
	}
	return unset
}
