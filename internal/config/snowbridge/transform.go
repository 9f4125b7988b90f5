package snowbridge

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/weirdata/weir/internal/config"
)

var scriptDialect = Dialect{
	Name:  "scripts in base64",
	Since: "2.0.0",
	Old: `transform {
  use "js" {
    source_b64 = "ZnVuY3Rpb24gbWFpbihpbnB1dCkgewogIHJldHVybiBpbnB1dDsKfQo="
  }
}
`,
	New: `transform {
  use "js" {
    script = <<SCRIPT
function main(input) {
  return input;
}
SCRIPT
  }
}
`,
	Note: "A script that the environment holds becomes `script = base64decode(env.NAME)`. " +
		"The transform `lua` reads `source_b64` to this day.",
}

// decodeScripts: before 2.0.0, a JavaScript was written in base64.
func decodeScripts(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "js", "transform") {
		a := use.Body.Attributes["source_b64"]
		if a == nil {
			continue
		}
		if use.Body.Attributes["script"] != nil || use.Body.Attributes["script_path"] != nil {
			r.twice(use, a, "script")
			continue
		}
		fix := "write the script itself: script = <<SCRIPT, its lines, and SCRIPT on a line of its own; or its path: script_path = \"script.js\""
		v := r.valueOf(a)
		encoded, ok := v.constantText()
		if !ok {
			v = v.call("base64decode")
			r.warn(a.NameRange, "source_b64 is the script in base64; it is read as script", "write "+r.shown("script", v))
			r.replace(use, a, "script", v)
			continue
		}
		script, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !utf8.Valid(script) {
			r.refuse(a.Expr.Range(), "source_b64 is not a text in base64", fix)
			delete(use.Body.Attributes, a.Name)
			use.Body.Attributes["script"] = &hclsyntax.Attribute{Name: "script", Expr: a.Expr, SrcRange: a.SrcRange, NameRange: a.NameRange}
			continue
		}
		r.warn(a.NameRange, "source_b64 is the script in base64; it is read as script", fix)
		r.replace(use, a, "script", r.script(string(script), a))
	}
}

// script is a constant text as a heredoc, where that can hold it.
func (r *rewriter) script(text string, a *hclsyntax.Attribute) value {
	if strings.Contains(text, "\n") && !strings.HasSuffix(text, "\n") {
		text += "\n" // as each line of a heredoc has
	}
	v := literalValue(cty.StringVal(text), a.Expr.Range())
	plain := !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c == '\ufeff' })
	if !plain || !strings.HasSuffix(text, "\n") {
		return v
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	marker := "SCRIPT"
	for slices.ContainsFunc(lines, func(line string) bool { return strings.TrimSpace(line) == marker }) {
		marker += "_"
	}
	v.text = "<<" + marker + "\n" + strings.NewReplacer("${", "$${", "%{", "%%{").Replace(text) + marker
	return v
}

var sourceMapsDialect = Dialect{
	Name:  "source maps",
	Since: "2.0.0",
	Old: `transform {
  use "js" {
    script_path         = "script.js"
    disable_source_maps = true
  }
}
`,
	New: `transform {
  use "js" {
    script_path = "script.js"
  }
}
`,
	Note: "Source maps are never read.",
}

// dropSourceMaps: before 2.0.0, js would read source maps unless told not to.
func dropSourceMaps(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "js", "transform") {
		if a := use.Body.Attributes["disable_source_maps"]; a != nil {
			r.warn(a.NameRange, "disable_source_maps has no effect: source maps are never read", "remove the line")
			r.drop(use, a)
		}
	}
}

var filterDialect = Dialect{
	Name:  "filters",
	Since: "2.0.0",
	Old: `transform {
  use "spEnrichedFilter" {
    description   = "page views only"
    atomic_field  = "event_name"
    regex         = "^page_view$"
    regex_timeout = 10
  }
}
`,
	New: `transform {
  use "spEnrichedFilter" {
    atomic_field  = "event_name"
    regex         = "^page_view$"
    filter_action = "keep"
  }
}
`,
	Note: "A filter without `filter_action` keeps what matches, as it did. Regular expressions are RE2, " +
		"which needs no time limit. Look-ahead, look-behind and back-references do not exist in it: a " +
		"filter that uses one is refused. To keep what does not contain a word, write the word and " +
		"`filter_action = \"drop\"`.",
}

// isFilter reports whether a use is one of the filters of Snowplow events.
func isFilter(use *hclsyntax.Block) bool {
	switch use.Labels[0] {
	case "spEnrichedFilter", "spEnrichedFilterContext", "spEnrichedFilterUnstructEvent":
		return true
	}
	return false
}

// nameFilterAction: before 2.0.0, a filter kept what matched, had a time limit for its
// regular expression, and a description.
func nameFilterAction(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "", "transform") {
		if !isFilter(use) {
			continue
		}
		r.checkRegex(use)
		as := use.Body.Attributes
		if a := as["regex_timeout"]; a != nil {
			r.warn(a.NameRange, "regex_timeout has no effect: RE2 takes time in proportion to the text", "remove the line")
			r.drop(use, a)
		}
		if a := as["description"]; a != nil {
			r.warn(a.NameRange, "description has no effect", "remove the line, or write it as a comment: # ...")
			r.drop(use, a)
		}
		if regex := as["regex"]; regex != nil && as["filter_action"] == nil {
			r.warn(config.HeaderOf(use), "a filter without filter_action keeps what matches", `write filter_action = "keep"`)
			r.add(use, "filter_action", literalValue(cty.StringVal("keep"), regex.NameRange), regex.NameRange)
		}
	}
}

