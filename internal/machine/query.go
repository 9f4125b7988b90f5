package machine

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/machine/jsonpath"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// scope is what an expression can see.
type scope struct {
	r *run
	f *frame
	// input is what $ means; later is it where it is read only when it is needed.
	input jsonvalue.Value
	later *held
	// item is the Map item the expression is evaluated for, if it is not that of f.
	item *mapItem
	// task is the ID of the task whose token $$.Task.Token gives, or 0.
	task uint64
}

// dollar is what $ means.
func (s *scope) dollar() jsonvalue.Value {
	if s.later != nil {
		return s.r.get(s.later)
	}
	return s.input
}

// origin is what a query starts from.
type origin uint8

const (
	fromInput origin = iota
	fromContext
	fromVariable
)

// query is a path from the input ($.a), the context object ($$.a) or a variable ($a.b).
type query struct {
	text string
	from origin
	name string // of the variable
	sees sight  // of the context object
	path *jsonpath.Path
}

// sight is which values of the context object that may be large a query can see.
type sight struct{ input, item bool }

// contextSight tells it from what follows $$. What is not known here is taken to see all.
func contextSight(rest string) sight {
	within := func(prefix string) bool {
		after, ok := strings.CutPrefix(rest, prefix)
		return ok && (after == "" || after[0] == '.' || after[0] == '[')
	}
	switch {
	case within(".State"), within(".StateMachine"), within(".Task"), within(".Map.Item.Index"), within(".Execution.Id"), within(".Execution.Name"),
		within(".Execution.StartTime"), within(".Execution.RoleArn"), within(".Execution.RedriveCount"):
		return sight{}
	case within(".Map"):
		return sight{item: true}
	case within(".Execution"):
		return sight{input: true}
	}
	return sight{input: true, item: true}
}

func compileQuery(text string) (*query, error) {
	q := &query{text: text}
	if !strings.HasPrefix(text, "$") {
		return nil, fmt.Errorf("%q is no path: a path begins with $", text)
	}
	rest := text[1:]
	switch {
	case strings.HasPrefix(rest, "$"):
		q.from, rest = fromContext, rest[1:]
		q.sees = contextSight(rest)
	case rest != "" && startsName(rest):
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		q.from, q.name, rest = fromVariable, rest[:end], rest[end:]
		if err := checkVariable(q.name); err != nil {
			return nil, err
		}
	}
	var err error
	q.path, err = jsonpath.Compile("$" + rest)
	return q, err
}

func startsName(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return r == '_' || unicode.IsLetter(r)
}

// maxNameLength is the most characters of the name of a state or variable.
const maxNameLength = 80

func checkVariable(name string) error {
	if name == "" || !startsName(name) {
		return fmt.Errorf("%q is no name of a variable: it must begin with a letter or _", name)
	}
	for _, r := range name {
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.Mn, r) && !unicode.Is(unicode.Mc, r) && !unicode.Is(unicode.Pc, r) {
			return fmt.Errorf("%q is no name of a variable: %q is neither a letter, a digit nor _", name, r)
		}
	}
	if utf8.RuneCountInString(name) > maxNameLength {
		return fmt.Errorf("%q is no name of a variable: it is longer than %d characters", name, maxNameLength)
	}
	if name == "states" {
		return fmt.Errorf("the name %q is reserved", name)
	}
	return nil
}

// identity reports whether the query is $: the input as it is.
func (q *query) identity() bool { return q.from == fromInput && q.path.Root() }

// get evaluates the query. An error is for the caller to word.
func (q *query) get(s *scope) (jsonvalue.Value, error) {
	switch q.from {
	case fromContext:
		return q.path.Get(s.r.context(s, q.sees))
	case fromVariable:
		v := s.f.variable(q.name)
		if v == nil {
			return jsonvalue.Value{}, &jsonpath.NotFound{Message: fmt.Sprintf("the variable '%s' is not assigned", q.name)}
		}
		return q.path.Get(s.r.get(v))
	}
	return q.path.Get(s.dollar())
}

// orInvalid evaluates the query for a field like InputPath.
func (q *query) orInvalid(s *scope) (jsonvalue.Value, *failure) {
	v, err := q.get(s)
	if err != nil {
		return v, raise(errorRuntime, "Invalid path '%s' : %v", q.text, err)
	}
	return v, nil
}

