package jsonvalue

import "github.com/weirdata/weir/internal/jsontext"

// Append writes v as compact JSON. Undefined is written as null.
func (v Value) Append(b []byte) []byte {
	switch v.kind {
	case False:
		return append(b, "false"...)
	case True:
		return append(b, "true"...)
	case Number:
		return append(b, v.text...)
	case String:
		return jsontext.AppendExact(b, v.text)
	case Array:
		b = append(b, '[')
		for i := range v.in.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.in.items[i].Append(b)
		}
		return append(b, ']')
	case Object:
		b = append(b, '{')
		for i := range v.in.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = jsontext.AppendExact(b, v.in.keys[i])
			b = append(b, ':')
			b = v.in.items[i].Append(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// JSON is v as compact JSON.
func (v Value) JSON() string {
	return string(v.Append(make([]byte, 0, v.Size())))
}

// Size is the number of bytes of v as compact JSON. It is known without writing it.
func (v Value) Size() int {
	switch v.kind {
	case False:
		return 5
	case Number:
		return len(v.text)
	case String:
		return jsontext.SizeExact(v.text)
	case Array, Object:
		return v.in.size
	}
	return 4
}
