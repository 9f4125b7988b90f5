package condition

import (
	"encoding/json"
	"strconv"
	"unsafe"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsonspan"
	"github.com/weirdata/weir/internal/snowplow"
)

// field is the value at path in m's event, or nil. A Snowplow event is kept with the
// message, so that the next question need not split the line again.
func field(m *event.Message, path []string) any {
	if _, ok := m.View().(*snowplow.Event); !ok && isJSON(m.Data) {
		value, ok := find(m.Data, path)
		if !ok {
			return nil
		}
		return decode(value)
	}
	e, err := snowplow.Of(m)
	if err != nil {
		return nil
	}
	if len(path) == 0 {
		all, err := e.Map()
		if err != nil {
			return nil
		}
		return all
	}
	v, found, err := e.Get(path[0])
	if err != nil || !found {
		return nil
	}
	return inside(v, path[1:])
}

// isJSON reports whether data looks like a JSON object or array; nothing else has fields.
func isJSON(data []byte) bool {
	s := jsonspan.Scanner{Data: data}
	c := s.Next()
	return c == '{' || c == '['
}

// find is the text of the value at path. It passes over no more of the payload than it
// must; what it passes over is valid.
func find(data []byte, path []string) ([]byte, bool) {
	s := jsonspan.Scanner{Data: data}
	for _, name := range path {
		var ok bool
		if s.Take('{') {
			ok = member(&s, name)
		} else if s.Take('[') {
			ok = element(&s, name)
		}
		if !ok {
			return nil, false
		}
	}
	s.Next()
	start := s.At
	if !s.Value() {
		return nil, false
	}
	return data[start:s.At], true
}

// member moves s, which is inside an object, to the value of the member called name.
func member(s *jsonspan.Scanner, name string) bool {
	if s.Next() == '}' {
		return false
	}
	for {
		m, ok := s.Member()
		if !ok {
			return false
		}
		if !m.Escaped && string(m.Key(s.Data)) == name || m.Escaped && string(m.Name(s.Data)) == name {
			return true
		}
		if !s.Value() || !s.Take(',') {
			return false
		}
	}
}

// element moves s, which is inside an array, to the element with the given number.
func element(s *jsonspan.Scanner, number string) bool {
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || s.Next() == ']' {
		return false
	}
	for range n {
		if !s.Value() || !s.Take(',') {
			return false
		}
	}
	return true
}

// decode is a JSON value as conditions see it: whole numbers are int, others float64.
func decode(text []byte) any {
	switch text[0] {
	case 'n':
		return nil
	case 't':
		return true
	case 'f':
		return false
	case '"':
		return string(jsonspan.Unquote(nil, text))
	case '{', '[':
		var v any
		if json.Unmarshal(text, &v) != nil {
			return nil
		}
		return v
	}
	number := unsafeText(text)
	if i, err := strconv.Atoi(number); err == nil {
		return i
	}
	f, _ := strconv.ParseFloat(number, 64) // out of range is infinite, which compares as it should
	return f
}

// inside is the value at path in a decoded value.
func inside(v any, path []string) any {
	for _, name := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			n, err := strconv.Atoi(name)
			if err != nil || n < 0 || n >= len(x) {
				return nil
			}
			v = x[n]
		default:
			return nil
		}
	}
	return v
}

// unsafeText is b as text without a copy. It must not outlive the evaluation: payloads do
// not change while their message has one owner.
func unsafeText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
