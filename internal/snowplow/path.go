package snowplow

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/jsontext"
)

// Path leads to a value inside an entity's data: "a.b[0].c" is member a, its member b,
// the first element of that, and its member c. The empty path is the data itself.
type Path struct {
	text  string
	steps []step
}

type step struct {
	name  string
	index int // -1 for a member
}

// ParsePath reads a path. Empty names are passed over, so "a..b" is "a.b".
func ParsePath(text string) (Path, error) {
	if strings.Count(text, "[") != strings.Count(text, "]") {
		return Path{}, fmt.Errorf("unmatched brace in path: %s", text)
	}
	p := Path{text: text}
	for rest := text; rest != ""; {
		switch rest[0] {
		case '.':
			rest = rest[1:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return Path{}, fmt.Errorf("unmatched brace in path: %s", text)
			}
			n, err := strconv.ParseUint(rest[1:end], 10, 31)
			if err != nil {
				return Path{}, fmt.Errorf("error parsing path element: %s is not an index like [0]", rest[:end+1])
			}
			p.steps = append(p.steps, step{index: int(n)})
			rest = rest[end+1:]
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if strings.IndexByte(rest[:end], ']') >= 0 {
				return Path{}, fmt.Errorf("unmatched brace in path: %s", text)
			}
			p.steps = append(p.steps, step{name: rest[:end], index: -1})
			rest = rest[end:]
		}
	}
	return p, nil
}

// String is the path as it was written.
func (p Path) String() string { return p.text }

// find is the JSON text of the value p leads to in data, which must be valid JSON.
func (p Path) find(data string) (string, bool) {
	for _, s := range p.steps {
		var ok bool
		if s.index < 0 {
			data, ok = member(data, s.name)
		} else {
			data, ok = element(data, s.index)
		}
		if !ok {
			return "", false
		}
	}
	return data, true
}

// member is the value of the last member of an object with the given name.
func member(object, name string) (value string, found bool) {
	p := jsontext.Scanner{Text: object}
	if p.Next() != '{' || !p.Enter() {
		return "", false
	}
	for first := true; ; first = false {
		more, ok := p.More(first, '}')
		if !more {
			return value, found && ok
		}
		key, ok := p.Key()
		if !ok {
			return "", false
		}
		p.Next()
		start := p.At
		if !p.Value() {
			return "", false
		}
		if key == name {
			value, found = p.Text[start:p.At], true
		}
	}
}

// element is the value at an index of an array.
func element(array string, index int) (string, bool) {
	p := jsontext.Scanner{Text: array}
	if p.Next() != '[' || !p.Enter() {
		return "", false
	}
	for n := 0; ; n++ {
		if more, _ := p.More(n == 0, ']'); !more {
			return "", false
		}
		p.Next()
		start := p.At
		if !p.Value() {
			return "", false
		}
		if n == index {
			return p.Text[start:p.At], true
		}
	}
}

// Lookup appends to dst the text, as fmt's %v prints it, of the value that path leads to
// in the entity. Found is false when there is none; null is found, and has no text.
func (en *Entity) Lookup(dst []byte, path Path) (text []byte, found bool, err error) {
	raw, ok := path.find(en.Data)
	if !ok || raw == "" {
		return dst, false, nil
	}
	dst, err = appendJSONText(dst, raw)
	return dst, true, err
}

// LookupJSON is the JSON text of the value that path leads to in the entity.
func (en *Entity) LookupJSON(path Path) (raw string, found bool) { return path.find(en.Data) }