var (
	lookAround = regexp.MustCompile(`\(\?(?:<?[=!]|>)|\\[1-9]|\\k[<{']`)
	notContain = regexp.MustCompile(`^\^?\(\(\?!(.+)\)\.\)[*+]\$?$|^\^?\(\?!\.\*(.+)\)(?:\.\*)?\$?$`)
)

// checkRegex refuses what RE2 does not have.
func (r *rewriter) checkRegex(use *hclsyntax.Block) {
	a := use.Body.Attributes["regex"]
	if a == nil {
		return
	}
	text, ok := r.valueOf(a).constantText()
	if !ok {
		return
	}
	if _, err := regexp.Compile(text); err == nil {
		return
	}
	found := lookAround.FindString(text)
	if found == "" {
		return // the transform says what is wrong with it
	}
	fix := `write it without, or use a js transform: return { FilterOut: true } drops a message`
	if m := notContain.FindStringSubmatch(text); m != nil {
		inner := m[1] + m[2]
		if _, err := regexp.Compile(inner); err == nil && r.keeps(use) {
			fix = fmt.Sprintf("write what it must not contain, and drop it:\nregex         = %s\nfilter_action = \"drop\"",
				literalValue(cty.StringVal(inner), a.SrcRange).text)
		}
	}
	r.refuse(a.Expr.Range(), fmt.Sprintf("regex uses %s, which regular expressions had before Snowbridge %s: RE2 has no look-ahead, look-behind or back-reference", found, r.since), fix)
}

// keeps reports whether a filter keeps what matches.
func (r *rewriter) keeps(use *hclsyntax.Block) bool {
	a := use.Body.Attributes["filter_action"]
	if a == nil {
		return true
	}
	action, ok := r.valueOf(a).constantText()
	return ok && action == "keep"
}

var transformsDialect = Dialect{
	Name:  "several transform blocks",
	Since: "5.0.0",
	Old: `transform {
  use "base64Decode" {}
}

transform {
  use "js" {
    script_path = "script.js"
  }
}
`,
	New: `transform {
  use "base64Decode" {}
  use "js" {
    script_path = "script.js"
  }
}
`,
	Note: "They run in the order they are written, as the `use` blocks of one `transform` block do.",
}

// joinTransforms: before 5.0.0, each transform had a transform block of its own. They
// run in the order they are written, as the use blocks of one transform block do now.
func joinTransforms(r *rewriter, b *hclsyntax.Body) {
	var first, second *hclsyntax.Block
	kept := make(hclsyntax.Blocks, 0, len(b.Blocks))
	for _, block := range b.Blocks {
		switch {
		case block.Type != "transform" || len(block.Labels) > 0:
			kept = append(kept, block)
		case first == nil:
			first = copyOf(block)
			kept = append(kept, first)
		case !addTo(first.Body, block.Body):
			kept = append(kept, block) // both set one option: the checker names both places
		default:
			if second == nil {
				second = block
			}
			r.joinText(first, block)
		}
	}
	if second == nil {
		return
	}
	b.Blocks = kept
	var now strings.Builder
	now.WriteString("write one block with every use in it\ntransform {\n")
	for _, use := range first.Body.Blocks {
		fmt.Fprintf(&now, "  %s { ... }\n", config.HeaderText(use))
	}
	for _, a := range config.InOrder(first.Body.Attributes) {
		fmt.Fprintf(&now, "  %s\n", r.file.Text(a.SrcRange))
	}
	now.WriteString("}")
	r.warn(config.HeaderOf(second), "there is more than one transform block; they are read as one", now.String())
}

// joinText writes the content of block, and the comment above it, at the end of first.
func (r *rewriter) joinText(first, block *hclsyntax.Block) {
	r.touch(first)
	r.touch(block)
	header := config.HeaderOf(block)
	above, _ := r.commentsOf(header)
	rg := header
	rg.End = block.CloseBraceRange.End
	from, to := r.linesOf(rg)
	if _, behind := r.commentsOf(rg); behind != "" {
		above += behind + "\n"
	}
	r.addText(first, above+r.inside(block))
	r.removeLines(from-len(r.commentsAbove(header)), to)
}

// addTo moves the content of from behind that of to; false, with to unchanged, when both
// set the same option.
func addTo(to, from *hclsyntax.Body) bool {
	for name := range from.Attributes {
		if to.Attributes[name] != nil {
			return false
		}
	}
	attributes := make(hclsyntax.Attributes, len(to.Attributes)+len(from.Attributes))
	maps.Copy(attributes, to.Attributes)
	maps.Copy(attributes, from.Attributes)
	to.Attributes = attributes
	to.Blocks = append(append(hclsyntax.Blocks{}, to.Blocks...), from.Blocks...)
	return true
}
