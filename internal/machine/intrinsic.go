package machine

import (
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// maxIntrinsicDepth is how deep calls of intrinsic functions may nest.
const maxIntrinsicDepth = 10

// intrinsicCall is a call like States.Format('{}', $.a).
type intrinsicCall struct {
	text string
	name string
	args []expression
	fn   *intrinsic
}

// stringLiteral is a text in single quotes: raw as written, v without its escapes.
type stringLiteral struct {
	raw string
	v   jsonvalue.Value
}

func (l *stringLiteral) eval(*scope) (jsonvalue.Value, *failure) { return l.v, nil }

// argumentQuery is a path among the arguments of a call.
type argumentQuery struct{ query *query }

func (a *argumentQuery) eval(s *scope) (jsonvalue.Value, *failure) {
	v, err := a.query.get(s)
	if err != nil {
		return v, raise(errorRuntime, "The JSONPath argument '%s' could not be found in the input '%s'", a.query.text, quoted(s.dollar()))
	}
	return v, nil
}

func (c *intrinsicCall) eval(s *scope) (jsonvalue.Value, *failure) {
	args := make([]jsonvalue.Value, len(c.args))
	size := 0
	for i, a := range c.args {
		v, fail := a.eval(s)
		if fail != nil {
			return v, fail
		}
		args[i] = v
		if size += v.Size(); size > 2*s.r.d.limits.Payload {
			return v, raise(errorIntrinsic, "The function '%s' had the following error: the arguments have more than %d bytes", cut(c.text, 1000), 2*s.r.d.limits.Payload)
		}
	}
	if c.name == "Format" {
		if l, ok := c.args[0].(*stringLiteral); ok {
			args[0] = jsonvalue.OfString(l.raw)
		}
	}
	v, err := c.fn.apply(s, args)
	if err == nil && v.Size() > s.r.d.limits.Payload {
		err = fmt.Errorf("the result has more than %d bytes", s.r.d.limits.Payload)
	}
	if err != nil {
		return v, raise(errorIntrinsic, "The function '%s' had the following error: %v", c.text, err)
	}
	return v, nil
}

type intrinsicParser struct {
	s     string
	i     int
	depth int
}

// compileIntrinsic reads a call of an intrinsic function.
func compileIntrinsic(text string) (expression, error) {
	p := &intrinsicParser{s: text}
	c, err := p.call()
	if err == nil && p.i < len(p.s) {
		err = p.fail("unexpected text after the function call")
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (p *intrinsicParser) fail(format string, args ...any) error {
	return fmt.Errorf("function call %q: %s at character %d", cut(p.s, 200), fmt.Sprintf(format, args...), p.i+1)
}

func (p *intrinsicParser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *intrinsicParser) call() (*intrinsicCall, error) {
	if p.depth++; p.depth > maxIntrinsicDepth {
		return nil, p.fail("calls nest deeper than %d", maxIntrinsicDepth)
	}
	defer func() { p.depth-- }()
	start := p.i
	open := strings.IndexByte(p.s[p.i:], '(')
	if open < 0 {
		return nil, p.fail("'(' is missing")
	}
	name := strings.TrimSpace(p.s[p.i : p.i+open])
	fn, ok := intrinsics[strings.TrimPrefix(name, "States.")]
	if !ok || !strings.HasPrefix(name, "States.") {
		return nil, p.fail("%q is no intrinsic function", cut(name, 100))
	}
	c := &intrinsicCall{name: strings.TrimPrefix(name, "States."), fn: fn}
	p.i += open + 1
	if err := p.arguments(c); err != nil {
		return nil, err
	}
	c.text = p.s[start:p.i]
	if len(c.args) < fn.least || len(c.args) > fn.most {
		return nil, p.fail("%s got %d arguments, it takes %s", name, len(c.args), fn.arity())
	}
	return c, nil
}

func (p *intrinsicParser) arguments(c *intrinsicCall) error {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == ')' {
		p.i++
		return nil
	}
	for {
		a, err := p.argument()
		if err != nil {
			return err
		}
		c.args = append(c.args, a)
		p.space()
		switch {
		case p.i < len(p.s) && p.s[p.i] == ',':
			p.i++
		case p.i < len(p.s) && p.s[p.i] == ')':
			p.i++
			return nil
		default:
			return p.fail("',' or ')' is missing")
		}
	}
}

func (p *intrinsicParser) argument() (expression, error) {
	p.space()
	rest := p.s[p.i:]
	switch {
	case rest == "":
		return nil, p.fail("an argument is missing")
	case rest[0] == '\'':
		return p.text()
	case rest[0] == '$':
		end := argumentEnd(rest)
		q, err := compileQuery(strings.TrimRight(rest[:end], " \t\r\n"))
		if err != nil {
			return nil, p.fail("%v", err)
		}
		p.i += end
		return &argumentQuery{q}, nil
	case strings.HasPrefix(rest, "States."):
		return p.call()
	}
	end := argumentEnd(rest)
	v, err := jsonvalue.ParseString(rest[:end])
	if err != nil || v.Kind() == jsonvalue.String || v.Kind() == jsonvalue.Array || v.Kind() == jsonvalue.Object {
		return nil, p.fail("%q is neither a text in single quotes, a number, true, false, null, a path nor a function", cut(rest[:end], 100))
	}
	p.i += end
	return constant{v}, nil
}

// argumentEnd is where an argument ends: at a comma or parenthesis outside quotes and brackets.
func argumentEnd(s string) int {
	depth := 0
	var quote byte
	for i := range len(s) {
		c := s[i]
		switch {
		case quote != 0:
			if c == quote && s[i-1] != '\\' {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '[' || c == '(':
			depth++
		case (c == ']' || c == ')') && depth > 0:
			depth--
		case depth == 0 && (c == ',' || c == ')'):
			return i
		}
	}
	return len(s)
}

func (p *intrinsicParser) text() (expression, error) {
	start := p.i + 1
	for i := start; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '\'':
			raw := p.s[start:i]
			p.i = i + 1
			return &stringLiteral{raw: raw, v: jsonvalue.OfString(unescape(raw))}, nil
		}
	}
	return nil, p.fail("a quote is not closed")
}

// unescape takes the backslash off \' \\ \{ and \}; before other characters it stays.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`'\{}`, s[i+1]) >= 0 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
