package machine

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/spelling"
)

type choiceFields struct {
	rules     []choiceRule
	otherwise *state
}

// choiceRule is one entry of Choices.
type choiceRule struct {
	rule     rule
	next     *state
	nextName string
	assign   *assignment
}

// rule is a condition of a Choice.
type rule interface {
	holds(s *scope) (bool, *failure)
}

type allOf []rule
type anyOf []rule
type notRule struct{ r rule }

func (a allOf) holds(s *scope) (bool, *failure) {
	for _, r := range a {
		if ok, fail := r.holds(s); !ok || fail != nil {
			return false, fail
		}
	}
	return true, nil
}

func (a anyOf) holds(s *scope) (bool, *failure) {
	for _, r := range a {
		if ok, fail := r.holds(s); ok || fail != nil {
			return ok, fail
		}
	}
	return false, nil
}

func (n notRule) holds(s *scope) (bool, *failure) {
	ok, fail := n.r.holds(s)
	return !ok && fail == nil, fail
}

// typeTest is IsNull and its like.
type typeTest struct {
	variable *query
	test     string
	want     bool
}

func (t *typeTest) holds(s *scope) (bool, *failure) {
	v, err := t.variable.get(s)
	if t.test == "IsPresent" {
		return (err == nil) == t.want, nil
	}
	if err != nil {
		return false, invalidCondition(t.variable)
	}
	is := false
	switch t.test {
	case "IsNull":
		is = v.Kind() == jsonvalue.Null
	case "IsString":
		is = v.Kind() == jsonvalue.String
	case "IsNumeric":
		is = v.Kind() == jsonvalue.Number
	case "IsBoolean":
		is = v.IsBool()
	case "IsTimestamp":
		_, ok := parseTimestamp(v)
		is = ok
	}
	return is == t.want, nil
}

func invalidCondition(q *query) *failure {
	return raise(errorRuntime, "Invalid path '%s': The choice state's condition path references an invalid value.", q.text)
}

// comparison is StringEquals and its like. Values of other types than its own are unequal
// and unordered.
type comparison struct {
	variable *query
	kind     jsonvalue.Kind // String, Number or True for booleans
	time     bool           // strings that are timestamps
	accept   func(order int) bool
	with     jsonvalue.Value
	at       time.Time // with as a timestamp
	path     *query    // instead of with
}

func (c *comparison) holds(s *scope) (bool, *failure) {
	v, err := c.variable.get(s)
	if err != nil {
		return false, invalidCondition(c.variable)
	}
	with, at := c.with, c.at
	if c.path != nil {
		if with, err = c.path.get(s); err != nil {
			return false, invalidCondition(c.path)
		}
	}
	if c.time {
		t, ok := parseTimestamp(v)
		if ok && c.path != nil {
			at, ok = parseTimestamp(with)
		}
		return ok && c.accept(t.Compare(at)), nil
	}
	if c.kind == jsonvalue.True {
		return v.IsBool() && v.Kind() == with.Kind(), nil
	}
	if v.Kind() != c.kind || with.Kind() != c.kind {
		return false, nil
	}
	if c.kind == jsonvalue.Number {
		return c.accept(jsonvalue.CompareNumbers(v, with)), nil
	}
	return c.accept(strings.Compare(v.Text(), with.Text())), nil
}

// pattern is StringMatches: * stands for any characters, \* and \\ for themselves.
type pattern struct {
	variable *query
	pieces   []string
	text     string
	open     bool // ends in a backslash that escapes nothing
}

func newPattern(variable *query, text string) *pattern {
	p := &pattern{variable: variable, text: text}
	var piece []byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '*':
			p.pieces, piece = append(p.pieces, string(piece)), nil
		case c == '\\' && i+1 < len(text) && (text[i+1] == '*' || text[i+1] == '\\'):
			i++
			piece = append(piece, text[i])
		case c == '\\':
			p.open = true
		default:
			piece = append(piece, c)
		}
	}
	p.pieces = append(p.pieces, string(piece))
	return p
}

func (p *pattern) holds(s *scope) (bool, *failure) {
	v, err := p.variable.get(s)
	if err != nil {
		return false, invalidCondition(p.variable)
	}
	if p.open {
		return false, raise(errorRuntime, "The StringMatches pattern '%s' has an open escape.", p.text)
	}
	if v.Kind() != jsonvalue.String {
		return false, nil
	}
	return p.matches(v.Text()), nil
}

