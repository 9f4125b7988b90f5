package script

import (
	"strconv"

	"github.com/dop251/goja"
)

var pairsProgram = goja.MustCompile("pairs", `(keys => o => keys(o).map(k => [k, o[k]]))(Object.keys)`, true)

// pairs writes the members of an object one of whose keys is no text: it has a lone
// surrogate, and Go strings cannot name it.
func (w *writer) pairs(o *goja.Object, first int) {
	w.buf = w.buf[:first]
	f, _ := goja.AssertFunction(w.vm.must(w.vm.js.RunProgram(pairsProgram)))
	list := w.vm.must(f(goja.Undefined(), o)).(*goja.Object)
	for i := range list.Get("length").ToInteger() {
		pair := list.Get(strconv.FormatInt(i, 10)).(*goja.Object)
		mark := len(w.buf)
		if mark > first {
			w.buf = append(w.buf, ',')
		}
		key := pair.Get("0").(goja.String)
		w.text(key)
		w.buf = append(w.buf, ':')
		if !w.value(pair.Get("1"), key.String()) {
			w.buf = w.buf[:mark]
		}
	}
}
