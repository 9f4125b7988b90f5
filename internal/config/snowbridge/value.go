package snowbridge

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/weirdata/weir/internal/config"
)

// value is an expression and its text. The nodes of an expression that a dialect makes
// have the place of the one it was made from.
type value struct {
	expr hclsyntax.Expression
	text string
}

// valueOf is the value of an attribute as it is written.
func (r *rewriter) valueOf(a *hclsyntax.Attribute) value {
	rg := a.Expr.Range()
	text := strings.TrimRight(string(r.file.Src[rg.Start.Byte:rg.End.Byte]), "\r\n")
	return value{a.Expr, text}
}

// literalValue is a constant at the place of what it replaces.
func literalValue(v cty.Value, at hcl.Range) value {
	return value{&hclsyntax.LiteralValueExpr{Val: v, SrcRange: at}, string(hclwrite.TokensForValue(v).Bytes())}
}

func numberValue(n int64, at hcl.Range) value { return literalValue(cty.NumberIntVal(n), at) }

// constant is what v is, when that does not depend on the environment.
func (v value) constant() (cty.Value, bool) {
	if len(v.expr.Variables()) > 0 || config.ReadsEnvironment(v.expr) {
		return cty.NilVal, false
	}
	c, diags := v.expr.Value(nil)
	if diags.HasErrors() || !c.IsWhollyKnown() {
		return cty.NilVal, false
	}
	return c, true
}

// number is the constant number that v is; isConstant is also set for another constant.
func (v value) number() (n cty.Value, isNumber, isConstant bool) {
	c, ok := v.constant()
	if !ok {
		return cty.NilVal, false, false
	}
	n, err := convert.Convert(c, cty.Number)
	return n, err == nil && !n.IsNull(), true
}

// operand is v's text where it stands beside an operator.
func (v value) operand() string {
	switch v.expr.(type) {
	case *hclsyntax.BinaryOpExpr, *hclsyntax.ConditionalExpr, *hclsyntax.UnaryOpExpr:
		return "(" + v.text + ")"
	}
	return v.text
}

// times is v n times: worked out for a constant, and an expression for what the environment
// says. What is no number stays as it is: the checker says so.
func (v value) times(n int64) value {
	at := v.expr.Range()
	right := numberValue(n, at)
	c, isNumber, isConstant := v.number()
	switch {
	case isNumber:
		return literalValue(c.Multiply(cty.NumberIntVal(n)), at)
	case isConstant:
		return v
	}
	return value{
		&hclsyntax.BinaryOpExpr{LHS: v.expr, Op: hclsyntax.OpMultiply, RHS: right.expr, SrcRange: at},
		fmt.Sprintf("%s * %s", v.operand(), right.text),
	}
}

// larger and smaller are one of two numbers; v, when either is a constant that is none.
func (v value) larger(w value) value  { return v.either(w, hclsyntax.OpGreaterThan, ">") }
func (v value) smaller(w value) value { return v.either(w, hclsyntax.OpLessThan, "<") }

func (v value) either(w value, op *hclsyntax.Operation, sign string) value {
	a, aIsNumber, aIsConstant := v.number()
	b, bIsNumber, bIsConstant := w.number()
	switch {
	case v.text == w.text, aIsConstant && !aIsNumber, bIsConstant && !bIsNumber:
		return v
	case aIsNumber && bIsNumber:
		yes := a.GreaterThan(b)
		if op == hclsyntax.OpLessThan {
			yes = a.LessThan(b)
		}
		if yes.True() {
			return v
		}
		return w
	}
	at := v.expr.Range()
	return value{
		&hclsyntax.ConditionalExpr{
			Condition:  &hclsyntax.BinaryOpExpr{LHS: v.expr, Op: op, RHS: w.expr, SrcRange: at},
			TrueResult: v.expr, FalseResult: w.expr, SrcRange: at,
		},
		fmt.Sprintf("%s %s %s ? %s : %s", v.operand(), sign, w.operand(), v.operand(), w.operand()),
	}
}

// isZero reports whether v is the constant 0.
func (v value) isZero() bool {
	n, ok, _ := v.number()
	return ok && n.RawEquals(cty.NumberIntVal(0))
}

// equals reports whether v is the constant n.
func (v value) equals(n int64) bool {
	c, ok, _ := v.number()
	return ok && c.RawEquals(cty.NumberIntVal(n))
}

// call is a function of v.
func (v value) call(name string) value {
	at := v.expr.Range()
	text := v.text
	if strings.HasPrefix(text, "<<") { // the marker that ends a heredoc stands alone
		text = "\n" + text + "\n"
	}
	return value{
		&hclsyntax.FunctionCallExpr{Name: name, Args: []hclsyntax.Expression{v.expr}, NameRange: at, OpenParenRange: at, CloseParenRange: at},
		name + "(" + text + ")",
	}
}

// constantText is the constant text that v is.
func (v value) constantText() (string, bool) {
	c, ok := v.constant()
	if !ok || c.IsNull() || c.Type() != cty.String {
		return "", false
	}
	return c.AsString(), true
}
