package machine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/spelling"
)

// The codes of problems, as AWS names them.
const (
	CodeSchema     = "SCHEMA_VALIDATION_FAILED"
	CodeTarget     = "MISSING_TRANSITION_TARGET"
	CodeEnd        = "MISSING_END_STATE"
	CodeDuplicate  = "DUPLICATE_STATE_NAME"
	CodeJSONPath   = "INVALID_JSON_PATH"
	CodeJSON       = "INVALID_JSON_DESCRIPTION"
	CodeUnfinished = "UNSUPPORTED"
)

// Problem is one thing wrong with a definition.
type Problem struct {
	Code string
	// Path leads to the place: States.CheckCountry.Retry[0].
	Path string
	// Location is the same as AWS writes it: /States/CheckCountry/Retry[0].
	Location string
	// Line and Column are the place in the text, from 1; columns count bytes.
	Line, Column int
	Message      string // what is wrong
	Fix          string // what to do
}

func (p Problem) String() string {
	s := fmt.Sprintf("%d:%d: ", p.Line, p.Column)
	if p.Path != "" {
		s += p.Path + ": "
	}
	s += p.Message
	if p.Fix != "" {
		s += "; " + p.Fix
	}
	return s
}

// Problems is everything wrong with a definition, in the order of the text. As an error its
// fault kind is Setup.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// As makes a list of problems a fault of kind Setup for errors.As.
func (ps Problems) As(target any) bool {
	e, ok := target.(**fault.Error)
	if ok {
		*e = &fault.Error{Kind: fault.Setup, Err: ps}
	}
	return ok
}

// place is where in a definition something stands: keys and indices from the root.
type place []any

func (p place) path() string {
	var b strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(s) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s)
		}
	}
	return b.String()
}

func (p place) location() string {
	var b strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(s) + "]")
		case string:
			b.WriteString("/" + s)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// lineColumn is the place of a byte in a text, from 1.
func lineColumn(text string, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	return 1 + strings.Count(before, "\n"), offset - strings.LastIndexByte(before, '\n')
}

// object is an object of a definition that is being read, and where it stands. Reading a
// field marks it as known; done reports the others.
type object struct {
	b     *builder
	v     jsonvalue.Value
	at    place
	known []string
}

func (b *builder) object(v jsonvalue.Value, at place) *object { return &object{b: b, v: v, at: at} }

func (o *object) place(steps ...any) place { return append(slices.Clip(o.at), steps...) }

// maxProblems is how many problems are reported; each costs a walk through the text.
const maxProblems = 200

// report says what makes a definition unusable, or the state in which it stands.
func (b *builder) report(at place, code, message, fix string) {
	if b.restores && b.breaks(at, message) {
		return
	}
	if len(b.problems) >= maxProblems {
		return
	}
	line, column := lineColumn(b.text, jsonvalue.Locate(b.text, at))
	b.problems = append(b.problems, Problem{
		Code: code, Path: at.path(), Location: at.location(), Line: line, Column: column,
		Message: message, Fix: fix,
	})
}

// advise says what is wrong with a new definition, and changes nothing in what it does: one that
// was accepted once is not asked again.
func (b *builder) advise(at place, code, message, fix string) {
	if !b.restores {
		b.report(at, code, message, fix)
	}
}

func (o *object) advise(field, message, fix string) {
	o.b.advise(o.place(field), CodeSchema, message, fix)
}

func (o *object) problem(field, message, fix string) {
	o.b.report(o.place(field), CodeSchema, message, fix)
}

// get is a field, Undefined when it is not there.
func (o *object) get(field string) jsonvalue.Value {
	if !slices.Contains(o.known, field) {
		o.known = append(o.known, field)
	}
	return o.v.Get(field)
}

func (o *object) has(field string) bool { return o.v.Get(field).Defined() }

// text is a field that must be a string when it is there.
func (o *object) text(field string) (string, bool) {
	v := o.get(field)
	if !v.Defined() {
		return "", false
	}
	if v.Kind() != jsonvalue.String && field == "Comment" {
		o.advise(field, fmt.Sprintf("a string is expected, this is %s", article(v.Kind())), "write it in double quotes")
		return "", false
	}
	if v.Kind() != jsonvalue.String {
		o.problem(field, fmt.Sprintf("a string is expected, this is %s", article(v.Kind())), "write it in double quotes")
		return "", false
	}
	return v.Text(), true
}

// whole is a field that must be a whole number between least and most when it is there.
func (o *object) whole(field string, least, most, otherwise int64) int64 {
	v := o.get(field)
	if !v.Defined() {
		return otherwise
	}
	n, ok := v.Int()
	if ok && n >= 0 && n <= maxCount && o.b.restores {
		return n // whatever the bounds were
	}
	if !ok || n < least || n > most {
		o.problem(field, fmt.Sprintf("%s is no whole number between %d and %d", v.JSON(), least, most), "write such a number, without quotes")
		return otherwise
	}
	return n
}

func article(k jsonvalue.Kind) string {
	switch k {
	case jsonvalue.Array, jsonvalue.Object:
		return "an " + k.String()
	case jsonvalue.Null:
		return "null"
	}
	return "a " + k.String()
}

// done reports the fields that nobody asked for. elsewhere says where a field belongs.
func (o *object) done(what string) {
	for _, k := range o.v.Keys() {
		if slices.Contains(o.known, k) {
			continue
		}
		switch {
		case slices.Contains(jsonataFields, k):
			o.advise(k, fmt.Sprintf("The QueryLanguage is set to 'JSONPath', but field '%s' is only supported for the 'JSONata' QueryLanguage", k),
				"use the JSONPath fields: "+strings.Join(o.known, ", "))
		default:
			fix := "take it out; there are " + strings.Join(o.known, ", ")
			if near := spelling.Nearest(k, o.known); near != "" {
				fix = "did you mean " + near + "?"
			}
			o.advise(k, fmt.Sprintf("%s has no field %q", what, k), fix)
		}
	}
}

var jsonataFields = []string{"Arguments", "Output", "Items", "Condition"}
