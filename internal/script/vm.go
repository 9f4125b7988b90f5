package script

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/dop251/goja"
)

// VM is one JavaScript world. Only functions that are called with one may use it.
type VM struct {
	js *goja.Runtime
	// frozen says that everything the script can reach was frozen after its top level ran.
	frozen bool
	// views says that JSON objects are views of their text; without it they are ordinary.
	views bool

	entry           goja.Callable
	objectPrototype *goja.Object
	arrayPrototype  *goja.Object // inherits from objectPrototype
	jsonParse       goja.Callable
	stringify       goja.Callable
	yes, no         goja.Value

	regexps []regexpState             // whose lastIndex is put back after each message
	sealed  map[*goja.Object]struct{} // maps and sets that must not change; not nil once frozen
	hooked  bool                      // a toJSON was on a prototype when the world was frozen
	scratch scratch                   // of survey and of object.load
	text    []byte                    // scratch of JSON.stringify
	idle    *writer                   // of JSON.stringify, for the next call

	mentions map[string]bool // what to guard; nil for everything
	guarded  []goja.Value    // functions that stand before built-in ones

	maxBytes int
	stopped  *atomic.Bool // set by the watchdog

	waits waits
	held  any // of who called, for helpers
}

type regexpState struct {
	regexp *goja.Object
	last   goja.Value
}

var errSeparate = errors.New("the script writes to what is shared between messages")

// JS is the interpreter, for making values.
func (vm *VM) JS() *goja.Runtime { return vm.js }

// Throw ends the script's current call with a TypeError.
func (vm *VM) Throw(format string, args ...any) {
	panic(vm.js.NewTypeError(append([]any{format}, args...)...))
}

// checkLimits ends the script when it was stopped or a text it builds is too long.
func (vm *VM) checkLimits(size int) {
	if vm.stopped.Load() {
		panic(&limitError{ErrTime}) // or for memory: the guard knows
	}
	if size > vm.maxBytes {
		panic(&limitError{fmt.Errorf("a text of more than %d bytes: %w", vm.maxBytes, ErrMemory)})
	}
}

// limitError passes through the interpreter and ends the call.
type limitError struct{ error }

func (e *limitError) Unwrap() error { return e.error }

// Parse makes the value of a JSON text. What the script does not change keeps its exact
// form when the value is written by [VM.Append]: numbers all their digits, keys their order.
func (vm *VM) Parse(text string) (goja.Value, error) {
	if vm.views {
		v, l, ok := vm.parse(text, true)
		if ok {
			return v, nil
		}
		if l.deep {
			return nil, fmt.Errorf("JSON nests deeper than %d levels", maxJSONDepth)
		}
	} else if l := survey(text, &vm.scratch); l.deep {
		return nil, fmt.Errorf("JSON nests deeper than %d levels", maxJSONDepth)
	}
	v, err := vm.jsonParse(goja.Undefined(), vm.js.ToValue(text))
	if err != nil {
		return nil, cause(err)
	}
	return v, nil
}

// Value makes a JavaScript value of a Go value: maps and slices become objects and
// arrays, everything else is bound as it is.
func (vm *VM) Value(v any) goja.Value {
	switch x := v.(type) {
	case map[string]any:
		return vm.js.NewDynamicObject(newRecord(vm, x))
	case []any:
		items := make([]any, len(x))
		for i, e := range x {
			items[i] = vm.Value(e)
		}
		return vm.js.NewArray(items...)
	}
	return vm.js.ToValue(v)
}

// Append appends v as JSON, as a script's result is written: undefined is null, times
// are RFC 3339, and functions and NaN are refused by an exception.
func (vm *VM) Append(dst []byte, v goja.Value) []byte {
	w := writer{vm: vm, buf: dst, export: true}
	w.value(v, "")
	return w.buf
}

// Stringify appends what JSON.stringify makes of v: members that are undefined or functions are
// left out, toJSON is called, NaN is null. ok is false where it makes nothing of v itself.
func (vm *VM) Stringify(dst []byte, v goja.Value) (text []byte, ok bool) {
	w := writer{vm: vm, buf: dst}
	ok = w.value(v, "")
	return w.buf, ok
}

