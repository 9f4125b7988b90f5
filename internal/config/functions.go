package config

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// isFunction reports whether expressions may call a function of that name.
func isFunction(name string) bool {
	return name == "env" || name == "file" || name == "base64decode" || name == "jsondecode"
}

// base64Decode is the text of a base64 text.
var base64Decode = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, err := base64.StdEncoding.DecodeString(args[0].AsString())
		if err != nil || !utf8.Valid(text) {
			return cty.NilVal, function.NewArgErrorf(0, "is not a text in base64")
		}
		return cty.StringVal(string(text)), nil
	},
})

var errNoJSON = errors.New("is not JSON")

// jsonDecode is the value of a JSON text; an empty map for an empty text.
var jsonDecode = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if !args[0].IsKnown() {
			return cty.DynamicPseudoType, nil
		}
		t, err := ctyjson.ImpliedType(jsonText(args[0]))
		if err != nil {
			return cty.NilType, function.NewArgError(0, errNoJSON)
		}
		return t, nil
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		v, err := ctyjson.Unmarshal(jsonText(args[0]), t)
		if err != nil {
			return cty.NilVal, function.NewArgError(0, errNoJSON)
		}
		return v, nil
	},
})

func jsonText(v cty.Value) []byte {
	if s := v.AsString(); strings.TrimSpace(s) != "" {
		return []byte(s)
	}
	return []byte("{}")
}

// functionWords says what is wrong with a call in e. What it was called with may be a
// secret, and is not repeated.
func functionWords(e hclsyntax.Expression, g *hcl.Diagnostic) (what, fix string) {
	name := ""
	visit(e, func(x hclsyntax.Expression) {
		call, ok := x.(*hclsyntax.FunctionCallExpr)
		if ok && (name == "" || g.Subject != nil && call.Range().Start.Byte <= g.Subject.Start.Byte) {
			name = call.Name
		}
	})
	switch {
	case name == "env":
	case strings.HasPrefix(g.Summary, "Not enough") || strings.HasPrefix(g.Summary, "Too many"):
		return name + " is called with something else than one text", "write " + name + `("...")`
	case name == "file":
		return "file is called with something that cannot be read", `write file("PATH")`
	case name == "base64decode":
		return "base64decode is called with something that is not a text in base64", "encode the text again"
	case name == "jsondecode":
		return "jsondecode is called with something that is not JSON", `a map is written as {"name":"value"}`
	}
	return "env is called with something else than one name", `write env("NAME")`
}
