package js

import (
	"slices"
	"strings"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/script"
)

// input is the object main is called with. It has its four properties and no others, but for
// FilterReason, which a script may set; what is assigned to them takes their type.
type input struct {
	vm      *script.VM
	self    *goja.Object
	filter  bool
	reason  *string
	key     string
	data    goja.Value
	headers event.Headers
	view    *goja.Object // headers, as the script sees them
}

var names = []string{"FilterOut", "PartitionKey", "Data", "HTTPHeaders"}

// reasonName is the property that says why a message is filtered.
const reasonName = "FilterReason"

// Keys lists the properties.
func (in *input) Keys() []string {
	if in.reason != nil {
		return append(slices.Clone(names), reasonName)
	}
	return slices.Clone(names)
}

// Has reports whether there is a property key.
func (in *input) Has(key string) bool {
	return slices.Contains(names, key) || key == reasonName && in.reason != nil
}

// Get is the value of a property.
func (in *input) Get(key string) goja.Value {
	js := in.vm.JS()
	switch key {
	case "Data":
		return in.data
	case "FilterOut":
		return js.ToValue(in.filter)
	case "PartitionKey":
		return js.ToValue(in.key)
	case reasonName:
		if in.reason != nil {
			return js.ToValue(*in.reason)
		}
	case "HTTPHeaders":
		if in.headers == nil {
			return goja.Null()
		}
		if in.view == nil {
			in.view = js.NewDynamicObject(&headers{vm: in.vm, in: in})
		}
		return in.view
	}
	return nil
}

// Set changes a property.
func (in *input) Set(key string, v goja.Value) bool {
	switch key {
	case "Data":
		in.data = v
	case "FilterOut":
		in.filter = v.ToBoolean()
	case "PartitionKey":
		in.key = v.String()
	case reasonName:
		reason := v.String()
		in.reason = &reason
	case "HTTPHeaders":
		in.setHeaders(v)
	default:
		in.vm.Throw("Cannot assign to property %s of a host object", key)
	}
	return true
}

func (in *input) setHeaders(v goja.Value) {
	if goja.IsUndefined(v) || goja.IsNull(v) {
		in.headers, in.view = nil, nil
		return
	}
	o, ok := v.(*goja.Object)
	if !ok {
		in.vm.Throw("could not convert %s to an object of headers", v.String())
	}
	if own, ok := o.Export().(*headers); ok {
		in.headers, in.view = own.in.headers, nil
		return
	}
	h := event.Headers{}
	for _, key := range o.Keys() {
		h = append(h, event.Header{Name: key, Value: []byte(o.Get(key).String())})
	}
	in.headers, in.view = h, nil
}

// Delete refuses.
func (in *input) Delete(key string) bool {
	if in.Has(key) {
		in.vm.Throw("Cannot delete property %s of a host object", key)
	}
	return true
}

// headers is input.HTTPHeaders: names and values are strings. The value of a header that
// repeats is an array of them.
type headers struct {
	vm *script.VM
	in *input
}

