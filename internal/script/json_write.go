package script

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/jsontext"
)

// writer turns JavaScript values into JSON text.
type writer struct {
	vm  *VM
	buf []byte
	// export writes a script's result rather than what JSON.stringify gives: undefined
	// becomes null, toJSON is not called, and what JSON has no form for is an error.
	export bool
	exact  map[*goja.Object][]exactNumber
	stack  []*goja.Object
	first  [4]*goja.Object // of stack, before it grows
	count  int
}

var (
	errUnsupported = errors.New("unsupported value")

	typeInt    = reflect.TypeFor[int64]()
	typeFloat  = reflect.TypeFor[float64]()
	typeBool   = reflect.TypeFor[bool]()
	typeMap    = reflect.TypeFor[map[string]any]()
	typeSlice  = reflect.TypeFor[[]any]()
	typeObject = reflect.TypeFor[*object]()
	typeRecord = reflect.TypeFor[*record]()
	typeTime   = reflect.TypeFor[time.Time]()
)

// throw ends the JavaScript call with an exception.
func (w *writer) throw(format string, args ...any) {
	panic(w.vm.js.NewTypeError(append([]any{format}, args...)...))
}

// tick keeps a long write within the script's limits.
func (w *writer) tick() {
	w.count++
	if w.count&0xff == 0 || len(w.buf) > w.vm.maxBytes {
		w.vm.checkLimits(len(w.buf))
	}
}

// value appends v. It reports false, and appends nothing, when v has no JSON form.
func (w *writer) value(v goja.Value, key string) bool {
	w.tick()
	switch x := v.(type) {
	case nil:
		return w.nothing()
	case goja.String:
		w.text(x)
		return true
	case *goja.Object:
		return w.object(x, key)
	case *goja.Symbol:
		return w.nothing()
	}
	if goja.IsUndefined(v) {
		return w.nothing()
	}
	if goja.IsNull(v) {
		w.buf = append(w.buf, "null"...)
		return true
	}
	switch v.ExportType() {
	case typeBool:
		w.buf = strconv.AppendBool(w.buf, v.ToBoolean())
	case typeInt:
		w.buf = strconv.AppendInt(w.buf, v.ToInteger(), 10)
	case typeFloat:
		if goja.IsNaN(v) || goja.IsInfinity(v) {
			if w.export {
				w.throw("%s has no JSON form", v.String())
			}
			w.buf = append(w.buf, "null"...)
			return true
		}
		w.buf = append(w.buf, v.String()...)
	default:
		if !goja.IsBigInt(v) {
			return w.nothing()
		}
		if !w.export {
			// A toJSON on BigInt.prototype is the built-in's affair.
			return w.builtin(v, key)
		}
		w.buf = append(w.buf, v.String()...)
	}
	return true
}

func (w *writer) nothing() bool {
	if w.export {
		w.buf = append(w.buf, "null"...)
	}
	return w.export
}

func (w *writer) text(s goja.String) {
	t := s.String()
	if strings.Contains(t, "\uFFFD") {
		w.units(s)
		return
	}
	w.buf = jsontext.AppendString(w.buf, t)
}

// units writes a string by its UTF-16 units: a lone surrogate is written as an escape.
func (w *writer) units(s goja.String) {
	w.buf = append(w.buf, '"')
	n := s.Length()
	from := 0
	flush := func(to int) {
		if to > from {
			q := jsontext.AppendString(nil, s.Substring(from, to).String())
			w.buf = append(w.buf, q[1:len(q)-1]...)
		}
	}
	for i := 0; i < n; i++ {
		c := s.CharAt(i)
		if c < 0xd800 || c > 0xdfff {
			continue
		}
		if c < 0xdc00 && i+1 < n {
			if d := s.CharAt(i + 1); d >= 0xdc00 && d <= 0xdfff {
				i++
				continue
			}
		}
		flush(i)
		w.buf = jsontext.AppendHalf(w.buf, c)
		from = i + 1
	}
	flush(n)
	w.buf = append(w.buf, '"')
}

