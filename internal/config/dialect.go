package config

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// dialect is one way of writing a config that has since changed. Rewrite turns the old
// form into the new one in the syntax tree of a pipeline's blocks, so that no later stage
// knows the old form, and reports each place with [rewriter.warn]. It must leave a body
// without the old form as it is.
type dialect struct {
	// since is the release whose configs need the new form.
	since   string
	rewrite func(*rewriter, *hclsyntax.Body)
}

// dialects are applied in this order, oldest form first: each one sees what the ones
// before it have made.
var dialects = []dialect{
	{since: "5.0.0", rewrite: joinTransforms},
	{since: "5.1.1", rewrite: ignoreStatsTimeout},
}

// rewriter applies one dialect to one file.
type rewriter struct {
	doc   *document
	since string
	ds    Diagnostics
}

// warn reports an old form, once for each place, with what to write instead.
func (r *rewriter) warn(old hcl.Range, what, fix string) {
	r.ds = append(r.ds, r.doc.at(Warning, old, fmt.Sprintf("%s (the form from before Snowbridge %s)", what, r.since), fix))
}

// modernize rewrites each file of d into the present form.
func (d *document) modernize() Diagnostics {
	var ds Diagnostics
	for _, f := range d.files {
		for _, form := range dialects {
			r := &rewriter{doc: d, since: form.since}
			form.rewrite(r, f.body)
			for _, b := range f.body.Blocks {
				if b.Type == "pipeline" {
					form.rewrite(r, b.Body)
				}
			}
			ds = append(ds, r.ds...)
		}
	}
	return ds
}

// joinTransforms: before 5.0.0, each transform had a transform block of its own. They
// run in the order they are written, as the use blocks of one transform block do now.
func joinTransforms(r *rewriter, b *hclsyntax.Body) {
	var first *hclsyntax.Block
	var second *hclsyntax.Block
	kept := make(hclsyntax.Blocks, 0, len(b.Blocks))
	for _, block := range b.Blocks {
		switch {
		case block.Type != "transform" || len(block.Labels) > 0:
			kept = append(kept, block)
		case first == nil:
			joined := *block
			body := *block.Body
			joined.Body = &body
			first = &joined
			kept = append(kept, first)
		case !addTo(first.Body, block.Body):
			kept = append(kept, block) // both set one option: the checker names both places
		case second == nil:
			second = block
		}
	}
	if second == nil {
		return
	}
	b.Blocks = kept
	var now strings.Builder
	now.WriteString("write one block with every use in it\ntransform {\n")
	for _, use := range first.Body.Blocks {
		fmt.Fprintf(&now, "  %s { ... }\n", headerText(use))
	}
	for _, a := range inOrder(first.Body.Attributes) {
		fmt.Fprintf(&now, "  %s\n", r.doc.text(a.SrcRange))
	}
	now.WriteString("}")
	r.warn(headerOf(second), "there is more than one transform block; they are read as one", now.String())
}

// ignoreStatsTimeout: since 5.1.1 stats_receiver.timeout_sec is read and ignored.
func ignoreStatsTimeout(r *rewriter, b *hclsyntax.Body) {
	for _, receiver := range blocksOf(b, "stats_receiver") {
		if a := receiver.Body.Attributes["timeout_sec"]; a != nil {
			r.warn(a.NameRange, "timeout_sec has no effect: statsd is sent by UDP, which has nothing to wait for", "remove the line")
		}
	}
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
	for name, a := range to.Attributes {
		attributes[name] = a
	}
	for name, a := range from.Attributes {
		attributes[name] = a
	}
	to.Attributes = attributes
	to.Blocks = append(append(hclsyntax.Blocks{}, to.Blocks...), from.Blocks...)
	return true
}
