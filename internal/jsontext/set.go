package jsontext

import "slices"

// Setting is a member of an object and the JSON that it is to have.
type Setting struct {
	Name  string
	Value []byte
}

// SetIn is data, a JSON object, with members set in the object that is its member called name: those of
// that name are replaced and all others stay as they are written. Where name is not there, or null, it
// is made; what it is otherwise, or what is no JSON object, is left alone, and ok is false.
func SetIn(data []byte, name string, settings ...Setting) (out []byte, ok bool) {
	s := Scan(data)
	members, ok := s.Object(nil)
	if !ok || !s.End() {
		return data, false
	}
	size := len(data) + len(name) + 8
	for _, x := range settings {
		size += len(x.Name) + len(x.Value) + 4
	}
	at := -1
	for i, m := range members {
		if string(m.Name(data)) == name {
			at = i
		}
	}
	if at < 0 {
		end := len(data)
		for data[end-1] != '}' {
			end--
		}
		out = append(make([]byte, 0, size), data[:end-1]...)
		if len(members) > 0 {
			out = append(out, ',')
		}
		out = append(AppendString(out, name), ':', '{')
		out = appendSettings(out, true, settings)
		return append(append(out, '}'), data[end-1:]...), true
	}
	m := members[at]
	var inner []Member
	switch data[m.Value] {
	case '{':
		s := ScanFrom(data, m.Value)
		inner, _ = s.Object(nil)
	case 'n':
	default:
		return data, false
	}
	out = append(append(make([]byte, 0, size), data[:m.Value]...), '{')
	first := true
	for _, x := range inner {
		if slices.ContainsFunc(settings, func(s Setting) bool { return string(x.Name(data)) == s.Name }) {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		out, first = append(out, data[x.Start:x.End]...), false
	}
	out = appendSettings(out, first, settings)
	return append(append(out, '}'), data[m.End:]...), true
}

func appendSettings(out []byte, first bool, settings []Setting) []byte {
	for _, x := range settings {
		if !first {
			out = append(out, ',')
		}
		out = append(append(AppendString(out, x.Name), ':'), x.Value...)
		first = false
	}
	return out
}
