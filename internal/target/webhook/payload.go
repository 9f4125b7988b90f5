package webhook

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/jsontext"
)

// payload takes an event apart. Members of one name: the last counts.
type payload struct {
	data                             []byte
	members                          []jsontext.Member
	inner                            []jsontext.Member
	fullPath, appendPath             string
	hasFull, hasAppend               bool
	kind                             string
	header, context, requestIP       jsontext.Member // zero when absent
	integrations, traits, properties jsontext.Member
	contextInner                     []jsontext.Member
	contextIP                        jsontext.Member
}

// read looks at the members of an event; false when it is not a JSON object.
func (p *payload) read(data []byte) bool {
	*p = payload{members: p.members[:0], inner: p.inner[:0], contextInner: p.contextInner[:0]}
	p.data = data
	s := jsontext.Scan(data)
	var ok bool
	if p.members, ok = s.Object(p.members); !ok || !s.End() {
		return false
	}
	for _, m := range p.members {
		switch string(m.Name(data)) {
		case "fullPath":
			p.fullPath, p.hasFull = text(m.Of(data))
		case "appendPath":
			p.appendPath, p.hasAppend = text(m.Of(data))
		case "header":
			p.header = m
		case "context":
			p.context = m
		case "request_ip":
			p.requestIP = m
		case "integrations":
			p.integrations = m
		case "traits":
			p.traits = m
		case "properties":
			p.properties = m
		case "type":
			p.kind, _ = text(m.Of(data))
		}
	}
	p.readContext()
	p.readIntegrations()
	return true
}

func (p *payload) readContext() {
	s := jsontext.ScanFrom(p.data, p.context.Value)
	if p.context.End == 0 || s.Next() != '{' {
		return
	}
	p.contextInner, _ = s.Object(p.contextInner[:0])
	for _, m := range p.contextInner {
		switch string(m.Name(p.data)) {
		case "ip":
			p.contextIP = m
		case "traits":
			if p.traits.End == 0 {
				p.traits = m
			}
		}
	}
}

// readIntegrations looks for paths under the destination's name, which count where the
// event itself has none.
func (p *payload) readIntegrations() {
	p.object(p.integrations, func(m jsontext.Member, name []byte) {
		if !strings.EqualFold(string(name), "webhook") {
			return
		}
		s := jsontext.ScanFrom(p.data, m.Value)
		if s.Next() != '{' {
			return
		}
		members, _ := s.Object(nil)
		for _, x := range members {
			value, ok := text(x.Of(p.data))
			switch name := string(x.Name(p.data)); {
			case name == "fullPath" && !p.hasFull && ok:
				p.fullPath, p.hasFull = value, true
			case name == "appendPath" && !p.hasAppend && ok:
				p.appendPath, p.hasAppend = value, true
			}
		}
	})
}

// object calls f for each member of the object that is the value of m, if it is one.
func (p *payload) object(m jsontext.Member, f func(m jsontext.Member, name []byte)) {
	s := jsontext.ScanFrom(p.data, m.Value)
	if m.End == 0 || s.Next() != '{' {
		return
	}
	p.inner, _ = s.Object(p.inner[:0])
	for _, x := range p.inner {
		f(x, x.Name(p.data))
	}
}

// text is a JSON string's text; false for other values.
func text(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	return string(jsontext.Unquoted(value)), true
}

// truthy is what JavaScript takes for true.
func truthy(m jsontext.Member, data []byte) bool {
	switch v := m.Of(data); string(v) {
	case "", "null", "false", `""`:
		return false
	default:
		if c := v[0]; c == '-' || c >= '0' && c <= '9' {
			x, _ := jsontext.Float(string(v))
			return x != 0
		}
	}
	return true
}

// body is the event as it is delivered.
func (p *payload) body() []byte {
	ip := p.contextIP
	if ip.End == 0 || p.data[ip.Value] == 'n' {
		ip = p.requestIP
	}
	fill := truthy(ip, p.data) && ip != p.contextIP
	out := make([]byte, 0, len(p.data)+64)
	out = append(out, '{')
	written := false
	for _, m := range p.members {
		value := m.Of(p.data)
		switch string(m.Name(p.data)) {
		case "fullPath", "appendPath", "header":
			continue
		case "context":
			if m != p.context {
				continue
			}
			if c := value[0]; fill && (c == '{' || !truthy(m, p.data)) {
				out = append(p.appendContext(append(out, `"context":`...), ip), ',')
				written = true
				continue
			}
			written = true
		}
		if value[0] == 'n' {
			continue
		}
		out = append(append(out, p.data[m.Start:m.End]...), ',')
	}
	if fill && !written {
		out = append(p.appendContext(append(out, `"context":`...), ip), ',')
	}
	if len(out) > 1 {
		out = out[:len(out)-1]
	}
	return append(out, '}')
}

// appendContext appends the context with another ip.
func (p *payload) appendContext(out []byte, ip jsontext.Member) []byte {
	out = append(out, '{')
	for _, m := range p.contextInner {
		if string(m.Name(p.data)) != "ip" {
			out = append(append(out, p.data[m.Start:m.End]...), ',')
		}
	}
	return append(append(append(out, `"ip":`...), ip.Of(p.data)...), '}')
}

// headers adds the event's own headers to shared ones, which it copies; false when one is
// no header.
func (p *payload) headers(shared http.Header) (h http.Header, ok bool) {
	h, ok = shared, true
	copied := false
	p.object(p.header, func(m jsontext.Member, name []byte) {
		value, isText := text(m.Of(p.data))
		if !isText || !ok {
			return
		}
		if !validHeader(string(name), value) {
			ok = false
			return
		}
		if !copied {
			h, copied = shared.Clone(), true
		}
		h.Set(string(name), value)
	})
	return h, ok
}

// maxParameterDepth is how deep parameters may be nested; deeper ones are left out.
const maxParameterDepth = 100

// parameters are the event's properties, or traits of an identify, as query parameters.
func (p *payload) parameters() url.Values {
	values := url.Values{}
	m := p.properties
	if p.kind == "identify" {
		m = p.traits
	}
	if m.End > 0 && (p.data[m.Value] == '{' || p.data[m.Value] == '[') {
		p.flatten(values, "", p.data[m.Value:m.End], 0)
	}
	return values
}

// flatten adds a value, and what is in it, under a name.
func (p *payload) flatten(into url.Values, name string, value []byte, depth int) {
	if depth > maxParameterDepth {
		return
	}
	s := jsontext.Scan(value)
	switch s.Next() {
	case '{':
		members, _ := s.Object(nil)
		for _, m := range members {
			under := string(m.Name(value))
			if name != "" {
				under = name + "." + under
			}
			p.flatten(into, under, m.Of(value), depth+1)
		}
	case '[':
		s.Enter()
		for i := 0; ; i++ {
			if more, _ := s.More(i == 0, ']'); !more {
				return
			}
			s.Next()
			from := s.At
			if !s.Value() {
				return
			}
			p.flatten(into, name+"["+strconv.Itoa(i)+"]", value[from:s.At], depth+1)
		}
	case 'n':
	case '"':
		t, _ := text(value)
		into.Set(name, t)
	default:
		into.Set(name, string(value))
	}
}
