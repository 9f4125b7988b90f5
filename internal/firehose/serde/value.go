package serde

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/jsontext"
)

// value appends value, which is valid JSON and not null, as a value of c.
func (r *Reader) value(dst, value []byte, c *column) ([]byte, error) {
	switch c.kind {
	case isStruct:
		return r.members(dst, value, c, r.fields(c))
	case isArray:
		return r.elements(dst, value, c.of)
	case isMap:
		return r.entries(dst, value, c.of)
	}
	text, scalar := plain(value)
	if c.kind == isString {
		if !scalar {
			if r.strict {
				return dst, fmt.Errorf("%s is no text", shown(value))
			}
			text = string(jsontext.Compact(nil, value))
		}
		if c.digits > 0 && utf8.RuneCountInString(text) > c.digits {
			return dst, fmt.Errorf("%s has more than %d characters", shown(value), c.digits)
		}
		return jsontext.AppendString(dst, text), nil
	}
	quoted := value[0] == '"'
	if !scalar || quoted && r.strict && (c.kind == isBoolean || c.kind == isInteger || c.kind == isFloat || c.kind == isDecimal) {
		return dst, fmt.Errorf("%s is no %s", shown(value), c.kind)
	}
	out, err := r.scalar(dst, strings.TrimSpace(text), quoted, c)
	if err != nil {
		return dst, fmt.Errorf("%s is no %s: %w", shown(value), c.kind, err)
	}
	return out, nil
}

// plain is the text of a string, number or bool.
func plain(value []byte) (text string, ok bool) {
	switch value[0] {
	case '{', '[':
		return "", false
	case '"':
		return string(jsontext.Unquote(nil, value)), true
	}
	return string(value), true
}

func (k kind) String() string {
	return [...]string{"bool", "integer", "number", "decimal", "text", "date", "timestamp", "list", "map", "object"}[k]
}

var (
	errRange = errors.New("it is out of range")
	errForm  = errors.New("it is in no form that is read")
)

func (r *Reader) scalar(dst []byte, text string, quoted bool, c *column) ([]byte, error) {
	switch c.kind {
	case isBoolean:
		switch strings.ToLower(text) {
		case "true":
			return append(dst, "true"...), nil
		case "false":
			return append(dst, "false"...), nil
		}
		return dst, errForm
	case isInteger:
		n, err := integer(text)
		if err != nil {
			return dst, err
		}
		if most := int64(1)<<(c.bits-1) - 1; n > most || n < -most-1 {
			return dst, errRange
		}
		return strconv.AppendInt(dst, n, 10), nil
	case isFloat:
		x, ok := jsontext.Float(text)
		if !ok || !jsontext.Valid(text) || math.IsInf(x, 0) || math.IsNaN(x) {
			return dst, errForm
		}
		return append(dst, text...), nil
	case isDecimal:
		return decimal(dst, text, c)
	case isDate:
		t, err := time.Parse(time.DateOnly, text)
		if err != nil || !quoted {
			return dst, errForm
		}
		return jsontext.AppendString(dst, t.Format(time.DateOnly)), nil
	}
	t, err := r.instant(text)
	if err != nil {
		return dst, err
	}
	return jsontext.AppendString(dst, t.UTC().Format(time.RFC3339Nano)), nil
}

// integer is a whole number, also one that is written as 1.0 or 1e3.
func integer(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	if !jsontext.Valid(text) {
		return 0, errForm
	}
	x, ok := jsontext.Float(text)
	switch {
	case !ok:
		return 0, errForm
	case x != math.Trunc(x):
		return 0, errors.New("it has a fraction")
	case x < -1<<53 || x > 1<<53:
		return 0, errRange
	}
	return int64(x), nil
}

// decimal appends a number that has no more digits than its column.
func decimal(dst []byte, text string, c *column) ([]byte, error) {
	const most, mostExponent = 100, 100 // what is beyond would be a number of very many digits
	if _, exponent, has := strings.Cut(strings.ToLower(text), "e"); has {
		if n, err := strconv.Atoi(exponent); err != nil || n > mostExponent || n < -mostExponent {
			return dst, errRange
		}
	}
	if len(text) > most || !jsontext.Valid(text) {
		return dst, errForm
	}
	x, ok := new(big.Rat).SetString(text)
	if !ok {
		return dst, errForm
	}
	ten := big.NewInt(10)
	scaled := new(big.Rat).Mul(x, new(big.Rat).SetInt(new(big.Int).Exp(ten, big.NewInt(int64(c.scale)), nil)))
	if !scaled.IsInt() {
		return dst, fmt.Errorf("it has more than %d digits behind the point", c.scale)
	}
	if new(big.Int).Abs(scaled.Num()).Cmp(new(big.Int).Exp(ten, big.NewInt(int64(c.digits)), nil)) >= 0 {
		return dst, errRange
	}
	return append(dst, x.FloatString(c.scale)...), nil
}

