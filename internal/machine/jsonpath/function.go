package jsonpath

import (
	"fmt"
	"math"
	"strings"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// call is a function at the end of a path, applied to what the path found.
type call struct {
	name string
	args []operand
}

// functions and how many arguments each takes; -1 is one or more.
var functions = map[string]int{
	"length": 0, "size": 0, "min": 0, "max": 0, "avg": 0, "stddev": 0, "sum": 0, "keys": 0,
	"first": 0, "last": 0, "index": 1, "append": -1, "concat": -1,
}

// function reads the arguments of a call; the parenthesis is at c.i.
func (c *compiler) function(p *Path, name string) error {
	want, ok := functions[name]
	if !ok {
		return c.fail("%s() is no function; there are length, min, max, avg, stddev, sum, keys, first, last, index, append and concat", name)
	}
	if c.depth++; c.depth > maxConditionDepth {
		return c.fail("functions nest deeper than %d", maxConditionDepth)
	}
	defer func() { c.depth-- }()
	c.i++
	k := call{name: name}
	for {
		c.space()
		if c.at(')') {
			break
		}
		a, err := c.operand()
		if err != nil {
			return err
		}
		if a.pattern != nil || a.path != nil && !a.root {
			return c.fail("an argument must be a JSON value or a path from $")
		}
		k.args = append(k.args, a)
		c.space()
		if c.at(',') {
			c.i++
			continue
		}
		if !c.at(')') {
			return c.fail("')' is missing")
		}
	}
	c.i++
	if want >= 0 && len(k.args) != want || want < 0 && len(k.args) == 0 {
		return c.fail("%s() got the wrong number of arguments", name)
	}
	p.calls = append(p.calls, k)
	return nil
}

func (k *call) apply(root, v jsonvalue.Value) (jsonvalue.Value, error) {
	switch k.name {
	case "length", "size":
		if n := sizeOf(v); n >= 0 && v.Kind() != jsonvalue.String {
			return jsonvalue.OfInt(n), nil
		}
		return jsonvalue.NullValue, nil
	case "keys":
		if v.Kind() == jsonvalue.Object {
			keys := make([]jsonvalue.Value, v.Len())
			for i, key := range v.Keys() {
				keys[i] = jsonvalue.OfString(key)
			}
			return jsonvalue.OfArray(keys), nil
		}
		return jsonvalue.NullValue, nil
	case "first", "last", "index":
		return k.item(root, v)
	case "append":
		return k.appended(root, v), nil
	case "concat":
		return k.concatenated(root, v), nil
	}
	return k.aggregate(v)
}

func (k *call) item(root, v jsonvalue.Value) (jsonvalue.Value, error) {
	at := int64(0)
	switch k.name {
	case "last":
		at = -1
	case "index":
		n, ok := k.args[0].value(root, root).Int()
		if !ok || n > math.MaxInt32 || n < math.MinInt32 {
			return v, &NotFound{Message: "index() needs a whole number"}
		}
		at = n
	}
	if v.Kind() == jsonvalue.Array {
		if m := item(v, int(at)); m.Defined() {
			return m, nil
		}
	}
	return v, &NotFound{Message: fmt.Sprintf("%s() found no such item", k.name)}
}

func (k *call) appended(root, v jsonvalue.Value) jsonvalue.Value {
	if v.Kind() != jsonvalue.Array {
		return v
	}
	items := append([]jsonvalue.Value(nil), v.Items()...)
	for _, a := range k.args {
		if x := a.value(root, root); x.Defined() {
			items = append(items, x)
		}
	}
	return jsonvalue.OfArray(items)
}

func (k *call) concatenated(root, v jsonvalue.Value) jsonvalue.Value {
	var b strings.Builder
	for _, m := range v.Items() {
		if m.Kind() == jsonvalue.String {
			b.WriteString(m.Text())
		}
	}
	for _, a := range k.args {
		if x := a.value(root, root); x.Defined() {
			b.WriteString(textOf(x))
		}
	}
	return jsonvalue.OfString(b.String())
}

// aggregate counts the numbers of an array; other items are passed over.
func (k *call) aggregate(v jsonvalue.Value) (jsonvalue.Value, error) {
	n, sum, squares := 0, 0.0, 0.0
	least, most := math.Inf(1), math.Inf(-1)
	for _, m := range v.Items() {
		if m.Kind() != jsonvalue.Number {
			continue
		}
		f := m.Float()
		n, sum, squares = n+1, sum+f, squares+f*f
		least, most = min(least, f), max(most, f)
	}
	if n == 0 {
		return v, &NotFound{Message: "Aggregation function attempted to calculate value using empty array"}
	}
	var f float64
	switch k.name {
	case "min":
		f = least
	case "max":
		f = most
	case "sum":
		f = sum
	case "avg":
		f = sum / float64(n)
	default:
		mean := sum / float64(n)
		f = math.Sqrt(max(0, squares/float64(n)-mean*mean))
	}
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return v, &NotFound{Message: k.name + "() gave a number that is too large"}
	}
	return jsonvalue.OfFloat(f), nil
}
