package condition

import (
	"fmt"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
)

const (
	// maxTime is how long a condition may go through lists.
	maxTime = time.Second
	// maxText is the most bytes of a text that one function makes.
	maxText = 64 << 20
	// stepsBetween is after how many elements of lists the time is looked at.
	stepsBetween = 256
)

// loops has a condition ask, for each element of a list that it goes through, whether to go on.
type loops struct{ any *bool }

// Visit implements ast.Visitor. Patched nodes are visited once.
func (l loops) Visit(node *ast.Node) {
	p, ok := (*node).(*ast.PredicateNode)
	if !ok {
		return
	}
	if c, again := p.Node.(*ast.ConditionalNode); again && asks(c.Cond) {
		return
	}
	*l.any = true
	on := &ast.CallNode{Callee: &ast.IdentifierNode{Value: "$go"}}
	p.Node = &ast.ConditionalNode{Cond: on, Exp1: p.Node, Exp2: &ast.NilNode{}}
}

func asks(n ast.Node) bool {
	call, ok := n.(*ast.CallNode)
	if !ok {
		return false
	}
	callee, ok := call.Callee.(*ast.IdentifierNode)
	return ok && callee.Value == "$go"
}

// step counts an element. Its panic is an error of the evaluation.
func (e *Evaluator) step() bool {
	if e.steps++; e.steps%stepsBetween == 0 && time.Now().After(e.until) {
		panic(fmt.Sprintf("it goes through lists for more than %s", maxTime))
	}
	return true
}

// bounded are functions of the language that may make a text of any size of a small one.
var bounded = []expr.Option{
	expr.Function("repeat", func(args ...any) (any, error) {
		text, n := args[0].(string), args[1].(int)
		if n < 0 {
			return nil, fmt.Errorf("invalid argument for repeat (expected positive integer, got %d)", n)
		}
		if err := fits(float64(len(text)) * float64(n)); err != nil {
			return nil, err
		}
		return strings.Repeat(text, n), nil
	}, strings.Repeat),
	expr.Function("replace", func(args ...any) (any, error) {
		text, old, with := args[0].(string), args[1].(string), args[2].(string)
		n := -1
		if len(args) == 4 {
			n = args[3].(int)
		}
		times := float64(len(text)/max(len(old), 1) + 1)
		if n >= 0 {
			times = min(times, float64(n))
		}
		if size := float64(len(text)) + times*float64(len(with)); size > maxText { // that often at most
			if err := fits(float64(len(text)) + float64(strings.Count(text, old))*float64(len(with))); err != nil {
				return nil, err
			}
		}
		return strings.Replace(text, old, with, n), nil
	}, strings.ReplaceAll, strings.Replace),
}

func fits(size float64) error {
	if size > maxText {
		return fmt.Errorf("a text of %.0f bytes is too large: at most %d", size, maxText)
	}
	return nil
}
