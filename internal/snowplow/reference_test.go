package snowplow

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// This file says in the plainest way what the JSON form of an event is: with maps,
// encoding/json and the regular expression of schema URIs.

var schemaURI = regexp.MustCompile(`^iglu:([a-zA-Z0-9-_.]+)/([a-zA-Z0-9-_]+)/([a-zA-Z0-9-_]+)/([1-9][0-9]*)((?:-(?:0|[1-9][0-9]*)){2})$`)

func slowName(prefix, uri string) (string, error) {
	m := schemaURI.FindStringSubmatch(uri)
	if m == nil {
		return "", errors.New("schema")
	}
	var name []rune
	for i, r := range m[2] {
		if i > 0 && unicode.IsUpper(r) && m[2][i-1] != '_' {
			name = append(name, '_')
		}
		name = append(name, r)
	}
	return strings.ToLower(prefix + "_" + strings.ReplaceAll(m[1], ".", "_") + "_" + string(name) + "_" + m[4]), nil
}

// slowDecode decodes exactly one JSON value, numbers as json.Number.
func slowDecode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("text after the value")
	}
	return nil
}

// slowObject decodes an object without ignoring the case of its members' names.
func slowObject(text []byte) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	err := slowDecode(text, &m)
	return m, err
}

func slowEntity(text []byte) (schema string, data any, err error) {
	m, err := slowObject(text)
	if err != nil {
		return "", nil, err
	}
	if raw, ok := m["schema"]; ok {
		if err := slowDecode(raw, &schema); err != nil {
			return "", nil, err
		}
	}
	if raw, ok := m["data"]; ok {
		var object map[string]any
		if err := slowDecode(raw, &object); err != nil {
			return "", nil, err
		}
		if object != nil {
			data = object
		}
	}
	return schema, data, nil
}

func slowContexts(out map[string]any, text string) error {
	m, err := slowObject([]byte(text))
	if err != nil {
		return err
	}
	var list []json.RawMessage
	if raw, ok := m["data"]; ok {
		if err := slowDecode(raw, &list); err != nil {
			return err
		}
	}
	found := map[string][]any{}
	for _, raw := range list {
		schema, data, err := slowEntity(raw)
		if err != nil {
			return err
		}
		name, err := slowName("contexts", schema)
		if err != nil {
			return err
		}
		found[name] = append(found[name], data)
	}
	for name, list := range found {
		out[name] = list
	}
	return nil
}

func slowUnstruct(out map[string]any, text string) error {
	m, err := slowObject([]byte(text))
	if err != nil {
		return err
	}
	if m["data"] == nil {
		return errors.New("no data")
	}
	schema, data, err := slowEntity(m["data"])
	if err != nil {
		return err
	}
	name, err := slowName("unstruct_event", schema)
	if err != nil {
		return err
	}
	out[name] = data
	return nil
}

// slowMap is the event as encoding/json would decode its JSON form, with UseNumber.
func slowMap(line []byte) (map[string]any, error) {
	parts := strings.Split(string(line), "\t")
	if len(parts) != NumFields {
		return nil, errors.New("wrong number of fields")
	}
	out := map[string]any{}
	for i, s := range parts {
		if s == "" {
			continue
		}
		name := fields[i].name
		var err error
		switch fields[i].kind {
		case String:
			out[name] = strings.Map(func(r rune) rune { return r }, s) // bad bytes one by one
		case Int:
			var n int
			n, err = strconv.Atoi(s)
			out[name] = json.Number(strconv.Itoa(n))
		case Double:
			var v float64
			v, err = strconv.ParseFloat(s, 64)
			if math.IsNaN(v) || math.IsInf(v, 0) {
				err = errors.New("not finite")
			}
			out[name] = json.Number(strconv.FormatFloat(v, 'g', -1, 64))
		case Bool:
			out[name], err = strconv.ParseBool(s)
		case Time:
			var at time.Time
			at, err = time.Parse("2006-01-02 15:04:05.999", s)
			out[name] = at.Format(time.RFC3339Nano)
		case Contexts:
			err = slowContexts(out, s)
		case Unstruct:
			err = slowUnstruct(out, s)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// numbers turns every number in v into a float64, or leaves its text if none can hold it.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil {
			return f
		}
		return "number " + v.String()
	case int:
		return float64(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case map[string]any:
		if v == nil {
			return nil
		}
		out := map[string]any{}
		for k, x := range v {
			out[strings.ToValidUTF8(k, "?")] = numbers(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = numbers(x)
		}
		return out
	}
	return v
}
