package config

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"

	"github.com/weirdata/weir/internal/spelling"
)

// prepare makes the scope that expressions of d are evaluated in: the object env with
// the variables that d names and that are set, and the function env.
func (d *document) prepare() {
	values := map[string]cty.Value{}
	for _, f := range d.files {
		for _, name := range environmentOf(f.Body) {
			if v, ok := d.env(name); ok {
				values[name] = cty.StringVal(v)
			}
		}
	}
	// A number is not taken for a name, as it would be by parameters that are text.
	lookup := function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.DynamicPseudoType}},
		VarParam: &function.Parameter{Name: "otherwise", Type: cty.DynamicPseudoType},
		Type: func(args []cty.Value) (cty.Type, error) {
			for i, v := range slices.Backward(args) {
				if i > 1 || v.Type() != cty.String {
					return cty.NilType, function.NewArgErrorf(i, "is no text, or one too many")
				}
			}
			return cty.String, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v, _ := d.env(args[0].AsString())
			if v == "" && len(args) == 2 {
				return args[1], nil
			}
			return cty.StringVal(v), nil
		},
	})
	d.scopes, d.contents = map[string]*hcl.EvalContext{}, map[string]content{}
	d.eval = &hcl.EvalContext{
		Variables: map[string]cty.Value{"env": cty.ObjectVal(values)},
		Functions: map[string]function.Function{"env": lookup, "base64decode": base64Decode, "jsondecode": jsonDecode},
	}
}

// environmentOf lists the names that node reads as env.NAME.
func environmentOf(node hclsyntax.Node) []string {
	var names []string
	visit(node, func(e hclsyntax.Expression) {
		if t, ok := e.(*hclsyntax.ScopeTraversalExpr); ok {
			if name, ok := environmentName(t.Traversal); ok {
				names = append(names, name)
			}
		}
	})
	return names
}

// environmentName is NAME when t is env.NAME or env["NAME"].
func environmentName(t hcl.Traversal) (string, bool) {
	if len(t) < 2 || t.RootName() != "env" {
		return "", false
	}
	switch s := t[1].(type) {
	case hcl.TraverseAttr:
		return s.Name, true
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() {
			return s.Key.AsString(), true
		}
	}
	return "", false
}

// calledEnvironment lists the names that node reads as env("NAME") or env("NAME", "otherwise").
func calledEnvironment(node hclsyntax.Node) []string {
	var names []string
	visit(node, func(e hclsyntax.Expression) {
		call, ok := e.(*hclsyntax.FunctionCallExpr)
		if !ok || call.Name != "env" || len(call.Args) == 0 {
			return
		}
		if v, diags := call.Args[0].Value(nil); !diags.HasErrors() && v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
			names = append(names, v.AsString())
		}
	})
	return names
}

// ReadsEnvironment reports whether an expression's value depends on the environment, or on what
// another file holds.
func ReadsEnvironment(node hclsyntax.Node) bool {
	found := false
	visit(node, func(e hclsyntax.Expression) {
		switch e := e.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			found = found || e.Traversal.RootName() == "env"
		case *hclsyntax.FunctionCallExpr:
			found = found || e.Name == "env" || e.Name == "file"
		}
	})
	return found
}

func visit(node hclsyntax.Node, fn func(hclsyntax.Expression)) {
	if d, ok := node.(*duration); ok { // its children are those of what it stands for
		node = d.Expression
	}
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if e, ok := n.(hclsyntax.Expression); ok {
			fn(e)
		}
		return nil
	})
}

// value evaluates e. The second result is what is wrong with it.
func (d *document) value(e hclsyntax.Expression) (cty.Value, Diagnostics) {
	if ds := d.scopeProblems(e); len(ds) > 0 {
		return cty.DynamicVal, ds
	}
	if ds := d.unread(e); len(ds) > 0 {
		return cty.DynamicVal, ds
	}
	v, diags := e.Value(d.scope(e.Range().Filename))
	if diags.HasErrors() {
		var ds Diagnostics
		for _, g := range diags {
			ds = append(ds, d.evaluation(e, g))
		}
		return cty.DynamicVal, ds
	}
	if !v.IsWhollyKnown() {
		return cty.DynamicVal, Diagnostics{d.errorAt(e.Range(), "the value of this expression cannot be told", "write the value itself")}
	}
	return v, nil
}

