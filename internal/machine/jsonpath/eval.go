package jsonpath

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// Get evaluates the path on a document. Its errors are *NotFound, or say which function
// could not be applied or that the path visits too much.
func (p *Path) Get(doc jsonvalue.Value) (jsonvalue.Value, error) {
	return p.get(doc, doc)
}

// get evaluates the path from doc on; root is what $ means in conditions.
func (p *Path) get(root, doc jsonvalue.Value) (jsonvalue.Value, error) {
	var v jsonvalue.Value
	var err error
	if p.definite {
		v, err = p.follow(doc)
	} else {
		w := walker{root: root, steps: p.steps}
		w.walk(0, doc)
		if w.visits > MaxVisits {
			return v, fmt.Errorf("path %s visits more than %d values", p.text, MaxVisits)
		}
		v = jsonvalue.OfArray(w.found)
	}
	for i := range p.calls {
		if err != nil {
			break
		}
		v, err = p.calls[i].apply(root, v)
	}
	return v, err
}

// follow evaluates a definite path.
func (p *Path) follow(v jsonvalue.Value) (jsonvalue.Value, error) {
	for n := range p.steps {
		s := &p.steps[n]
		var next jsonvalue.Value
		switch s.kind {
		case property:
			if v.Kind() != jsonvalue.Object {
				return next, p.notObject(n, v)
			}
			next = v.Get(s.key)
		case properties:
			if v.Kind() != jsonvalue.Object {
				return next, p.notObject(n, v)
			}
			next = pick(v, s.keys)
		default:
			if v.Kind() != jsonvalue.Array {
				return next, p.notArray(n, v)
			}
			next = item(v, s.at)
		}
		if !next.Defined() {
			return next, p.missing(n)
		}
		v = next
	}
	return v, nil
}

func pick(v jsonvalue.Value, keys []string) jsonvalue.Value {
	var b jsonvalue.Builder
	for i, k := range keys {
		repeated := false
		for _, earlier := range keys[:i] {
			repeated = repeated || earlier == k
		}
		if m := v.Get(k); m.Defined() && !repeated {
			b.Set(k, m)
		}
	}
	return b.Object()
}

// item is the item at a place that counts from the end when negative, or Undefined.
func item(v jsonvalue.Value, at int) jsonvalue.Value {
	if at < 0 {
		at += v.Len()
	}
	if at < 0 || at >= v.Len() {
		return jsonvalue.Value{}
	}
	return v.Item(at)
}

// place is the path up to and with step n as Jayway prints it.
func (p *Path) place(n int) string {
	var b strings.Builder
	b.WriteByte('$')
	for i := range p.steps[:n+1] {
		s := &p.steps[i]
		switch s.kind {
		case property:
			b.WriteString("['" + s.key + "']")
		case properties:
			b.WriteString("['" + strings.Join(s.keys, "','") + "']")
		default:
			b.WriteString("[" + strconv.Itoa(s.at) + "]")
		}
	}
	return b.String()
}

func (p *Path) missing(n int) error {
	if n == len(p.steps)-1 || p.steps[n].kind == index {
		return &NotFound{Message: "No results for path: " + p.place(len(p.steps)-1)}
	}
	return &NotFound{Message: "Missing property in path " + p.place(n)}
}

func (p *Path) notObject(n int, v jsonvalue.Value) error {
	return &NotFound{Message: fmt.Sprintf("Expected to find an object with property %s in path %s but found a value of type %s",
		p.fragment(n), p.place(n-1), v.Kind())}
}

func (p *Path) notArray(n int, v jsonvalue.Value) error {
	if v.Kind() == jsonvalue.Null {
		return &NotFound{Message: fmt.Sprintf("The path %s is null", p.place(n-1))}
	}
	return &NotFound{Message: fmt.Sprintf("Filter: %s can only be applied to arrays. Current context is a value of type %s",
		p.fragment(n), v.Kind())}
}

func (p *Path) fragment(n int) string { return strings.TrimPrefix(p.place(n), p.place(n-1)) }

// walker collects what an indefinite path finds.
type walker struct {
	root   jsonvalue.Value
	steps  []step
	found  []jsonvalue.Value
	visits int
}

func (w *walker) walk(n int, v jsonvalue.Value) {
	w.visits++
	if w.visits > MaxVisits || !v.Defined() {
		return
	}
	if n == len(w.steps) {
		w.found = append(w.found, v)
		return
	}
	if w.steps[n].deep {
		w.descend(n, v)
		return
	}
	w.apply(n, v)
}

// descend applies step n to v and to everything below it, outer before inner.
func (w *walker) descend(n int, v jsonvalue.Value) {
	if v.Len() == 0 || w.visits > MaxVisits {
		return
	}
	w.visits++
	s := &w.steps[n]
	if s.kind != properties || hasAll(v, s.keys) {
		w.apply(n, v)
	}
	for _, m := range v.Items() {
		w.descend(n, m)
	}
}

func hasAll(v jsonvalue.Value, keys []string) bool {
	for _, k := range keys {
		if !v.Get(k).Defined() {
			return false
		}
	}
	return true
}

func (w *walker) apply(n int, v jsonvalue.Value) {
	s := &w.steps[n]
	isArray := v.Kind() == jsonvalue.Array
	switch s.kind {
	case property:
		w.walk(n+1, v.Get(s.key))
	case properties:
		w.several(n, v)
	case index, indexes:
		if isArray {
			for _, at := range s.places {
				w.walk(n+1, item(v, at))
			}
		}
	case slice:
		if isArray {
			w.slice(n, v)
		}
	case wildcard:
		for _, m := range v.Items() {
			w.walk(n+1, m)
		}
	case filtered:
		w.filter(n, v)
	}
}

func (w *walker) several(n int, v jsonvalue.Value) {
	s := &w.steps[n]
	if v.Kind() != jsonvalue.Object {
		return
	}
	if n == len(w.steps)-1 {
		w.walk(n+1, pick(v, s.keys))
		return
	}
	for _, k := range s.keys {
		w.walk(n+1, v.Get(k))
	}
}

func (w *walker) slice(n int, v jsonvalue.Value) {
	s, length := &w.steps[n], v.Len()
	from, to := 0, length
	if s.from != nil {
		from = *s.from
	}
	if s.to != nil {
		to = min(*s.to, length)
	}
	switch {
	case s.to == nil && from < 0:
		from = max(0, from+length)
	case s.from == nil && to < 0:
		to += length
	}
	from = max(from, -length)
	for at := from; at < to; at++ {
		w.walk(n+1, item(v, at))
	}
}

func (w *walker) filter(n int, v jsonvalue.Value) {
	cond := w.steps[n].cond
	switch v.Kind() {
	case jsonvalue.Array:
		for _, m := range v.Items() {
			if w.visits++; w.visits > MaxVisits {
				return
			}
			if cond.holds(w.root, m) {
				w.walk(n+1, m)
			}
		}
	case jsonvalue.Object:
		// Below "..", an object in an array is met twice: as an item and by itself.
		if !w.steps[n].deep && cond.holds(w.root, v) {
			w.walk(n+1, v)
		}
	}
}
