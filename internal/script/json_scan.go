package script

import (
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxJSONDepth is how deep arrays and objects may nest. Deeper text is refused before
// anything recurses over it.
const maxJSONDepth = 10000

// layout is what one pass over a JSON text finds out.
type layout struct {
	valid bool
	// deep is set when the text was refused for its nesting alone.
	deep bool
	// plain says that JSON.stringify(JSON.parse(text)) gives back the very bytes of text,
	// and therefore that the bytes of any value inside it can be copied.
	plain bool
	// tidy says that text has no white space between tokens and no key twice in an
	// object: enough to copy bytes where numbers and strings are to stay as written.
	tidy bool
	// distinct says that no object has a key twice.
	distinct bool
}

// scanner validates JSON as RFC 8259 defines it.
type scanner struct {
	s      string
	i      int
	depth  int
	out    layout
	hashes []uint32 // key hashes of the open objects, innermost last
	// members are those of the outermost object, by their places in s.
	members []member
}

// scratch is memory that scanners use one after the other.
type scratch struct {
	hashes  []uint32
	members []member
}

// scratchKept is how much of a scratch is kept for the next text.
const scratchKept = 1 << 12

// survey validates s and finds out how it is laid out. What it leaves in the scratch is
// the members of s, if s is an object.
func survey(s string, scratch *scratch) layout {
	if uint64(len(s)) > math.MaxUint32 {
		return layout{} // a member holds places of 32 bits
	}
	p := scanner{s: s, hashes: scratch.hashes[:0], members: scratch.members[:0]}
	p.out.plain, p.out.tidy, p.out.distinct = true, true, true
	p.space()
	ok := p.value()
	if ok {
		p.space()
		ok = p.i == len(s)
	}
	scratch.hashes, scratch.members = p.hashes[:0], p.members
	if cap(scratch.hashes) > scratchKept {
		scratch.hashes = nil
	}
	p.out.valid = ok
	return p.out
}

// found is the members that the last survey found, for the caller to keep. shift is how
// far its text begins after the one surveyed, and room for how many more members to have.
func (s *scratch) found(shift, room int) []member {
	members := make([]member, len(s.members), len(s.members)+room)
	copy(members, s.members)
	if shift > 0 {
		for i := range members {
			m := &members[i]
			m.name -= uint32(shift)
			m.nameEnd -= uint32(shift)
			m.token -= uint32(shift)
			m.tokenEnd -= uint32(shift)
		}
	}
	if cap(s.members) > scratchKept {
		s.members = nil
	}
	return members
}

func (p *scanner) space() {
	start := p.i
	p.i = skipSpace(p.s, p.i)
	if p.i != start {
		p.out.plain, p.out.tidy = false, false
	}
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

func (p *scanner) value() bool {
	if p.i >= len(p.s) {
		return false
	}
	switch c := p.s[p.i]; c {
	case '"':
		return p.text()
	case '{':
		return p.object()
	case '[':
		return p.array()
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	default:
		return p.number()
	}
}

func (p *scanner) word(w string) bool {
	if len(p.s)-p.i < len(w) || p.s[p.i:p.i+len(w)] != w {
		return false
	}
	p.i += len(w)
	return true
}

func (p *scanner) enter() bool {
	p.depth++
	if p.depth > maxJSONDepth {
		p.out.deep = true
		return false
	}
	p.i++
	p.space()
	return true
}

func (p *scanner) array() bool {
	if !p.enter() {
		return false
	}
	if p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
		p.depth--
		return true
	}
	for {
		if !p.value() {
			return false
		}
		p.space()
		if p.i >= len(p.s) {
			return false
		}
		switch p.s[p.i] {
		case ',':
			p.i++
			p.space()
		case ']':
			p.i++
			p.depth--
			return true
		default:
			return false
		}
	}
}

func (p *scanner) object() bool {
	if !p.enter() {
		return false
	}
	base := len(p.hashes)
	if p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
		p.depth--
		return true
	}
	for {
		if p.i >= len(p.s) || p.s[p.i] != '"' {
			return false
		}
		m := member{name: uint32(p.i)}
		hash, odd, ok := p.key()
		if !ok {
			return false
		}
		m.nameEnd, m.odd = uint32(p.i), odd
		if c := p.s[m.name+1]; c >= '0' && c <= '9' {
			p.out.plain = false // may be an array index, which JavaScript moves to the front
		}
		p.seen(base, hash)
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != ':' {
			return false
		}
		p.i++
		p.space()
		m.token = uint32(p.i)
		if !p.value() {
			return false
		}
		if p.depth == 1 {
			m.tokenEnd = uint32(p.i)
			p.members = append(p.members, m)
		}
		p.space()
		if p.i >= len(p.s) {
			return false
		}
		switch p.s[p.i] {
		case ',':
			p.i++
			p.space()
		case '}':
			p.i++
			p.depth--
			p.hashes = p.hashes[:base]
			return true
		default:
			return false
		}
	}
}

