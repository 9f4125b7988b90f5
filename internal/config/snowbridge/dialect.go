// Package snowbridge reads the config files of Snowbridge, old and new.
//
// Every form that Snowbridge has read since 2.0 is read: [Dialects] lists them. A dialect
// is rewritten in the syntax tree and in the text at once, so that the file [Convert]
// writes means what the old one does. Snowbridge up to 2.4.2 could be configured by
// environment variables alone: [FromEnvironment] makes a file of them, which is read when
// no file is named.
//
// # Invariants
//
//   - Each older form gives one warning, with its place and what to write instead.
//   - A converted file means what the old one does, keeps its comments, and is not changed
//     by converting it again.
//   - A secret that only a variable holds is not written into a file, and none is shown.
package snowbridge

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
)

// Dialect is one way of writing a config that has since changed, with an example of both
// forms: each example is a whole file.
type Dialect struct {
	// Name is a short name, unique among dialects.
	Name string
	// Since is the Snowbridge release whose configs need the new form.
	Since string
	// Old and New are one config in the two forms.
	Old, New string
	// Note says what the forms mean where that is more than a change of names.
	Note string
}

// dialect is a [Dialect] with its rewriting. Rewrite turns the old form into the new one,
// in the body of a file or of a pipeline block, by the operations of its [rewriter], which
// change the syntax tree and note the same change of the text: so that no later stage
// knows the old form, and what [Convert] writes is what is read. It reports each
// place with [rewriter.warn], and leaves a body without the old form as it is.
type dialect struct {
	Dialect
	rewrite func(*rewriter, *hclsyntax.Body)
}

// dialects are applied in this order, oldest form first: each one sees what the ones
// before it have made.
var dialects = []dialect{
	{Dialect: statsdAddressDialect, rewrite: dropStatsdWithoutAddress},
	{Dialect: tlsDialect, rewrite: enableTLS},
	{Dialect: scriptDialect, rewrite: decodeScripts},
	{Dialect: sourceMapsDialect, rewrite: dropSourceMaps},
	{Dialect: filterDialect, rewrite: nameFilterAction},
	{Dialect: httpBodyDialect, rewrite: oneEventPerRequest},
	{Dialect: responseRulesDialect, rewrite: orderResponseRules},
	{Dialect: transformsDialect, rewrite: joinTransforms},
	{Dialect: concurrencyDialect, rewrite: moveConcurrency},
	{Dialect: failureFormatDialect, rewrite: moveFailureFormat},
	{Dialect: headersDialect, rewrite: openHeaders},
	{Dialect: timeoutDialect, rewrite: timeoutInMillis},
	{Dialect: httpSizeDialect, rewrite: resize("http")},
	{Dialect: eventHubSizeDialect, rewrite: resize("eventhub")},
	{Dialect: kafkaSizeDialect, rewrite: resize("kafka")},
	{Dialect: kinesisSizeDialect, rewrite: resize("kinesis")},
	{Dialect: statsTimeoutDialect, rewrite: dropStatsTimeout},
}

// Dialects lists the older forms that are read, in the order of the releases that
// changed them.
func Dialects() []Dialect {
	list := make([]Dialect, len(dialects))
	for i, d := range dialects {
		list[i] = d.Dialect
	}
	return list
}

// rewriter applies one dialect to one file.
type rewriter struct {
	file  *config.Syntax
	since string
	// early says why the file is from before 3.0.0; empty when that is not known.
	early string
	ds    config.Diagnostics
	// edits are what the rewriting means for the text of the file.
	edits []edit
	// cramped are the blocks to be changed that are written on one line: the text can
	// only be edited after they are spread over several.
	cramped []*hclsyntax.Block
}

// warn reports an old form, once for each place, with what to write instead.
func (r *rewriter) warn(old hcl.Range, what, fix string) {
	r.ds = append(r.ds, r.file.Diagnostic(config.Warning, old, fmt.Sprintf("%s (the form from before Snowbridge %s)", what, r.since), fix))
}

// refuse reports an old form that cannot be read.
func (r *rewriter) refuse(old hcl.Range, what, fix string) {
	r.ds = append(r.ds, r.file.Diagnostic(config.Error, old, what, fix))
}

// twice refuses an old option beside the new one, and takes the old one out.
func (r *rewriter) twice(b *hclsyntax.Block, old *hclsyntax.Attribute, now string) {
	r.refuse(old.NameRange, fmt.Sprintf("%s is the older form of %s, and both are set", old.Name, now), "remove "+old.Name)
	r.drop(b, old)
}