// scopeProblems finds names in e that mean nothing.
func (d *document) scopeProblems(e hclsyntax.Expression) Diagnostics {
	var ds Diagnostics
	for _, t := range e.Variables() {
		root := t.RootName()
		if root != "env" {
			what, fix := d.unknownName(root, t.SourceRange(), e)
			ds = append(ds, d.errorAt(t.SourceRange(), what, fix))
			continue
		}
		name, ok := environmentName(t)
		if !ok {
			ds = append(ds, d.errorAt(t.SourceRange(), "env is read without a name", `write env.NAME, or env("NAME") for a variable that may be missing`))
			continue
		}
		if _, set := d.env(name); !set {
			ds = append(ds, d.errorAt(t.SourceRange(),
				fmt.Sprintf("the environment variable %s is not set", name),
				fmt.Sprintf("set %s, or write env(%q) if it may be missing: that gives an empty string", name, name)))
		}
	}
	visit(e, func(x hclsyntax.Expression) {
		call, ok := x.(*hclsyntax.FunctionCallExpr)
		if !ok || isFunction(call.Name) {
			return
		}
		what := "unknown function"
		if d.text(call.NameRange) != "" {
			what += ": " + call.Name
		}
		fix := `the functions are env("NAME"), file("PATH"), base64decode("...") and jsondecode("...")`
		if mark := d.templateAt(call.Range()); mark != "" {
			fix = templateHint(mark, d.text(call.Range()))
		}
		ds = append(ds, d.errorAt(call.NameRange, what, fix))
	})
	return ds
}

// unknownName says what is wrong with a variable other than env, at r in e.
func (d *document) unknownName(root string, r hcl.Range, e hclsyntax.Expression) (what, fix string) {
	text := d.text(r)
	if text == "" {
		return "this is not in quotes, so it is read as a variable, and there is none of that name", "put text in double quotes"
	}
	if mark := d.templateAt(r); mark != "" {
		return fmt.Sprintf("unknown name in a template: %s", root), templateHint(mark, text)
	}
	if e.Range() == r && !strings.ContainsAny(text, ".[") {
		return fmt.Sprintf("%s is not in quotes, so it is read as a variable, and there is none of that name", root),
			fmt.Sprintf("for text, write %q; for an environment variable, write env.%s", root, root)
	}
	return fmt.Sprintf("unknown variable: %s", root), "the only variable is env: write env.NAME, or put text in quotes"
}

// templateHint explains that text between mark, ${ or %{, and } is not plain text.
func templateHint(mark, inner string) string {
	if inner == "" || len(inner) > 40 || strings.ContainsAny(inner, "\n\r") {
		inner = "..."
	}
	why := "; to keep it as text, as a JavaScript template literal needs"
	if mark == "%{" {
		why = "; to keep it as text"
	}
	return fmt.Sprintf("%s } in a string is filled in when the config is read%s, write %s%s%s}", mark, why, mark[:1], mark, inner)
}

// text is the source code at r, empty when any of it must stay hidden.
func (d *document) text(r hcl.Range) string { return d.file(r.Filename).Text(r) }

// templateAt is the mark, ${ or %{, of the innermost part of a string or heredoc that r
// is in; "" when r is not in one.
func (d *document) templateAt(r hcl.Range) string {
	f := d.file(r.Filename)
	if f == nil {
		return ""
	}
	mark, from := "", -1
	for _, t := range f.templates {
		if t.from <= r.Start.Byte && r.Start.Byte < t.to && t.from > from {
			mark, from = t.mark, t.from
		}
	}
	return mark
}

// evaluation says in our words why an expression has no value. HCL's details may quote
// values, so none of them is repeated.
func (d *document) evaluation(e hclsyntax.Expression, g *hcl.Diagnostic) Diagnostic {
	r := e.Range()
	if g.Subject != nil {
		r = *g.Subject
	}
	what, fix := "this expression has no value", "write the value itself, or env.NAME"
	switch g.Summary {
	case "Error in function call", "Invalid function argument", "Not enough function arguments", "Too many function arguments":
		what, fix = functionWords(e, g)
	case "Invalid template interpolation value":
		what, fix = "only text, numbers and true or false can be filled into a string", "write the text itself"
	case "Incorrect condition type", "Null condition":
		what, fix = "the part before ? is neither true nor false", `compare it: env.NAME == "yes" ? ... : ...`
	case "Inconsistent conditional result types":
		what, fix = "the parts before and after : are of different kinds", "make both text, or both numbers"
	case "Invalid operand":
		what, fix = "this cannot be used with the operator beside it", "write the value itself"
	case "Unsupported attribute", "Invalid index":
		what, fix = "this value has no part of that name", "an environment variable is plain text: write env.NAME alone"
	}
	return d.errorAt(r, what, fix)
}

