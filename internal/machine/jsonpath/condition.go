package jsonpath

import (
	"regexp"
	"strings"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// condition is what stands in [?( )].
type condition interface {
	holds(root, current jsonvalue.Value) bool
}

type both struct{ a, b condition }
type either struct{ a, b condition }
type negated struct{ a condition }
type exists struct{ a operand }
type compared struct {
	a  operand
	op string
	b  operand
}

func (c both) holds(r, v jsonvalue.Value) bool    { return c.a.holds(r, v) && c.b.holds(r, v) }
func (c either) holds(r, v jsonvalue.Value) bool  { return c.a.holds(r, v) || c.b.holds(r, v) }
func (c negated) holds(r, v jsonvalue.Value) bool { return !c.a.holds(r, v) }

func (c exists) holds(r, v jsonvalue.Value) bool {
	x := c.a.value(r, v)
	if c.a.path != nil && !c.a.path.definite {
		return x.Len() > 0
	}
	return c.a.path != nil && x.Defined() || x.Bool()
}

// operand is a literal, a pattern, or a path from the root or the current value.
type operand struct {
	literal jsonvalue.Value
	path    *Path
	root    bool
	pattern *regexp.Regexp
}

func (o operand) value(root, current jsonvalue.Value) jsonvalue.Value {
	if o.path == nil {
		return o.literal
	}
	from := current
	if o.root {
		from = root
	}
	v, err := o.path.get(root, from)
	if err != nil {
		return jsonvalue.Value{}
	}
	return v
}

// operators, those that begin with another one first.
var operators = []string{
	"===", "!==", "==", "!=", "<=", ">=", "<", ">", "=~",
	"subsetof", "contains", "anyof", "noneof", "empty", "size", "nin", "in",
}

func (c compared) holds(root, current jsonvalue.Value) bool {
	a := c.a.value(root, current)
	if c.op == "=~" {
		return c.matches(a, c.b.value(root, current))
	}
	b := c.b.value(root, current)
	switch c.op {
	case "==":
		return looselyEqual(a, b)
	case "!=":
		return !looselyEqual(a, b)
	case "===":
		return jsonvalue.Equal(a, b)
	case "!==":
		return !jsonvalue.Equal(a, b)
	case "<", "<=", ">", ">=":
		return ordered(c.op, a, b)
	case "contains":
		if a.Kind() == jsonvalue.String {
			return b.Kind() == jsonvalue.String && strings.Contains(a.Text(), b.Text())
		}
		return among(b, a)
	case "size":
		n, ok := b.Int()
		return ok && sizeOf(a) == n
	case "empty":
		return b.IsBool() && sizeOf(a) >= 0 && (sizeOf(a) == 0) == b.Bool()
	}
	return c.inList(a, b)
}

func (c compared) inList(a, b jsonvalue.Value) bool {
	if b.Kind() != jsonvalue.Array {
		return false
	}
	switch c.op {
	case "in":
		return among(a, b)
	case "nin":
		return !among(a, b)
	}
	if a.Kind() != jsonvalue.Array {
		return false
	}
	in := 0
	for _, m := range a.Items() {
		if among(m, b) {
			in++
		}
	}
	switch c.op {
	case "subsetof":
		return in == a.Len()
	case "anyof":
		return in > 0
	}
	return in == 0 // noneof
}

func (c compared) matches(a, b jsonvalue.Value) bool {
	switch {
	case c.b.pattern != nil:
		return a.Kind() != jsonvalue.Array && a.Kind() != jsonvalue.Object && a.Defined() && c.b.pattern.MatchString(textOf(a))
	case c.a.pattern != nil:
		return b.Defined() && c.a.pattern.MatchString(textOf(b))
	}
	return false
}

func textOf(v jsonvalue.Value) string {
	if v.Kind() == jsonvalue.String {
		return v.Text()
	}
	return v.JSON()
}

// sizeOf is the length of a text or list, -1 for anything else.
func sizeOf(v jsonvalue.Value) int64 {
	switch v.Kind() {
	case jsonvalue.String:
		return int64(len([]rune(v.Text())))
	case jsonvalue.Array, jsonvalue.Object:
		return int64(v.Len())
	}
	return -1
}

func among(v, list jsonvalue.Value) bool {
	for _, m := range list.Items() {
		if looselyEqual(v, m) {
			return true
		}
	}
	return false
}

func looselyEqual(a, b jsonvalue.Value) bool {
	if a.Kind() == jsonvalue.String && b.Kind() == jsonvalue.Number {
		return a.Text() == b.Text()
	}
	if a.Kind() == jsonvalue.Number && b.Kind() == jsonvalue.String {
		n, err := jsonvalue.ParseString(b.Text())
		return err == nil && n.Kind() == jsonvalue.Number && jsonvalue.CompareNumbers(a, n) == 0
	}
	return a.Defined() && jsonvalue.Equal(a, b)
}

func ordered(op string, a, b jsonvalue.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	var n int
	switch a.Kind() {
	case jsonvalue.Number:
		n = jsonvalue.CompareNumbers(a, b)
	case jsonvalue.String:
		n = strings.Compare(a.Text(), b.Text())
	default:
		return false
	}
	switch op {
	case "<":
		return n < 0
	case "<=":
		return n <= 0
	case ">":
		return n > 0
	}
	return n >= 0
}

// filter reads ?(condition)], or ?condition] with brackets of its own.
func (c *compiler) filter(s *step) error {
	c.i++
	c.space()
	if !c.at('(') {
		return c.fail("a condition must stand in parentheses, like [?(@.a == 1)]")
	}
	cond, err := c.or()
	if err != nil {
		return err
	}
	s.kind, s.cond = filtered, cond
	return c.close()
}

func (c *compiler) or() (condition, error) {
	return c.chain("||", c.and, func(a, b condition) condition { return either{a, b} })
}

func (c *compiler) and() (condition, error) {
	return c.chain("&&", c.unary, func(a, b condition) condition { return both{a, b} })
}

func (c *compiler) chain(op string, next func() (condition, error), join func(a, b condition) condition) (condition, error) {
	a, err := next()
	for err == nil {
		c.space()
		if !strings.HasPrefix(c.s[c.i:], op) {
			return a, nil
		}
		c.i += len(op)
		var b condition
		if b, err = next(); err == nil {
			a = join(a, b)
		}
	}
	return nil, err
}

func (c *compiler) unary() (condition, error) {
	if c.depth++; c.depth > maxConditionDepth {
		return nil, c.fail("conditions nest deeper than %d", maxConditionDepth)
	}
	defer func() { c.depth-- }()
	c.space()
	switch {
	case c.at('!'):
		c.i++
		a, err := c.unary()
		return negated{a}, err
	case c.at('('):
		c.i++
		a, err := c.or()
		if err != nil {
			return nil, err
		}
		c.space()
		if !c.at(')') {
			return nil, c.fail("')' is missing")
		}
		c.i++
		return a, nil
	}
	return c.comparison()
}

func (c *compiler) comparison() (condition, error) {
	a, err := c.operand()
	if err != nil {
		return nil, err
	}
	c.space()
	for _, op := range operators {
		if !hasPrefixFold(c.s[c.i:], op) {
			continue
		}
		c.i += len(op)
		c.space()
		b, err := c.operand()
		if err != nil {
			return nil, err
		}
		return compared{a, op, b}, nil
	}
	if a.pattern != nil {
		return nil, c.fail("a pattern must be compared with =~")
	}
	return exists{a}, nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func (c *compiler) operand() (operand, error) {
	c.space()
	switch {
	case c.at('@'), c.at('$'):
		root := c.s[c.i]
		p, err := c.path(root)
		return operand{path: p, root: root == '$'}, err
	case c.at('\''):
		s, err := c.quoted()
		return operand{literal: jsonvalue.OfString(s)}, err
	case c.at('/'):
		return c.pattern()
	}
	return c.literal()
}

func (c *compiler) pattern() (operand, error) {
	end := c.i + 1
	for end < len(c.s) && c.s[end] != '/' {
		if c.s[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(c.s) {
		return operand{}, c.fail("a pattern is not closed")
	}
	text := strings.ReplaceAll(c.s[c.i+1:end], `\/`, "/")
	flags := end + 1
	for flags < len(c.s) && strings.IndexByte("imsuxdU", c.s[flags]) >= 0 {
		flags++
	}
	prefix := ""
	for _, f := range c.s[end+1 : flags] {
		if strings.ContainsRune("ims", f) && !strings.ContainsRune(prefix, f) {
			prefix += string(f)
		}
	}
	if prefix != "" {
		prefix = "(?" + prefix + ")"
	}
	re, err := regexp.Compile(prefix + `\A(?:` + text + `)\z`)
	if err != nil {
		return operand{}, c.fail("%v", err)
	}
	c.i = flags
	return operand{pattern: re}, nil
}

// literal reads a JSON value; arrays may have strings in single quotes.
func (c *compiler) literal() (operand, error) {
	end := literalEnd(c.s, c.i)
	text := c.s[c.i:end]
	v, err := jsonvalue.ParseString(text)
	if err != nil && strings.HasPrefix(text, "[") {
		v, err = jsonvalue.ParseString(strings.ReplaceAll(text, "'", `"`))
	}
	if err != nil {
		return operand{}, c.fail("%q is neither a path nor a JSON value", text)
	}
	c.i = end
	return operand{literal: v}, nil
}

// literalEnd is where the JSON value that begins at i ends, roughly: its text is parsed by
// who asks.
func literalEnd(s string, i int) int {
	var quote byte
	depth := 0
	for ; i < len(s); i++ {
		b := s[i]
		switch {
		case quote != 0:
			switch b {
			case '\\':
				i++
			case quote:
				quote = 0
				if depth == 0 {
					return min(i+1, len(s))
				}
			}
		case b == '"' || b == '\'' && depth > 0:
			quote = b
		case b == '[' || b == '{':
			depth++
		case (b == ']' || b == '}') && depth > 0:
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && strings.IndexByte(" )],&|=<>!", b) >= 0:
			return i
		}
	}
	return len(s)
}
