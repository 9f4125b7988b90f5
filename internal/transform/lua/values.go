package lua

import (
	"encoding/json"
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
func (t *Worker) newState() *golua.LState {
	l := golua.NewState(golua.Options{SkipOpenLibs: true, CallStackSize: maxCalls, MinimizeStackMemory: true})
	if t.config.Sandbox {
		return l
	}
	l.OpenLibs()
	t.bound(l)
	l.PreloadModule("json", func(l *golua.LState) int {
		l.Push(l.SetFuncs(l.NewTable(), map[string]golua.LGFunction{"encode": t.encode, "decode": decode}))
		return 1
	})
	return l
}

// bound puts checks before the functions of the standard libraries whose result may be out
// of all proportion to what they are given, and keeps a script from ending the process.
func (t *Worker) bound(l *golua.LState) {
	limit := float64(t.memory())
	before := func(library, name string, check func(l *golua.LState) (size float64)) {
		holder := l.GetGlobal(library).(*golua.LTable)
		original := holder.RawGetString(name).(*golua.LFunction).GFunction
		holder.RawSetString(name, l.NewFunction(func(l *golua.LState) int {
			if check(l) > limit {
				l.RaiseError("the result of %s.%s would be larger than the memory limit of the script", library, name)
			}
			return original(l)
		}))
	}
	before("string", "rep", func(l *golua.LState) float64 {
		return float64(len(l.CheckString(1))) * float64(l.CheckNumber(2))
	})
	before("table", "concat", func(l *golua.LState) float64 {
		list, size := l.CheckTable(1), 0.0
		for i := 1; i <= list.Len(); i++ {
			size += float64(len(golua.LVAsString(list.RawGetInt(i))))
		}
		return size + float64(list.Len())*float64(len(golua.LVAsString(l.Get(2))))
	})
	l.GetGlobal("string").(*golua.LTable).RawSetString("gsub", l.NewFunction(t.gsub))
	l.GetGlobal("os").(*golua.LTable).RawSetString("exit", l.NewFunction(func(l *golua.LState) int {
		l.RaiseError("os.exit would end all pipelines; return FilterOut, or raise an error")
		return 0
	}))
}

// encode is json.encode: the text, or nil and what is wrong.
func (t *Worker) encode(l *golua.LState) int {
	text, err := t.json(l, l.CheckAny(1))
	if err != nil {
		l.Push(golua.LNil)
		l.Push(golua.LString(err.Error()))
		return 2
	}
	l.Push(golua.LString(text))
	return 1
}

// json is v as JSON, within the limits of the script.
func (t *Worker) json(l *golua.LState, v golua.LValue) ([]byte, error) {
	w := writer{limit: t.memory(), stopped: l.Context().Err}
	return w.append(nil, v, 0)
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
	case json.Number:
		f, _ := v.Float64() // beyond the range of Lua's numbers it is infinite, or zero
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
	errDeep  = fmt.Errorf("tables nest deeper than %d levels, or contain themselves", maxDepth)
	errLarge = errors.New("its JSON is larger than the memory limit of the script")
	errKeys  = errors.New("a table mixes numbers and strings as keys, or has holes")
)

// writer writes Lua values as JSON. A table that is in many places is written in all of
// them: what there is to write may be far more than what there is.
type writer struct {
	limit   int          // of bytes
	stopped func() error // why the script was stopped
	count   int
}

// append appends the JSON form of a Lua value.
func (w *writer) append(dst []byte, v golua.LValue, depth int) ([]byte, error) {
	if w.count++; w.count&0xff == 0 {
		if err := w.stopped(); err != nil {
			return dst, err
		}
	}
	if len(dst) > w.limit {
		return dst, errLarge
	}
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
		return w.table(dst, v, depth)
	}
	return dst, fmt.Errorf("a %s has no JSON form", v.Type())
}

func (w *writer) table(dst []byte, t *golua.LTable, depth int) ([]byte, error) {
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
			if dst, err = w.append(dst, t.RawGetInt(i), depth+1); err != nil {
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
		if dst, err = w.append(dst, t.RawGetString(k), depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
