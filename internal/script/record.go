package script

import (
	"slices"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/jsontext"
)

// record is a JavaScript object over a Go map whose values become JavaScript values
// when the script asks for them. The map itself is never written.
type record struct {
	vm     *VM
	from   map[string]any
	names  []string
	values map[string]goja.Value // made, or set by the script
}

var _ goja.DynamicObject = (*record)(nil)

func newRecord(vm *VM, from map[string]any) *record {
	r := &record{vm: vm, from: from, names: make([]string, 0, len(from)), values: map[string]goja.Value{}}
	for name := range from {
		r.names = append(r.names, name)
	}
	slices.Sort(r.names)
	return r
}

// Has reports whether r has key.
func (r *record) Has(key string) bool {
	_, found := slices.BinarySearch(r.names, key)
	return found
}

// Get makes the value of key, once.
func (r *record) Get(key string) goja.Value {
	if v, ok := r.values[key]; ok {
		return v
	}
	if !r.Has(key) {
		return nil
	}
	v := r.vm.Value(r.from[key])
	r.values[key] = v
	return v
}

// Set gives key a value of the script.
func (r *record) Set(key string, v goja.Value) bool {
	if v == nil {
		v = goja.Undefined()
	}
	if i, found := slices.BinarySearch(r.names, key); !found {
		r.names = slices.Insert(r.names, i, key)
	}
	r.values[key] = v
	return true
}

// Delete removes key.
func (r *record) Delete(key string) bool {
	if i, found := slices.BinarySearch(r.names, key); found {
		r.names = slices.Delete(r.names, i, i+1)
	}
	delete(r.values, key)
	return true
}

// Keys lists the keys, sorted.
func (r *record) Keys() []string { return slices.Clone(r.names) }

// write appends r as JSON.
func (w *writer) record(r *record) {
	w.buf = append(w.buf, '{')
	first := len(w.buf)
	for _, name := range r.names {
		mark := len(w.buf)
		if mark > first {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(jsontext.AppendString(w.buf, name), ':')
		if v, made := r.values[name]; made {
			if !w.value(v, name) {
				w.buf = w.buf[:mark]
			}
			continue
		}
		w.goValue(r.from[name])
	}
	w.buf = append(w.buf, '}')
}