// hide keeps what is written at rg out of every diagnostic.
func (r *rewriter) hide(rg hcl.Range) { r.file.Hide(rg) }

// apply rewrites the bodies of a file.
func (r *rewriter) apply(form dialect) {
	form.rewrite(r, r.file.Body)
	for _, b := range r.file.Body.Blocks {
		if b.Type == "pipeline" {
			form.rewrite(r, b.Body)
		}
	}
}

// Older reads every older form, for [config.Options].
var Older config.Older = older{}

type older struct{}

func (older) Modernize(f *config.Syntax) config.Diagnostics { return modernize(f, earlyForm(f)) }

// modernize rewrites f, which is known to be from before 3.0.0 unless early is empty.
func modernize(f *config.Syntax, early string) config.Diagnostics {
	var ds config.Diagnostics
	for _, form := range dialects {
		r := &rewriter{file: f, since: form.Since, early: early}
		r.apply(form)
		ds = append(ds, r.ds...)
	}
	return ds
}

// usesIn lists the use blocks in the blocks of b with the given types; without a name, all
// of them.
func usesIn(b *hclsyntax.Body, name string, types ...string) []*hclsyntax.Block {
	var found []*hclsyntax.Block
	for _, t := range types {
		for _, block := range config.BlocksOf(b, t) {
			for _, use := range config.BlocksOf(block.Body, "use") {
				if len(use.Labels) == 1 && (name == "" || use.Labels[0] == name) {
					found = append(found, use)
				}
			}
		}
	}
	return found
}

// The blocks that hold a target.
var targetBlocks = []string{"target", "failure_target", "filter_target"}

// earlyForm finds a form that only releases before 3.0.0 read, and says where; empty when
// f has none. What such a release did without being told is then known to be meant.
func earlyForm(f *config.Syntax) string {
	bodies := []*hclsyntax.Body{f.Body}
	for _, b := range config.BlocksOf(f.Body, "pipeline") {
		bodies = append(bodies, b.Body)
	}
	mark := func(r hcl.Range, what string) string {
		return fmt.Sprintf("%s on line %d", what, r.Start.Line)
	}
	for _, b := range bodies {
		for _, use := range usesIn(b, "http", targetBlocks...) {
			if a := use.Body.Attributes["byte_limit"]; a != nil {
				return mark(a.NameRange, a.Name)
			}
		}
		for _, use := range usesIn(b, "", "transform") {
			for _, name := range []string{"source_b64", "disable_source_maps", "regex_timeout", "description"} {
				if a := use.Body.Attributes[name]; a != nil && (use.Labels[0] == "js" || isFilter(use)) {
					return mark(a.NameRange, name)
				}
			}
			if isFilter(use) && use.Body.Attributes["filter_action"] == nil && use.Body.Attributes["regex"] != nil {
				return mark(config.HeaderOf(use), config.HeaderText(use)+" without filter_action")
			}
		}
	}
	// Lua went in 3.0.0, but is a transform of ours: it counts where nothing is newer.
	for _, use := range usesIn(f.Body, "lua", "transform") {
		if use.Body.Attributes["script"] == nil && !hasLaterForm(f.Body) {
			return mark(config.HeaderOf(use), config.HeaderText(use))
		}
	}
	return ""
}

// hasLaterForm reports whether b has a form that releases before 3.0.0 refuse.
func hasLaterForm(b *hclsyntax.Body) bool {
	for _, block := range b.Blocks {
		switch block.Type {
		case "source", "target", "failure_target", "stats_receiver", "sentry":
		case "transform":
			if len(config.BlocksOf(block.Body, "use")) > 1 || len(block.Body.Attributes) > 0 {
				return true
			}
		default:
			return true
		}
	}
	for _, use := range usesIn(b, "", append([]string{"source"}, targetBlocks...)...) {
		if len(use.Body.Blocks) > 0 || use.Body.Attributes["enable_tls"] != nil || use.Body.Attributes["request_timeout_in_millis"] != nil {
			return true
		}
	}
	return false
}

// shown is name = text as a diagnostic shows it.
func (r *rewriter) shown(name string, v value) string {
	text := v.text
	if len(text) > 60 || strings.ContainsAny(text, "\r\n") {
		text = "..."
	}
	return name + " = " + text
}

// blockText is lines within name { ... }.
func blockText(name string, lines ...string) string {
	return name + " {\n  " + strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  ") + "\n}"
}
