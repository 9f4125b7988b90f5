// Package condition decides about messages: whether a message takes a route, for instance.
//
// # Language
//
// A condition is an expression of expr (https://expr-lang.org) that is true or false:
//
//	event.type == "order" and (event.total ?? 0) > 100
//	headers["tenant"] in ["a", "b"] or size > 10000
//
// It may use these names:
//
//	event        the payload's fields: of a JSON payload, and of a Snowplow enriched event
//	             its atomic fields and its contexts under their shredded names
//	headers      the message's headers, by name; of one that repeats, the first value
//	key          the partition key
//	id           the source's name for the message
//	workspace    whose message it is, where the source says so
//	source
//	destination
//	size         bytes of the payload
//	data         the payload as text
//
// A field that is not there is nil, and so is every field of a payload that is neither
// form; a condition that is nil is false. An order of nil and a number is an error, not false: event.total ?? 0 says what a
// missing total counts as.
//
// # Invariants
//
//   - [Compile] refuses what is no expression, names nobody knows, and results that are
//     certain not to be true or false; so an error of [Evaluator.True] is about a message.
//   - Deciding ends: after a second over the elements of lists, whatever they are, it is an error,
//     and so is a text of more than 64 MiB that it would make ([maxTime], [maxText]).
//   - A payload is read once for all fields asked for, and is never changed. JSON is what
//     package jsontext takes for it, so every reader sees the same fields.
package condition

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// MaxLength is the most bytes a condition may have.
const MaxLength = 64 << 10

// Condition is a compiled condition. It may be shared; evaluate it with an [Evaluator].
type Condition struct {
	text    string
	program *vm.Program
	paths   [][]string // what the event is asked for, by the number in the program
	headers bool       // it asks for headers
	loops   bool       // it goes through lists
}

// names are what a condition may use. Their types are what expr checks against.
type names struct {
	Headers     map[string]string `expr:"headers"`
	Key         string            `expr:"key"`
	ID          string            `expr:"id"`
	Workspace   string            `expr:"workspace"`
	Source      string            `expr:"source"`
	Destination string            `expr:"destination"`
	Size        int               `expr:"size"`
	Data        string            `expr:"data"`
	// Event is only there to be known: the compiler replaces what is asked of it.
	Event any `expr:"event"`
	// Field answers what was asked of the event.
	Field func(int) any `expr:"$field"`
	// Go answers whether a list is gone through any further.
	Go func() bool `expr:"$go"`
}

// Compile compiles text. An error says in one line what is wrong and at which column.
func Compile(text string) (*Condition, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("the condition is empty")
	}
	if len(text) > MaxLength {
		return nil, fmt.Errorf("the condition has %d bytes, and at most %d are read", len(text), MaxLength)
	}
	// Names are checked before event is replaced, so that messages speak of what was written.
	if _, err := expr.Compile(text, expr.Env(&names{}), expr.AsBool()); err != nil {
		return nil, readable(err)
	}
	c := &Condition{text: text}
	reads := &eventReads{paths: &c.paths, headers: &c.headers}
	options := append([]expr.Option{expr.Env(&names{}), expr.AsBool(), expr.Patch(reads), expr.Patch(loops{&c.loops})}, bounded...)
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, readable(err)
	}
	c.program = program
	return c, nil
}

// String is the condition as it was written; of nil, "".
func (c *Condition) String() string {
	if c == nil {
		return ""
	}
	return c.text
}

// readable puts an error of the compiler, which has several lines, into one.
func readable(err error) error {
	if e, ok := errors.AsType[*file.Error](err); ok {
		return fmt.Errorf("%s, at column %d of the condition", strings.ReplaceAll(e.Message, "\n", " "), e.Column+1)
	}
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// eventReads replaces event.a.b by a call that looks up the path a, b, so that a payload
// need not be decoded to ask for one field, and notes whether headers are asked for.
type eventReads struct {
	paths   *[][]string
	headers *bool
}

// Visit implements ast.Visitor. Children are visited before their parents.
func (r *eventReads) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		switch n.Value {
		case "event":
			r.replace(node, nil)
		case "headers", "$env": // $env is all names in one
			*r.headers = true
		}
	case *ast.MemberNode:
		path, ok := r.pathOf(n.Node)
		if !ok || n.Method {
			return
		}
		switch p := n.Property.(type) {
		case *ast.StringNode:
			r.replace(node, append(slices.Clip(path), p.Value))
		case *ast.IntegerNode:
			r.replace(node, append(slices.Clip(path), strconv.Itoa(p.Value)))
		}
	}
}