func (w *writer) object(o *goja.Object, key string) bool {
	t := o.ExportType()
	var view *object
	if t == typeObject {
		view = o.Export().(*object)
		if !view.touched() && (w.export || o.Prototype() == w.vm.objectPrototype) {
			w.untouched(view.doc, view.text)
			return true
		}
	}
	if !w.export {
		if f, ok := goja.AssertFunction(o.Get("toJSON")); ok {
			v, err := f(o, w.vm.js.ToValue(key))
			if err != nil {
				panic(err)
			}
			next, same := v.(*goja.Object)
			if !same {
				return w.value(v, key)
			}
			if next != o {
				// Its own toJSON is not asked again.
				o = next
				t, view = o.ExportType(), nil
				if t == typeObject {
					view = o.Export().(*object)
				}
			}
		}
	}
	if view != nil {
		w.enter(o)
		w.members(view)
		w.leave()
		return true
	}
	switch t {
	case typeRecord:
		w.enter(o)
		w.record(o.Export().(*record))
		w.leave()
		return true
	case typeMap, typeSlice:
	default:
		return w.special(o, t, key)
	}
	switch o.ClassName() {
	case "Array":
		w.enter(o)
		w.array(o)
		w.leave()
		return true
	case "String":
		if w.export {
			return w.value(o.ToString(), key)
		}
		return w.builtin(o, key)
	case "Number", "Boolean", "RawJSON":
		return w.builtin(o, key)
	case "Map", "Set", "Promise", "Date", "Function":
		return w.special(o, t, key)
	}
	w.enter(o)
	w.plain(o)
	w.leave()
	return true
}

// special writes objects that are neither plain nor arrays.
func (w *writer) special(o *goja.Object, t reflect.Type, key string) bool {
	if _, ok := goja.AssertFunction(o); ok {
		if w.export {
			w.throw("a function has no JSON form")
		}
		return false
	}
	if !w.export {
		return w.builtin(o, key)
	}
	if t == typeTime {
		at, ok := o.Export().(time.Time)
		if !ok {
			w.buf = append(w.buf, "null"...) // an invalid date, as JSON.stringify writes it
			return true
		}
		w.buf = jsontext.AppendString(w.buf, at.UTC().Format(time.RFC3339Nano))
		return true
	}
	switch o.ClassName() {
	case "String":
		return w.value(o.ToString(), key)
	case "Number", "Boolean":
		w.goValue(o.Export())
		return true
	case "Array":
		w.enter(o)
		w.array(o)
		w.leave()
		return true
	}
	w.enter(o)
	w.plain(o)
	w.leave()
	return true
}

// builtin leaves one value to goja's own JSON.stringify.
func (w *writer) builtin(v goja.Value, key string) bool {
	if w.export {
		w.goValue(v.Export())
		return true
	}
	holder := w.vm.js.NewObject()
	if err := holder.DefineDataProperty(key, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
		panic(err)
	}
	out, err := w.vm.stringify(goja.Undefined(), holder)
	if err != nil {
		panic(err)
	}
	text := out.String()
	quoted := len(jsontext.AppendString(nil, key))
	if len(text) < quoted+3 {
		return false // {}: the value has no form
	}
	w.buf = append(w.buf, text[1+quoted+1:len(text)-1]...)
	return true
}

func (w *writer) enter(o *goja.Object) {
	for _, open := range w.stack {
		if open == o {
			w.throw("Converting circular structure to JSON")
		}
	}
	if len(w.stack) >= maxJSONDepth {
		w.throw("objects nest deeper than %d levels", maxJSONDepth)
	}
	if w.stack == nil {
		w.stack = w.first[:0]
	}
	w.stack = append(w.stack, o)
}

func (w *writer) leave() { w.stack = w.stack[:len(w.stack)-1] }

func (w *writer) array(o *goja.Object) {
	exact := w.exact[o]
	n := o.Get("length").ToInteger()
	w.buf = append(w.buf, '[')
	for i := range n {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		name := strconv.FormatInt(i, 10)
		v := o.Get(name)
		if len(exact) > 0 && exact[0].index == int(i) {
			e := exact[0]
			exact = exact[1:]
			if v != nil && v.SameAs(e.value) {
				w.buf = append(w.buf, e.token...)
				continue
			}
		}
		if !w.value(v, name) {
			w.buf = append(w.buf, "null"...)
		}
	}
	w.buf = append(w.buf, ']')
}

