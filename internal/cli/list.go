package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/reference"
)

// kinds are the kinds of connector: in the order a pipeline has them, then stores.
var kinds = []string{"source", "transform", "target", "store"}

func listCommand(s Streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List connectors and blocks, or the options of one",
		Long: `List the connectors and the blocks of a config, or the options of one with their types,
defaults and meaning. A name that several share, as a source and a target, lists each of them;
the name of a kind, such as target, lists its connectors.`,
		Example: "  weir list\n  weir list http\n  weir list machine",
		Args:    atMost(1, "at most one name"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return listed(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return list(s, name, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// list prints the pages of a name, or a table of all.
func list(s Streams, name string, asJSON bool) error {
	found := named(name)
	whole := name != ""
	if len(found) == 0 && slices.Contains(kinds, name) {
		found, whole = reference.Pages(name), false
	}
	switch {
	case len(found) == 0:
		return unknownName("connector", name, listed())
	case asJSON:
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		return e.Encode(found)
	case !whole:
		return table(s.Out, found)
	}
	for i, p := range found {
		if i > 0 {
			fmt.Fprintln(s.Out)
		}
		describe(s.Out, p)
	}
	return nil
}

// named is every connector and block that has a name; all of them for "".
func named(name string) []reference.Page {
	var found []reference.Page
	for _, kind := range kinds {
		found = append(found, reference.Pages(kind)...)
	}
	found = append(found, blocks()...)
	return slices.DeleteFunc(found, func(p reference.Page) bool { return name != "" && p.Name != name })
}

// listed are the names that can be listed, each once.
func listed() []string {
	var names []string
	for _, p := range named("") {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// blocks are the blocks of the config's process as pages; sources, transforms and targets are
// connectors.
func blocks() []reference.Page {
	config := reference.Pages(reference.KindConfig)[0]
	var found []reference.Page
	for _, o := range config.In("") {
		if o.Type != "block" && o.Type != "blocks" || slices.Contains(kinds[:3], o.Path) {
			continue
		}
		p := reference.Page{Kind: "block", Name: o.Path, Summary: o.Doc}
		label, required := "", ""
		if o.Label != "" {
			label = fmt.Sprintf(" %q", o.Label)
		}
		for _, inner := range config.Options {
			path, in := strings.CutPrefix(inner.Path, o.Path+".")
			if !in {
				continue
			}
			inner.Path = path
			p.Options = append(p.Options, inner)
			if inner.Required && !strings.Contains(path, ".") && inner.Type == "string" {
				required += fmt.Sprintf("  %s = \"...\"\n", path)
			}
		}
		p.Minimal = o.Path + label + " {\n" + required + "}\n"
		found = append(found, p)
	}
	return found
}

func table(w io.Writer, pages []reference.Page) error {
	t := newTable(w)
	t.sentences = true
	fmt.Fprintln(t, "KIND\tNAME\tSUMMARY")
	for _, p := range pages {
		summary, _, _ := strings.Cut(p.Summary, ". ")
		summary = strings.TrimSuffix(summary, ".") + "."
		if p.Stability != "" && p.Stability != "stable" {
			summary += " (" + p.Stability + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.Kind, p.Name, summary)
	}
	return t.Flush()
}

// describe prints a connector as a person reads it: what it is, an example, each option.
func describe(w io.Writer, p reference.Page) {
	width := 90
	if n := columns(w); n > 0 {
		width = max(min(width, n), 30)
	}
	for _, line := range wrap(fmt.Sprintf("%s %q: %s", p.Kind, p.Name, p.Summary), width) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	for line := range strings.Lines(p.Minimal) {
		fmt.Fprint(w, "    ", line)
	}
	if len(p.Options) == 0 {
		fmt.Fprint(w, "\nIt has no options.\n")
		return
	}
	fmt.Fprint(w, "\nOptions:\n")
	for _, o := range p.Options {
		kind := o.Type
		switch {
		case o.Required:
			kind += ", required"
		case o.Default != "":
			kind += ", default " + o.Default
		}
		fmt.Fprintf(w, "\n  %s (%s)\n", o.Path, kind)
		for _, line := range wrap(o.Doc, width-6) {
			fmt.Fprintf(w, "      %s\n", line)
		}
	}
}

// wrap breaks text into lines of at most width characters at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
