package jq

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// The interpreter's own match counts the characters before each match from the start of the
// text, and cannot be interrupted: a gsub over a text of some hundred kilobytes takes
// minutes. matchName is the same in time proportional to the text, and the functions that
// jq defines by match are defined by it.
const matchName = "weir__match"

// definitions are what a program finds in place of the functions of the same names.
var definitions = func() []*gojq.FuncDef {
	q, err := gojq.Parse(`
def match($re; $flags): ` + matchName + `($re; $flags)[];
def match($re): if ($re | type) == "array" then match($re[0]; $re[1]) else match($re; null) end;
def weir__named: [.captures[] | select(.name != null) | {key: .name, value: .string}] | from_entries;
def capture($re; $flags): match($re; $flags) | weir__named;
def capture($re): match($re) | weir__named;
def scan($re; $flags): match($re; $flags + "g") | if .captures == [] then .string else [.captures[].string] end;
def scan($re): scan($re; null);
def splits($re; $flags): . as $text | foreach (match($re; $flags + "g"), null) as $m ({at: 0};
  .from = .at | .to = $m.offset | .at = (if $m then $m.offset + $m.length else null end); $text[.from:.to]);
def splits($re): splits($re; null);
def split($re; $flags): [splits($re; $flags)];
def sub($re; with; $flags): . as $text
  | reduce match($re; $flags) as $m ({out: [], at: 0};
      .at as $at | .n = 0
      | reduce ($m | weir__named | with) as $s (.; .out[.n] += $text[$at:$m.offset] + $s | .n += 1)
      | .at = $m.offset + $m.length)
  | .at as $at | if .out == [] then $text else .out[] + $text[$at:] end;
def sub($re; with): sub($re; with; null);
def gsub($re; with; $flags): sub($re; with; $flags + "g");
def gsub($re; with): sub($re; with; "g");
.`)
	if err != nil {
		panic(err) // our own program
	}
	return q.FuncDefs
}()

var matching = regexp.MustCompile(`\b(match|capture|scan|splits?|g?sub)\b`)

// defineMatch puts the definitions before a program that speaks of one of them.
func defineMatch(q *gojq.Query, text string) {
	if matching.MatchString(text) {
		q.FuncDefs = append(append([]*gojq.FuncDef{}, definitions...), q.FuncDefs...)
	}
}

// expression is a compiled expression, with one that tells whether there is an empty match
// right behind another match.
type expression struct{ every, behind *regexp.Regexp }

// expressions are those a program has used; the program may make them of payloads, so that
// there must be a limit.
type expressions struct {
	mu    sync.Mutex
	known map[[2]string]expression
}

const maxExpressions = 1000

func (x *expressions) compile(re, flags string) (expression, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := [2]string{re, flags}
	if e, ok := x.known[key]; ok {
		return e, nil
	}
	if i := strings.IndexFunc(flags, func(r rune) bool { return r != 'g' && r != 'i' && r != 'm' }); i >= 0 {
		return expression{}, fmt.Errorf("unsupported regular expression flag: %q", flags)
	}
	if strings.Contains(flags, "i") {
		re = "(?i)" + re
	}
	if strings.Contains(flags, "m") {
		re = "(?s)" + re
	}
	every, err := regexp.Compile(re)
	if err != nil {
		return expression{}, fmt.Errorf("invalid regular expression %q: %w", re, err)
	}
	behind, err := regexp.Compile(`\A(?s:.)(?:` + re + `)`)
	if err != nil {
		return expression{}, fmt.Errorf("invalid regular expression %q: %w", re, err)
	}
	if len(x.known) >= maxExpressions || x.known == nil {
		x.known = map[[2]string]expression{}
	}
	x.known[key] = expression{every, behind}
	return x.known[key], nil
}

// match is what match($re; $flags) gives, as an array.
func (x *expressions) match(v any, args []any) any {
	text, ok := v.(string)
	re, isText := args[0].(string)
	flags, plain := args[1].(string)
	if !ok || !isText || !plain && args[1] != nil {
		return fmt.Errorf("match cannot be applied to: %s (%s), with a %s and a %s", gojq.TypeOf(v), gojq.Preview(v), gojq.TypeOf(args[0]), gojq.TypeOf(args[1]))
	}
	e, err := x.compile(re, flags)
	if err != nil {
		return err
	}
	most := 1
	if strings.Contains(flags, "g") {
		most = -1
	}
	names, c := e.every.SubexpNames(), characters{text: text}
	found := []any{}
	add := func(at []int) {
		captures := make([]any, 0, len(names)-1)
		offset := c.before(at[0])
		length := utf8.RuneCountInString(text[at[0]:at[1]])
		for i := 1; i < len(names); i++ {
			captures = append(captures, c.capture(names[i], at[2*i], at[2*i+1], at[0], offset))
		}
		found = append(found, map[string]any{"offset": offset, "length": length, "string": text[at[0]:at[1]], "captures": captures})
	}
	all := e.every.FindAllStringSubmatchIndex(text, most)
	for i, at := range all {
		add(at)
		if most == 1 || at[0] == at[1] || i+1 < len(all) && all[i+1][0] == at[1] {
			continue
		}
		if empty := e.emptyAt(text, at[1]); empty != nil {
			add(empty)
		}
	}
	return found
}

// emptyAt is the empty match at a place behind another match, which package regexp leaves
// out; nil when there is none.
func (e expression) emptyAt(text string, at int) []int {
	_, width := utf8.DecodeLastRuneInString(text[:at])
	found := e.behind.FindStringSubmatchIndex(text[at-width:])
	if found == nil || found[1] != width {
		return nil
	}
	for i := range found {
		if found[i] >= 0 {
			found[i] += at - width
		}
	}
	found[0] = at
	return found
}

// characters counts the characters before growing places of a text.
type characters struct {
	text      string
	at, count int
}

func (c *characters) before(at int) int {
	if at >= c.at {
		c.count += utf8.RuneCountInString(c.text[c.at:at])
	} else {
		c.count -= utf8.RuneCountInString(c.text[at:c.at])
	}
	c.at = at
	return c.count
}

// capture is one capture of the match that begins at the byte start, the character offset.
func (c *characters) capture(name string, from, to, start, offset int) map[string]any {
	var named any
	if name != "" {
		named = name
	}
	if from < 0 {
		return map[string]any{"name": named, "offset": -1, "length": 0, "string": nil}
	}
	return map[string]any{"name": named, "offset": offset + utf8.RuneCountInString(c.text[start:from]),
		"length": utf8.RuneCountInString(c.text[from:to]), "string": c.text[from:to]}
}
