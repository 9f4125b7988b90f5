package script

import (
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
)

const (
	// maxPattern is how long the source of a regular expression may be that is made at
	// run time: compiling it takes memory and time of a hundred times that.
	maxPattern = 1 << 16
	// maxCode is how long code may be that is made at run time: the parser and the
	// compiler recurse over it, and a stack that is full ends the process.
	maxCode = 1 << 14
	// pieceBytes is what a piece of a split text costs at least.
	pieceBytes = 32
)

// guardText puts checks before the built-in functions whose result may be out of all
// proportion to the text they are given.
func (vm *VM) guardText(text *goja.Object) {
	vm.before(text, "split", vm.checkSplit)
	vm.before(text, "replace", func(call goja.FunctionCall) { vm.checkReplace(call, false) })
	vm.before(text, "replaceAll", func(call goja.FunctionCall) { vm.checkReplace(call, true) })
	vm.before(text, "normalize", func(call goja.FunctionCall) {
		// Compatibility forms of one character have up to 18 of them.
		if form := call.Argument(0).String(); form == "NFKC" || form == "NFKD" {
			vm.checkText(18 * float64(length(call.This)))
		} else {
			vm.checkText(4 * float64(length(call.This)))
		}
	})
	pattern := func(call goja.FunctionCall) {
		if s, ok := call.Argument(0).(goja.String); ok && s.Length() > maxPattern {
			vm.refuse("regular expression length")
		}
	}
	for _, name := range []string{"match", "matchAll", "search"} {
		vm.before(text, name, pattern)
	}
	vm.before(vm.js.Get("String").(*goja.Object), "raw", func(call goja.FunctionCall) {
		if o, ok := call.Argument(0).(*goja.Object); ok {
			vm.checkList(o.Get("raw"))
		}
	})
	vm.guardRegexp(pattern)
}

// length is how long v is as a text, zero where it is none.
func length(v goja.Value) int {
	if s, ok := v.(goja.String); ok {
		return s.Length()
	}
	return 0
}

func (vm *VM) checkSplit(call goja.FunctionCall) {
	n := length(call.This)
	if float64(n+1)*pieceBytes <= float64(vm.maxBytes) {
		return
	}
	if separator, ok := call.Argument(0).(goja.String); ok {
		n = strings.Count(call.This.String(), separator.String())
	} else if o, ok := call.Argument(0).(*goja.Object); ok && o.ClassName() == "RegExp" {
		n /= 4 // few expressions match at every other character, and counting costs more than splitting
	} else if goja.IsUndefined(call.Argument(0)) {
		return
	}
	if limit := call.Argument(1); !goja.IsUndefined(limit) && limit.ToFloat() >= 0 {
		n = int(min(float64(n), limit.ToFloat()))
	}
	if float64(n)*pieceBytes > float64(vm.maxBytes) {
		vm.refuse("array length")
	}
}

// checkReplace refuses a replacement by a text whose result is too long. Where that
// depends on how often the pattern is found, it counts.
func (vm *VM) checkReplace(call goja.FunctionCall, all bool) {
	with, ok := call.Argument(1).(goja.String)
	subject, text := call.This.(goja.String)
	if !ok || !text {
		return
	}
	// What stands before and after a match may be put in with each; what is captured is
	// put in once in all.
	n, form := float64(subject.Length()), with.String()
	size := float64(with.Length()) + n*float64(strings.Count(form, "$`")+strings.Count(form, "$'"))
	once := n * float64(strings.Count(form, "$"))
	if (n+1)*size+once <= float64(vm.maxBytes) {
		return
	}
	times := 1.0
	switch p := call.Argument(0).(type) {
	case goja.String:
		if all {
			times = float64(strings.Count(subject.String(), p.String()))
		}
	case *goja.Object:
		if p.ClassName() != "RegExp" {
			return // a replacement of the script's own
		}
		times = vm.count(subject, p)
		if source := p.Get("source").String(); strings.Contains(source, "(?=") || strings.Contains(source, "(?<=") {
			size, once = size+once, 0 // what is captured may reach beyond the match
		}
	}
	vm.checkText(times*size + once)
}

// count is how often an expression is found in s.
func (vm *VM) count(s goja.String, expression *goja.Object) float64 {
	n := 0.0
	counter := vm.js.ToValue(func(goja.FunctionCall) goja.Value {
		if n++; int(n)&0xff == 0 {
			vm.checkLimits(0)
		}
		return vm.js.ToValue("")
	})
	replace, ok := goja.AssertFunction(expression.GetSymbol(goja.SymReplace))
	if !ok {
		return 1
	}
	last := expression.Get("lastIndex")
	vm.must(replace(expression, s, counter))
	if last != nil {
		if err := expression.Set("lastIndex", last); err != nil {
			panic(err)
		}
	}
	return n
}

