package event

import (
	"slices"
	"strings"
	"unsafe"
)

// Header is one attribute of a message: a Kafka header, a Pub/Sub attribute, a header of a
// request, one that a script has set.
type Header struct {
	Name  string
	Value []byte
}

// Headers are the attributes of a message in their order. A name may be there several
// times, and a value may be any bytes.
//
// Names are kept as they were given and are compared byte by byte. Only where a format says
// that case does not matter, as HTTP does, [Headers.Fold] looks them up.
//
// A list and its values may be shared by many messages: neither is ever written in place.
// What changes a list returns a new one.
type Headers []Header

// HeadersOf is the headers of a map, in the order of their names.
func HeadersOf(m map[string]string) Headers {
	if len(m) == 0 {
		return nil
	}
	h := make(Headers, 0, len(m))
	for name, value := range m {
		h = append(h, Header{name, []byte(value)})
	}
	slices.SortFunc(h, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return h
}

// Text is the value as text that shares its memory, which nobody writes to.
func (h *Header) Text() string { return unsafe.String(unsafe.SliceData(h.Value), len(h.Value)) }

// Get is the value of the first header called name.
func (h Headers) Get(name string) (value []byte, ok bool) {
	for i := range h {
		if h[i].Name == name {
			return h[i].Value, true
		}
	}
	return nil, false
}

// Text is the value of the first header called name as text, empty when there is none.
func (h Headers) Text(name string) string {
	for i := range h {
		if h[i].Name == name {
			return h[i].Text()
		}
	}
	return ""
}

// Fold is the first header called name in upper or lower case: one that is spelt like it,
// and otherwise any; nil when there is none.
func (h Headers) Fold(name string) *Header {
	for i := range h {
		if h[i].Name == name {
			return &h[i]
		}
	}
	for i := range h {
		if len(h[i].Name) == len(name) && strings.EqualFold(h[i].Name, name) {
			return &h[i]
		}
	}
	return nil
}

// Values are the values of all headers called name, in their order.
func (h Headers) Values(name string) [][]byte {
	var vs [][]byte
	for i := range h {
		if h[i].Name == name {
			vs = append(vs, h[i].Value)
		}
	}
	return vs
}

// Set is h with one header called name, in the place of the first there was.
func (h Headers) Set(name string, value []byte) Headers {
	out := make(Headers, 0, len(h)+1)
	set := false
	for _, x := range h {
		switch {
		case x.Name != name:
			out = append(out, x)
		case !set:
			out, set = append(out, Header{name, value}), true
		}
	}
	if !set {
		out = append(out, Header{name, value})
	}
	return out
}

// Add is h with one more header at its end.
func (h Headers) Add(name string, value []byte) Headers {
	return append(slices.Clip(h), Header{name, value})
}

// Del is h without the headers called name.
func (h Headers) Del(name string) Headers {
	if _, ok := h.Get(name); !ok {
		return h
	}
	out := make(Headers, 0, len(h)-1)
	for _, x := range h {
		if x.Name != name {
			out = append(out, x)
		}
	}
	return out
}

// Repeats reports whether a name is there several times.
func (h Headers) Repeats() bool {
	if len(h) < 2 {
		return false
	}
	seen := make(map[string]struct{}, len(h))
	for i := range h {
		seen[h[i].Name] = struct{}{}
	}
	return len(seen) < len(h)
}

// Size is the bytes of all names and values.
func (h Headers) Size() int {
	n := 0
	for i := range h {
		n += len(h[i].Name) + len(h[i].Value)
	}
	return n
}
