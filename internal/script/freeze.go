package script

import (
	_ "embed"
	"fmt"
	"reflect"
	"slices"

	"github.com/dop251/goja"
)

//go:embed freeze.js
var freezeSource string

var freezeProgram = goja.MustCompile("freeze", freezeSource, true)

// prepareFreeze readies what must happen before the script's top level runs, and returns
// what freezes everything that can be reached afterwards.
func (vm *VM) prepareFreeze() func(top []string) error {
	v, err := vm.js.RunProgram(freezeProgram)
	if err != nil {
		panic(err) // our own program
	}
	freeze, _ := goja.AssertFunction(v)
	vm.sealContainers()
	return func(top []string) error {
		vm.sealed = map[*goja.Object]struct{}{}
		vm.hooked = vm.hasHooks()
		seen := map[*goja.Object]struct{}{}
		var unfit error
		visit := func(call goja.FunctionCall) goja.Value {
			o := call.Argument(0).(*goja.Object)
			if _, old := seen[o]; old {
				return vm.js.ToValue(0)
			}
			seen[o] = struct{}{}
			kind, err := vm.admit(o, call.Argument(1).ToInteger())
			if err != nil && unfit == nil {
				unfit = err
			}
			return vm.js.ToValue(kind)
		}
		enable := func(call goja.FunctionCall) goja.Value {
			vm.enable(call.Argument(0).(*goja.Object), call.Argument(1).String(), call.Argument(2))
			return goja.Undefined()
		}
		roots := make([]any, 0, len(top))
		for _, name := range top {
			if v := vm.js.Get(name); v != nil {
				roots = append(roots, v)
			}
		}
		if _, err := freeze(goja.Undefined(), vm.js.NewArray(roots...), vm.js.ToValue(visit), vm.js.ToValue(enable)); err != nil {
			return fmt.Errorf("freeze the script's world: %w", err)
		}
		return unfit
	}
}

// The kinds of objects that freezing treats differently.
const (
	seenBefore = iota
	freezeAll
	freezeRegexp
)

// What an object holds beside its properties, as freeze.js finds out.
const (
	container = 1 // a map or set
	holder    = 2 // a date, a buffer, a position of an iterator
)

var (
	typeProxy  = reflect.TypeFor[goja.Proxy]()
	containers = map[string][]string{"Map": {"set", "delete", "clear"}, "Set": {"add", "delete", "clear"}}
)

// admit decides how o is frozen. Objects with state that is not in properties are
// refused, and the script gets a world for each message.
func (vm *VM) admit(o *goja.Object, nature int64) (int, error) {
	switch nature {
	case container:
		vm.sealed[o] = struct{}{}
		return freezeAll, nil
	case holder:
		return freezeAll, errSeparate
	}
	if o.ExportType() == typeProxy {
		if slices.Contains(vm.guarded, goja.Value(o)) {
			return freezeAll, nil
		}
		for _, name := range buffers {
			if vm.js.Get(name) == goja.Value(o) {
				return freezeAll, nil
			}
		}
		return freezeAll, errSeparate
	}
	switch o.ClassName() {
	case "RegExp":
		// RegExp.prototype is an ordinary object and of another class.
		vm.regexps = append(vm.regexps, regexpState{o, o.Get("lastIndex")})
		return freezeRegexp, nil
	case "Promise":
		return freezeAll, errSeparate
	}
	switch o.ExportType() {
	case typeMap, typeSlice, typeObject:
		return freezeAll, nil
	}
	switch o.Export().(type) {
	case goja.ArrayBuffer, []byte, []int8, []int16, []uint16, []int32, []uint32, []int64, []uint64, []float32, []float64:
		return freezeAll, errSeparate
	}
	return freezeAll, nil
}

// sealContainers makes the methods that change maps and sets look at what they change.
func (vm *VM) sealContainers() {
	for class, methods := range containers {
		prototype := vm.js.Get(class).(*goja.Object).Get("prototype").(*goja.Object)
		for _, name := range methods {
			vm.before(prototype, name, func(call goja.FunctionCall) {
				if len(vm.sealed) == 0 {
					return
				}
				if o, ok := call.This.(*goja.Object); ok {
					if _, sealed := vm.sealed[o]; sealed {
						vm.separate()
					}
				}
			})
		}
	}
}

// enable turns a property of a prototype that is about to be frozen into an accessor, so
// that objects that inherit it can still be given one of their own by assignment.
func (vm *VM) enable(holder *goja.Object, name string, v goja.Value) {
	get := func(goja.FunctionCall) goja.Value { return v }
	set := func(call goja.FunctionCall) goja.Value {
		o, ok := call.This.(*goja.Object)
		if !ok || o == holder {
			vm.Throw("Cannot assign to read only property '%s'", name)
		}
		if err := o.DefineDataProperty(name, call.Argument(0), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
			panic(err)
		}
		return goja.Undefined()
	}
	if err := holder.DefineAccessorProperty(name, vm.js.ToValue(get), vm.js.ToValue(set), goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil {
		panic(err)
	}
}
