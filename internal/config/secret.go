package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/weirdata/weir/internal/secret"
)

// hiddenValue is a value that no message may show, and what is shown instead.
type hiddenValue struct{ text, shown string }

// hiddenValues are the values in b, and in its blocks, that no message may show.
func (d *document) hiddenValues(b *hclsyntax.Body) []hiddenValue {
	var out []hiddenValue
	for _, a := range InOrder(b.Attributes) {
		out = append(out, d.hiddenIn(a)...)
	}
	for _, block := range b.Blocks {
		out = append(out, d.hiddenValues(block.Body)...)
	}
	return out
}

// hiddenIn are the values in a that no message may show: all of them when the name of a says
// secret or a reads the environment or another file, and otherwise those of map entries with such names, and
// what of a URL only its receiver may see.
func (d *document) hiddenIn(a *hclsyntax.Attribute) []hiddenValue {
	var out []hiddenValue
	add := func(text, shown string) {
		if text != "" {
			out = append(out, hiddenValue{text, shown})
		}
	}
	for _, name := range append(environmentOf(a.Expr), calledEnvironment(a.Expr)...) {
		v, _ := d.env(name)
		add(v, "(value of env."+name+")")
	}
	for _, text := range d.contentsOf(a.Expr) {
		add(text, "(content of a file)")
	}
	all := secret.Name(a.Name) || ReadsEnvironment(a.Expr)
	v, diags := a.Expr.Value(d.scope(a.SrcRange.Filename))
	if diags.HasErrors() {
		return out
	}
	walkStrings(v, all, func(text string, whole bool) {
		if whole {
			add(text, hiddenText)
			return
		}
		for _, part := range secret.Parts(text) {
			add(text[part[0]:part[1]], hiddenText)
		}
	})
	return out
}

// walkStrings calls fn with the text of each primitive value in v, and whether it is to be
// hidden as a whole.
func walkStrings(v cty.Value, all bool, fn func(text string, whole bool)) {
	if v.IsNull() || !v.IsKnown() {
		return
	}
	switch t := v.Type(); {
	case t == cty.String:
		fn(v.AsString(), all)
	case t == cty.Number:
		if all {
			fn(v.AsBigFloat().Text('f', -1), true)
		}
	case t.IsObjectType() || t.IsMapType():
		for k, e := range v.AsValueMap() {
			walkStrings(e, all || secret.Name(k), fn)
		}
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		for _, e := range v.AsValueSlice() {
			walkStrings(e, all, fn)
		}
	}
}

// scrub takes hidden values out of a message. Of other attributes, values too short to
// be a secret stay, because they would take ordinary words with them.
func scrub(s string, own, others []hiddenValue) string {
	list := slices.Clone(own)
	for _, h := range others {
		if len(h.text) >= 4 && h.text != "true" && h.text != "false" {
			list = append(list, h)
		}
	}
	// Longest first, so that a value inside another does not leave the rest behind.
	slices.SortStableFunc(list, func(a, b hiddenValue) int { return len(b.text) - len(a.text) })
	for _, h := range list {
		quoted := strconv.Quote(h.text)
		s = replaceWord(s, quoted[1:len(quoted)-1], h.shown)
		s = replaceWord(s, h.text, h.shown)
	}
	return s
}

// replaceWord replaces old where it is not a part of a longer word or number. From eight
// characters on it is replaced everywhere.
func replaceWord(s, old, now string) string {
	if len(old) >= 8 {
		return strings.ReplaceAll(s, old, now)
	}
	var b strings.Builder
	for rest := s; ; {
		i := strings.Index(rest, old)
		if i < 0 || old == "" {
			b.WriteString(rest)
			return b.String()
		}
		end := i + len(old)
		if i > 0 && wordByte(rest[i-1]) && wordByte(old[0]) || end < len(rest) && wordByte(rest[end]) && wordByte(old[len(old)-1]) {
			b.WriteString(rest[:end])
		} else {
			b.WriteString(rest[:i])
			b.WriteString(now)
		}
		rest = rest[end:]
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
