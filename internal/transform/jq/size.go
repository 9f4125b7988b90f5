package jq

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"

	"github.com/itchyny/gojq"

	"github.com/weirdata/weir/internal/script"
)

// The memory limit is looked at between two operations, too. So single operations whose result may
// be far larger than what they are given are replaced by ones that look first. They are written
// into the program where it is compiled: what jq defines by others is made of small steps.
const (
	sumName        = "weir__sum"
	productName    = "weir__product"
	fitName        = "weir__fit"
	separatorName  = "weir__separator"
	charactersName = "weir__characters"
)

// errSize is the error of a single operation that would take too much, which needs no second look.
var errSize = fmt.Errorf("the result of one operation is too large: %w", script.ErrMemory)

// written is how many bytes a value takes that is written out, in an array at least.
const written = 16

// operators are done here instead of by gojq; so they are the same functions of their arguments.
var operators = map[gojq.Operator]string{ //nolint:exhaustive // the others make nothing large
	gojq.OpAdd: sumName, gojq.OpMul: productName, gojq.OpUpdateAdd: sumName, gojq.OpUpdateMul: productName,
}

// whole are the functions that write out all of their input, by the numbers of arguments.
var whole = map[string][]int{"tojson": {0}, "tostring": {0}, "add": {0}, "flatten": {0, 1}, "join": {1}, "format": {1}}

// boundSizes has a program look before it does what may take too much.
func boundSizes(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		boundSizes(v.Elem())
		switch x := v.Interface().(type) {
		case *gojq.Query:
			boundOperator(x)
		case *gojq.Term:
			boundTerm(x)
		case *gojq.String:
			for i, q := range x.Queries { // its own texts among them are terms
				if q.Term == nil || q.Term.Str == nil {
					x.Queries[i] = &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: then(q, call(fitName))}}
				}
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				boundSizes(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			boundSizes(v.Index(i))
		}
	}
}

// updated is the variable for the right side of an operator that updates.
const updated = "$weir__updated"

func boundOperator(q *gojq.Query) {
	name, ok := operators[q.Op]
	if !ok || len(q.Patterns) > 0 {
		return
	}
	left, right := q.Left, q.Right
	if q.Op == gojq.OpAdd || q.Op == gojq.OpMul {
		q.Op, q.Left, q.Right, q.Term = 0, nil, nil, call(name, left, right).Term
		return
	}
	// l += r is r as $x | l |= . + $x.
	change := call(name, &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}, call(updated))
	q.Op, q.Left, q.Patterns = gojq.OpPipe, right, []*gojq.Pattern{{Name: updated}}
	q.Right = &gojq.Query{Op: gojq.OpModify, Left: left, Right: change}
}

func boundTerm(t *gojq.Term) {
	f := t.Func
	switch {
	case t.Type == gojq.TermTypeFormat && t.Str == nil:
	case t.Type != gojq.TermTypeFunc || f == nil:
		return
	case f.Name == "add" && len(f.Args) == 1: // add(f) is [f] | add
		list := &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeArray, Array: &gojq.Array{Query: f.Args[0]}}}
		enclose(t, then(then(list, call(fitName)), call("add")))
		return
	case f.Name == "explode" && len(f.Args) == 0:
		enclose(t, then(call(charactersName), call("explode")))
		return
	default:
		known := false
		for _, n := range whole[f.Name] {
			known = known || n == len(f.Args)
		}
		if !known {
			return
		}
		if f.Name == "join" {
			f.Args[0] = call(separatorName, f.Args[0])
		}
	}
	bare := *t
	bare.SuffixList = nil
	enclose(t, then(call(fitName), &gojq.Query{Term: &bare}))
}

// enclose puts q in the place of a term, whose suffixes stay.
func enclose(t *gojq.Term, q *gojq.Query) {
	*t = gojq.Term{Type: gojq.TermTypeQuery, Query: q, SuffixList: t.SuffixList}
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

func then(left, right *gojq.Query) *gojq.Query {
	return &gojq.Query{Op: gojq.OpPipe, Left: left, Right: right}
}

// sizes is how many bytes a value may take that one operation makes.
type sizes int

// ours are the operators as gojq has them, for values that do not grow out of proportion.
var ours = map[string]*gojq.Code{sumName: operation("+"), productName: operation("*")}

func operation(operator string) *gojq.Code {
	q, err := gojq.Parse("$l " + operator + " $r")
	if err != nil {
		panic(err) // our own program
	}
	code, err := gojq.Compile(q, gojq.WithVariables([]string{"$l", "$r"}))
	if err != nil {
		panic(err)
	}
	return code
}

func as(name string, l, r any) any {
	v, _ := ours[name].Run(nil, l, r).Next()
	return v
}

// floats are two numbers of which one has a fraction.
func floats(l, r any) (x, y float64, ok bool) {
	switch l := l.(type) {
	case float64:
		switch r := r.(type) {
		case float64:
			return l, r, true
		case int:
			return l, float64(r), true
		}
	case int:
		if r, is := r.(float64); is {
			return float64(l), r, true
		}
	}
	return 0, 0, false
}

func (s sizes) sum(_ any, args []any) any {
	l, r := args[0], args[1]
	if x, y, ok := floats(l, r); ok {
		return x + y
	}
	switch x := l.(type) {
	case int:
		if y, ok := r.(int); ok {
			if n := x + y; (n > x) == (y > 0) {
				return n
			}
		}
	case string:
		if y, ok := r.(string); ok {
			if len(x)+len(y) > int(s) {
				return errSize
			}
			return x + y
		}
	case []any:
		if y, ok := r.([]any); ok && (len(x)+len(y))*written > int(s) {
			return errSize
		}
	}
	return as(sumName, l, r)
}

func (s sizes) product(_ any, args []any) any {
	l, r := args[0], args[1]
	if x, y, ok := floats(l, r); ok {
		return x * y
	}
	if x, ok := l.(int); ok {
		if y, ok := r.(int); ok && bits.Len(uint(max(x, -x)))+bits.Len(uint(max(y, -y))) < bits.UintSize-1 {
			return x * y
		}
	}
	for _, of := range [][2]any{{l, r}, {r, l}} {
		text, is := of[0].(string)
		times, number := gojq.ToFloat64(of[1])
		if size := times * float64(len(text)); is && number && size > float64(s) && size < math.MaxInt32 { // gojq refuses larger ones
			return errSize
		}
	}
	return as(productName, l, r)
}

// fit is v, if it may be written out.
func (s sizes) fit(v any, _ []any) any {
	if left := int(s); !bounded(v, &left) {
		return errSize
	}
	return v
}

// separator is what the parts of v are to be joined by.
func (s sizes) separator(v any, args []any) any {
	list, _ := v.([]any)
	if text, ok := args[0].(string); ok && len(list)*len(text) > int(s) {
		return errSize
	}
	return args[0]
}

// characters is a text that may be taken apart.
func (s sizes) characters(v any, _ []any) any {
	if text, ok := v.(string); ok && len(text)*written > int(s) {
		return errSize
	}
	return v
}
