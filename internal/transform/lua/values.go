package lua

import (
	"errors"
	"fmt"
	"math/big"
	"sort"
	"time"

	golua "github.com/yuin/gopher-lua"

	"github.com/weirdata/weir/internal/script"
)

const (
	// timeLayout is how times are given to scripts.
	timeLayout = "2006-01-02T15:04:05.999Z07:00"
	// maxDepth is how deep tables may nest in a result.
	maxDepth = 1000
	// maxCalls is how deep calls may nest.
	maxCalls = 1000
)

// newState makes an interpreter with the standard libraries, or without any.
func newState(sandbox bool) *golua.LState {
	l := golua.NewState(golua.Options{SkipOpenLibs: true, CallStackSize: maxCalls, MinimizeStackMemory: true})
	if sandbox {
		return l
	}
	l.OpenLibs()
	l.PreloadModule("json", func(l *golua.LState) int {
		l.Push(l.SetFuncs(l.NewTable(), map[string]golua.LGFunction{"encode": encode, "decode": decode}))
		return 1
	})
	return l
}

// encode is json.encode: the text, or nil and what is wrong.
func encode(l *golua.LState) int {
	text, err := appendJSON(nil, l.CheckAny(1), 0)
	if err != nil {
		l.Push(golua.LNil)
		l.Push(golua.LString(err.Error()))
		return 2
	}
	l.Push(golua.LString(text))
	return 1
}

// decode is json.decode: the value, or nil and what is wrong.
func decode(l *golua.LState) int {
	v, err := script.Decode(l.CheckString(1))
	if err != nil {
		l.Push(golua.LNil)
		l.Push(golua.LString(err.Error()))
		return 2
	}
	l.Push(toLua(l, v))
	return 1
}

// toLua makes a Lua value of a Go value.
func toLua(l *golua.LState, v any) golua.LValue {
	switch v := v.(type) {
	case string:
		return golua.LString(v)
	case bool:
		return golua.LBool(v)
	case int:
		return golua.LNumber(v)
	case int64:
		return golua.LNumber(v)
	case float64:
		return golua.LNumber(v)
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return golua.LNumber(f)
	case time.Time:
		return golua.LString(v.Format(timeLayout))
	case map[string]any:
		t := l.CreateTable(0, len(v))
		for k, e := range v {
			t.RawSetString(k, toLua(l, e))
		}
		return t
	case []any:
		t := l.CreateTable(len(v), 0)
		for i, e := range v {
			t.RawSetInt(i+1, toLua(l, e))
		}
		return t
	}
	return golua.LNil
}

var (
	errDeep = fmt.Errorf("tables nest deeper than %d levels, or contain themselves", maxDepth)
	errKeys = errors.New("a table mixes numbers and strings as keys, or has holes")
)

// appendJSON appends the JSON form of a Lua value.
func appendJSON(dst []byte, v golua.LValue, depth int) ([]byte, error) {
	switch v := v.(type) {
	case *golua.LNilType:
		return append(dst, "null"...), nil
	case golua.LBool:
		return script.AppendValue(dst, bool(v))
	case golua.LNumber:
		return script.AppendValue(dst, float64(v))
	case golua.LString:
		return script.AppendValue(dst, string(v))
	case *golua.LTable:
		return appendTable(dst, v, depth)
	}
	return dst, fmt.Errorf("a %s has no JSON form", v.Type())
}

func appendTable(dst []byte, t *golua.LTable, depth int) ([]byte, error) {
	if depth >= maxDepth {
		return dst, errDeep
	}
	var keys []string
	count, mixed := 0, false
	t.ForEach(func(k, _ golua.LValue) {
		count++
		switch k := k.(type) {
		case golua.LString:
			keys = append(keys, string(k))
		case golua.LNumber:
		default:
			mixed = true
		}
	})
	list := count - len(keys)
	if mixed || (list > 0 && len(keys) > 0) || list != t.MaxN() && list > 0 {
		return dst, errKeys
	}
	var err error
	if list > 0 {
		for i := 1; i <= list; i++ {
			dst = append(dst, "[,"[min(i-1, 1)])
			if dst, err = appendJSON(dst, t.RawGetInt(i), depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	}
	sort.Strings(keys)
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = script.AppendValue(dst, k); err != nil {
			return dst, err
		}
		dst = append(dst, ':')
		if dst, err = appendJSON(dst, t.RawGetString(k), depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