// Keys lists the header names, sorted.
func (h *headers) Keys() []string {
	names := make([]string, 0, len(h.in.headers))
	for i := range h.in.headers {
		names = append(names, h.in.headers[i].Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Has reports whether there is a header key.
func (h *headers) Has(key string) bool { _, ok := h.in.headers.Get(key); return ok }

// Get is the value of a header.
func (h *headers) Get(key string) goja.Value {
	vs := h.in.headers.Values(key)
	switch len(vs) {
	case 0:
		return nil
	case 1:
		return h.vm.JS().ToValue(string(vs[0]))
	}
	all := make([]any, len(vs))
	for i, v := range vs {
		all[i] = string(v)
	}
	return h.vm.JS().NewArray(all...)
}

// Set changes or adds a header. It repeats no more.
func (h *headers) Set(key string, v goja.Value) bool {
	h.in.headers = h.in.headers.Set(key, []byte(v.String()))
	return true
}

// Delete removes a header.
func (h *headers) Delete(key string) bool {
	h.in.headers = h.in.headers.Del(key)
	return true
}

// read makes a result of what main returned.
func (t *Worker) read(vm *script.VM, in *input, v goja.Value) (result, error) {
	var r result
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return r, invalid(errNothing, nil)
	}
	o, ok := v.(*goja.Object)
	if !ok {
		return r, invalid(errReturn, nil)
	}
	data := in.data
	if o == in.self {
		r.filter, r.key, r.headers = in.filter, in.key, in.headers
		if in.reason != nil {
			r.reason = *in.reason
		}
	} else {
		if _, function := goja.AssertFunction(o); function {
			return r, invalid(errReturn, nil)
		}
		if o.ClassName() == "Array" {
			return r, invalid(errProtocol, nil)
		}
		var err error
		if r, data, err = fields(vm, o); err != nil {
			return r, err
		}
	}
	if r.filter {
		return r, nil
	}
	if o, ok := data.(*goja.Object); ok && o.ClassName() == "String" {
		data = o.ToString() // new String(...)
	}
	if s, ok := data.(goja.String); ok {
		r.text = s.String()
		return r, nil
	}
	if !vm.IsObject(data) {
		return r, invalid(errData, nil)
	}
	r.text, r.object = string(vm.Append(nil, data)), true
	return r, nil
}

// fields reads an object of the script's own. Names count in any case, an exact one
// first; null and undefined are as good as absent; other types are violations.
func fields(vm *script.VM, o *goja.Object) (r result, data goja.Value, err error) {
	keys := o.Keys()
	find := func(name string) goja.Value {
		found := ""
		for _, key := range keys {
			if key == name {
				found = key
				break
			}
			if found == "" && strings.EqualFold(key, name) {
				found = key
			}
		}
		if found == "" {
			return nil
		}
		if v := o.Get(found); !goja.IsUndefined(v) && !goja.IsNull(v) {
			return v
		}
		return nil
	}
	if v := find("FilterOut"); v != nil {
		b, ok := v.Export().(bool)
		if !ok {
			return r, nil, invalid(errProtocol, nil)
		}
		r.filter = b
	}
	if r.filter {
		if s, ok := find(reasonName).(goja.String); ok {
			r.reason = s.String()
		}
	}
	if v := find("PartitionKey"); v != nil {
		s, ok := v.(goja.String)
		if !ok {
			return r, nil, invalid(errProtocol, nil)
		}
		r.key = s.String()
	}
	if v := find("HTTPHeaders"); v != nil {
		if r.headers, err = stringMap(vm, v); err != nil {
			return r, nil, err
		}
	}
	return r, find("Data"), nil
}

// stringMap reads an object whose values are all strings, or arrays of strings as those of
// headers that repeat are.
func stringMap(vm *script.VM, v goja.Value) (event.Headers, error) {
	o, ok := v.(*goja.Object)
	if ok {
		if h, ours := o.Export().(*headers); ours {
			return h.in.headers, nil
		}
	}
	if !ok || !vm.IsObject(o) {
		return nil, invalid(errProtocol, nil)
	}
	all := event.Headers{}
	for _, key := range o.Keys() {
		switch s := o.Get(key).(type) {
		case goja.String:
			all = append(all, event.Header{Name: key, Value: []byte(s.String())})
		default:
			if goja.IsNull(s) || goja.IsUndefined(s) {
				all = append(all, event.Header{Name: key, Value: []byte{}})
				continue
			}
			values, ok := texts(s)
			if !ok {
				return nil, invalid(errProtocol, nil)
			}
			for _, v := range values {
				all = append(all, event.Header{Name: key, Value: []byte(v)})
			}
		}
	}
	return all, nil
}

// texts is the elements of an array of strings.
func texts(v goja.Value) (all []string, ok bool) {
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() != "Array" {
		return nil, false
	}
	for _, key := range o.Keys() {
		s, ok := o.Get(key).(goja.String)
		if !ok {
			return nil, false
		}
		all = append(all, s.String())
	}
	return all, true
}
