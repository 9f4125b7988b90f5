package script

import (
	"reflect"
	"slices"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// caughtName is the function that every catch clause calls first; see analyse.
const caughtName = "$weir$caught"

// traits is what the source of a script says about how it may be run.
type traits struct {
	// separate is why one VM cannot serve several messages, empty when it can.
	separate string
	// ordinary is set when the script may tell a view of JSON text from an ordinary
	// object without an exception being raised.
	ordinary bool
	// mentions is every name and text of the source.
	mentions map[string]bool
	// top is every name the top level declares.
	top []string
	// bigints is set when the script speaks of BigInts, code when it can run code that is
	// made at run time, and global when it may reach the global object as a value.
	bigints, code, global bool
}

// analyse reads a program and gives each of its catch clauses a first statement that
// lets the VM see what was caught.
//
// # Why one VM can serve many messages
//
// After its top level has run, everything a script can reach is frozen: the built-in
// objects, the objects its top-level names hold, what they refer to. A write that would
// outlive the message then raises a TypeError, and the VM notices it wherever it goes:
// out of main, or into a catch clause. The message is run again in a VM of its own. What
// freezing cannot reach is refused here, by name or by shape: assignments of functions
// to top-level names, variables held by closures made while the top level ran, private
// elements, everything that turns an exception into a value (promises, Reflect), and
// everything that shows whether an object is frozen. Each refusal costs speed only: such
// a script gets a VM of its own for each message.
func analyse(p *ast.Program) traits {
	a := &analysis{top: map[unistring.String]bool{}, data: map[unistring.String]bool{}, mentions: map[string]bool{}}
	a.declare(p)
	for _, s := range p.Body {
		a.walk(reflect.ValueOf(s), 0)
	}
	if a.why == "" && a.calls && (a.nested || a.private) {
		a.why = "its top level calls functions, which may keep variables of their own"
	}
	t := traits{separate: a.why, ordinary: a.ordinary, mentions: a.mentions, bigints: a.speaksOfBigInts(p)}
	t.global = a.this || a.mentions["globalThis"]
	t.code = a.mentions["eval"] || a.mentions["Function"] || a.mentions["constructor"]
	if t.bigints {
		boundBigInts(reflect.ValueOf(p))
	}
	for name := range a.top {
		t.top = append(t.top, name.String())
	}
	slices.Sort(t.top)
	return t
}

type analysis struct {
	top      map[unistring.String]bool // names of the top level
	data     map[unistring.String]bool // those of them from which no function of the script is reached
	mentions map[string]bool
	why      string
	ordinary bool
	calls    bool              // the top level calls something that is not known to be harmless
	nested   bool              // some function is written inside another one
	direct   []*ast.Identifier // eval where it is called by its name
	this     bool              // this is used somewhere
	private  bool              // some class has private elements, or some function is a generator
}

// revealing are names whose mere mention asks for a VM per message.
var revealing = map[string]string{
	"eval": "code made at run time", "Function": "code made at run time",
	"Promise": "promises", "Reflect": "reflection", "Proxy": "proxies",
	"isFrozen": "reflection", "isSealed": "reflection", "isExtensible": "reflection",
	"getOwnPropertyDescriptor": "reflection", "getOwnPropertyDescriptors": "reflection",
	"__lookupGetter__": "reflection", "__lookupSetter__": "reflection",
	"WeakRef": "weak references", "FinalizationRegistry": "weak references",
	"fromAsync": "promises", "return": "iterator protocol",
}

// defining are names that make properties a view of JSON text cannot have.
var defining = map[string]bool{
	"defineProperty": true, "defineProperties": true,
	"getOwnPropertyDescriptor": true, "getOwnPropertyDescriptors": true, "Reflect": true, "Proxy": true,
	"Promise": true,
}

// harmless are the built-ins that a top level may call without keeping a variable.
var harmless = map[string]bool{
	"Array": true, "BigInt": true, "Boolean": true, "Error": true, "JSON": true, "Map": true, "Math": true,
	"Number": true, "Object": true, "RangeError": true, "RegExp": true, "Set": true, "String": true,
	"Symbol": true, "TypeError": true, "parseFloat": true, "parseInt": true,
}

func (a *analysis) separate(why string) {
	if a.why == "" {
		a.why = why
	}
}

func (a *analysis) mention(name string) {
	a.mentions[name] = true
	if why, ok := revealing[name]; ok {
		a.separate("it uses " + why + " (" + name + ")")
	}
	if defining[name] {
		a.ordinary = true
	}
}

// declare collects the names of the top level.
func (a *analysis) declare(p *ast.Program) {
	target := func(t ast.Expression) { a.names(reflect.ValueOf(t)) }
	for _, d := range p.DeclarationList {
		for _, b := range d.List {
			target(b.Target)
		}
	}
	for _, s := range p.Body {
		switch s := s.(type) {
		case *ast.VariableStatement:
			for _, b := range s.List {
				target(b.Target)
			}
		case *ast.LexicalDeclaration:
			for _, b := range s.List {
				target(b.Target)
				if id, ok := b.Target.(*ast.Identifier); ok && s.Token == token.CONST && a.plain(b.Initializer) {
					a.data[id.Name] = true
				}
			}
		case *ast.FunctionDeclaration:
			a.top[s.Function.Name.Name] = true
		case *ast.ClassDeclaration:
			a.top[s.Class.Name.Name] = true
		case *ast.ExpressionStatement, *ast.EmptyStatement:
		default:
			// A loop, block, switch or try may hold variables that functions made in it
			// keep, and that no walk over objects can find.
			a.separate("its top level has statements other than declarations and expressions")
		}
	}
}

// names adds every identifier of a binding pattern; too many do no harm.
func (a *analysis) names(v reflect.Value) {
	a.each(v, func(n any) bool {
		if id, ok := n.(*ast.Identifier); ok {
			a.top[id.Name] = true
		}
		if id, ok := n.(ast.Identifier); ok {
			a.top[id.Name] = true
		}
		return true
	})
}

// each calls f for every syntax node under v; f says whether to look inside.
func (a *analysis) each(v reflect.Value, f func(node any) bool) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			a.each(v.Elem(), f)
		}
	case reflect.Pointer:
		if v.IsNil() || v.Type().Elem().PkgPath() != astPath {
			return
		}
		if f(v.Interface()) {
			a.fields(v.Elem(), f)
		}
	case reflect.Struct:
		if v.Type().PkgPath() == astPath && f(v.Interface()) {
			a.fields(v, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			a.each(v.Index(i), f)
		}
	}
}

