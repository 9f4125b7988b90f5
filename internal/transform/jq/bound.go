package jq

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"

	"github.com/itchyny/gojq"
)

// The interpreter looks at the limits of time and memory between two operations. These bounds,
// and those of size.go, are for single operations, and for what is done after the program, that
// could take all memory.
const (
	// maxIndex is the largest array index a program may speak of: assigning to it makes an
	// array as long.
	maxIndex = 1 << 22
	// maxOutput is how large the output of a program may be, in bytes, roughly. A value
	// that is in many places counts in all of them.
	maxOutput = 256 << 20
)

const indexName = "weir__index"

// boundIndexes has every computed index of a program pass through a check. Path
// expressions are made of indexes, too, so that assignments are covered.
func boundIndexes(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if i, ok := reflect.TypeAssert[*gojq.Index](v); ok && i.Start != nil && !i.IsSlice {
			i.Start = checked(i.Start)
		}
		if f, ok := reflect.TypeAssert[*gojq.Func](v); ok && f.Name == "setpath" && len(f.Args) == 2 {
			f.Args[0] = checked(f.Args[0])
		}
		boundIndexes(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				boundIndexes(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			boundIndexes(v.Index(i))
		}
	}
}

// checked is q, its outputs passed through the check.
func checked(q *gojq.Query) *gojq.Query {
	return &gojq.Query{Op: gojq.OpPipe,
		Left:  &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: q}},
		Right: &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: indexName}}}}
}

// index is the check: an index, or a path of them, is returned as it is.
func index(v any, _ []any) any {
	tooLarge := false
	switch i := v.(type) {
	case int:
		tooLarge = i > maxIndex
	case float64:
		tooLarge = i > maxIndex
	case *big.Int:
		tooLarge = i.Sign() > 0
	case []any:
		for _, e := range i {
			if err, ok := index(e, nil).(error); ok {
				return err
			}
		}
	}
	if tooLarge {
		return fmt.Errorf("array index too large: more than %d", maxIndex)
	}
	return v
}

var errOutputLarge = errors.New("the output is larger than 256 MiB")

// bounded reports whether v is no larger than is left, which it takes off.
func bounded(v any, left *int) bool {
	*left -= 8
	switch v := v.(type) {
	case string:
		*left -= len(v)
	case []any:
		for _, e := range v {
			if !bounded(e, left) {
				return false
			}
		}
	case map[string]any:
		for k, e := range v {
			*left -= len(k)
			if !bounded(e, left) {
				return false
			}
		}
	}
	return *left >= 0
}
