// Package jsonpath evaluates JSONPath as the States Language does: with the semantics of
// Jayway JsonPath.
//
// A path is definite when it can lead to one value at most. A definite path gives that
// value, or a [NotFound] error; any other path gives an array of what it found, empty when
// that is nothing.
//
//	$                      the document
//	.name  ['name']        a member; ['a','b'] at the end of a path gives an object of those
//	[0]  [-1]  [0,2]       items of an array
//	[1:3]  [1:]  [:-1]     a slice; a step is read and ignored
//	.*  [*]                all members
//	..name  ..*  ..[0]     at every depth, outer before inner
//	[?(@.a > 1 && @.b)]    members for which a condition holds: == != < <= > >= === !==
//	                       =~ in nin subsetof anyof noneof size empty contains, && || !
//	.length() and so on    min max avg stddev sum keys first last index(n) append(x) concat(x)
//
// Two things that surprise: in a slice with both ends, [1:-1], a negative end counts from
// zero downwards and finds nothing; and 42 == "42" holds in a condition.
//
// A Path is immutable and safe for concurrent use. Evaluation visits at most MaxVisits
// nodes.
package jsonpath

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// MaxVisits is how many nodes one evaluation may look at.
const MaxVisits = 1_000_000

// MaxLength is how many bytes a path may have.
const MaxLength = 16 << 10

// Path is a compiled path.
type Path struct {
	text     string
	steps    []step
	definite bool // without the functions at the end
	calls    []call
}

type stepKind uint8

const (
	property   stepKind = iota // one key
	properties                 // several keys
	index                      // one place
	indexes                    // several places
	slice
	wildcard
	filtered
)

type step struct {
	kind   stepKind
	deep   bool // at every depth below
	key    string
	keys   []string
	at     int
	places []int
	from   *int
	to     *int
	cond   condition
}

// SyntaxError says why a text is not a path, and where.
type SyntaxError struct {
	Path    string
	Offset  int
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("path %q: %s at character %d", e.Path, e.Message, e.Offset+1)
}

// NotFound is what a definite path that leads nowhere gives.
type NotFound struct{ Message string }

func (e *NotFound) Error() string { return e.Message }