func (a *analysis) fields(v reflect.Value, f func(any) bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Name == "DeclarationList" {
			continue // the same declarations again
		}
		a.each(v.Field(i), f)
	}
}

var astPath = reflect.TypeFor[ast.Program]().PkgPath()

// walk judges every node under v; depth is how many functions enclose it.
func (a *analysis) walk(v reflect.Value, depth int) {
	a.each(v, func(n any) bool { return a.node(n, depth) })
}

// node judges one node and reports whether its children are still to be judged.
func (a *analysis) node(n any, depth int) bool {
	switch n := n.(type) {
	case *ast.Identifier:
		a.mention(string(n.Name))
		if n.Name == "eval" && !slices.Contains(a.direct, n) {
			n.Name = evalName
		}
	case ast.Identifier:
		a.mention(string(n.Name))
	case *ast.StringLiteral:
		a.mention(string(n.Value))
	case *ast.FunctionLiteral:
		a.private = a.private || n.Generator
		return a.function(reflect.ValueOf(n).Elem(), n.Async, depth)
	case *ast.ArrowFunctionLiteral:
		return a.function(reflect.ValueOf(n).Elem(), n.Async, depth)
	case *ast.AwaitExpression:
		a.separate("it uses promises (await)")
		a.ordinary = true
	case *ast.ThisExpression:
		a.this = true
	case *ast.WithStatement:
		a.separate("it uses with")
	case *ast.PrivateIdentifier, ast.PrivateIdentifier:
		a.private = true
	case *ast.ClassLiteral:
		a.class(n, depth)
	case *ast.AssignExpression:
		a.assign(n.Left, depth)
	case *ast.UnaryExpression:
		if n.Operator == token.INCREMENT || n.Operator == token.DECREMENT {
			a.assign(n.Operand, depth)
		}
	case *ast.ForIntoExpression:
		a.assign(n.Expression, depth)
	case *ast.CallExpression:
		a.boundCode(n)
		a.call(n, depth)
	case *ast.NewExpression:
		a.call(n, depth)
	case *ast.TemplateLiteral:
		if n.Tag != nil {
			a.call(n, depth)
		}
	case *ast.TemplateElement:
		a.mention(string(n.Parsed))
	case *ast.PropertyKeyed:
		a.accessor(n.Key, n.Kind, n.Computed, n.Value, depth)
	case *ast.MethodDefinition:
		a.accessor(n.Key, n.Kind, n.Computed, n.Body, depth)
	case *ast.TryStatement:
		a.try(n)
	}
	return true
}

