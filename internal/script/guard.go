package script

import (
	"math"
	"sync"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"
)

// The interpreter can be interrupted between two instructions, and a call of a built-in
// function is one. Those that can loop or allocate out of proportion to what the script
// already holds are refused beforehand.

// elementBytes is what an array element costs at least.
const elementBytes = 16

var arrayMethods = []string{"at", "concat", "copyWithin", "every", "fill", "filter", "find", "findIndex",
	"findLast", "findLastIndex", "flat", "flatMap", "forEach", "includes", "indexOf", "join", "lastIndexOf",
	"map", "reduce", "reduceRight", "reverse", "shift", "slice", "some", "sort", "splice", "toReversed",
	"toLocaleString", "toSorted", "toSpliced", "toString", "unshift", "with"}

var buffers = []string{"ArrayBuffer", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
	"Int32Array", "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array"}

// guard puts checks in front of the built-in functions that need them.
//
// A VM that serves one message is given the checks whose functions the source speaks of.
func (vm *VM) guard(mentions map[string]bool) {
	vm.mentions = mentions
	for _, name := range arrayMethods {
		vm.before(vm.arrayPrototype, name, vm.checkLength)
	}
	vm.before(vm.arrayPrototype, "flat", vm.checkFlat)
	vm.before(vm.arrayPrototype, "join", vm.checkJoin)
	text := vm.js.Get("String").(*goja.Object).Get("prototype").(*goja.Object)
	vm.before(text, "repeat", func(call goja.FunctionCall) {
		vm.checkText(float64(len(call.This.String())) * call.Argument(0).ToFloat())
	})
	pad := func(call goja.FunctionCall) { vm.checkText(call.Argument(0).ToFloat()) }
	vm.before(text, "padStart", pad)
	vm.before(text, "padEnd", pad)
	vm.guardText(text)
	vm.guardLists()
	array := vm.js.Get("Array").(*goja.Object)
	vm.before(array, "from", func(call goja.FunctionCall) {
		if o, ok := call.Argument(0).(*goja.Object); ok {
			vm.checkLength(goja.FunctionCall{This: o})
		}
	})
	for _, name := range buffers {
		vm.guardBuffer(name)
	}
}

