package jsonvalue

import "github.com/weirdata/weir/internal/jsontext"

// Locate is the byte offset in text, which must be JSON, of the value that path leads to:
// object keys as strings, array places as ints. Where the path ends early it is the last
// value reached.
func Locate(text string, path []any) int {
	p := jsontext.Scanner{Text: text}
	p.Next()
	at := p.At
	for _, step := range path {
		if !descend(&p, step) {
			return at
		}
		at = p.At
	}
	return at
}

// descend moves from the start of a container to the start of one of its members.
func descend(p *jsontext.Scanner, step any) bool {
	key, isKey := step.(string)
	index, isIndex := step.(int)
	closing := byte(']')
	if isKey {
		closing = '}'
	}
	if c := p.Next(); isKey && c != '{' || isIndex && c != '[' || !p.Enter() {
		return false
	}
	for n := 0; ; n++ {
		if more, _ := p.More(n == 0, closing); !more {
			return false
		}
		var name string
		if isKey {
			var ok bool
			if name, ok = p.Key(); !ok {
				return false
			}
		}
		p.Next()
		if isKey && name == key || isIndex && n == index {
			return true
		}
		if !p.Value() {
			return false
		}
	}
}
