package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Text is a string of any bytes, as JSON shows it: a string, or {"base64": "..."} where it
// is not UTF-8.
type Text string

// Payload is a payload of any bytes, as JSON shows it: like a [Text].
type Payload []byte

type encoded struct {
	Base64 *[]byte `json:"base64"`
}

func marshalBytes(b []byte) ([]byte, error) {
	if !utf8.Valid(b) {
		return json.Marshal(encoded{&b})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(string(b)); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func unmarshalBytes(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == '"' {
		var s string
		err := json.Unmarshal(b, &s)
		return []byte(s), err
	}
	var e encoded
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || e.Base64 == nil {
		return nil, fmt.Errorf(`want a string, or {"base64": "..."} for bytes that are not UTF-8, not %.40q`, b)
	}
	return *e.Base64, nil
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) { return marshalBytes([]byte(t)) }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	v, err := unmarshalBytes(b)
	*t = Text(v)
	return err
}

// MarshalJSON implements json.Marshaler.
func (p Payload) MarshalJSON() ([]byte, error) { return marshalBytes(p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Payload) UnmarshalJSON(b []byte) error {
	v, err := unmarshalBytes(b)
	*p = v
	return err
}

// MarshalJSON implements json.Marshaler. Headers are an object in their order, or a list of
// [name, value] when a name is not UTF-8 or is there several times.
func (h Headers) MarshalJSON() ([]byte, error) {
	object := !h.Repeats()
	for i := range h {
		object = object && utf8.ValidString(h[i].Name)
	}
	out := []byte{'{'}
	if !object {
		out[0] = '['
	}
	for i := range h {
		name, err := marshalBytes([]byte(h[i].Name))
		if err != nil {
			return nil, err
		}
		value, err := marshalBytes(h[i].Value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		if object {
			out = append(append(append(out, name...), ':'), value...)
			continue
		}
		out = append(append(out, '['), name...)
		out = append(append(append(out, ','), value...), ']')
	}
	if object {
		return append(out, '}'), nil
	}
	return append(out, ']'), nil
}

// UnmarshalJSON implements json.Unmarshaler. It reads both forms; of a name that an object
// has twice the last value counts, as everywhere in JSON.
func (h *Headers) UnmarshalJSON(b []byte) error {
	*h = Headers{}
	if len(b) > 0 && b[0] == '[' {
		var pairs [][]Text
		if err := json.Unmarshal(b, &pairs); err != nil {
			return err
		}
		for _, p := range pairs {
			if len(p) != 2 {
				return fmt.Errorf("a header is [name, value], not %d texts", len(p))
			}
			*h = append(*h, Header{string(p[0]), []byte(p[1])})
		}
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	start, err := d.Token()
	if err != nil {
		return err
	}
	if start == nil { // null
		return nil
	}
	if start != json.Delim('{') {
		return errors.New("headers are an object of texts, or a list of [name, value]")
	}
	seen := map[string]int{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value Text
		if err := d.Decode(&value); err != nil {
			return err
		}
		at, again := seen[name.(string)]
		if !again {
			at = len(*h)
			seen[name.(string)] = at
			*h = append(*h, Header{Name: name.(string)})
		}
		(*h)[at].Value = []byte(value)
	}
	_, err = d.Token()
	return err
}
