package jsonvalue

// Locate is the byte offset in text, which must be JSON, of the value that path leads to:
// object keys as strings, array places as ints. Where the path ends early it is the last
// value reached.
func Locate(text string, path []any) int {
	p := parser{s: text}
	p.space()
	at := p.i
	for _, step := range path {
		if !p.descend(step) {
			return at
		}
		at = p.i
	}
	return at
}

// descend moves from the start of a container to the start of one of its members.
func (p *parser) descend(step any) bool {
	key, isKey := step.(string)
	index, isIndex := step.(int)
	if p.i >= len(p.s) || isKey && p.s[p.i] != '{' || isIndex && p.s[p.i] != '[' {
		return false
	}
	p.i++
	for n := 0; p.err == nil; n++ {
		p.space()
		if p.i >= len(p.s) || p.s[p.i] == '}' || p.s[p.i] == ']' {
			return false
		}
		var k string
		if isKey {
			k, _ = p.str()
			p.space()
			p.i++ // the colon
			p.space()
		}
		if isKey && k == key || isIndex && n == index {
			return true
		}
		p.value()
		p.space()
		p.i++ // the comma
	}
	return false
}
