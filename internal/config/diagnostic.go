package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a config with this diagnostic can be used.
type Severity string

// The severities.
const (
	// Error means the config cannot be used.
	Error Severity = "error"
	// Warning means the config works and should be changed all the same.
	Warning Severity = "warning"
)

// Diagnostic is one thing wrong with a config: where, what, and what to do about it.
// Its text and JSON forms are stable.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// File is the name of the file as it was given; empty when no file is at fault.
	File string `json:"file,omitempty"`
	// Line and Column are where the bad token starts, from 1; columns count characters.
	// Line 0 means the file as a whole.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// EndLine and EndColumn are where it ends: the first place after it.
	EndLine   int `json:"end_line,omitempty"`
	EndColumn int `json:"end_column,omitempty"`
	// Source is the line as users may see it: secret values are hidden, and of a very
	// long line only the part around the token is kept.
	Source string `json:"source,omitempty"`
	// What is wrong.
	What string `json:"what"`
	// Fix is what to do about it; may be empty, and may have several lines.
	Fix string `json:"fix,omitempty"`

	// mark is the part of Source to underline, in characters.
	mark [2]int
}

// String is the text form: a line that editors can jump to, the source line with the bad
// token underlined, and the fix.
//
//	weir.hcl:3:7: error: unknown target: kafak
//	    3 |   use "kafak" {
//	      |       ^^^^^^^
//	fix: write "kafka"
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(oneLine(d.File))
		if d.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", d.Line, d.Column)
		}
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s: %s\n", d.Severity, indentRest(d.What))
	if d.Line > 0 && d.Source != "" {
		number := fmt.Sprintf("%5d", d.Line)
		fmt.Fprintf(&b, "%s | %s\n", number, d.Source)
		fmt.Fprintf(&b, "%s | %s\n", strings.Repeat(" ", len(number)), d.underline())
	}
	if d.Fix != "" {
		fmt.Fprintf(&b, "fix: %s\n", indentRest(d.Fix))
	}
	return b.String()
}

// underline is a line of carets under the marked part of Source. Tabs stay tabs, so that
// both lines agree whatever a tab's width is.
func (d Diagnostic) underline() string {
	var b strings.Builder
	i := 0
	for _, r := range d.Source {
		switch {
		case i >= d.mark[1]:
			return b.String()
		case i >= d.mark[0]:
			b.WriteByte('^')
		case r == '\t':
			b.WriteByte('\t')
		default:
			b.WriteByte(' ')
		}
		i++
	}
	if d.mark[1] > i { // the place is the end of the line
		b.WriteByte('^')
	}
	return b.String()
}

func indentRest(s string) string { return strings.ReplaceAll(s, "\n", "\n     ") }

// oneLine keeps a control character in a name from breaking the first line's form.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// Diagnostics is everything found, in the order of the files and then by place.
type Diagnostics []Diagnostic

// HasErrors reports whether one of ds is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Errors is the errors of ds.
func (ds Diagnostics) Errors() Diagnostics { return ds.only(Error) }

// Warnings is the warnings of ds.
func (ds Diagnostics) Warnings() Diagnostics { return ds.only(Warning) }

func (ds Diagnostics) only(s Severity) Diagnostics {
	var out Diagnostics
	for _, d := range ds {
		if d.Severity == s {
			out = append(out, d)
		}
	}
	return out
}

// Err is nil when there is no error in ds, and otherwise ds itself; errors.As finds it
// as a Diagnostics.
func (ds Diagnostics) Err() error {
	if !ds.HasErrors() {
		return nil
	}
	return ds
}

// Error is the text of all of ds.
func (ds Diagnostics) Error() string { return strings.TrimSuffix(ds.Text(), "\n") }

// Text is the text form of all of ds, one after the other with an empty line between.
func (ds Diagnostics) Text() string {
	var b strings.Builder
	for i, d := range ds {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// JSON is ds as an indented JSON array, "[]" when empty.
func (ds Diagnostics) JSON() []byte {
	if len(ds) == 0 {
		return []byte("[]\n")
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode([]Diagnostic(ds)); err != nil {
		// Strings and numbers always encode.
		panic(err)
	}
	return []byte(b.String())
}

// Sorted puts ds into the order of files and places, and drops repetitions.
func (ds Diagnostics) Sorted(files ...string) Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)),
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(ds)
}

// without leaves out what is at the place of one of others.
func (ds Diagnostics) without(others Diagnostics) Diagnostics {
	type place struct {
		file         string
		line, column int
	}
	taken := map[place]bool{}
	for _, d := range others {
		taken[place{d.File, d.Line, d.Column}] = d.Line > 0
	}
	var left Diagnostics
	for _, d := range ds {
		if !taken[place{d.File, d.Line, d.Column}] {
			left = append(left, d)
		}
	}
	return left
}
