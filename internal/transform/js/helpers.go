package js

import (
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/script"
)

// helpers are the functions a script finds.
func helpers(c Config) map[string]script.Helper {
	return map[string]script.Helper{
		// hash(data, algorithm): a pseudonym of data; "" for an unknown algorithm.
		"hash": func(vm *script.VM, call goja.FunctionCall) goja.Value {
			if len(call.Arguments) != 2 {
				return vm.JS().ToValue("hash() function expects 2 arguments: data and hash_func_name")
			}
			sum, _ := script.Hash(c.HashVersion, call.Argument(1).String(), call.Argument(0).String(), c.HashSaltSecret)
			return vm.JS().ToValue(sum)
		},
		"allContexts":    allContexts,
		"allUnstruct":    allUnstruct,
		"parseTimestamp": parseTimestamp,
	}
}

// versions lists the keys of data that are prefix and a number, the highest first.
func versions(data goja.Value, prefix string) []string {
	o, ok := data.(*goja.Object)
	if !ok {
		return nil
	}
	type version struct {
		key    string
		number int
	}
	var found []version
	for _, key := range o.Keys() {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			if n, err := strconv.Atoi(rest); err == nil {
				found = append(found, version{key, n})
			}
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].number > found[j].number })
	keys := make([]string, len(found))
	for i, v := range found {
		keys[i] = v.key
	}
	return keys
}

// allContexts(data, "vendor_name") is every entity of that name, whatever its version.
func allContexts(vm *script.VM, call goja.FunctionCall) goja.Value {
	items := []any{}
	data := call.Argument(0)
	for _, key := range versions(data, "contexts_"+call.Argument(1).String()+"_") {
		list, ok := data.(*goja.Object).Get(key).(*goja.Object)
		if !ok || list.ClassName() != "Array" {
			continue
		}
		for i := range list.Get("length").ToInteger() {
			items = append(items, list.Get(strconv.FormatInt(i, 10)))
		}
	}
	return vm.JS().NewArray(items...)
}

// allUnstruct(data, "vendor_name") is the self-describing event of that name in its
// highest version, or undefined.
func allUnstruct(_ *script.VM, call goja.FunctionCall) goja.Value {
	data := call.Argument(0)
	for _, key := range versions(data, "unstruct_event_"+call.Argument(1).String()+"_") {
		return data.(*goja.Object).Get(key)
	}
	return goja.Undefined()
}

// parseTimestamp(text[, layout]) is a Date; layout is how Go writes the reference time.
func parseTimestamp(vm *script.VM, call goja.FunctionCall) goja.Value {
	layout := "2006-01-02 15:04:05.999"
	if v := call.Argument(1); !goja.IsUndefined(v) {
		layout = v.String()
	}
	js := vm.JS()
	at, err := time.Parse(layout, call.Argument(0).String())
	if err != nil {
		e, fail := js.New(js.Get("RangeError"), js.ToValue("parseTimestamp: the text does not match the layout "+layout))
		if fail != nil {
			panic(fail)
		}
		panic(e)
	}
	d, err := js.New(js.Get("Date"), js.ToValue(at.UnixMilli()))
	if err != nil {
		panic(err)
	}
	return d
}
