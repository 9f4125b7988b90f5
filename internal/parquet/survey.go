package parquet

import (
	"github.com/weirdata/weir/internal/jsontext"
)

// Survey counts what kinds of values fields have in many objects, so that the type of a new
// column is what most of them are, whatever comes first. Null, {} and [] count for nothing.
type Survey struct {
	options Options
	counts  map[string]*votes
	scan    jsontext.Scanner
	path    []byte
	order   int
}

// votes are how many values of a field are of a kind, and when the kind was seen first.
type votes struct {
	count, first [List + 1]int
}

// NewSurvey returns a survey of fields as a decoder with the same options sees them.
func NewSurvey(o Options) *Survey { return &Survey{options: o, counts: map[string]*votes{}} }

// Add counts the values of one object. What can be read of one that breaks off is counted.
func (s *Survey) Add(data []byte) {
	s.scan = jsontext.Scan(jsontext.UTF8(data))
	s.scan.Most = s.options.MaxDepth
	s.path = s.path[:0]
	if s.scan.Next() == '{' {
		s.value()
	}
}

// Kinds is the kind that most values of each field have: for numbers Int, whether or not some
// have a fraction. Of two that are equally frequent it is the one that was seen first.
func (s *Survey) Kinds() map[string]Kind {
	kinds := make(map[string]Kind, len(s.counts))
	for path, v := range s.counts {
		best := Unknown
		for k := Bool; k <= List; k++ {
			if n := v.count[k]; n > v.count[best] || n > 0 && n == v.count[best] && v.first[k] < v.first[best] {
				best = k
			}
		}
		kinds[path] = best
	}
	return kinds
}

func (s *Survey) count(k Kind) {
	v := s.counts[string(s.path)]
	if v == nil {
		if len(s.counts) >= 2*s.options.MaxColumns {
			return
		}
		v = &votes{}
		s.counts[string(s.path)] = v
	}
	if v.count[k] == 0 {
		s.order++
		v.first[k] = s.order
	}
	v.count[k]++
}

// value counts the value at the path, and those in it; false ends the object.
func (s *Survey) value() bool {
	switch c := s.scan.Next(); {
	case c == '{':
		return s.object()
	case c == '[':
		return s.list()
	case c == '"':
		s.count(String)
	case c == 't' || c == 'f':
		s.count(Bool)
	case c == '-' || c >= '0' && c <= '9':
		s.count(Int)
	}
	return s.scan.Value()
}

func (s *Survey) object() bool {
	if !s.scan.Enter() {
		return false
	}
	above, counted := len(s.path), false
	for n := 0; ; n++ {
		more, ok := s.scan.More(n == 0, '}')
		if !ok || !more {
			return ok
		}
		key, ok := s.scan.Key()
		if !ok {
			return false
		}
		if !counted && above > 0 && s.scan.Next() != 'n' {
			s.count(Object)
			counted = true
		}
		if above > 0 {
			s.path = append(s.path, '.')
		}
		s.path = append(s.path, key...)
		if !s.value() {
			return false
		}
		s.path = s.path[:above]
	}
}

func (s *Survey) list() bool {
	if !s.scan.Enter() {
		return false
	}
	above, counted := len(s.path), false
	for n := 0; ; n++ {
		more, ok := s.scan.More(n == 0, ']')
		if !ok || !more {
			return ok
		}
		if !counted && s.scan.Next() != 'n' {
			s.count(List)
			counted = true
		}
		s.path = append(s.path, "[]"...)
		if !s.value() {
			return false
		}
		s.path = s.path[:above]
	}
}
