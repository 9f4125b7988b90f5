package jsontext

// Decode makes Go values of text: map[string]any, []any, string, bool and nil, and for a
// number what number makes of its token. Strings may share memory with text. An error is a
// *SyntaxError, or that of number.
func Decode(text string, number func(token string) (any, error)) (any, error) {
	d := decoder{Scanner: Scanner{Text: text}, number: number}
	v, ok := d.decode()
	switch {
	case d.err != nil:
		return nil, d.err
	case !ok || !d.End():
		return nil, d.Err()
	}
	return v, nil
}

type decoder struct {
	Scanner
	number func(string) (any, error)
	err    error // of number
}

func (d *decoder) decode() (v any, ok bool) {
	switch c := d.Next(); c {
	case '{':
		return d.object()
	case '[':
		return d.array()
	case '"':
		start := d.At
		form, ok := d.String()
		if form == 0 && ok {
			return d.Text[start+1 : d.At-1], true
		}
		if !ok {
			return nil, false
		}
		return Unquoted(d.Text[start:d.At]), true
	case 't':
		return true, d.Word("true")
	case 'f':
		return false, d.Word("false")
	case 'n':
		return nil, d.Word("null")
	default:
		start := d.At
		if c != '-' && c-'0' > 9 {
			return nil, d.Fail(NoValue)
		}
		if _, ok := d.Number(); !ok {
			return nil, false
		}
		v, err := d.number(d.Text[start:d.At])
		if err != nil {
			d.err = err
			return nil, false
		}
		return v, true
	}
}

func (d *decoder) object() (any, bool) {
	if !d.Enter() {
		return nil, false
	}
	m := map[string]any{}
	if d.Next() == '}' {
		d.leave()
		return m, true
	}
	for d.Next() == '"' {
		name, ok := d.Key()
		if !ok {
			return nil, false
		}
		v, ok := d.decode()
		if !ok {
			return nil, false
		}
		m[name] = v
		switch d.Next() {
		case ',':
			d.At++
		case '}':
			d.leave()
			return m, true
		default:
			return nil, d.Fail(NoCommaInObject)
		}
	}
	return nil, d.Fail(NoName)
}

func (d *decoder) array() (any, bool) {
	if !d.Enter() {
		return nil, false
	}
	list := []any{}
	if d.Next() == ']' {
		d.leave()
		return list, true
	}
	for {
		v, ok := d.decode()
		if !ok {
			return nil, false
		}
		list = append(list, v)
		switch d.Next() {
		case ',':
			d.At++
		case ']':
			d.leave()
			return list, true
		default:
			return nil, d.Fail(NoCommaInArray)
		}
	}
}