// checkList refuses an object that a built-in function would make a list of arguments of.
func (vm *VM) checkList(v goja.Value) {
	if o, ok := v.(*goja.Object); ok {
		vm.checkLength(goja.FunctionCall{This: o})
	}
}

// guardRegexp checks the length of expressions that are made at run time.
func (vm *VM) guardRegexp(check func(goja.FunctionCall)) {
	if vm.mentions != nil && !vm.mentions["RegExp"] && !vm.mentions["constructor"] {
		return
	}
	original := vm.js.Get("RegExp").(*goja.Object)
	vm.guardConstructor("RegExp", original, func(args []goja.Value) { check(goja.FunctionCall{Arguments: args}) })
	vm.before(original.Get("prototype").(*goja.Object), "compile", check)
}

// guardConstructor puts check before a function that is called with new and without.
func (vm *VM) guardConstructor(name string, original *goja.Object, check func(args []goja.Value)) {
	construct, _ := goja.AssertConstructor(original)
	apply, _ := goja.AssertFunction(original)
	var guarded goja.Value
	guarded = vm.js.ToValue(vm.js.NewProxy(original, &goja.ProxyTrapConfig{
		Construct: func(_ *goja.Object, args []goja.Value, target *goja.Object) *goja.Object {
			check(args)
			if goja.Value(target) == guarded {
				target = original
			}
			o, err := construct(target, args...)
			if err != nil {
				panic(err)
			}
			return o
		},
		Apply: func(_ *goja.Object, this goja.Value, args []goja.Value) goja.Value {
			check(args)
			return vm.must(apply(this, args...))
		},
	}))
	if name != "" {
		hide(vm.js.GlobalObject(), name, guarded)
	}
	hide(original.Get("prototype").(*goja.Object), "constructor", guarded)
	vm.guarded = append(vm.guarded, guarded)
	vm.recognise(original)
}

// recognise lets instanceof work with what stands before original: a proxy made in Go is
// no function to it.
func (vm *VM) recognise(original *goja.Object) {
	has := vm.js.ToValue(func(call goja.FunctionCall) goja.Value {
		class, ok := call.This.(*goja.Object)
		o, object := call.Argument(0).(*goja.Object)
		if !ok || !object {
			return vm.no
		}
		prototype := class.Get("prototype")
		for depth := 0; ; depth++ {
			if o = o.Prototype(); o == nil {
				return vm.no
			}
			if goja.Value(o) == prototype {
				return vm.yes
			}
			if depth&0xff == 0xff {
				vm.checkLimits(0)
			}
		}
	})
	if err := original.DefineDataPropertySymbol(goja.SymHasInstance, has, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE); err != nil {
		panic(err)
	}
}

// The functions that the argument of a direct call of eval passes through, and that stands
// for eval where it is not called by its name.
const codeName, evalName = "$weir$code", "$weir$eval"

// boundCode has the argument of a direct call of eval, which sees the variables around it,
// pass through a check.
func (a *analysis) boundCode(n *ast.CallExpression) {
	id, ok := n.Callee.(*ast.Identifier)
	if !ok || id.Name != "eval" || len(n.ArgumentList) == 0 {
		return
	}
	if _, spread := n.ArgumentList[0].(*ast.SpreadElement); spread {
		return
	}
	a.direct = append(a.direct, id)
	n.ArgumentList[0] = callOf(codeName, n.ArgumentList[0])
}

// guardCode checks code that is made at run time.
func (vm *VM) guardCode() {
	check := func(args []goja.Value) {
		size := 0
		for _, a := range args {
			s, ok := a.(goja.String)
			if !ok {
				if _, object := a.(*goja.Object); !object {
					continue
				}
				s, _ = vm.js.ToValue(a.String()).(goja.String)
			}
			if size += s.Length(); size > maxCode {
				vm.refuse("length of code made at run time")
			}
			if bigLiteral.MatchString(s.String()) {
				vm.Throw("code made at run time cannot have BigInt literals: write them into the script")
			}
		}
	}
	hide(vm.js.GlobalObject(), codeName, vm.js.ToValue(func(call goja.FunctionCall) goja.Value {
		check(call.Arguments)
		return call.Argument(0)
	}))
	eval, _ := goja.AssertFunction(vm.js.Get("eval"))
	hide(vm.js.GlobalObject(), evalName, vm.js.ToValue(func(call goja.FunctionCall) goja.Value {
		check(call.Arguments)
		return vm.must(eval(call.This, call.Arguments...))
	}))
	v, err := vm.js.RunString(`[Function, async function () {}.constructor, function* () {}.constructor]`)
	if err != nil {
		panic(err) // our own program
	}
	makers := v.(*goja.Object)
	for i, name := range []string{"Function", "", ""} {
		vm.guardConstructor(name, makers.Get(vm.js.ToValue(i).String()).(*goja.Object), check)
	}
}