// isoLayouts are the forms of times that OpenX reads.
var isoLayouts = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-1-2 15:04:05"}

// jdbcLayout is the form of times that Hive reads.
const jdbcLayout = "2006-01-02 15:04:05"

func (r *Reader) instant(text string) (time.Time, error) {
	layouts := isoLayouts
	if r.strict {
		if layouts = r.formats; len(layouts) == 0 {
			layouts = []string{jdbcLayout}
		}
	}
	for _, l := range layouts {
		if l == millis {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				return since(n, 0)
			}
			continue
		}
		if t, err := time.Parse(l, text); err == nil {
			return t, nil
		}
	}
	if r.strict {
		return time.Time{}, errForm
	}
	return epoch(text)
}

// epoch reads seconds since 1970, with or without a fraction, or, as a whole number of more than ten
// digits, milliseconds.
func epoch(text string) (time.Time, error) {
	const seconds = 10 // digits
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if len(strings.TrimPrefix(text, "-")) <= seconds {
			n *= 1000
		}
		return since(n, 0)
	}
	whole, fraction, ok := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if !ok || err != nil || len(whole) > seconds+1 || fraction == "" || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, errForm
	}
	nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, errForm
	}
	if strings.HasPrefix(text, "-") {
		nanos = -nanos
	}
	return since(n*1000, nanos)
}

// since is a time since 1970. Years have four digits.
func since(milliseconds, nanos int64) (time.Time, error) {
	t := time.UnixMilli(milliseconds).Add(time.Duration(nanos)).UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return t, errRange
	}
	return t, nil
}

// elements appends a list of values of c.
func (r *Reader) elements(dst, data []byte, c *column) ([]byte, error) {
	if data[0] != '[' {
		return dst, fmt.Errorf("%s is no list", shown(data))
	}
	s := jsontext.ScanFrom(data, 1)
	dst = append(dst, '[')
	for n := 0; s.Next() != ']'; n++ {
		if n > 0 {
			s.At++ // the comma
			s.Next()
			dst = append(dst, ',')
		}
		from := s.At
		if !s.Value() {
			return dst, s.Err()
		}
		if value := data[from:s.At]; string(value) == "null" {
			dst = append(dst, value...)
			continue
		}
		var err error
		if dst, err = r.value(dst, data[from:s.At], c); err != nil {
			return dst, fmt.Errorf("element %d: %w", n, err)
		}
	}
	return append(dst, ']'), nil
}

// entries appends a map with values of c. Its keys stay as they are.
func (r *Reader) entries(dst, data []byte, c *column) ([]byte, error) {
	s := jsontext.Scan(data)
	members, ok := s.Object(nil)
	if !ok {
		return dst, fmt.Errorf("%s is no object", shown(data))
	}
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, data[m.Start:m.KeyEnd+1]...)
		dst = append(dst, ':')
		value := m.Of(data)
		if string(value) == "null" {
			dst = append(dst, value...)
			continue
		}
		var err error
		if dst, err = r.value(dst, value, c); err != nil {
			return dst, fmt.Errorf("key %s: %w", shown(data[m.Start:m.KeyEnd+1]), err)
		}
	}
	return append(dst, '}'), nil
}

// goLayout is a pattern of Java as Go's layouts have it.
func goLayout(text string) (string, error) {
	names := map[string]string{"yyyy": "2006", "yy": "06", "MM": "01", "M": "1", "MMM": "Jan", "MMMM": "January", "dd": "02", "d": "2", "HH": "15",
		"hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5", "a": "PM", "EEE": "Mon", "EEEE": "Monday",
		"Z": "-0700", "ZZ": "-07:00", "X": "Z07", "XX": "Z0700", "XXX": "Z07:00"}
	var b strings.Builder
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\'':
			end := strings.IndexByte(text[i+1:], '\'')
			if end < 0 {
				return "", errors.New("a text that begins with ' has no end")
			}
			quoted := text[i+1 : i+1+end]
			if strings.ContainsAny(quoted, "0123456789") {
				return "", fmt.Errorf("the text %q has digits", quoted)
			}
			b.WriteString(quoted)
			i += end + 2
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := 1
			for i+n < len(text) && text[i+n] == c {
				n++
			}
			letters := text[i : i+n]
			switch name, ok := names[letters]; {
			case ok:
				b.WriteString(name)
			case c == 'S' && (strings.HasSuffix(b.String(), ".") || strings.HasSuffix(b.String(), ",")):
				b.WriteString(strings.Repeat("0", n))
			default:
				return "", fmt.Errorf("%q is not read in times", letters)
			}
			i += n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}
