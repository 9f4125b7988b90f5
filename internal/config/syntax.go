package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Limits of one file. They keep the parser and the evaluator, which recurse with the
// nesting of what they read, far from the limit of the stack.
const (
	maxFileBytes = 8 << 20
	maxNesting   = 100
	maxOperators = 20000

	maxSyntaxErrors = 50 // of one file that are reported
)

// parse adds a file to d.
func (d *document) parse(name string, src []byte) Diagnostics {
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	f := &Syntax{Name: name, Src: src, Body: &hclsyntax.Body{SrcRange: startOf(name), EndRange: startOf(name)}}
	d.files = append(d.files, f)
	whole := func(what, fix string) Diagnostics {
		return Diagnostics{{Severity: Error, File: name, What: what, Fix: fix}}
	}
	if len(src) > maxFileBytes {
		return whole(fmt.Sprintf("the file has %d bytes; at most %d are read", len(src), maxFileBytes),
			"split it into several files, and keep scripts in files of their own (script_path)")
	}
	if json := bytes.TrimSpace(src); len(json) > 0 && json[0] == '{' {
		return whole("the file starts with a brace, as JSON does", `write the config in HCL: blocks such as source { ... } and options such as log_level = "info"`)
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	f.hidden = hide(src, tokens)
	f.templates = templatesOf(tokens, len(src))
	if r, what := tooDeep(tokens); what != "" {
		return Diagnostics{d.errorAt(r, what, "write it in a simpler way")}
	}
	parsed, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		f.hidden = merged(sortedSpans(append(f.hidden, hideLines(src)...)))
		return d.syntaxErrors(tokens, diags)
	}
	f.Body = parsed.Body.(*hclsyntax.Body)
	return nil
}

func startOf(name string) hcl.Range {
	return hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
}

// template is a part of a string or heredoc between mark, which is ${ or %{, and }.
type template struct {
	span
	mark string
}

// templatesOf lists the parts between ${ or %{ and the matching }.
func templatesOf(tokens hclsyntax.Tokens, end int) []template {
	var open, out []template
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			open = append(open, template{span{t.Range.Start.Byte, end}, string(t.Bytes[:2])})
		case hclsyntax.TokenTemplateSeqEnd:
			if n := len(open); n > 0 {
				open[n-1].to = t.Range.End.Byte
				out = append(out, open[n-1])
				open = open[:n-1]
			}
		}
	}
	return append(out, open...)
}

func tooDeep(tokens hclsyntax.Tokens) (hcl.Range, string) {
	depth, operators := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrack:
			depth++
			operators++
		case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth = max(0, depth-1)
		case hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenBang, hclsyntax.TokenQuestion, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenEqualOp,
			hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan,
			hclsyntax.TokenGreaterThanEq:
			operators++
		}
		if depth > maxNesting {
			return t.Range, fmt.Sprintf("more than %d levels of nesting", maxNesting)
		}
		if operators > maxOperators {
			return t.Range, fmt.Sprintf("more than %d operators in one file", maxOperators)
		}
	}
	return hcl.Range{}, ""
}

// syntaxErrors puts the parser's findings into our words. Of several on one line only
// the first is kept, and nothing after a string without an end: the others are mostly
// consequences of it.
func (d *document) syntaxErrors(tokens hclsyntax.Tokens, diags hcl.Diagnostics) Diagnostics {
	var ds Diagnostics
	lines := map[int]bool{}
	for _, g := range diags {
		if g.Severity != hcl.DiagError || g.Subject == nil || lines[g.Subject.Start.Line] {
			continue
		}
		if len(ds) == maxSyntaxErrors {
			return ds
		}
		lines[g.Subject.Start.Line] = true
		r := *g.Subject
		what, fix := syntaxWords(g)
		if mark := d.templateAt(r); mark != "" && g.Summary != "Invalid string literal" {
			what, fix = "the text between "+mark+" and } is not an expression", templateHint(mark, "...")
		} else if at, w, x, ok := d.unterminated(tokens, g); ok {
			return append(ds, d.errorAt(at, w, x))
		} else if at, w, x, ok := misspelt(tokens, r); ok {
			r, what, fix = at, w, x
		}
		ds = append(ds, d.errorAt(r, what, fix))
	}
	return ds
}