func (p *pattern) matches(s string) bool {
	first, rest := p.pieces[0], p.pieces[1:]
	if len(rest) == 0 {
		return s == first
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	final := rest[len(rest)-1]
	for _, piece := range rest[:len(rest)-1] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return strings.HasSuffix(s, final)
}

var orders = map[string]func(int) bool{
	"Equals":            func(n int) bool { return n == 0 },
	"LessThan":          func(n int) bool { return n < 0 },
	"GreaterThan":       func(n int) bool { return n > 0 },
	"LessThanEquals":    func(n int) bool { return n <= 0 },
	"GreaterThanEquals": func(n int) bool { return n >= 0 },
}

// comparators lists the names of all 39, in the order of the specification.
var comparators = func() []string {
	var names []string
	for _, typ := range []string{"String", "Numeric", "Boolean", "Timestamp"} {
		for _, order := range []string{"Equals", "LessThan", "GreaterThan", "LessThanEquals", "GreaterThanEquals"} {
			if typ != "Boolean" || order == "Equals" {
				names = append(names, typ+order, typ+order+"Path")
			}
		}
	}
	return append(names, "StringMatches", "IsNull", "IsPresent", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp")
}()

func (b *builder) choice(s *state, o *object) {
	s.choice = &choiceFields{}
	s.defaultName, _ = o.text("Default")
	if o.has("Default") && o.v.Get("Default").Text() == "" {
		o.problem("Default", "Default must name a state", "write its name in double quotes")
	}
	list := o.get("Choices")
	if list.Kind() != jsonvalue.Array || list.Len() == 0 {
		o.problem("Choices", "Choices must be an array with at least one rule", `write [ { "Variable": "$.a", "IsPresent": true, "Next": "..." } ]`)
		return
	}
	for i, v := range list.Items() {
		at := o.place("Choices", i)
		c := choiceRule{}
		c.rule = b.rule(v, at, func(r *object) {
			r.text("Comment")
			c.nextName, _ = r.text("Next")
			if r.v.Get("Next").Text() == "" {
				b.report(r.at, CodeSchema, "These fields are required: [Next]", "name the state to go to")
			}
			c.assign = r.assignment()
		})
		s.choice.rules = append(s.choice.rules, c)
	}
}

// rule reads a condition; top reads what only a rule at the top may have.
func (b *builder) rule(v jsonvalue.Value, at place, top func(*object)) rule {
	if v.Kind() != jsonvalue.Object {
		b.report(at, CodeSchema, "a rule must be an object, this is "+article(v.Kind()), `write { "Variable": ..., ... }`)
		return allOf{}
	}
	o := b.object(v, at)
	if top != nil {
		top(o)
	}
	var r rule
	switch {
	case o.has("And"):
		r = allOf(o.rules("And"))
	case o.has("Or"):
		r = anyOf(o.rules("Or"))
	case o.has("Not"):
		r = notRule{b.rule(o.get("Not"), o.place("Not"), nil)}
	default:
		r = b.test(o)
	}
	o.text("Comment")
	o.done("a rule of a Choice")
	return r
}

func (o *object) rules(field string) []rule {
	list := o.get(field)
	if list.Kind() != jsonvalue.Array || list.Len() == 0 {
		o.problem(field, field+" must be an array with at least one rule", `write [ { "Variable": ..., ... } ]`)
		return nil
	}
	rules := make([]rule, list.Len())
	for i, v := range list.Items() {
		rules[i] = o.b.rule(v, o.place(field, i), nil)
	}
	return rules
}

// test reads a condition with a Variable.
func (b *builder) test(o *object) rule {
	variable := o.path("Variable")
	if !o.has("Variable") {
		b.report(o.at, CodeSchema, "These fields are required: [Variable]", `add "Variable": "$..." and a comparator, or And, Or or Not`)
	}
	name, count := "", 0
	for _, c := range comparators {
		if o.has(c) {
			name, count = c, count+1
			o.known = append(o.known, c)
		}
	}
	if count != 1 {
		fix := "there are " + strings.Join(comparators, ", ")
		for _, k := range o.v.Keys() {
			if near := spelling.Nearest(k, comparators); near != "" && near != k && k != "Variable" {
				fix = "did you mean " + near + "?"
				o.known = append(o.known, k)
			}
		}
		b.report(o.at, CodeSchema, fmt.Sprintf("a rule needs exactly one comparator, this has %d", count), fix)
		return allOf{}
	}
	if variable == nil {
		return allOf{}
	}
	return b.comparator(o, variable, name)
}

func (b *builder) comparator(o *object, variable *query, name string) rule {
	v := o.get(name)
	if strings.HasPrefix(name, "Is") {
		if !v.IsBool() {
			o.problem(name, name+" must be true or false, this is "+article(v.Kind()), "write true or false without quotes")
		}
		return &typeTest{variable, name, v.Bool()}
	}
	if name == "StringMatches" {
		text, _ := o.text(name)
		return newPattern(variable, text)
	}
	c := &comparison{variable: variable}
	order, isPath := strings.CutSuffix(name, "Path")
	for prefix, kind := range map[string]jsonvalue.Kind{
		"String": jsonvalue.String, "Numeric": jsonvalue.Number, "Boolean": jsonvalue.True, "Timestamp": jsonvalue.String,
	} {
		if rest, ok := strings.CutPrefix(order, prefix); ok {
			c.kind, c.time, c.accept = kind, prefix == "Timestamp", orders[rest]
		}
	}
	if isPath {
		if c.path = o.path(name); c.path == nil {
			return allOf{}
		}
		return c
	}
	c.with = v
	ok := v.Kind() == c.kind || c.kind == jsonvalue.True && v.IsBool()
	if ok && c.time {
		if c.at, ok = parseTimestamp(v); !ok {
			o.problem(name, "String does not match RFC3339 timestamp", `write it like "2026-01-31T12:00:00Z"`)
			return c
		}
	}
	if !ok {
		o.problem(name, fmt.Sprintf("%s compares with a %s, this is %s", name, c.kind, article(v.Kind())), "write such a value, or use "+name+"Path")
	}
	return c
}

// parseTimestamp reads the profile of RFC 3339 that the States Language wants: upper case T
// between date and time, upper case Z where there is no offset.
func parseTimestamp(v jsonvalue.Value) (time.Time, bool) {
	s := v.Text()
	if v.Kind() != jsonvalue.String || len(s) < len("2006-01-02T15:04:05Z") || strings.ContainsRune(s, ',') || s[13] != ':' {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t, err == nil
}
