package snowplow

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/weirdata/weir/internal/jsontext"
)

// objects decodes a self-describing field: for contexts a []any of map[string]any under
// each shredded name, for unstruct_event one map[string]any under its name.
func (e *Event) objects(f Field) (map[string]any, error) {
	if f.Kind() == Unstruct {
		u, err := parseUnstruct(e.Raw(f))
		if err != nil {
			return nil, err
		}
		data, err := u.Object()
		if err != nil {
			return nil, err
		}
		return map[string]any{u.Name: data}, nil
	}
	var few [4]Entity
	list, err := appendEntities(few[:0], e.Raw(f))
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(list))
	for i := range list {
		data, err := list[i].Object()
		if err != nil {
			return nil, err
		}
		same, _ := out[list[i].Name].([]any)
		out[list[i].Name] = append(same, data)
	}
	return out, nil
}

// Object decodes the entity's data into maps, slices, strings, float64 and bool. Data
// that is null is a nil map.
func (en *Entity) Object() (map[string]any, error) {
	v, err := decode(en.Data)
	if err != nil {
		return nil, fmt.Errorf("data of %s: %w", brief(en.Schema), err)
	}
	m, _ := v.(map[string]any)
	return m, nil
}

// decode turns JSON into Go values.
func decode(raw string) (any, error) {
	v, err := jsontext.Decode(raw, func(token string) (any, error) { return parseNumber(token) })
	if e, ok := errors.AsType[*jsontext.SyntaxError](err); ok {
		return nil, fmt.Errorf("invalid JSON at byte %d: %s", e.Offset, e.Message)
	}
	return v, err
}

func parseNumber(s string) (float64, error) {
	v, ok := jsontext.Float(s)
	if !ok && v != 0 {
		return 0, fmt.Errorf("%s is beyond the numbers a float64 can hold", brief(s))
	}
	return v, nil
}

// appendJSONText appends a JSON value in the form fmt's %v prints its Go value; null is
// the empty text.
func appendJSONText(dst []byte, raw string) ([]byte, error) {
	switch raw[0] {
	case '"':
		s, _ := StringOf(raw)
		return append(dst, s...), nil
	case 't', 'f':
		return append(dst, raw...), nil
	case 'n':
		return dst, nil
	case '{', '[':
		v, err := decode(raw)
		if err != nil {
			return dst, err
		}
		return fmt.Append(dst, v), nil
	}
	v, err := parseNumber(raw)
	if err != nil {
		return dst, err
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64), nil
}

// StringOf is the text of a valid JSON string; ok is false for any other value.
func StringOf(raw string) (text string, ok bool) {
	if raw == "" || raw[0] != '"' {
		return "", false
	}
	return jsontext.Unquoted(raw), true
}
