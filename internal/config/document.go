package config

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/secret"
)

// document is what was read: the files, and the environment their expressions see.
type document struct {
	files      []*Syntax
	env        func(string) (string, bool)
	eval       *hcl.EvalContext
	read       sync.Mutex                  // guards what follows
	scopes     map[string]*hcl.EvalContext // of eval, by the file whose expressions see it
	contents   map[string]content          // of files that expressions read, by path
	known      Known
	decodeWith func(*Use) error
}

// Syntax is one config file: its text and its syntax tree.
type Syntax struct {
	Name string
	// Src is the text, without a byte order mark.
	Src []byte
	// Body is the tree; its ranges are those of Src.
	Body *hclsyntax.Body

	made   []*hclsyntax.Block // the blocks of Body that a collect block stands for
	hidden []span             // parts of Src that no diagnostic may show, in order
	// templates are the parts of Src between ${ or %{ and the matching }.
	templates []template
}

// ParseSyntax reads a text as a config file, and looks no further than its syntax.
func ParseSyntax(name string, src []byte) (*Syntax, Diagnostics) {
	d := &document{}
	ds := d.parse(name, src)
	return d.files[0], ds
}

// Diagnostic is about the code at r, which is in f.
func (f *Syntax) Diagnostic(s Severity, r hcl.Range, what, fix string) Diagnostic {
	g := Diagnostic{Severity: s, File: r.Filename, What: hideURLs(what, false), Fix: hideURLs(fix, true)}
	if f == nil || r.Start.Line == 0 {
		return g
	}
	g.Line, g.Column = r.Start.Line, r.Start.Column
	g.EndLine, g.EndColumn = r.End.Line, r.End.Column
	g.Source, g.mark = f.excerpt(r)
	return g
}

// Hide keeps what is written at r out of every diagnostic.
func (f *Syntax) Hide(r hcl.Range) {
	f.hidden = merged(sortedSpans(append(f.hidden, span{r.Start.Byte, r.End.Byte})))
}

// Text is the source code at r, empty when any of it must stay hidden.
func (f *Syntax) Text(r hcl.Range) string {
	if f == nil || r.Start.Byte < 0 || r.End.Byte > len(f.Src) || r.Start.Byte > r.End.Byte {
		return ""
	}
	for _, h := range f.hidden {
		if h.from < r.End.Byte && r.Start.Byte < h.to {
			return ""
		}
	}
	return string(f.Src[r.Start.Byte:r.End.Byte])
}

// span is a range of bytes: from is in it, to is not.
type span struct{ from, to int }