// Compile reads a path that begins with $.
func Compile(text string) (*Path, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{Path: text[:40] + "...", Message: fmt.Sprintf("longer than %d bytes", MaxLength)}
	}
	c := &compiler{s: text}
	p, err := c.path('$')
	if err == nil && c.i < len(c.s) {
		err = c.fail("unexpected character")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// String is the path as it was written.
func (p *Path) String() string { return p.text }

// Definite reports whether the path leads to one value at most.
func (p *Path) Definite() bool { return p.definite }

// Root reports whether the path is the document itself.
func (p *Path) Root() bool { return len(p.steps) == 0 && len(p.calls) == 0 }

// Reference reports whether the path names one place in a document, so that something can
// be put there: members and single items only.
func (p *Path) Reference() bool {
	if len(p.calls) > 0 {
		return false
	}
	for i := range p.steps {
		if s := &p.steps[i]; s.deep || s.kind != property && (s.kind != index || s.at < 0) {
			return false
		}
	}
	return true
}

type compiler struct {
	s     string
	i     int
	depth int // of conditions within conditions
}

// maxConditionDepth bounds the nesting of conditions.
const maxConditionDepth = 100

func (c *compiler) fail(format string, args ...any) error {
	return &SyntaxError{Path: c.s, Offset: c.i, Message: fmt.Sprintf(format, args...)}
}

func (c *compiler) at(b byte) bool { return c.i < len(c.s) && c.s[c.i] == b }

func (c *compiler) space() {
	for c.at(' ') {
		c.i++
	}
}

// path reads a path with the given root character: as far as it goes.
func (c *compiler) path(root byte) (*Path, error) {
	start := c.i
	if !c.at(root) {
		return nil, c.fail("a path must begin with %q", string(root))
	}
	c.i++
	p := &Path{definite: true}
	for c.at('.') || c.at('[') {
		if len(p.calls) > 0 && !c.callAhead() {
			return nil, c.fail("nothing but a function can follow a function")
		}
		if err := c.step(p); err != nil {
			return nil, err
		}
	}
	for i := range p.steps {
		s := &p.steps[i]
		last := i == len(p.steps)-1
		if s.deep || s.kind != property && s.kind != index && (s.kind != properties || !last) {
			p.definite = false
		}
	}
	p.text = c.s[start:c.i]
	return p, nil
}

// callAhead reports whether ".name(" comes next.
func (c *compiler) callAhead() bool {
	rest := c.s[c.i:]
	end := strings.IndexAny(rest[1:], ".[( ")
	return rest[0] == '.' && end > 0 && rest[1+end] == '('
}

func (c *compiler) step(p *Path) error {
	var s step
	if c.at('.') {
		c.i++
		if c.at('.') {
			s.deep = true
			c.i++
		}
		if c.i >= len(c.s) {
			return c.fail("a path must not end with a point")
		}
		if c.at('.') {
			return c.fail("too many points")
		}
	}
	switch {
	case c.at('['):
		if err := c.bracket(&s); err != nil {
			return err
		}
	case c.at('*'):
		c.i++
		s.kind = wildcard
	default:
		name, err := c.name()
		if err != nil {
			return err
		}
		if c.at('(') {
			if s.deep {
				return c.fail("a function cannot follow two points")
			}
			return c.function(p, name)
		}
		s.kind, s.key = property, name
	}
	p.steps = append(p.steps, s)
	return nil
}

// name reads a member's name as it stands after a point.
func (c *compiler) name() (string, error) {
	start := c.i
	for c.i < len(c.s) && !strings.ContainsRune(".[(", rune(c.s[c.i])) && !c.nameEnds() {
		if c.at(' ') {
			return "", c.fail("a name with blanks needs brackets, like ['my name']; blank found")
		}
		c.i++
	}
	if c.i == start {
		return "", c.fail("a name is missing")
	}
	return c.s[start:c.i], nil
}

// nameEnds reports whether a path inside a condition or an argument list ends here.
func (c *compiler) nameEnds() bool {
	return c.depth > 0 && strings.IndexByte(" )=!<>&|,]", c.s[c.i]) >= 0
}

func (c *compiler) bracket(s *step) error {
	c.i++
	c.space()
	switch {
	case c.at('\'') || c.at('"'):
		return c.quotedKeys(s)
	case c.at('*'):
		c.i++
		s.kind = wildcard
		return c.close()
	case c.at('?'):
		return c.filter(s)
	default:
		return c.places(s)
	}
}

func (c *compiler) close() error {
	c.space()
	if !c.at(']') {
		return c.fail("']' is missing")
	}
	c.i++
	return nil
}

func (c *compiler) quotedKeys(s *step) error {
	var keys []string
	for {
		if !c.at('\'') && !c.at('"') {
			return c.fail("a name in quotes is missing")
		}
		k, err := c.quoted()
		if err != nil {
			return err
		}
		keys = append(keys, k)
		c.space()
		if !c.at(',') {
			break
		}
		c.i++
		c.space()
	}
	s.kind, s.key = property, keys[0]
	if len(keys) > 1 {
		s.kind, s.keys = properties, keys
	}
	return c.close()
}

// quoted reads a text in quotes. A backslash escapes the quote and itself; before any other
// character it stands for itself.
func (c *compiler) quoted() (string, error) {
	quote := c.s[c.i]
	c.i++
	var out []byte
	for c.i < len(c.s) {
		b := c.s[c.i]
		if b == quote {
			c.i++
			return string(out), nil
		}
		if b == '\\' && c.i+1 < len(c.s) && (c.s[c.i+1] == quote || c.s[c.i+1] == '\\') {
			c.i++
			b = c.s[c.i]
		}
		out = append(out, b)
		c.i++
	}
	return "", c.fail("a quote is not closed")
}

// places reads [0], [0,1] and [from:to].
func (c *compiler) places(s *step) error {
	end := strings.IndexByte(c.s[c.i:], ']')
	if end < 0 {
		return c.fail("']' is missing")
	}
	text := c.s[c.i : c.i+end]
	if strings.Contains(text, ":") {
		if err := c.sliceOf(s, text); err != nil {
			return err
		}
	} else {
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(part))
			if err != nil {
				return c.fail("%q is neither a place in an array, a name in quotes, * nor a condition", part)
			}
			s.places = append(s.places, n)
		}
		s.kind, s.at = index, s.places[0]
		if len(s.places) > 1 {
			s.kind = indexes
		}
	}
	c.i += end + 1
	return nil
}

func (c *compiler) sliceOf(s *step, text string) error {
	s.kind = slice
	parts := strings.Split(text, ":")
	for i, end := range []**int{&s.from, &s.to} {
		part := strings.TrimSpace(parts[i])
		if part == "" {
			continue
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return c.fail("%q is no end of a slice", part)
		}
		*end = &n
	}
	if s.from == nil && s.to == nil {
		return c.fail("a slice needs at least one end")
	}
	return nil
}

// Put is doc with item at the place the path names, which must be a Reference. Members that
// are missing are made; an item of an array must be there.
func (p *Path) Put(doc, item jsonvalue.Value) (jsonvalue.Value, error) {
	return p.put(doc, 0, item)
}

func (p *Path) put(doc jsonvalue.Value, n int, item jsonvalue.Value) (jsonvalue.Value, error) {
	if n == len(p.steps) {
		return item, nil
	}
	s := &p.steps[n]
	if s.kind == property {
		if doc.Defined() && doc.Kind() != jsonvalue.Object {
			return doc, &NotFound{Message: fmt.Sprintf("%s leads into a value that is no object", p.text)}
		}
		child, err := p.put(doc.Get(s.key), n+1, item)
		if err != nil {
			return doc, err
		}
		return doc.With(s.key, child), nil
	}
	if doc.Kind() != jsonvalue.Array || s.at < 0 || s.at >= doc.Len() {
		return doc, &NotFound{Message: fmt.Sprintf("%s leads to an item that is not there", p.text)}
	}
	child, err := p.put(doc.Item(s.at), n+1, item)
	if err != nil {
		return doc, err
	}
	return doc.WithItem(s.at, child), nil
}