// guardLists checks what is iterated, concatenated, or made arguments of, without the
// interpreter.
func (vm *VM) guardLists() {
	vm.guardMethod(vm.arrayPrototype, "values", vm.checkLength)
	values := vm.arrayPrototype.Get("values") // it is what iterates, too
	if err := vm.arrayPrototype.DefineDataPropertySymbol(goja.SymIterator, values, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil {
		panic(err)
	}
	vm.before(vm.arrayPrototype, "keys", vm.checkLength)
	vm.before(vm.arrayPrototype, "entries", vm.checkLength)
	vm.before(vm.arrayPrototype, "concat", func(call goja.FunctionCall) {
		vm.checkLength(call)
		for _, a := range call.Arguments {
			vm.checkList(a)
		}
	})
	if vm.mentions == nil || vm.mentions["apply"] {
		vm.before(vm.js.Get("Function").(*goja.Object).Get("prototype").(*goja.Object), "apply", func(call goja.FunctionCall) {
			vm.checkList(call.Argument(1))
		})
	}
	if vm.mentions != nil && !vm.mentions["Reflect"] {
		return
	}
	reflection := vm.js.Get("Reflect").(*goja.Object)
	vm.before(reflection, "apply", func(call goja.FunctionCall) { vm.checkList(call.Argument(2)) })
	vm.before(reflection, "construct", func(call goja.FunctionCall) { vm.checkList(call.Argument(1)) })
}

// before runs check before the method of holder with the given name.
func (vm *VM) before(holder *goja.Object, name string, check func(goja.FunctionCall)) {
	if vm.mentions == nil || vm.mentions[name] {
		vm.guardMethod(holder, name, check)
	}
}

// guardMethod is before, whatever the source speaks of.
func (vm *VM) guardMethod(holder *goja.Object, name string, check func(goja.FunctionCall)) {
	original, ok := holder.Get(name).(*goja.Object)
	if !ok {
		return // not in this version of the interpreter
	}
	f, ok := goja.AssertFunction(original)
	if !ok {
		return
	}
	length := int(original.Get("length").ToInteger())
	vm.replace(holder, name, length, func(call goja.FunctionCall) goja.Value {
		check(call)
		v, err := f(call.This, call.Arguments...)
		if err != nil {
			panic(err)
		}
		return v
	})
}

func (vm *VM) refuse(what string) {
	e, err := vm.js.New(vm.js.Get("RangeError"), vm.js.ToValue("Invalid "+what+": more than the memory limit of the script allows"))
	if err != nil {
		panic(err)
	}
	panic(e)
}

func (vm *VM) checkText(length float64) {
	if length > float64(vm.maxBytes) {
		vm.refuse("string length")
	}
}

func (vm *VM) checkLength(call goja.FunctionCall) {
	o, ok := call.This.(*goja.Object)
	if !ok {
		return
	}
	if v := o.Get("length"); v != nil && v.ToFloat() > float64(vm.maxBytes/elementBytes) {
		vm.refuse("array length")
	}
}

// checkFlat refuses arrays that contain themselves, or too much.
func (vm *VM) checkFlat(call goja.FunctionCall) {
	depth := 1.0
	if d := call.Argument(0); !goja.IsUndefined(d) {
		depth = d.ToFloat()
	}
	left := vm.maxBytes / elementBytes
	var visit func(o *goja.Object, level float64)
	visit = func(o *goja.Object, level float64) {
		if level > 1000 {
			vm.refuse("array depth")
		}
		n := int(o.Get("length").ToInteger())
		if left -= n; left < 0 {
			vm.refuse("array length")
		}
		if level >= depth {
			return
		}
		for i := range n {
			if e, ok := o.Get(vm.js.ToValue(i).String()).(*goja.Object); ok && e.ClassName() == "Array" {
				visit(e, level+1)
			}
		}
	}
	if o, ok := call.This.(*goja.Object); ok && o.ClassName() == "Array" {
		visit(o, 0)
	}
}

func (vm *VM) checkJoin(call goja.FunctionCall) {
	o, ok := call.This.(*goja.Object)
	if !ok || goja.IsUndefined(call.Argument(0)) {
		return
	}
	if n := o.Get("length"); n != nil {
		vm.checkText(n.ToFloat() * float64(len(call.Argument(0).String())))
	}
}

// guardBuffer refuses buffers larger than the memory limit.
func (vm *VM) guardBuffer(name string) {
	if vm.mentions != nil && !vm.mentions[name] {
		return
	}
	original, ok := vm.js.Get(name).(*goja.Object)
	if !ok {
		return
	}
	size := 1.0
	if v := original.Get("BYTES_PER_ELEMENT"); v != nil {
		size = v.ToFloat()
	}
	construct, ok := goja.AssertConstructor(original)
	if !ok {
		return
	}
	guarded := vm.js.ToValue(vm.js.NewProxy(original, &goja.ProxyTrapConfig{
		Construct: func(_ *goja.Object, args []goja.Value, newTarget *goja.Object) *goja.Object {
			if len(args) > 0 {
				n := args[0].ToFloat()
				if o, ok := args[0].(*goja.Object); ok {
					n = 0
					if v := o.Get("length"); v != nil {
						n = v.ToFloat()
					}
				}
				if !math.IsNaN(n) && n*size > float64(vm.maxBytes) {
					vm.refuse("buffer length")
				}
			}
			o, err := construct(newTarget, args...)
			if err != nil {
				panic(err)
			}
			return o
		},
	}))
	hide(vm.js.GlobalObject(), name, guarded)
	hide(original.Get("prototype").(*goja.Object), "constructor", guarded)
	vm.recognise(original)
}

var regexpMutex sync.Mutex

// limitRegexps lets a regular expression that tracks back give up, so that the time
// limit can be applied. The library has one limit for the process: the longest any
// script has, so that a message may take that long where its own limit is shorter.
func limitRegexps(timeout time.Duration) {
	regexpMutex.Lock()
	defer regexpMutex.Unlock()
	if regexp2.DefaultMatchTimeout == math.MaxInt64 || regexp2.DefaultMatchTimeout < timeout {
		regexp2.DefaultMatchTimeout = timeout
	}
}