// unterminated finds the opening quote or heredoc marker when a string has no end. The
// parser reports the place where it gave up instead.
func (d *document) unterminated(tokens hclsyntax.Tokens, g *hcl.Diagnostic) (r hcl.Range, what, fix string, ok bool) {
	switch g.Summary {
	case "Invalid multi-line string", "Unterminated template string", "Unterminated string literal":
	default:
		return r, "", "", false
	}
	var open []hclsyntax.Token
	for _, t := range tokens {
		if t.Range.Start.Byte > g.Subject.Start.Byte {
			break
		}
		switch t.Type {
		case hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			open = append(open, t)
		case hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			open = open[:max(0, len(open)-1)]
		}
	}
	if len(open) == 0 {
		return r, "", "", false
	}
	start := open[len(open)-1]
	if start.Type == hclsyntax.TokenOHeredoc {
		r = start.Range
		r.End = r.Start
		r.End.Byte += len(bytes.TrimRight(start.Bytes, "\r\n"))
		r.End.Column += len(bytes.TrimRight(start.Bytes, "\r\n"))
		marker := d.text(r) // empty when a damaged line made a secret part of it
		return r, strings.TrimSpace("the text that starts with "+marker) + " has no end",
			strings.TrimSpace("add a line that holds only the marker " + strings.Trim(marker, "<- ")), true
	}
	return start.Range, "this string has no closing quote on its line",
		"add the closing quote; for text of several lines, write <<EOT, the lines, and EOT on a line of its own", true
}

// misspelt recognises common ways to write an option or a block wrongly, by the tokens
// around the place r that the parser reports.
func misspelt(tokens hclsyntax.Tokens, r hcl.Range) (at hcl.Range, what, fix string, ok bool) {
	i := slices.IndexFunc(tokens, func(t hclsyntax.Token) bool { return t.Range.Start.Byte == r.Start.Byte })
	if i < 0 {
		return r, "", "", false
	}
	is := func(i int, types ...hclsyntax.TokenType) bool {
		return i >= 0 && i < len(tokens) && slices.Contains(types, tokens[i].Type)
	}
	first := i // of the line
	for first > 0 && !is(first-1, hclsyntax.TokenNewline, hclsyntax.TokenOBrace) {
		first--
	}
	end := i // of the line
	for end < len(tokens)-1 && !is(end, hclsyntax.TokenNewline) {
		end++
	}
	name := string(tokens[first].Bytes)
	switch {
	case is(i, hclsyntax.TokenCBrace, hclsyntax.TokenNewline) && insideList(tokens, i):
		return r, "the list before this has no closing bracket", "add ]", true
	case is(i, hclsyntax.TokenCBrace) && first == i:
		return r, "this closing brace closes nothing", "remove it, or look for a brace too many further up", true
	case !is(first, hclsyntax.TokenIdent):
		return r, "", "", false
	case is(first+1, hclsyntax.TokenColon):
		return tokens[first+1].Range, "an option is written with =, not with a colon", fmt.Sprintf("write %s = value", name), true
	case is(end, hclsyntax.TokenNewline) && is(end+1, hclsyntax.TokenOBrace):
		return tokens[end+1].Range, "the opening brace must be on the same line as the name of the block", "move { up to the end of the line before", true
	case is(first+1, hclsyntax.TokenOQuote, hclsyntax.TokenNumberLit, hclsyntax.TokenIdent) && is(i, hclsyntax.TokenNewline, hclsyntax.TokenNumberLit):
		return hcl.RangeBetween(tokens[first].Range, tokens[end-1].Range), fmt.Sprintf("after %s, there is neither = nor {", name),
			fmt.Sprintf("for an option, write %s = value; for a block, %s { ... }", name, name), true
	}
	return r, "", "", false
}

// insideList reports whether the innermost bracket open at token i is that of a list.
func insideList(tokens hclsyntax.Tokens, i int) bool {
	var open []hclsyntax.TokenType
	for _, t := range tokens[:i] {
		switch t.Type {
		case hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenOParen:
			open = append(open, t.Type)
		case hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenCParen:
			open = open[:max(0, len(open)-1)]
		}
	}
	return len(open) > 0 && open[len(open)-1] == hclsyntax.TokenOBrack
}