// seen notes a key of the innermost object. Two keys with one hash count as the same
// key, which only costs speed. Past 64 keys nothing is compared and the object counts
// as one with a key twice, so that a wide object costs no quadratic time.
func (p *scanner) seen(base int, hash uint32) {
	if !p.out.distinct {
		return
	}
	if len(p.hashes)-base >= 64 || slices.Contains(p.hashes[base:], hash) {
		p.twice()
		return
	}
	p.hashes = append(p.hashes, hash)
}

// twice notes that an object has, or may have, a key twice.
func (p *scanner) twice() { p.out.plain, p.out.tidy, p.out.distinct = false, false, false }

// key reads the name of a member and returns a hash of its bytes, and whether the name is
// not what stands between its quotes.
func (p *scanner) key() (hash uint32, odd, ok bool) {
	s, i := p.s, p.i+1
	start, wide := i, false
	hash = 2166136261
	for i < len(s) {
		c := s[i]
		switch {
		case c == '"':
			p.i = i + 1
			if wide && !utf8.ValidString(s[start:i]) {
				p.out.plain, odd = false, true
			}
			return hash, odd, true
		case c == '\\':
			n := escapeLength(s[i:])
			if n == 0 {
				return 0, false, false
			}
			if n > 2 || s[i+1] == '/' {
				p.twice() // the same key may be spelled in two ways
			}
			odd = true
			hash = (hash ^ uint32(s[i+1])) * 16777619
			i += n
		case c < 0x20:
			return 0, false, false
		default:
			wide = wide || c >= utf8.RuneSelf
			hash = (hash ^ uint32(c)) * 16777619
			i++
		}
	}
	return 0, false, false
}

// text reads a string that is not the name of a member.
func (p *scanner) text() bool {
	s, i := p.s, p.i+1
	start, wide := i, false
	for {
		if i = simpleEnd(s, i); i >= len(s) {
			return false
		}
		switch c := s[i]; {
		case c == '"':
			p.i = i + 1
			if wide && !utf8.ValidString(s[start:i]) {
				p.out.plain = false
			}
			return true
		case c == '\\':
			n := escapeLength(s[i:])
			if n == 0 {
				return false
			}
			if n > 2 || s[i+1] == '/' {
				p.out.plain = false
			}
			i += n
		case c < 0x20:
			return false
		default:
			for wide = true; i < len(s) && s[i] >= utf8.RuneSelf; i++ {
			}
		}
	}
}

// escapeLength is the length of the escape s begins with, zero when it is none.
func escapeLength(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s); ok {
			return 6
		}
	}
	return 0
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[2:6]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

func (p *scanner) number() bool {
	end, ok := numberEnd(p.s, p.i)
	if !ok {
		return false
	}
	token := p.s[p.i:end]
	if !plainNumber(token) {
		p.out.plain = false
		if _, err := strconv.ParseFloat(token, 64); err != nil {
			return false // out of range: not a number JavaScript's parser accepts here
		}
	}
	p.i = end
	return true
}

func digits(s string, i int) int {
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}

// numberEnd is where the number that starts at i ends.
func numberEnd(s string, i int) (int, bool) {
	if i < len(s) && s[i] == '-' {
		i++
	}
	start := i
	i = digits(s, i)
	if i == start || (s[start] == '0' && i > start+1) {
		return i, false
	}
	if i < len(s) && s[i] == '.' {
		from := i + 1
		i = digits(s, from)
		if i == from {
			return i, false
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		from := i
		i = digits(s, from)
		if i == from {
			return i, false
		}
	}
	return i, true
}

// valueEnd is where the value that starts at i ends, in text known to be valid.
func valueEnd(s string, i int) int {
	switch s[i] {
	case '"':
		return stringEnd(s, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch s[i] {
			case '"':
				i = stringEnd(s, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(s) && s[i] > ' ' && s[i] != ',' && s[i] != ']' && s[i] != '}' {
			i++
		}
		return i
	}
}

func stringEnd(s string, i int) int {
	for i++; ; i++ {
		switch i = simpleEnd(s, i); s[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// StripEmpty removes null, {} and [] from a valid JSON text, inside out, from objects
// and from arrays; the outermost value always stays.
func StripEmpty(text []byte) []byte {
	out := make([]byte, 0, len(text))
	out, _ = stripEmpty(out, string(text), skipSpace(string(text), 0))
	return out
}

// stripEmpty appends the value at i without what is empty in it, and returns where it ends.
func stripEmpty(dst []byte, s string, i int) ([]byte, int) {
	open := s[i]
	if open != '{' && open != '[' {
		end := valueEnd(s, i)
		return append(dst, s[i:end]...), end
	}
	dst = append(dst, open)
	first := len(dst)
	i = skipSpace(s, i+1)
	for s[i] != '}' && s[i] != ']' {
		mark := len(dst)
		if mark > first {
			dst = append(dst, ',')
		}
		if open == '{' {
			end := stringEnd(s, i)
			dst = append(dst, s[i:end]...)
			dst = append(dst, ':')
			i = skipSpace(s, skipSpace(s, end)+1)
		}
		from := len(dst)
		dst, i = stripEmpty(dst, s, i)
		switch string(dst[from:]) {
		case "null", "{}", "[]":
			dst = dst[:mark]
		}
		i = skipSpace(s, i)
		if s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
	return append(dst, s[i]), i + 1
}
