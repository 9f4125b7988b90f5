package script

import (
	"math"
	"slices"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/jsontext"
)

// maxJSONDepth is how deep arrays and objects may nest. Deeper text is refused before
// anything recurses over it.
const maxJSONDepth = jsontext.MaxDepth

// layout is what one pass over a JSON text finds out.
type layout struct {
	valid bool
	// deep is set when the text was refused for its nesting alone.
	deep bool
	// far says that some number is beyond the range of JavaScript's.
	far bool
	// plain says that JSON.stringify(JSON.parse(text)) gives back the very bytes of text,
	// and therefore that the bytes of any value inside it can be copied.
	plain bool
	// tidy says that text has no white space between tokens and no key twice in an
	// object: enough to copy bytes where numbers and strings are to stay as written.
	tidy bool
	// distinct says that no object has a key twice.
	distinct bool
}

// surveyor passes over a text to learn its layout.
type surveyor struct {
	jsontext.Scanner
	out    layout
	hashes []uint32 // key hashes of the open objects, innermost last
	// members are those of the outermost object, by their places in the text.
	members []member
}

// scratch is memory that surveyors use one after the other.
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
	p := surveyor{Scanner: jsontext.Scanner{Text: s}, hashes: scratch.hashes[:0], members: scratch.members[:0]}
	p.out.plain, p.out.tidy, p.out.distinct = true, true, true
	p.out.valid = p.value() && p.End()
	p.out.deep = p.Problem == jsontext.TooDeep
	if p.Spaces > 0 {
		p.out.plain, p.out.tidy = false, false
	}
	scratch.hashes, scratch.members = p.hashes[:0], p.members
	if cap(scratch.hashes) > scratchKept {
		scratch.hashes = nil
	}
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

func (p *surveyor) value() bool {
	switch c := p.Next(); c {
	case '"':
		start := p.At
		form, ok := p.String()
		if form&(jsontext.Long|jsontext.Wide) != 0 && (form&jsontext.Long != 0 || p.mended(start)) {
			p.out.plain = false
		}
		return ok
	case '{':
		return p.Enter() && p.object()
	case '[':
		return p.Enter() && p.array()
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return p.number()
	default:
		return p.Value()
	}
}

// mended reports whether the string from start on, which was passed over, is not UTF-8.
func (p *surveyor) mended(start int) bool { return !utf8.ValidString(p.Text[start:p.At]) }

func (p *surveyor) number() bool {
	start := p.At
	if _, ok := p.Number(); !ok {
		return false
	}
	if token := p.Text[start:p.At]; !plainNumber(token) {
		p.out.plain = false
		if x, ok := jsontext.Float(token); !ok && x != 0 {
			p.out.far = true
		}
	}
	return true
}

// array passes over what follows an opening bracket.
func (p *surveyor) array() bool {
	if p.Next() == ']' {
		_, ok := p.More(true, ']')
		return ok
	}
	for p.value() {
		if p.Next() == ',' {
			p.At++
			continue
		}
		more, ok := p.More(false, ']')
		return ok && !more
	}
	return false
}

// object passes over what follows an opening brace.
func (p *surveyor) object() bool {
	if p.Next() == '}' {
		_, ok := p.More(true, '}')
		return ok
	}
	base, outermost := len(p.hashes), p.Depth == 1
	for p.Next() == '"' {
		name := p.At
		form, ok := p.String()
		if !ok {
			return false
		}
		nameEnd := p.At
		odd := form != 0 && p.odd(name, form)
		if c := p.Text[name+1]; c >= '0' && c <= '9' {
			p.out.plain = false // may be an array index, which JavaScript moves to the front
		}
		p.seen(base, jsontext.Hash(p.Text[name+1:nameEnd-1]))
		if p.Next() != ':' {
			return p.Colon()
		}
		p.At++
		p.Next()
		token := p.At
		if !p.value() {
			return false
		}
		if outermost {
			p.members = append(p.members, member{name: uint32(name), nameEnd: uint32(nameEnd), token: uint32(token), tokenEnd: uint32(p.At), odd: odd})
		}
		if p.Next() == ',' {
			p.At++
			continue
		}
		p.hashes = p.hashes[:base]
		more, ok := p.More(false, '}')
		return ok && !more
	}
	return p.Fail(jsontext.NoName)
}

// odd reports whether the name from start on is not what stands between its quotes.
func (p *surveyor) odd(start int, form jsontext.Form) bool {
	mended := form&jsontext.Wide != 0 && p.mended(start)
	if mended || form&jsontext.Long != 0 {
		p.twice() // the same key may be spelled in two ways
	}
	return mended || form&jsontext.Escaped != 0
}

// seen notes a key of the innermost object. Two keys with one hash count as the same
// key, which only costs speed. Past 64 keys nothing is compared and the object counts
// as one with a key twice, so that a wide object costs no quadratic time.
func (p *surveyor) seen(base int, hash uint32) {
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
func (p *surveyor) twice() { p.out.plain, p.out.tidy, p.out.distinct = false, false, false }

// StripEmpty removes null, {} and [] from a valid JSON text, inside out, from objects
// and from arrays; the outermost value always stays.
func StripEmpty(text []byte) []byte {
	out := make([]byte, 0, len(text))
	out, _ = stripEmpty(out, string(text), jsontext.Space(string(text), 0))
	return out
}

// stripEmpty appends the value at i without what is empty in it, and returns where it ends.
func stripEmpty(dst []byte, s string, i int) ([]byte, int) {
	open := s[i]
	if open != '{' && open != '[' {
		end := jsontext.ValueEnd(s, i)
		return append(dst, s[i:end]...), end
	}
	dst = append(dst, open)
	first := len(dst)
	i = jsontext.Space(s, i+1)
	for s[i] != '}' && s[i] != ']' {
		mark := len(dst)
		if mark > first {
			dst = append(dst, ',')
		}
		if open == '{' {
			end := jsontext.StringEnd(s, i)
			dst = append(dst, s[i:end]...)
			dst = append(dst, ':')
			i = jsontext.Space(s, jsontext.Space(s, end)+1)
		}
		from := len(dst)
		dst, i = stripEmpty(dst, s, i)
		switch string(dst[from:]) {
		case "null", "{}", "[]":
			dst = dst[:mark]
		}
		i = jsontext.Space(s, i)
		if s[i] == ',' {
			i = jsontext.Space(s, i+1)
		}
	}
	return append(dst, s[i]), i + 1
}