func (d *document) file(name string) *Syntax {
	for _, f := range d.files {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func (d *document) names() []string {
	names := make([]string, len(d.files))
	for i, f := range d.files {
		names[i] = f.Name
	}
	return names
}

func (d *document) errorAt(r hcl.Range, what, fix string) Diagnostic {
	return d.file(r.Filename).Diagnostic(Error, r, what, fix)
}

const (
	maxExcerpt = 120 // characters of a source line that a diagnostic shows
	hiddenText = secret.Mark
	cutText    = "..."
)

// excerpt is the line r starts in as users may see it, and the part of it, in
// characters, that r covers.
func (f *Syntax) excerpt(r hcl.Range) (line string, mark [2]int) {
	start := min(max(r.Start.Byte, 0), len(f.Src))
	from := bytes.LastIndexByte(f.Src[:start], '\n') + 1
	to := len(f.Src)
	if i := bytes.IndexByte(f.Src[start:], '\n'); i >= 0 {
		to = start + i
	}
	end := min(max(r.End.Byte, start), to)

	var out []rune
	mark = [2]int{-1, -1}
	for i := from; i < to; {
		if i >= start && mark[0] < 0 {
			mark[0] = len(out)
		}
		if i >= end && mark[1] < 0 && i > start {
			mark[1] = len(out)
		}
		if h, ok := f.hiddenAt(i); ok {
			out = append(out, []rune(hiddenText)...)
			if next := min(h.to, to); next > start && mark[0] < 0 {
				mark[0] = len(out) - len(hiddenText)
			}
			i = min(h.to, to)
			continue
		}
		c, n := utf8.DecodeRune(f.Src[i:to])
		i += n
		if c == '\r' && i == to {
			break
		}
		if c < ' ' && c != '\t' || c == utf8.RuneError || c == 0x7f {
			c = '?'
		}
		out = append(out, c)
	}
	if mark[0] < 0 {
		mark[0] = len(out)
	}
	mark[1] = max(mark[1], mark[0]+1)
	if end == to {
		mark[1] = max(len(out), mark[0]+1)
	}
	return cut(out, mark)
}

// cut shortens a long line to the part around mark.
func cut(line []rune, mark [2]int) (string, [2]int) {
	if len(line) <= maxExcerpt {
		return string(line), mark
	}
	from := max(0, min(mark[0]-maxExcerpt/3, len(line)-maxExcerpt))
	to := min(len(line), from+maxExcerpt)
	text, shift := string(line[from:to]), -from
	if from > 0 {
		text, shift = cutText+text, shift+len(cutText)
	}
	end := min(mark[1], to) + shift
	if to < len(line) {
		text += cutText
	}
	return text, [2]int{mark[0] + shift, max(end, mark[0]+shift+1)}
}

func (f *Syntax) hiddenAt(i int) (span, bool) {
	for _, h := range f.hidden {
		if h.from <= i && i < h.to {
			return h, true
		}
	}
	return span{}, false
}

// hideURLs takes what only their receivers may see out of the URLs in a text; of a text of
// ours, which has URLs as examples, only passwords.
func hideURLs(s string, ours bool) string {
	for _, part := range slices.Backward(secret.Parts(s)) {
		if !ours || strings.HasPrefix(s[part[1]:], "@") {
			s = s[:part[0]] + hiddenText + s[part[1]:]
		}
	}
	return s
}

// hide finds the parts of src that no diagnostic may show: what is written after a
// name that says secret, except references to the environment, and what of a URL only its
// receiver may see. It works on tokens, so that it also holds for files that do not parse.
func hide(src []byte, tokens hclsyntax.Tokens) []span {
	var hidden []span
	for i := 0; i < len(tokens); i++ {
		name, next, ok := nameAt(tokens, i)
		if ok && secret.Name(name) && startsValue(tokens, next) {
			hidden, next = hideValue(hidden, tokens, next)
			i = next - 1 // names inside the value are hidden with it
		}
	}
	for _, part := range secret.Parts(string(src)) {
		hidden = append(hidden, span{part[0], part[1]})
	}
	return merged(sortedSpans(hidden))
}

func sortedSpans(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	return spans
}

var (
	namedLine = regexp.MustCompile(`([\w-]+)["']?[ \t]*(?:=>|[=:])?[ \t]*["']?`)
	itemLine  = regexp.MustCompile(`(?m)^[ \t]*(?:[\w"'-]+[ \t]*[=:]|[\w-]+[ \t]*(?:"[^"]*"[ \t]*)?\{|\}|#|//)`)
)

// hideLines finds what is written after names that say secret in a file that does not parse,
// where tokens may be wrong: a quote too many makes text of names, and names of text. It
// hides everything up to the next line that looks like an option, a block or its end.
func hideLines(src []byte) []span {
	var hidden []span
	end := 0
	for _, m := range namedLine.FindAllSubmatchIndex(src, -1) {
		if m[1] < end || !secret.Name(string(src[m[2]:m[3]])) {
			continue
		}
		end = len(src)
		if eol := bytes.IndexByte(src[m[1]:], '\n'); eol >= 0 {
			if next := itemLine.FindIndex(src[m[1]+eol+1:]); next != nil {
				end = m[1] + eol + 1 + next[0]
			}
		}
		hidden = append(hidden, span{m[1], end})
	}
	return hidden
}

// nameAt is the name of an attribute or map entry written at token i, and the index of
// the token after it.
func nameAt(tokens hclsyntax.Tokens, i int) (name string, next int, ok bool) {
	switch t := tokens[i]; t.Type {
	case hclsyntax.TokenIdent:
		if i > 0 && tokens[i-1].Type == hclsyntax.TokenDot {
			return "", 0, false
		}
		return string(t.Bytes), i + 1, true
	case hclsyntax.TokenOQuote:
		if i+2 < len(tokens) && tokens[i+1].Type == hclsyntax.TokenQuotedLit && tokens[i+2].Type == hclsyntax.TokenCQuote {
			return string(tokens[i+1].Bytes), i + 3, true
		}
	}
	return "", 0, false
}

// startsValue reports whether a value follows a name: also when the "=" was forgotten.
func startsValue(tokens hclsyntax.Tokens, i int) bool {
	if i >= len(tokens) {
		return false
	}
	switch tokens[i].Type {
	case hclsyntax.TokenOBrace, hclsyntax.TokenNewline, hclsyntax.TokenEOF, hclsyntax.TokenCParen,
		hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenComma, hclsyntax.TokenTemplateSeqEnd:
		return false
	}
	return true
}

// hideValue appends the parts of the value that starts at token i; the index is that of
// the token after the value.
func hideValue(hidden []span, tokens hclsyntax.Tokens, i int) ([]span, int) {
	depth := 0
	for i < len(tokens) {
		if n := envReference(tokens[i:]); n > 0 {
			i += n
			continue
		}
		t := tokens[i]
		i++
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComma:
			if depth == 0 {
				return hidden, i
			}
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
			if depth--; depth < 0 {
				return hidden, i
			}
		case hclsyntax.TokenEqual, hclsyntax.TokenColon, hclsyntax.TokenOQuote, hclsyntax.TokenCQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenCHeredoc:
		case hclsyntax.TokenEOF:
			return hidden, i
		default:
			hidden = append(hidden, span{t.Range.Start.Byte, t.Range.End.Byte})
		}
	}
	return hidden, i
}

// envReference is the number of tokens of env.NAME or env("NAME") at the start of tokens.
func envReference(tokens hclsyntax.Tokens) int {
	is := func(types ...hclsyntax.TokenType) bool {
		if len(tokens) < len(types) {
			return false
		}
		for i, t := range types {
			if tokens[i].Type != t {
				return false
			}
		}
		return string(tokens[0].Bytes) == "env"
	}
	switch {
	case is(hclsyntax.TokenIdent, hclsyntax.TokenDot, hclsyntax.TokenIdent):
		return 3
	case is(hclsyntax.TokenIdent, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenQuotedLit,
		hclsyntax.TokenCQuote, hclsyntax.TokenCParen):
		return 6
	}
	return 0
}

// merged joins spans that touch; what lies between two parts of one value goes with them.
func merged(spans []span) []span {
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}