// fits checks that v can be set on a Go value of type t, and says in what way it cannot.
func (d *document) fits(name string, e hclsyntax.Expression, v cty.Value, t reflect.Type) Diagnostics {
	want, err := impliedType(t)
	if err != nil {
		return nil //nolint:nilerr // an hcl.Expression or the like: the connector evaluates it
	}
	problem := func(what, fix string) Diagnostics {
		return Diagnostics{d.errorAt(e.Range(), what, fix)}
	}
	if v.IsNull() && t.Kind() != reflect.Pointer {
		return problem(name+" is null", "leave "+name+" out to use its default")
	}
	got, err := convert.Convert(v, want)
	if err == nil {
		if err = gocty.FromCtyValue(got, reflect.New(t).Interface()); err == nil {
			return nil
		}
	}
	expected := expectation(t)
	what := fmt.Sprintf("%s must be %s, not %s", name, expected, describe(v, t))
	fix := "write " + name + " = " + exampleOf(t)
	if names := d.environmentFor(e); names != "" {
		return problem(fmt.Sprintf("%s must be %s, and the environment variable %s does not hold one", name, expected, names),
			fmt.Sprintf("set %s to %s", names, expected))
	}
	switch {
	case isInteger(t) && err != nil && got.Type() == cty.Number && got.IsKnown() && !got.IsNull():
		if f := got.AsBigFloat(); f.IsInt() {
			return problem(name+" is outside the range of whole numbers", "write a smaller number")
		}
		if e, ok := e.(*duration); ok {
			return problem(fmt.Sprintf("%s is a whole number of %s", name, e.unit.words), fmt.Sprintf(`write %s = "%s%s"`, name, rounded(got.AsBigFloat()), e.unit.short))
		}
		return problem(name+" must be a whole number, without a fraction", "write "+name+" = "+rounded(got.AsBigFloat()))
	case isTime(e) && v.Type() == cty.String:
		fix = fmt.Sprintf(`write a duration, %s = "10s", or a number of %s`, name, e.(*duration).unit.words) //nolint:forcetypeassert // isTime has looked
	case isInteger(t) && v.Type() == cty.String:
		fix = "write a whole number, without quotes or a unit: " + name + " = 1"
	case t.Kind() == reflect.String && v.Type().IsObjectType() && spelling.Same(name, "tags"):
		fix = `write the tags as JSON in a string: tags = "{\"name\":\"value\"}"`
	}
	return problem(what, fix)
}

// environmentFor names the environment variables that e reads, for a sentence.
func (d *document) environmentFor(e hclsyntax.Expression) string {
	return strings.Join(append(environmentOf(e), calledEnvironment(e)...), " or ")
}

func rounded(f *big.Float) string {
	i, _ := f.Int(nil)
	if s := i.String(); len(s) < 20 {
		return s
	}
	return "1"
}

func isTime(e hclsyntax.Expression) bool {
	_, is := e.(*duration)
	return is
}

func isInteger(t reflect.Type) bool {
	return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64
}

// expectation is what a value of type t is, for "must be ...".
func expectation(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return expectation(t.Elem())
	case t.Kind() == reflect.String:
		return "text in quotes"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case isInteger(t):
		return "a whole number"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "a list of texts"
	case t.Kind() == reflect.Slice:
		return "a list, each entry " + expectation(t.Elem())
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.String:
		return "a map of texts"
	case t.Kind() == reflect.Map:
		return "a map, each value " + expectation(t.Elem())
	}
	return "a different kind of value"
}

// describe says what kind of value v is, without showing it.
func describe(v cty.Value, want reflect.Type) string {
	switch t := v.Type(); {
	case v.IsNull():
		return "null"
	case t == cty.String:
		return "text"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case (t.IsObjectType() || t.IsMapType()) && want.Kind() == reflect.Map:
		return "a map with other values"
	case t.IsObjectType() || t.IsMapType():
		return "a map"
	case want.Kind() == reflect.Slice:
		return "a list with other entries"
	}
	return "a list"
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

var errUndecoded = errors.New("kept as an expression")

// impliedType is the type of value that can be set on a t.
func impliedType(t reflect.Type) (cty.Type, error) {
	if t.Kind() == reflect.Interface || t == attributeType {
		return cty.NilType, errUndecoded
	}
	return gocty.ImpliedType(reflect.New(t).Interface())
}