// plain writes an ordinary object by its own enumerable string keys.
func (w *writer) plain(o *goja.Object) {
	w.buf = append(w.buf, '{')
	first := len(w.buf)
	for _, key := range o.Keys() {
		mark := len(w.buf)
		if mark > first {
			w.buf = append(w.buf, ',')
		}
		v := o.Get(key)
		if v == nil && strings.Contains(key, "\uFFFD") {
			w.buf = w.buf[:mark]
			w.pairs(o, first)
			break
		}
		w.buf = jsontext.AppendString(w.buf, key)
		w.buf = append(w.buf, ':')
		if !w.value(v, key) {
			w.buf = w.buf[:mark]
		}
	}
	w.buf = append(w.buf, '}')
}

// touched reports whether o may differ from its text.
func (o *object) touched() bool {
	if !o.loaded {
		return false
	}
	if o.changed {
		return true
	}
	for i := range o.made {
		if _, ok := o.made[i].value.(*goja.Object); ok {
			return true
		}
	}
	return false
}

// members writes a view of JSON text member by member.
func (w *writer) members(o *object) {
	if !o.loaded {
		o.load()
	}
	outer := w.exact
	w.exact = o.doc.exact
	w.buf = append(w.buf, '{')
	first := len(w.buf)
	one := func(m *member) {
		mark := len(w.buf)
		if mark > first {
			w.buf = append(w.buf, ',')
		}
		if m.nameEnd != 0 && (o.doc.verbatim || o.doc.layout.plain) {
			w.buf = append(w.buf, o.text[m.name:m.nameEnd]...)
		} else {
			w.buf = jsontext.AppendString(w.buf, o.nameOf(m))
		}
		w.buf = append(w.buf, ':')
		v := o.value(m)
		if _, made := v.(*goja.Object); m.tokenEnd != 0 && !made {
			w.untouched(o.doc, o.text[m.token:m.tokenEnd])
		} else if !w.value(v, o.nameOf(m)) {
			w.buf = w.buf[:mark]
		}
	}
	if o.numeric && !o.doc.verbatim {
		for _, i := range o.order() {
			one(&o.members[i])
		}
	} else {
		for i := range o.members {
			one(&o.members[i])
		}
	}
	w.buf = append(w.buf, '}')
	w.exact = outer
}

// untouched writes a token of d as its layout allows: copied, or brought into form.
func (w *writer) untouched(d *document, token string) {
	if d.layout.plain || d.verbatim && d.layout.tidy {
		w.buf = append(w.buf, token...)
		w.tick()
		return
	}
	w.reform(d, token)
}

func (w *writer) reform(d *document, token string) {
	w.tick()
	switch token[0] {
	case '{':
		o := &object{doc: d, text: token}
		w.members(o)
	case '[':
		w.buf = append(w.buf, '[')
		for i, n := jsontext.Space(token, 1), 0; token[i] != ']'; n++ {
			if n > 0 {
				w.buf = append(w.buf, ',')
			}
			end := jsontext.ValueEnd(token, i)
			w.untouched(d, token[i:end])
			if i = jsontext.Space(token, end); token[i] == ',' {
				i = jsontext.Space(token, i+1)
			}
		}
		w.buf = append(w.buf, ']')
	case '"':
		if d.verbatim {
			w.buf = append(w.buf, token...)
			return
		}
		w.buf = jsontext.AppendString(w.buf, jsontext.Unquoted(token))
	case 't', 'f', 'n':
		w.buf = append(w.buf, token...)
	default:
		if d.verbatim || plainNumber(token) {
			w.buf = append(w.buf, token...)
			return
		}
		w.value(d.number(token), "")
	}
}

// indent spreads compact JSON over lines as JSON.stringify does with a gap.
func (vm *VM) indent(dst []byte, s, gap string) []byte {
	depth := 0
	line := func() {
		if len(dst) > vm.maxBytes {
			vm.checkLimits(len(dst))
		}
		dst = append(dst, '\n')
		for range depth {
			dst = append(dst, gap...)
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			end := jsontext.StringEnd(s, i)
			dst = append(dst, s[i:end]...)
			i = end - 1
		case '{', '[':
			dst = append(dst, c)
			if s[i+1] == c+2 { // '{' and '}', '[' and ']' are two apart
				dst = append(dst, s[i+1])
				i++
				continue
			}
			depth++
			line()
		case '}', ']':
			depth--
			line()
			dst = append(dst, c)
		case ',':
			dst = append(dst, c)
			line()
		case ':':
			dst = append(dst, c, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