// pathOf is the path that a call put in place by replace looks up.
func (r *eventReads) pathOf(n ast.Node) ([]string, bool) {
	call, ok := n.(*ast.CallNode)
	if !ok {
		return nil, false
	}
	callee, ok := call.Callee.(*ast.IdentifierNode)
	if !ok || callee.Value != "$field" || len(call.Arguments) != 1 {
		return nil, false
	}
	return (*r.paths)[call.Arguments[0].(*ast.IntegerNode).Value], true
}

func (r *eventReads) replace(node *ast.Node, path []string) {
	*r.paths = append(*r.paths, path)
	ast.Patch(node, &ast.CallNode{
		Callee:    &ast.IdentifierNode{Value: "$field"},
		Arguments: []ast.Node{&ast.IntegerNode{Value: len(*r.paths) - 1}},
	})
}

// Evaluator decides about one message after the other. It belongs to one goroutine.
type Evaluator struct {
	vm      vm.VM
	names   names
	headers map[string]string // memory of names.Headers
	c       *Condition        // the condition being evaluated
	m       *event.Message

	once  object // the payload of m
	seen  bool   // it was read
	steps int    // through lists, for this decision
	until time.Time

	before uintptr // the message before, to notice one that is asked several conditions
	again  bool
}

// NewEvaluator returns an evaluator for any number of conditions.
func NewEvaluator() *Evaluator {
	e := &Evaluator{}
	e.names.Field = func(i int) any { return e.field(e.m, e.c.paths[i]) }
	e.names.Go = e.step
	return e
}

// True reports whether c holds for m. An error has the kind fault.Invalid: the condition
// does not apply to this message.
func (e *Evaluator) True(c *Condition, m *event.Message) (bool, error) {
	at := uintptr(unsafe.Pointer(m))
	e.c, e.m, e.seen, e.again, e.before = c, m, false, e.before == at, at
	if c.loops {
		e.steps, e.until = 0, time.Now().Add(maxTime)
	}
	n := &e.names
	n.Headers, n.Key, n.ID = nil, m.Key, m.Meta.ID
	if c.headers && len(m.Meta.Headers) > 0 {
		n.Headers = e.byName(m.Meta.Headers)
	}
	n.Workspace, n.Source, n.Destination = "", "", ""
	if s := m.Meta.Scope; s != nil {
		n.Workspace, n.Source, n.Destination = s.Workspace, s.Source, s.Destination
	}
	n.Size, n.Data = len(m.Data), unsafeText(m.Data)
	v, err := e.vm.Run(c.program, n)
	e.m, n.Data, n.Headers = nil, "", nil
	clear(e.headers)
	if err != nil {
		return false, invalid(fmt.Errorf("the condition %q cannot be decided: %w", c.text, readable(err)))
	}
	yes, ok := v.(bool)
	if !ok {
		return false, invalid(fmt.Errorf("the condition %q gives %T, not true or false", c.text, v))
	}
	return yes, nil
}

// byName is the headers of a message by name, the first value of each. The map is the
// evaluator's, and its texts share the memory of the message.
func (e *Evaluator) byName(h event.Headers) map[string]string {
	if e.headers == nil {
		e.headers = make(map[string]string, len(h))
	}
	for i := range h {
		if _, repeated := e.headers[h[i].Name]; !repeated {
			e.headers[h[i].Name] = h[i].Text()
		}
	}
	return e.headers
}

func invalid(err error) error {
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "transformation", Code: "Condition", Safe: "a condition cannot be decided"})
}