// syntaxWords says what one of the parser's errors means, and what to do.
func syntaxWords(g *hcl.Diagnostic) (what, fix string) {
	detail := func(s string) bool { return strings.Contains(g.Detail, s) }
	switch g.Summary {
	case "Attribute redefined":
		name, rest, _ := strings.Cut(strings.TrimPrefix(g.Detail, `The argument "`), `"`)
		if _, at, ok := strings.Cut(rest, "was already set at "); ok {
			at, _, _ = strings.Cut(at, ". Each")
			return fmt.Sprintf("%s is set twice; the other one is at %s", name, startOnly(at)), "keep one of the two"
		}
		return "this option is set twice", "keep one of the two"
	case "Argument or block definition required":
		return "an option or a block is expected here", `write an option as name = value, and a block as name { ... }`
	case "Argument definition required":
		return "a block inside a block must start on a line of its own", "put every block inside this one on its own line, and the closing brace too"
	case "Invalid single-argument block definition":
		return "a block on one line can hold only one option", "put each option on a line of its own, and the closing brace too"
	case "Invalid argument name":
		return "the name of an option is not quoted", `write name = value, without quotes around the name`
	case "Unclosed configuration block", "Unclosed configuration body":
		return "this block has no closing brace", "add } after its last line; a missing brace further down in it has the same effect"
	case "Unexpected comma after argument":
		return "options are not separated by commas", "remove the comma and put the next option on a new line"
	case "Missing newline after argument":
		return "there is something after the end of this option", "start a new line here, or put the whole text in quotes"
	case "Missing newline after block definition":
		return "there is something after the closing brace of this block", "start a new line here"
	case "Invalid block definition":
		switch {
		case detail(`equals sign`):
			return "a block takes no =", "write name { ... }, or for an option name = value without a second word"
		case detail("same line as the block header"):
			return "the opening brace must be on the same line as the block's name", "move { up to the end of this line"
		}
		return "after the name of a block, { is expected", `write name { ... } or name "label" { ... }`
	case "Missing expression", "Invalid expression":
		return "a value is expected here", `write a number, true or false, or text in quotes: name = "value"`
	case "Invalid number literal":
		return "this is not a number", "write it with digits only, such as 1500 or 1.5"
	case "Invalid escape sequence":
		return "this backslash sequence means nothing in a string", `write \\ for one backslash; the sequences are \n \r \t \" \\ \uNNNN \UNNNNNNNN`
	case "Invalid string literal":
		return "a name can hold no ${ } or %{ }", "write the name itself"
	case "Invalid character encoding":
		return "the file is not UTF-8", "save it with the encoding UTF-8"
	case "Unbalanced parentheses", "Missing closing parenthesis", "Unterminated function call", "Missing argument separator":
		return "a closing parenthesis is missing", "add )"
	case "Unterminated tuple constructor expression":
		return "this list has no closing bracket", "add ]"
	case "Missing item separator":
		return "the entries of a list are separated by commas", "add a comma before this"
	case "Unterminated object constructor expression":
		return "this map has no closing brace", "add }"
	case "Missing attribute value", "Missing key/value separator":
		return "an entry of a map needs a value", `write name = "value"`
	case "Missing attribute separator":
		return "the entries of a map are separated by commas or new lines", "add a comma before this"
	case "Unclosed template interpolation sequence", "Extra characters after interpolation expression",
		"Invalid template directive", "Invalid template control keyword":
		return "the text between ${ and } is not an expression", templateHint("${", "...")
	case "Unsupported operator":
		return "this operator does not exist here", "put text in quotes"
	case "Invalid character":
		return invalidCharacter(g)
	}
	return lowerFirst(g.Summary), ""
}

func invalidCharacter(g *hcl.Diagnostic) (what, fix string) {
	switch {
	case strings.Contains(g.Detail, "Single quotes"):
		return "text is not quoted with single quotes", `write "text" with double quotes`
	case strings.Contains(g.Detail, "Curly quotes"):
		return "text is not quoted with curly quotes", `write "text" with straight double quotes`
	case strings.Contains(g.Detail, "heredoc"):
		return "text is not quoted with backticks", `write "text", or for several lines <<EOT, the lines, and EOT on a line of its own`
	case strings.Contains(g.Detail, `";"`):
		return "options do not end with a semicolon", "remove it and start a new line"
	}
	return "this character has no meaning here", "remove it, or put the text in quotes"
}

// startOnly shortens HCL's form of a range, file:1,2-3, to its start, file:1:2.
func startOnly(r string) string {
	i := strings.LastIndexByte(r, ':')
	if i < 0 {
		return r
	}
	start, _, _ := strings.Cut(r[i+1:], "-")
	return r[:i+1] + strings.Replace(start, ",", ":", 1)
}
