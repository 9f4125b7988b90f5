package condition

import (
	"slices"
	"strconv"
	"unsafe"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/snowplow"
)

// object is a JSON payload, read for all that a condition asks of it. What is not valid has
// no fields.
type object struct {
	valid   bool
	members []jsontext.Member // of the outermost object
}

// look reads a payload that looks like a JSON object or array; nothing else has fields.
func (e *Evaluator) look(text string) (o *object, ok bool) {
	s := jsontext.Scanner{Text: text}
	o = &e.once
	switch s.Next() {
	case '{':
		o.members, o.valid = s.Object(o.members[:0])
	case '[':
		o.members, o.valid = o.members[:0], s.Value()
	default:
		return nil, false
	}
	o.valid = o.valid && s.End()
	e.seen = true
	return o, true
}

// field is the value at path in m's event, or nil. A parsed event is kept with the message
// when more than one condition asks, so that the payload is read no more than twice.
func (e *Evaluator) field(m *event.Message, path []string) any {
	view := m.View()
	o, ok := view.(*object)
	if _, split := view.(*snowplow.Event); !split && !ok {
		if e.seen {
			o, ok = &e.once, true
		} else if o, ok = e.look(unsafeText(m.Data)); ok && e.again {
			o = &object{valid: o.valid, members: slices.Clone(o.members)}
			m.Keep(o)
		}
	}
	if ok {
		value, found := o.find(unsafeText(m.Data), path)
		if !found {
			return nil
		}
		return decode(value)
	}
	line, err := snowplow.Of(m)
	if err != nil {
		return nil
	}
	if len(path) == 0 {
		all, err := line.Map()
		if err != nil {
			return nil
		}
		return all
	}
	v, found, err := line.Get(path[0])
	if err != nil || !found {
		return nil
	}
	return inside(v, path[1:])
}

// find is the text of the value at path in text, the payload.
func (o *object) find(text string, path []string) (value string, found bool) {
	if !o.valid {
		return "", false
	}
	if len(o.members) == 0 || len(path) == 0 {
		return jsontext.Find(text, path)
	}
	value, found = jsontext.Last(text, o.members, path[0])
	if !found || len(path) == 1 {
		return value, found
	}
	return jsontext.Find(value, path[1:])
}

// decode is a valid JSON value as conditions see it.
func decode(text string) any {
	switch c := text[0]; {
	case c == '"':
		return jsontext.Unquoted(text)
	case c == '-' || c >= '0' && c <= '9':
		v, _ := number(text)
		return v
	}
	v, _ := jsontext.Decode(text, number)
	return v
}

// number is a JSON number as conditions see it: whole numbers are int, others float64. Out
// of range is infinite, or zero, which compare as they should.
func number(token string) (any, error) {
	if n, ok := jsontext.Integer(token); ok {
		return int(n), nil
	}
	x, _ := jsontext.Float(token)
	return x, nil
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