func (a *analysis) function(v reflect.Value, async bool, depth int) bool {
	if async {
		a.separate("it uses promises (async)")
		a.ordinary = true
	}
	if depth > 0 {
		a.nested = true
	}
	a.fields(v, func(n any) bool { return a.node(n, depth+1) })
	return false
}

// class notes what of a class runs, or is kept, while the top level runs.
func (a *analysis) class(c *ast.ClassLiteral, depth int) {
	for _, e := range c.Body {
		switch e := e.(type) {
		case *ast.ClassStaticBlock:
			if depth == 0 {
				a.calls = true
			}
		case *ast.FieldDefinition:
			if _, hidden := e.Key.(*ast.PrivateIdentifier); hidden && e.Static {
				a.separate("it has static private elements")
			}
			if depth == 0 && e.Static && e.Initializer != nil {
				a.calls = true
			}
		case *ast.MethodDefinition:
			if _, hidden := e.Key.(*ast.PrivateIdentifier); hidden && e.Static {
				a.separate("it has static private elements")
			}
		}
	}
	if depth > 0 {
		a.nested = true
	}
}

// assign judges the target of an assignment.
func (a *analysis) assign(target ast.Expression, depth int) {
	if depth == 0 {
		switch target.(type) {
		case *ast.DotExpression, *ast.BracketExpression:
			a.calls = true // perhaps of a toString, or through an accessor
		}
		return
	}
	a.each(reflect.ValueOf(target), func(n any) bool {
		var name unistring.String
		switch n := n.(type) {
		case *ast.Identifier:
			name = n.Name
		case ast.Identifier:
			name = n.Name
		case *ast.DotExpression, *ast.BracketExpression, *ast.PrivateDotExpression:
			return false // a property: freezing takes care of it
		default:
			return true
		}
		if a.top[name] {
			a.separate("a function assigns the top-level name " + string(name))
		}
		return true
	})
}

// plain reports whether evaluating e cannot reach a function of the script.
func (a *analysis) plain(e ast.Node) bool {
	plain := true
	name := func(id unistring.String) {
		if !a.data[id] && (a.top[id] || !harmless[string(id)]) {
			plain = false
		}
	}
	var visit func(n any) bool
	visit = func(n any) bool {
		switch n := n.(type) {
		case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral, *ast.ClassLiteral, *ast.AssignExpression:
			plain = false
		case *ast.Identifier:
			name(n.Name)
		case *ast.PropertyShort:
			name(n.Name.Name)
		case *ast.DotExpression:
			a.each(reflect.ValueOf(n.Left), visit)
			return false
		}
		return plain
	}
	a.each(reflect.ValueOf(e), visit)
	return plain
}

// call notes calls of the top level that may run functions of the script.
func (a *analysis) call(n ast.Node, depth int) {
	if depth == 0 && !a.plain(n) {
		a.calls = true
	}
}

// accessor notes functions that run without being called by name.
func (a *analysis) accessor(key ast.Expression, kind ast.PropertyKind, computed bool, value ast.Expression, depth int) {
	if depth > 0 {
		return
	}
	if kind == ast.PropertyKindGet || kind == ast.PropertyKindSet {
		a.calls = true
		return
	}
	switch value.(type) {
	case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral:
	default:
		return
	}
	if name, ok := key.(*ast.StringLiteral); ok && !computed {
		switch name.Value {
		case "toString", "valueOf", "toJSON":
		default:
			return
		}
	}
	a.calls = true
}

// try lets the VM see what a catch clause caught.
func (a *analysis) try(t *ast.TryStatement) {
	if t.Finally != nil {
		a.separate("it uses finally")
		a.ordinary = true
	}
	if t.Catch == nil {
		return
	}
	if t.Catch.Parameter == nil {
		t.Catch.Parameter = &ast.Identifier{Name: "$weir$error", Idx: t.Catch.Catch}
	}
	id, ok := t.Catch.Parameter.(*ast.Identifier)
	if !ok {
		a.separate("a catch clause takes its exception apart")
		a.ordinary = true
		return
	}
	at := t.Catch.Body.LeftBrace
	see := &ast.ExpressionStatement{Expression: &ast.CallExpression{
		Callee:           &ast.Identifier{Name: caughtName, Idx: at},
		LeftParenthesis:  at,
		ArgumentList:     []ast.Expression{&ast.Identifier{Name: id.Name, Idx: at}},
		RightParenthesis: at,
	}}
	t.Catch.Body.List = append([]ast.Statement{see}, t.Catch.Body.List...)
}
