package snowplow

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/jsontext"
)

// JSONSize is a good capacity for a buffer that AppendJSON will fill.
func (e *Event) JSONSize() int {
	n := len(e.line) + 2
	for f := range Field(NumFields) {
		if e.starts[f+1]-e.starts[f] > 1 {
			n += len(fieldKeys[f]) + 3
		}
	}
	return n
}

// AppendJSON appends the JSON form of the event, as the package comment describes it. An
// error names the field that has not the type it should; dst is then returned as it was.
func (e *Event) AppendJSON(dst []byte) ([]byte, error) {
	base := len(dst)
	dst = append(dst, '{')
	first := len(dst)
	for f := range Field(NumFields) {
		raw := e.Raw(f)
		if raw == "" {
			continue
		}
		kind := fields[f].kind
		if kind >= Contexts {
			continue
		}
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(dst, fieldKeys[f]...)
		var err error
		switch kind {
		case String:
			dst = jsontext.AppendString(dst, raw)
		case Int:
			dst, err = appendInt(dst, raw)
		case Double:
			dst, err = appendDouble(dst, raw)
		case Bool:
			dst, err = appendBool(dst, raw)
		case Time:
			dst, err = appendTime(dst, raw)
		}
		if err != nil {
			return dst[:base], fieldError(f, err)
		}
	}
	dst, err := e.appendEntities(dst, first)
	if err != nil {
		return dst[:base], err
	}
	return append(dst, '}'), nil
}

func (e *Event) appendEntities(dst []byte, first int) ([]byte, error) {
	contexts, derived, err := e.Contexts()
	if err != nil {
		return dst, err
	}
	dst = appendGroups(dst, first, contexts, derived)
	switch u, err := e.Unstruct(); {
	case err == nil:
		dst = appendKey(dst, first, u.Name)
		dst = u.append(dst)
	case !errors.Is(err, ErrEmpty):
		return dst, err
	}
	return appendGroups(dst, first, derived, nil), nil
}

// appendGroups appends one array for each name in list that is not also in over.
func appendGroups(dst []byte, first int, list, over []Entity) []byte {
	if len(list) > 64 || len(over) > 64 {
		return appendManyGroups(dst, first, list, over)
	}
	var done uint64
	for i := range list {
		if done&(1<<i) != 0 || hasName(over, list[i].Name) {
			continue
		}
		dst = appendKey(dst, first, list[i].Name)
		dst = append(dst, '[')
		dst = list[i].append(dst)
		for j := i + 1; j < len(list); j++ {
			if list[j].Name == list[i].Name {
				done |= 1 << j
				dst = append(dst, ',')
				dst = list[j].append(dst)
			}
		}
		dst = append(dst, ']')
	}
	return dst
}

func hasName(list []Entity, name string) bool {
	for i := range list {
		if list[i].Name == name {
			return true
		}
	}
	return false
}

// appendManyGroups is appendGroups in linear time, for events with many entities.
func appendManyGroups(dst []byte, first int, list, over []Entity) []byte {
	hidden := make(map[string]bool, len(over))
	for i := range over {
		hidden[over[i].Name] = true
	}
	groups := make(map[string][]int, len(list))
	var names []string
	for i := range list {
		name := list[i].Name
		if hidden[name] {
			continue
		}
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], i)
	}
	for _, name := range names {
		dst = appendKey(dst, first, name)
		for n, i := range groups[name] {
			if n == 0 {
				dst = append(dst, '[')
			} else {
				dst = append(dst, ',')
			}
			dst = list[i].append(dst)
		}
		dst = append(dst, ']')
	}
	return dst
}

// appendKey appends a shredded name, which needs no escaping.
func appendKey(dst []byte, first int, name string) []byte {
	if len(dst) > first {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// append appends the entity's data on one line and in valid UTF-8.
func (en *Entity) append(dst []byte) []byte {
	data := jsontext.UTF8(en.Data)
	if !en.spaced {
		return append(dst, data...)
	}
	return jsontext.Compact(dst, data)
}

// appendInt copies a number that is written as JSON writes it, and parses any other.
func appendInt(dst []byte, s string) ([]byte, error) {
	if len(s) <= 18 && s[0] != '0' && digits(s, 0) == len(s) {
		return append(dst, s...), nil
	}
	n, err := parseInt(s)
	if err != nil {
		return dst, err
	}
	return strconv.AppendInt(dst, int64(n), 10), nil
}

// appendDouble appends the shortest number that reads back as the same float64.
func appendDouble(dst []byte, s string) ([]byte, error) {
	if isShortest(s) {
		return append(dst, s...), nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return dst, fmt.Errorf("%s is not a finite number", brief(s))
	}
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, 64), nil
}

// isShortest reports whether s is certainly its own shortest form: at most 15 digits,
// none of them idle, and no exponent needed.
func isShortest(s string) bool {
	if len(s) > 16 {
		return false
	}
	i := 0
	if s[0] == '-' {
		i = 1
	}
	whole := digits(s, i)
	if whole == i || (s[i] == '0' && whole != i+1) || whole-i > 15 {
		return false
	}
	if whole == len(s) {
		return s[i] != '0' || i == 0 // "-0" keeps its sign the slow way
	}
	if s[whole] != '.' {
		return false
	}
	end := digits(s, whole+1)
	if end != len(s) || end == whole+1 || s[end-1] == '0' || end-i > 16 {
		return false
	}
	// Below 0.1 the shortest form may need an exponent.
	return s[i] != '0' || s[whole+1] != '0'
}

func appendBool(dst []byte, s string) ([]byte, error) {
	v, err := parseBool(s)
	if err != nil {
		return dst, err
	}
	return strconv.AppendBool(dst, v), nil
}

// appendTime appends a timestamp as RFC 3339 in UTC, without idle zeros.
func appendTime(dst []byte, s string) ([]byte, error) {
	if isTime(s) {
		if len(s) > 19 {
			s = strings.TrimRight(s, "0")
			s = strings.TrimSuffix(s, ".")
		}
		dst = append(dst, '"')
		dst = append(dst, s[:10]...)
		dst = append(dst, 'T')
		dst = append(dst, s[11:]...)
		return append(dst, 'Z', '"'), nil
	}
	t, err := parseTime(s)
	if err != nil {
		return dst, err
	}
	dst = append(dst, '"')
	dst = t.AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"'), nil
}

// isTime reports whether s is certainly a valid timestamp in the usual form. Days after
// the 28th are left to package time.
func isTime(s string) bool {
	if len(s) < 19 || len(s) > 29 || len(s) == 20 {
		return false
	}
	if s[4] != '-' || s[7] != '-' || s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return false
	}
	if digits(s, 0) != 4 {
		return false
	}
	month, day := two(s, 5), two(s, 8)
	if month < 1 || month > 12 || day < 1 || day > 28 {
		return false
	}
	if h, m, sec := two(s, 11), two(s, 14), two(s, 17); h < 0 || h > 23 || m < 0 || m > 59 || sec < 0 || sec > 59 {
		return false
	}
	return len(s) == 19 || (s[19] == '.' && digits(s, 20) == len(s))
}

// two is the number two digits make, -1 if they are not digits.
func two(s string, i int) int {
	a, b := s[i]-'0', s[i+1]-'0'
	if a > 9 || b > 9 {
		return -1
	}
	return int(a)*10 + int(b)
}

func digits(s string, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}
