package jsontext

import (
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// Scanner passes over a text from At on and checks what it passes over. After a method has
// answered false, Problem says why, and At where. It is made as Scanner{Text: text}, or by
// [Scan] of bytes.
type Scanner struct {
	Text    string
	At      int
	Depth   int  // arrays and objects that are open
	Most    int  // how deep they may nest; MaxDepth when it is 0
	Spaces  int  // white space between tokens, in bytes
	Forms   Form // of all strings
	Problem Problem
}

// Scan is a scanner at the start of text.
func Scan(text []byte) Scanner { return Scanner{Text: view(text)} }

// ScanFrom is a scanner at the place at of text.
func ScanFrom(text []byte, at int) Scanner { return Scanner{Text: view(text), At: at} }

// Err is the error of a method that answered false.
func (s *Scanner) Err() *SyntaxError {
	e := &SyntaxError{Offset: s.At, Problem: s.Problem, Message: s.Problem.Error()}
	if s.Problem == TooDeep {
		e.Message = "nested deeper than " + strconv.Itoa(s.most())
	}
	return e
}

// Failed reports whether a method has answered false because the text is not JSON.
func (s *Scanner) Failed() bool { return s.Problem != NoProblem }

// Fail notes a problem at the place of the scanner, unless there is one.
func (s *Scanner) Fail(p Problem) bool {
	if s.Problem == NoProblem {
		if s.At >= len(s.Text) && (p == NoValue || p == NoCommaInObject || p == NoCommaInArray) {
			p = Truncated
		}
		s.Problem = p
	}
	return false
}

// Next is the first byte after white space, which it passes over; 0 at the end.
func (s *Scanner) Next() (c byte) {
	if s.At < len(s.Text) {
		c = s.Text[s.At]
	}
	if c > ' ' {
		return c
	}
	return s.space()
}

// space is the rest of Next, which is so small that it can be a part of its callers.
//
//go:noinline
func (s *Scanner) space() byte {
	from := s.At
	s.At = Space(s.Text, s.At)
	s.Spaces += s.At - from
	if s.At < len(s.Text) {
		return s.Text[s.At]
	}
	return 0
}

// Take passes over white space and c; false when another byte comes next.
func (s *Scanner) Take(c byte) bool {
	if s.Next() != c || s.At == len(s.Text) {
		return false
	}
	s.At++
	return true
}

// End reports whether nothing but white space is left.
func (s *Scanner) End() bool {
	s.Next()
	if s.At < len(s.Text) {
		return s.Fail(Trailing)
	}
	return true
}

// String passes over a string, whose opening quote comes next.
func (s *Scanner) String() (form Form, ok bool) {
	text, i := s.Text, s.At+1
	wide := uint64(0)
	for {
		for i+8 <= len(text) {
			w := load(text, i)
			if m := special(w); m != 0 {
				wide |= w & (m - 1) &^ m // the bytes before it
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			wide |= w
			i += 8
		}
		if i >= len(text) {
			s.At = i
			return form, s.Fail(Unclosed)
		}
		switch c := text[i]; {
		case c == '"':
			s.At = i + 1
			if wide&tops != 0 {
				form |= Wide
			}
			if form != 0 {
				s.Forms |= form
			}
			return form, true
		case c == '\\':
			n, how := escape(text, i)
			if n == 0 {
				s.At = i
				return form, s.Fail(BadEscape)
			}
			form |= how
			i += n
		case c < ' ':
			s.At = i
			return form, s.Fail(Control)
		default:
			wide |= uint64(c)
			i++
		}
	}
}

// Number passes over a number, which comes next; whole is set when it has neither fraction
// nor exponent.
func (s *Scanner) Number() (whole, ok bool) {
	end, whole, problem := Number(s.Text, s.At)
	s.At = end
	if problem != NoProblem {
		return false, s.Fail(problem)
	}
	return whole, true
}

// Word passes over true, false or null, of which the first letter comes next.
func (s *Scanner) Word(word string) bool {
	if len(s.Text)-s.At < len(word) || s.Text[s.At:s.At+len(word)] != word {
		return s.Fail(BadWord)
	}
	s.At += len(word)
	return true
}

func (s *Scanner) most() int {
	if s.Most > 0 {
		return s.Most
	}
	return MaxDepth
}

// Enter steps into an object or array, whose opening byte comes next.
func (s *Scanner) Enter() bool {
	if s.Depth >= s.most() {
		return s.Fail(TooDeep)
	}
	s.Depth++
	s.At++
	return true
}

// leave passes over the byte that closes an object or array.
func (s *Scanner) leave() {
	s.At++
	s.Depth--
}

// More moves to the next element or member: more is false when the closing byte was passed
// over. first must be true for the first call after Enter.
func (s *Scanner) More(first bool, closing byte) (more, ok bool) {
	c := s.Next()
	if c == closing {
		s.leave()
		return false, true
	}
	if first {
		return true, true
	}
	if c != ',' {
		if closing == '}' {
			return false, s.Fail(NoCommaInObject)
		}
		return false, s.Fail(NoCommaInArray)
	}
	s.At++
	return true, true
}

// Key passes over a member's name and the colon behind it.
func (s *Scanner) Key() (name string, ok bool) {
	if s.Next() != '"' {
		return "", s.Fail(NoName)
	}
	start := s.At
	form, ok := s.String()
	if !ok {
		return "", false
	}
	name = s.Text[start+1 : s.At-1]
	if form != 0 {
		name = Unquoted(s.Text[start:s.At])
	}
	if s.Next() == ':' {
		s.At++
		return name, true
	}
	return name, s.Colon()
}

// Colon passes over the colon behind a member's name.
func (s *Scanner) Colon() bool {
	if s.Next() != ':' {
		return s.Fail(NoColon)
	}
	s.At++
	return true
}

// odd reports whether a string of the given form is not what stands between its quotes.
func odd(inside string, form Form) bool {
	return form&Escaped != 0 || form&Wide != 0 && !utf8.ValidString(inside)
}

// Value passes over one value.
func (s *Scanner) Value() bool {
	switch c := s.Next(); c {
	case '"':
		_, ok := s.String()
		return ok
	case '{':
		return s.Enter() && s.members()
	case '[':
		return s.Enter() && s.elements()
	case 't':
		return s.Word("true")
	case 'f':
		return s.Word("false")
	case 'n':
		return s.Word("null")
	default:
		if c == '-' || c-'0' <= 9 {
			_, ok := s.Number()
			return ok
		}
	}
	return s.Fail(NoValue)
}

// members passes over what follows an opening brace.
func (s *Scanner) members() bool {
	if s.Next() == '}' {
		s.leave()
		return true
	}
	for {
		if s.Next() != '"' {
			return s.Fail(NoName)
		}
		if _, ok := s.String(); !ok {
			return false
		}
		if s.Next() != ':' {
			return s.Colon()
		}
		s.At++
		if !s.Value() {
			return false
		}
		switch s.Next() {
		case ',':
			s.At++
		case '}':
			s.leave()
			return true
		default:
			return s.Fail(NoCommaInObject)
		}
	}
}

// elements passes over what follows an opening bracket.
func (s *Scanner) elements() bool {
	if s.Next() == ']' {
		s.leave()
		return true
	}
	for {
		if !s.Value() {
			return false
		}
		switch s.Next() {
		case ',':
			s.At++
		case ']':
			s.leave()
			return true
		default:
			return s.Fail(NoCommaInArray)
		}
	}
}

// Member is where a member of an object lies: data[Start:End] is all of it.
type Member struct {
	Start  int  // its key's opening quote
	KeyEnd int  // its key's closing quote; the key is data[Start+1:KeyEnd]
	Value  int  // the first byte of its value
	End    int  // after its value
	Odd    bool // its name is not what stands between the quotes
}

// Name is m's name as it is read.
func (m Member) Name(data []byte) []byte {
	if !m.Odd {
		return data[m.Start+1 : m.KeyEnd]
	}
	return Unquote(nil, data[m.Start:m.KeyEnd+1])
}

// Of is the text of m's value.
func (m Member) Of(data []byte) []byte { return data[m.Value:m.End] }

// Member passes over a key, the colon, and white space up to the value, whose End is not
// known yet; false when there is no valid key.
func (s *Scanner) Member() (m Member, ok bool) {
	if s.Next() != '"' {
		return m, s.Fail(NoName)
	}
	m.Start = s.At
	form, ok := s.String()
	if !ok {
		return m, false
	}
	m.KeyEnd = s.At - 1
	if form&(Escaped|Wide) != 0 {
		m.Odd = odd(s.Text[m.Start+1:m.KeyEnd], form)
	}
	if s.Next() != ':' {
		return m, s.Colon()
	}
	s.At++
	s.Next()
	m.Value = s.At
	return m, true
}

// Object passes over an object and appends its members to into; false when it is not a
// valid object.
func (s *Scanner) Object(into []Member) ([]Member, bool) {
	if s.Next() != '{' {
		return into, s.Fail(NoValue)
	}
	if !s.Enter() {
		return into, false
	}
	if s.Next() == '}' {
		s.leave()
		return into, true
	}
	for {
		m, ok := s.Member()
		if !ok || !s.Value() {
			return into, false
		}
		m.End = s.At
		into = append(into, m)
		switch s.Next() {
		case ',':
			s.At++
		case '}':
			s.leave()
			return into, true
		default:
			return into, s.Fail(NoCommaInObject)
		}
	}
}
