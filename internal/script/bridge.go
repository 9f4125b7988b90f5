package script

import (
	"strings"

	"github.com/dop251/goja"
)

// bridge replaces JSON.parse and JSON.stringify. What they do not cover themselves
// (revivers, replacers, invalid text with its error message) they leave to goja's.
func (vm *VM) bridge() {
	json := vm.js.Get("JSON").(*goja.Object)
	vm.jsonParse, _ = goja.AssertFunction(json.Get("parse"))
	vm.stringify, _ = goja.AssertFunction(json.Get("stringify"))
	vm.replace(json, "parse", 2, vm.callParse)
	vm.replace(json, "stringify", 3, vm.callStringify)
}

// replace puts a function of ours in the place of a built-in one.
func (vm *VM) replace(holder *goja.Object, name string, length int, f func(goja.FunctionCall) goja.Value) {
	fn := vm.js.ToValue(f).(*goja.Object)
	vm.describe(fn, name, length)
	hide(holder, name, fn)
}

func (vm *VM) describe(fn *goja.Object, name string, length int) {
	set := func(key string, v goja.Value) {
		if err := fn.DefineDataProperty(key, v, goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil {
			panic(err)
		}
	}
	set("name", vm.js.ToValue(name))
	set("length", vm.js.ToValue(length))
}

func (vm *VM) callParse(call goja.FunctionCall) goja.Value {
	text := call.Argument(0).String()
	if vm.views && len(call.Arguments) < 2 {
		v, l, ok := vm.parse(text, false)
		if ok {
			return v
		}
		if l.deep {
			vm.Throw("JSON nests deeper than %d levels", maxJSONDepth)
		}
	} else if l := survey(text, &vm.scratch); l.deep {
		vm.Throw("JSON nests deeper than %d levels", maxJSONDepth)
	}
	args := append([]goja.Value{vm.js.ToValue(text)}, call.Arguments[min(1, len(call.Arguments)):]...)
	v, err := vm.jsonParse(call.This, args...)
	if err != nil {
		panic(err)
	}
	return v
}

func (vm *VM) callStringify(call goja.FunctionCall) goja.Value {
	gap, simple := vm.gap(call)
	if !simple {
		v, err := vm.stringify(call.This, call.Arguments...)
		if err != nil {
			panic(err)
		}
		return v
	}
	w := vm.idle
	vm.idle = nil // toJSON may stringify in turn
	if w == nil {
		w = &writer{}
	}
	*w = writer{vm: vm, buf: vm.text[:0]}
	vm.text = nil
	if !w.value(call.Argument(0), "") {
		vm.text = w.buf
		return goja.Undefined()
	}
	text := string(w.buf)
	if cap(w.buf) <= 1<<20 {
		vm.text = w.buf
	}
	*w = writer{}
	vm.idle = w
	if gap != "" {
		text = string(vm.indent(nil, text, gap))
	}
	return vm.js.ToValue(text)
}

// gap is the white space of JSON.stringify's third argument. simple is false when the
// call needs goja's own implementation.
func (vm *VM) gap(call goja.FunctionCall) (gap string, simple bool) {
	if len(call.Arguments) < 2 {
		return "", vm.ordinaryWorld()
	}
	if _, ok := call.Argument(1).(*goja.Object); ok {
		return "", false
	}
	if !vm.ordinaryWorld() {
		return "", false
	}
	space := call.Argument(2)
	switch {
	case goja.IsUndefined(space) || goja.IsNull(space):
		return "", true
	case goja.IsNumber(space):
		n := space.ToInteger()
		if n <= 0 {
			return "", true
		}
		return strings.Repeat(" ", int(min(n, 10))), true
	case goja.IsString(space):
		s := space.String()
		for i := range len(s) {
			if s[i] >= 0x80 {
				return "", false
			}
		}
		if len(s) > 10 {
			s = s[:10]
		}
		return s, true
	}
	_, object := space.(*goja.Object)
	return "", !object
}

// ordinaryWorld reports whether no toJSON was put on the prototypes of objects and
// arrays, where views of JSON text would have to look for it.
func (vm *VM) ordinaryWorld() bool {
	if vm.sealed != nil {
		return !vm.hooked
	}
	return !vm.hasHooks()
}

func (vm *VM) hasHooks() bool {
	return vm.arrayPrototype.Get("toJSON") != nil
}
