package reference

import (
	"fmt"
	"strings"
)

// mark is in the first line of every Markdown file the generator writes.
const mark = "<!-- Generated from the config structs by go generate ./internal/reference. Do not edit. -->"

var kindTitles = map[string]string{
	"source": "Source", "transform": "Transform", "target": "Target", "store": "Store", KindStatsReceiver: "Stats receiver",
}

// markdown is the documentation page of p.
func markdown(p Page) []byte {
	if p.Kind == KindConfig {
		return configMarkdown(p)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n# %s `%s`\n\n%s\n", mark, kindTitles[p.Kind], p.Name, p.Summary)
	if p.Stability != "" && p.Stability != "stable" {
		fmt.Fprintf(&b, "\nStability: %s.\n", p.Stability)
	}
	b.WriteString(readOn(p))
	if p.Minimal != "" {
		fmt.Fprintf(&b, "\n```hcl\n%s```\n", p.Minimal)
	}
	b.WriteString("\n## Options\n\n")
	if len(p.Options) == 0 {
		b.WriteString("It has no options.\n")
	}
	sections(&b, p)
	if p.Full != "" && len(p.Options) > 0 {
		fmt.Fprintf(&b, "\n## Every option\n\nOptions that exclude one another are shown together here.\n\n```hcl\n%s```\n", p.Full)
	}
	return []byte(b.String())
}

// aboutTimes is how options are written that are times.
const aboutTimes = "An option that is a time says its unit in its name: `drain_timeout_ms = 1500`. A duration with its unit may be written\n" +
	"instead, as text, and then the name may do without: `drain_timeout_ms = \"1.5s\"` or `drain_timeout = \"1.5s\"`. Units are ms, s, m, h and d."

// sections writes a table for the top of p and for each of its blocks.
func sections(b *strings.Builder, p Page) {
	if len(p.Options) == 0 {
		return
	}
	table(b, p.In(""))
	for _, o := range p.Options {
		if in := p.In(o.Path); o.IsBlock() && len(in) > 0 {
			fmt.Fprintf(b, "\n### %s\n\n%s\n\n", blockTitle(o), docWords(o))
			table(b, in)
		}
	}
}

// blockTitle is a block as it is written, within the blocks it is in.
func blockTitle(o Option) string {
	title := "`" + o.Path
	if o.Label != "" {
		title += fmt.Sprintf(" %q", o.Label)
	}
	return title + "`"
}

func table(b *strings.Builder, options []Option) {
	b.WriteString("| option | type | default | |\n| --- | --- | --- | --- |\n")
	for _, o := range options {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", o.Name(), cell(typeWords(o)), cell(defaultWords(o)), cell(docWords(o)))
	}
}

// docWords is o's documentation, with the option's name as code where it begins with it.
func docWords(o Option) string {
	if rest, ok := strings.CutPrefix(o.Doc, o.Name()+" "); ok && strings.Contains(o.Name(), "_") {
		return "`" + o.Name() + "` " + rest
	}
	return o.Doc
}

func typeWords(o Option) string {
	if o.Unit != "" {
		return o.Unit + ", or a duration"
	}
	switch o.Type {
	case "block":
		return "block"
	case "blocks":
		return "block, repeatable"
	case "use":
		return `block of one use "name"`
	case "uses":
		return `use "name", repeatable`
	case "int":
		return "whole number"
	}
	return strings.NewReplacer("int", "whole number").Replace(o.Type)
}

func defaultWords(o Option) string {
	switch {
	case o.Required:
		return "required"
	case o.Default != "":
		return "`" + o.Default + "`"
	}
	return ""
}

// cell is text as it can stand in a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n\n", "<br>", "\n", " ").Replace(s)
}

func configMarkdown(p Page) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n# Config\n\n%s\n", mark, p.Summary)
	b.WriteString(readOn(p))
	b.WriteString(`
A config is one or more files of HCL, read as one. Values may read the environment:
` + "`env.NAME`" + `, where a missing name is an error, ` + "`env(\"NAME\")`" + `, where it is the empty
string, and ` + "`env(\"NAME\", \"otherwise\")`" + `, where a missing or empty one is what is written. ` + "`file(\"PATH\")`" + ` is the text of a file, without the end of its last line ([secrets](../secrets.md)). In a string, ` + "`${ }` and `%{ }`" + ` are filled in when the config is read; written
` + "`$${ }` and `%%{ }`" + ` they stay as they are, as the template literals of inline scripts need.

Every block holds one option or block on each line; a block with a single option may be
written on one line.

`)
	pipeline, process := split(p)
	b.WriteString("## Pipelines\n\nAt the top level these make the pipeline \"default\"; in a `pipeline \"name\"` block, one more\npipeline. Without any of them, a config without pipeline blocks still has the pipeline\n\"default\", from stdin to stdout.\n\n")
	sections(&b, pipeline)
	b.WriteString("\n## The process\n\nThese are at the top level only.\n\n")
	sections(&b, process)
	return []byte(b.String())
}

// split divides the page of the top-level blocks into what a pipeline may hold and the rest.
func split(p Page) (pipeline, process Page) {
	for _, o := range p.Options {
		if o.Scope == "pipeline" {
			pipeline.Options = append(pipeline.Options, o)
		} else {
			process.Options = append(process.Options, o)
		}
	}
	return pipeline, process
}

// index is the page that lists the others.
func index(ps []Page) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n# Reference\n\n%s\n\n- [Config](config.md): %s\n- [Metrics](metrics.md): What the process counts and measures.\n", mark, aboutTimes, ps[0].Summary)
	for _, kind := range []string{"source", "transform", "target", "store", KindStatsReceiver} {
		fmt.Fprintf(&b, "\n## %ss\n\n", kindTitles[kind])
		for _, p := range ps {
			if p.Kind == kind {
				fmt.Fprintf(&b, "- [%s](%s): %s\n", p.Name, fileOf(p), p.Summary)
			}
		}
	}
	return []byte(b.String())
}

// fileOf is the name of p's Markdown file.
func fileOf(p Page) string {
	if p.Kind == KindConfig {
		return "config.md"
	}
	return p.Kind + "-" + p.Name + ".md"
}
