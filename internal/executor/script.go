package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/script"
)

// ScriptOptions are how a script is run.
type ScriptOptions struct {
	// Name is the function's name, for stack traces.
	Name string
	// Env is what the script finds as process.env.
	Env map[string]string
	// Timeout is the longest it may run for one task; 0 means 15 s.
	Timeout time.Duration
	// MemoryLimit is by how many bytes the heap may grow meanwhile; 0 means 128 MiB.
	MemoryLimit int
	// Runtimes is the most that run at once, beside those that are slow. At least 1.
	Runtimes int
}

// Script is a function in JavaScript: its function main is called with the task's input and
// returns the output, or a promise of it that is kept when main returns. The output is what
// JSON.stringify makes of it, and null where that makes nothing. Nothing is kept between two
// calls.
//
// What it throws becomes the failure's name and cause as in Lambda's Node.js runtime: the
// name of an Error is its name, or that of its class when it has none of its own; likewise
// for any object with a name; of anything else it is the type.
type Script struct {
	program *script.Program
	places  chan struct{} // has an element for each script that works and is not slow
	idle    chan *script.Runtime
}

// scriptEntry catches what main throws, inside the limits of the script.
const (
	scriptEntryName = "weirTaskEntry"
	scriptEntry     = "\nfunction " + scriptEntryName + "(input) { try { return [true, main(input)] } catch (thrown) { return [false, thrown] } }"
)

// NewScript compiles a script and runs its top level once.
func NewScript(source string, o ScriptOptions) (*Script, error) {
	if len(o.Env) > 0 {
		env, err := json.Marshal(o.Env)
		if err != nil {
			return nil, fmt.Errorf("write env for the script: %w", err)
		}
		source = "var process = {env: " + string(env) + "}; " + source // on its first line, so that lines keep their numbers
	}
	options := script.Options{Name: o.Name, Timeout: o.Timeout, MemoryLimit: o.MemoryLimit}
	plain, err := script.Compile(source, options) // finds out whether there is a main
	if err != nil {
		return nil, err
	}
	if _, err := plain.New(); err != nil {
		return nil, err
	}
	options.Entry = scriptEntryName
	p, err := script.Compile(source+scriptEntry, options)
	if err != nil {
		return nil, err
	}
	n := max(o.Runtimes, 1)
	return &Script{program: p, places: make(chan struct{}, n), idle: make(chan *script.Runtime, n)}, nil
}

// Open implements Function.
func (f *Script) Open(context.Context) error { return nil }

// Close implements Function.
func (f *Script) Close(context.Context) error { return nil }

// Effect implements Function.
func (f *Script) Effect() Effect { return None }

// slow is how long a script keeps a place from others. One that works longer works on beside
// them, bounded by the machine's workers, so that what hangs takes no place from what does not.
const slow = 50 * time.Millisecond

// enter waits for a place, and is a runtime to work in until leave is called with it.
func (f *Script) enter(ctx context.Context, c Call) (r *script.Runtime, leave func(), err error) {
	c.Waiting()
	select {
	case f.places <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	c.Working()
	free := sync.OnceFunc(func() { <-f.places })
	late := time.AfterFunc(slow, free)
	select {
	case r = <-f.idle:
	default:
		r = f.program.Later()
	}
	return r, func() {
		late.Stop()
		free()
		select {
		case f.idle <- r:
		default: // as many as may work at once are there
		}
	}, nil
}

// Invoke implements Function.
func (f *Script) Invoke(ctx context.Context, c Call) (Answer, error) {
	r, leave, err := f.enter(ctx, c)
	if err != nil {
		return Answer{}, err
	}
	defer leave()
	var output []byte
	var failure *TaskError
	err = r.CallUntil(ctx,
		func(vm *script.VM) (goja.Value, error) { return vm.Parse(string(c.Input)) },
		func(vm *script.VM, v goja.Value) error {
			output, failure = nil, nil
			pair := v.ToObject(vm.JS())
			value, kept := pair.Get("1"), pair.Get("0").ToBoolean()
			if kept {
				value, kept, failure = settled(value)
			}
			if failure == nil {
				if kept {
					output = append(output, "null"...) // as of undefined
					if text, ok := vm.Stringify(nil, value); ok {
						output = text
					}
				} else {
					failure = thrown(value)
				}
			}
			return nil
		})
	var limited *script.Error
	switch {
	case errors.As(err, &limited) && limited.Reason == script.Cut:
		return Answer{}, context.Cause(ctx)
	case errors.As(err, &limited) && limited.Reason == script.Timeout:
		return Answer{}, Failure(ErrorTimedOut, err.Error(), nil)
	case errors.As(err, &limited) && limited.Reason == script.Thrown:
		return Answer{}, Failure("Error", err.Error(), nil) // by something beside main: a getter, a toJSON
	case err != nil:
		return Answer{}, Failure(ErrorExited, err.Error(), nil)
	case failure != nil:
		return Answer{}, failure
	}
	return Answer{Output: output}, nil
}

// settled is the value of a promise, and v itself when it is none.
func settled(v goja.Value) (value goja.Value, kept bool, failure *TaskError) {
	o, ok := v.(*goja.Object)
	if !ok {
		return v, true, nil
	}
	p, ok := o.Export().(*goja.Promise)
	if !ok {
		return v, true, nil
	}
	switch p.State() {
	case goja.PromiseStateFulfilled:
		return p.Result(), true, nil
	case goja.PromiseStateRejected:
		return p.Result(), false, nil
	}
	return nil, false, Failure(ErrorExited, "main returned a promise that nothing will ever settle", nil)
}

// thrown is the failure that a thrown value is.
func thrown(v goja.Value) *TaskError {
	o, ok := v.(*goja.Object)
	if !ok {
		return Failure(typeOf(v), v.String(), nil)
	}
	text := func(from *goja.Object, key string) string {
		if from == nil {
			return ""
		}
		if s, ok := from.Get(key).(goja.String); ok {
			return s.String()
		}
		return ""
	}
	name := text(o, "name")
	if name == "" || name == "Error" {
		if c, ok := o.Get("constructor").(*goja.Object); ok && o.ClassName() == "Error" {
			if class := text(c, "name"); class != "" {
				name = class
			}
		}
	}
	if name == "" {
		return Failure("object", o.String(), nil)
	}
	var trace []string
	if stack := text(o, "stack"); stack != "" {
		trace = strings.Split(strings.TrimSpace(stack), "\n")
		trace = slices.DeleteFunc(trace, func(line string) bool { return strings.Contains(line, scriptEntryName) })
	}
	return Failure(name, text(o, "message"), trace)
}

// typeOf is typeof v, of a value that is no object.
func typeOf(v goja.Value) string {
	switch {
	case v == nil || goja.IsUndefined(v):
		return "undefined"
	case goja.IsNull(v):
		return "object"
	}
	switch v.Export().(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	}
	return "number"
}