// cause is the exception behind err without the stack of Go frames.
func cause(err error) error {
	if ex, ok := errors.AsType[*goja.Exception](err); ok {
		return errors.New(ex.Value().String())
	}
	return err
}

// newVM makes a world and runs the program's top level in it.
func (p *Program) newVM(stopped *atomic.Bool, frozen, views bool, begin func(*VM)) (*VM, error) {
	vm := &VM{
		js: goja.New(), frozen: frozen, views: views,
		maxBytes: p.options.MemoryLimit, stopped: stopped,
	}
	begin(vm)
	js := vm.js
	js.SetMaxCallStackSize(maxCallDepth)
	vm.yes, vm.no = js.ToValue(true), js.ToValue(false)
	vm.objectPrototype = js.NewObject().Prototype()
	vm.arrayPrototype = js.NewArray().Prototype()
	if frozen || p.options.Stateful {
		vm.guard(nil)
	} else {
		vm.guard(p.traits.mentions)
	}
	if t := p.traits; t.bigints || t.global || t.code || frozen || p.options.Stateful {
		vm.guardBigInts(t.bigints)
	}
	if p.traits.code || frozen || p.options.Stateful {
		vm.guardCode()
	}
	vm.bridge()
	var seal func(top []string) error
	if frozen {
		seal = vm.prepareFreeze()
	}
	global := js.GlobalObject()
	hide(global, caughtName, js.ToValue(vm.caught))
	for name, helper := range p.options.Helpers {
		hide(global, name, js.ToValue(func(call goja.FunctionCall) goja.Value { return helper(vm, call) }))
	}
	if _, err := js.RunProgram(p.code); err != nil {
		return nil, fmt.Errorf("run the top level of the script: %w", err)
	}
	entry, ok := goja.AssertFunction(js.Get(p.options.Entry))
	if !ok {
		return nil, fmt.Errorf("could not assert as function: %q. Write function %s(input) { ...; return input }; a const or let of that name is not seen", p.options.Entry, p.options.Entry)
	}
	vm.entry = entry
	if frozen {
		if err := seal(p.traits.top); err != nil {
			return nil, err
		}
	}
	return vm, nil
}

func hide(o *goja.Object, name string, v goja.Value) {
	if err := o.DefineDataProperty(name, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil {
		panic(err)
	}
}

// caught is the first call of every catch clause: an exception that only exists because
// of how we run the script must not be handled by it.
func (vm *VM) caught(call goja.FunctionCall) goja.Value {
	if o, ok := call.Argument(0).(*goja.Object); ok && vm.ours(o) {
		vm.js.Interrupt(errSeparate)
	}
	return goja.Undefined()
}

// ours reports whether an exception may be due to freezing or to views of JSON text.
func (vm *VM) ours(o *goja.Object) bool {
	if (!vm.frozen && !vm.views) || o.ClassName() != "Error" {
		return false
	}
	v := o.Get("message")
	if v == nil {
		return false
	}
	text := v.String()
	if vm.views && (strings.Contains(text, "dynamic object") || strings.Contains(text, "Dynamic object")) {
		return true
	}
	if !vm.frozen {
		return false
	}
	for _, s := range []string{"read only property", "not extensible", "Cannot delete property",
		"Cannot redefine", "Cannot define", "Cannot add property", "length is not writable"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// separate gives up on sharing this world, as a write to a frozen object does: the
// message is run again in a world of its own.
func (vm *VM) separate() { vm.Throw("Cannot define an element, object is not extensible") }

// rewind puts back what freezing leaves writable.
func (vm *VM) rewind() error {
	for _, e := range vm.regexps {
		if err := e.regexp.Set("lastIndex", e.last); err != nil {
			return err
		}
	}
	return nil
}

// IsObject reports whether v is an object with properties to speak of: not an array, a
// function, a date or another object whose value is elsewhere.
func (vm *VM) IsObject(v goja.Value) bool {
	o, ok := v.(*goja.Object)
	if !ok {
		return false
	}
	switch o.ExportType() {
	case typeMap, typeObject, typeRecord:
		return o.ClassName() != "Array"
	}
	return false
}
