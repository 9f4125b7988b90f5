package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/reference"
)

// kinds are the kinds of connector: in the order a pipeline has them, then stores.
var kinds = []string{"source", "transform", "target", "store"}

func listCommand(s Streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "list [CONNECTOR]",
		Short: "List the connectors, or the options of one",
		Long: `List the connectors, or the options of one with their types, defaults and meaning. A name
that a source and a target share lists both.`,
		Example: "  weir list\n  weir list http",
		Args:    atMost(1, "at most one connector"),
		RunE: func(_ *cobra.Command, args []string) error {
			pages := connectors("")
			if len(args) == 1 {
				if pages = connectors(args[0]); len(pages) == 0 {
					return unknownConnector(args[0])
				}
			}
			switch {
			case asJSON:
				e := json.NewEncoder(s.Out)
				e.SetIndent("", "  ")
				return e.Encode(pages)
			case len(args) == 1:
				for i, p := range pages {
					if i > 0 {
						fmt.Fprintln(s.Out)
					}
					describe(s.Out, p)
				}
				return nil
			}
			return table(s.Out, pages)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// connectors is every page of a connector, or those with a name.
func connectors(name string) []reference.Page {
	var found []reference.Page
	for _, kind := range kinds {
		for _, p := range reference.Pages(kind) {
			if name == "" || p.Name == name {
				found = append(found, p)
			}
		}
	}
	return found
}

func unknownConnector(name string) error {
	var names []string
	for _, p := range connectors("") {
		names = append(names, p.Name)
	}
	return usagef("unknown connector %q; there are %s", name, strings.Join(names, ", "))
}

func table(w io.Writer, pages []reference.Page) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tNAME\tSUMMARY")
	for _, p := range pages {
		summary := p.Summary
		if p.Stability != "" && p.Stability != "stable" {
			summary += " (" + p.Stability + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.Kind, p.Name, summary)
	}
	return t.Flush()
}

// describe prints a connector as a person reads it: what it is, an example, each option.
func describe(w io.Writer, p reference.Page) {
	fmt.Fprintf(w, "%s %q: %s\n\n", p.Kind, p.Name, p.Summary)
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
		for _, line := range wrap(o.Doc, 84) {
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
