package script

import (
	"math/big"
	"reflect"
	"regexp"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// Arithmetic on BigInts is one instruction, however long it takes and however large its
// result is. So a script that speaks of BigInts has its multiplications, powers and shifts
// replaced by calls of functions that refuse operands past maxBits, before the compiler can
// fold constants. A script that does not speak of them cannot come by one.

const (
	// maxBits is how large a BigInt may be that is multiplied, raised to a power or shifted.
	maxBits = 1 << 20
	// maxDigits is how long a text may be that is made a BigInt.
	maxDigits = 400_000
)

// bigOperators are the functions that stand for the operators a BigInt grows by.
var bigOperators = []struct {
	operator token.Token
	name     string
}{
	{token.MULTIPLY, "$weir$multiply"}, {token.EXPONENT, "$weir$power"},
	{token.SHIFT_LEFT, "$weir$left"}, {token.SHIFT_RIGHT, "$weir$right"},
}

// bigOperator is the function that stands for an operator, empty for the others.
func bigOperator(operator token.Token) string {
	for _, o := range bigOperators {
		if o.operator == operator {
			return o.name
		}
	}
	return ""
}

// bigRefused is called with the right side of an assignment that cannot be rewritten.
const bigRefused = "$weir$number"

// bigNames are the globals that make BigInts.
var bigNames = []string{"BigInt", "BigInt64Array", "BigUint64Array"}

// bigLiteral finds BigInt literals in code that is made at run time.
var bigLiteral = regexp.MustCompile(`\b(0[xXoObB])?[0-9a-fA-F][0-9a-fA-F_]*n\b`)

// speaksOfBigInts reports whether a program can come by a BigInt.
func (a *analysis) speaksOfBigInts(p *ast.Program) bool {
	found := false
	a.each(reflect.ValueOf(p), func(n any) bool {
		if l, ok := n.(*ast.NumberLiteral); ok {
			_, big := l.Value.(*big.Int)
			found = found || big
		}
		return !found
	})
	for _, name := range bigNames {
		found = found || a.mentions[name]
	}
	return found || a.mentions["getBigInt64"] || a.mentions["getBigUint64"]
}

// boundBigInts rewrites the operators under v.
func boundBigInts(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		boundBigInts(v.Elem())
		if !v.CanSet() {
			return
		}
		switch n := v.Interface().(type) {
		case *ast.BinaryExpression:
			if name := bigOperator(n.Operator); name != "" {
				v.Set(reflect.ValueOf(callOf(name, n.Left, n.Right)))
			}
		case *ast.AssignExpression:
			if name := bigOperator(n.Operator); name != "" {
				if repeatable(n.Left) {
					n.Operator, n.Right = token.ASSIGN, callOf(name, n.Left, n.Right)
				} else {
					n.Right = callOf(bigRefused, n.Right)
				}
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type().Elem().PkgPath() == astPath {
			boundBigInts(v.Elem())
		}
	case reflect.Struct:
		if v.Type().PkgPath() != astPath {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "DeclarationList" { // the same nodes again
				boundBigInts(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			boundBigInts(v.Index(i))
		}
	}
}

func callOf(name string, args ...ast.Expression) *ast.CallExpression {
	at := args[0].Idx0()
	return &ast.CallExpression{
		Callee:          &ast.Identifier{Name: unistring.NewFromString(name), Idx: at},
		LeftParenthesis: at, ArgumentList: args, RightParenthesis: args[len(args)-1].Idx1(),
	}
}

// repeatable reports whether e names a place that can be named twice with no other effect
// than that of naming it once.
func repeatable(e ast.Expression) bool {
	simple := func(e ast.Expression) bool {
		switch e.(type) {
		case *ast.Identifier, *ast.ThisExpression, *ast.StringLiteral, *ast.NumberLiteral:
			return true
		}
		return false
	}
	switch e := e.(type) {
	case *ast.Identifier:
		return true
	case *ast.DotExpression:
		return simple(e.Left)
	case *ast.PrivateDotExpression:
		return simple(e.Left)
	case *ast.BracketExpression:
		return simple(e.Left) && simple(e.Member)
	}
	return false
}

// bigProgram evaluates to what the functions leave to JavaScript: a value as a number or a
// BigInt, and the operators for everything that is not two BigInts.
var bigProgram = goja.MustCompile("bigint", `[(x) => -(-x),
	{ $weir$multiply: (a, b) => a * b, $weir$power: (a, b) => a ** b, $weir$left: (a, b) => a << b, $weir$right: (a, b) => a >> b }]`, true)

// guardBigInts makes the functions the rewritten operators call, or takes BigInts away
// from a script that does not speak of them.
func (vm *VM) guardBigInts(used bool) {
	global := vm.js.GlobalObject()
	if !used {
		for _, name := range bigNames {
			_ = global.Delete(name) // every property of the global object can be deleted
		}
		if vm.mentions != nil && !vm.mentions["DataView"] {
			_ = global.Delete("DataView") // making it only to take two methods away costs more
			return
		}
		view := vm.js.Get("DataView").(*goja.Object).Get("prototype").(*goja.Object)
		for _, name := range []string{"getBigInt64", "getBigUint64"} {
			_ = view.Delete(name)
		}
		return
	}
	v, err := vm.js.RunProgram(bigProgram)
	if err != nil {
		panic(err) // our own program
	}
	parts := v.(*goja.Object)
	numeric, _ := goja.AssertFunction(parts.Get("0"))
	plain := parts.Get("1").(*goja.Object)
	for _, o := range bigOperators {
		operate, _ := goja.AssertFunction(plain.Get(o.name))
		hide(global, o.name, vm.js.ToValue(func(call goja.FunctionCall) goja.Value {
			return vm.operate(o.name, vm.numeric(numeric, call.Argument(0)), vm.numeric(numeric, call.Argument(1)), operate)
		}))
	}
	hide(global, bigRefused, vm.js.ToValue(func(call goja.FunctionCall) goja.Value {
		v := vm.numeric(numeric, call.Argument(0))
		if goja.IsBigInt(v) {
			vm.Throw("a BigInt cannot be assigned in place here: write the assignment out, as in x = x * y")
		}
		return v
	}))
	vm.guardBigIntFunction()
}

// numeric is v as a number or a BigInt, evaluated once.
func (vm *VM) numeric(f goja.Callable, v goja.Value) goja.Value {
	if goja.IsNumber(v) || goja.IsBigInt(v) {
		return v
	}
	return vm.must(f(goja.Undefined(), v))
}

// must throws on an error of a call into the interpreter.
func (vm *VM) must(v goja.Value, err error) goja.Value {
	if err != nil {
		panic(err)
	}
	return v
}

func (vm *VM) operate(name string, a, b goja.Value, plain goja.Callable) goja.Value {
	if !goja.IsBigInt(a) || !goja.IsBigInt(b) {
		return vm.must(plain(goja.Undefined(), a, b))
	}
	x, y := a.Export().(*big.Int), b.Export().(*big.Int)
	if x.BitLen() > maxBits || y.BitLen() > maxBits {
		vm.refuseBits()
	}
	by := new(big.Int).Abs(y)
	grows := name == "$weir$left" && y.Sign() > 0 || name == "$weir$right" && y.Sign() < 0
	switch {
	case name == "$weir$power" && x.BitLen() > 1 && y.Sign() > 0:
		if !by.IsInt64() || by.Int64() > int64(maxBits/x.BitLen()) {
			vm.refuseBits()
		}
	case grows && x.Sign() != 0:
		if !by.IsInt64() || by.Int64() > maxBits {
			vm.refuseBits()
		}
	}
	return vm.must(plain(goja.Undefined(), a, b))
}

func (vm *VM) refuseBits() { vm.refuse("BigInt length") }

// guardBigIntFunction refuses texts and widths that are out of proportion.
func (vm *VM) guardBigIntFunction() {
	original := vm.js.Get("BigInt").(*goja.Object)
	convert, _ := goja.AssertFunction(original)
	guarded := vm.js.ToValue(vm.js.NewProxy(original, &goja.ProxyTrapConfig{
		Apply: func(_ *goja.Object, this goja.Value, args []goja.Value) goja.Value {
			if len(args) > 0 {
				if s, ok := args[0].(goja.String); ok && s.Length() > maxDigits {
					vm.refuseBits()
				}
			}
			return vm.must(convert(this, args...))
		},
	}))
	vm.guarded = append(vm.guarded, guarded)
	vm.recognise(original)
	hide(vm.js.GlobalObject(), "BigInt", guarded)
	hide(original.Get("prototype").(*goja.Object), "constructor", guarded)
	for _, name := range []string{"asIntN", "asUintN"} {
		vm.before(original, name, func(call goja.FunctionCall) {
			if call.Argument(0).ToFloat() > maxBits {
				vm.refuseBits()
			}
		})
	}
}
