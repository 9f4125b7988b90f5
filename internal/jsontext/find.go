package jsontext

import "strconv"

// Find is the text of the value that path leads to in a text, which is valid: by the names of
// members and the numbers of elements.
func Find(text string, path []string) (value string, found bool) {
	for _, name := range path {
		if text, found = within(text, name); !found {
			return "", false
		}
	}
	s := Scanner{Text: text}
	s.Next()
	from := s.At
	ok := s.Value()
	return text[from:s.At], ok
}

// FindBytes is Find in bytes, which may be no valid text: what is found then is any part of it. The
// value is a copy.
func FindBytes(text []byte, path []string) (value []byte, found bool) {
	part, found := Find(view(text), path)
	return []byte(part), found
}

// within is the value called name of an object, or the one with that number of an array.
func within(text, name string) (value string, found bool) {
	s := Scanner{Text: text}
	switch s.Next() {
	case '{':
		var few [16]Member
		members, ok := s.Object(few[:0])
		if !ok {
			return "", false
		}
		return Last(text, members, name)
	case '[':
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 {
			return "", false
		}
		return element(&s, n)
	}
	return "", false
}

// Last is the value of the last of an object's members that is called name.
func Last(text string, members []Member, name string) (value string, found bool) {
	for i := len(members) - 1; i >= 0; i-- {
		m := &members[i]
		if m.Odd && reads(text[m.Start:m.KeyEnd+1], name) ||
			!m.Odd && m.KeyEnd-m.Start-1 == len(name) && text[m.Start+1:m.KeyEnd] == name {
			return text[m.Value:m.End], true
		}
	}
	return "", false
}

// reads reports whether a valid JSON string, given with its quotes, is read as text.
func reads(quoted, text string) bool {
	var few [64]byte
	return string(Unquote(few[:0], quoted)) == text
}

// element is the element number n of the array at s.
func element(s *Scanner, n int) (value string, found bool) {
	if !s.Enter() {
		return "", false
	}
	for i := 0; ; i++ {
		if more, _ := s.More(i == 0, ']'); !more {
			return "", false
		}
		s.Next()
		from := s.At
		if !s.Value() {
			return "", false
		}
		if i == n {
			return s.Text[from:s.At], true
		}
	}
}
