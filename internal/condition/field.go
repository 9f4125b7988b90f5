package condition

import (
	"strconv"
	"unsafe"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/snowplow"
)

// payload is what is known of the payload of the message in hand. It is read once, for all
// that a condition asks for.
type payload struct {
	read    bool
	json    bool // it looks like a JSON object or array; nothing else has fields
	valid   bool
	text    string
	members []jsontext.Member // of the outermost object
}

func (p *payload) look(m *event.Message) {
	p.read, p.text, p.members = true, unsafeText(m.Data), p.members[:0]
	s := jsontext.Scanner{Text: p.text}
	c := s.Next()
	_, split := m.View().(*snowplow.Event)
	if p.json = !split && (c == '{' || c == '['); !p.json {
		return
	}
	if c == '{' {
		p.members, p.valid = s.Object(p.members)
	} else {
		p.valid = s.Value()
	}
	p.valid = p.valid && s.End()
}

// field is the value at path in m's event, or nil. A Snowplow event is kept with the
// message, so that the next question need not split the line again.
func (p *payload) field(m *event.Message, path []string) any {
	if !p.read {
		p.look(m)
	}
	if p.json {
		value, ok := p.find(path)
		if !ok {
			return nil
		}
		v, _ := jsontext.Decode(value, number)
		return v
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

// find is the text of the value at path.
func (p *payload) find(path []string) (value string, ok bool) {
	if !p.valid {
		return "", false
	}
	value = p.text
	for i, name := range path {
		s := jsontext.Scanner{Text: value}
		switch c := s.Next(); {
		case c == '{' && i == 0:
			value, ok = member(value, p.members, name)
		case c == '{':
			var few [16]jsontext.Member
			members, _ := s.Object(few[:0])
			value, ok = member(value, members, name)
		case c == '[':
			value, ok = element(&s, name)
		default:
			ok = false
		}
		if !ok {
			return "", false
		}
	}
	return value, true
}

// member is the value of the last member called name.
func member(object string, members []jsontext.Member, name string) (string, bool) {
	for i := len(members) - 1; i >= 0; i-- {
		m := &members[i]
		if m.Odd && jsontext.Reads(object[m.Start:m.KeyEnd+1], name) ||
			!m.Odd && m.KeyEnd-m.Start-1 == len(name) && object[m.Start+1:m.KeyEnd] == name {
			return object[m.Value:m.End], true
		}
	}
	return "", false
}

// element is the element with the given number of the array at s.
func element(s *jsontext.Scanner, number string) (string, bool) {
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || !s.Enter() {
		return "", false
	}
	for i := 0; ; i++ {
		if more, _ := s.More(i == 0, ']'); !more {
			return "", false
		}
		s.Next()
		from := s.At
		if !s.Value() {
			return "", false
		}
		if i == n {
			return s.Text[from:s.At], true
		}
	}
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