// expression is a value that is found out at run time.
type expression interface {
	eval(s *scope) (jsonvalue.Value, *failure)
}

type constant struct{ v jsonvalue.Value }

func (c constant) eval(*scope) (jsonvalue.Value, *failure) { return c.v, nil }

// fieldQuery is a query that gives the value of a field of a template.
type fieldQuery struct {
	query *query
	field string
}

func (f *fieldQuery) eval(s *scope) (jsonvalue.Value, *failure) {
	v, err := f.query.get(s)
	if err != nil {
		return v, raise(errorRuntime, "The JSONPath '%s' specified for the field '%s' could not be found in the input '%s'",
			f.query.text, f.field, quoted(s.dollar()))
	}
	return v, nil
}

// compileField reads what a field that ends in ".$" or "Path" may hold: a path or an
// intrinsic function.
func compileField(text, field string) (expression, error) {
	if strings.HasPrefix(text, "States.") {
		return compileIntrinsic(text)
	}
	q, err := compileQuery(text)
	if err != nil {
		return nil, err
	}
	return &fieldQuery{query: q, field: field}, nil
}

// objectTemplate and arrayTemplate are payload templates with something to find out in them.
type objectTemplate struct {
	keys  []string
	items []expression
}

type arrayTemplate []expression

func (t *objectTemplate) eval(s *scope) (jsonvalue.Value, *failure) {
	items := make([]jsonvalue.Value, len(t.items))
	for i, e := range t.items {
		v, fail := e.eval(s)
		if fail != nil {
			return v, fail
		}
		items[i] = v
	}
	return jsonvalue.OfObject(t.keys, items), nil
}

func (t arrayTemplate) eval(s *scope) (jsonvalue.Value, *failure) {
	items := make([]jsonvalue.Value, len(t))
	for i, e := range t {
		v, fail := e.eval(s)
		if fail != nil {
			return v, fail
		}
		items[i] = v
	}
	return jsonvalue.OfArray(items), nil
}

// template reads a payload template: keys that end in ".$" hold paths or functions.
func (b *builder) template(v jsonvalue.Value, at place) expression {
	switch v.Kind() {
	case jsonvalue.Array:
		t := make(arrayTemplate, v.Len())
		fixed := true
		for i, m := range v.Items() {
			t[i] = b.template(m, append(slices.Clip(at), i))
			_, isConstant := t[i].(constant)
			fixed = fixed && isConstant
		}
		if !fixed {
			return t
		}
	case jsonvalue.Object:
		if t := b.objectTemplate(v, at); t != nil {
			return t
		}
	}
	return constant{v}
}

// objectTemplate is nil when there is nothing to find out in v.
func (b *builder) objectTemplate(v jsonvalue.Value, at place) expression {
	t := &objectTemplate{}
	fixed := true
	for i, key := range v.Keys() {
		here := append(slices.Clip(at), key)
		name, dynamic := strings.CutSuffix(key, ".$")
		var e expression = constant{jsonvalue.NullValue}
		if dynamic {
			fixed = false
			switch m := v.Item(i); {
			case m.Kind() != jsonvalue.String:
				b.report(here, CodeSchema, fmt.Sprintf("The value for the field '%s' must be a valid JSONPath or a valid intrinsic function call, this is %s", key, article(m.Kind())),
					"write a path, or take the .$ off the key")
			default:
				var err error
				if e, err = compileField(m.Text(), key); err != nil {
					b.report(here, CodeSchema, fmt.Sprintf("The value for the field '%s' must be a valid JSONPath or a valid intrinsic function call: %v", key, err),
						"correct it, or take the .$ off the key")
					e = constant{jsonvalue.NullValue}
				}
			}
		} else {
			e = b.template(v.Item(i), here)
			_, isConstant := e.(constant)
			fixed = fixed && isConstant
		}
		if dynamic && v.Get(name).Defined() {
			b.report(here, CodeSchema, fmt.Sprintf("%q is there twice, with and without .$", name), "take one of them out")
		}
		t.keys, t.items = append(t.keys, name), append(t.items, e)
	}
	if fixed {
		return nil
	}
	return t
}
