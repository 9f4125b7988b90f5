package serde

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kind is a type of Hive.
type kind int

const (
	isBoolean kind = iota
	isInteger
	isFloat
	isDecimal
	isString
	isDate
	isTimestamp
	isArray
	isMap
	isStruct
)

// column is a type, with what is within it.
type column struct {
	kind   kind
	bits   int  // of an integer
	single bool // of a number with a fraction: it has 32 bits
	digits int  // of a decimal; the most characters of a string, 0 for any number
	scale  int  // of a decimal
	of     *column
	names  []string // of a struct
	fields []*column
}

const (
	mostNested = 16
	mostDigits = 38
)

var simple = map[string]column{
	"boolean": {kind: isBoolean}, "tinyint": {kind: isInteger, bits: 8}, "smallint": {kind: isInteger, bits: 16},
	"int": {kind: isInteger, bits: 32}, "integer": {kind: isInteger, bits: 32}, "bigint": {kind: isInteger, bits: 64},
	"float": {kind: isFloat, single: true}, "double": {kind: isFloat}, "decimal": {kind: isDecimal, digits: 10}, "string": {kind: isString},
	"date": {kind: isDate}, "timestamp": {kind: isTimestamp},
}

// parseType reads a type as a table of Hive, or Glue, declares it.
func parseType(text string) (*column, error) {
	p := typeParser{text: strings.ToLower(strings.ReplaceAll(text, " ", ""))}
	c, err := p.column(0)
	if err == nil && p.text != "" {
		err = fmt.Errorf("there is %q behind it", p.text)
	}
	if err != nil {
		return nil, fmt.Errorf("type %q: %w", text, err)
	}
	return c, nil
}

type typeParser struct{ text string }

// word takes what comes before a character that no name has.
func (p *typeParser) word() string {
	n := strings.IndexAny(p.text, "<>,():")
	if n < 0 {
		n = len(p.text)
	}
	w := p.text[:n]
	p.text = p.text[n:]
	return w
}

func (p *typeParser) take(c string) error {
	rest, ok := strings.CutPrefix(p.text, c)
	if !ok {
		return fmt.Errorf("%q is missing before %q", c, p.text)
	}
	p.text = rest
	return nil
}

func (p *typeParser) column(depth int) (*column, error) {
	if depth > mostNested {
		return nil, fmt.Errorf("it nests deeper than %d", mostNested)
	}
	switch w := p.word(); w {
	case "array":
		of, err := p.within(depth, "")
		return &column{kind: isArray, of: of}, err
	case "map":
		of, err := p.within(depth, "string,")
		return &column{kind: isMap, of: of}, err
	case "struct":
		return p.structure(depth)
	case "char", "varchar":
		n, err := p.numbers(1)
		if err != nil || n[0] < 1 {
			return nil, fmt.Errorf("%s needs a length, as %s(20)", w, w)
		}
		return &column{kind: isString, digits: n[0]}, nil
	default:
		c, ok := simple[w]
		if !ok {
			return nil, fmt.Errorf("there is no type %q; use boolean, tinyint, smallint, int, bigint, float, double, decimal(p,s), string, varchar(n), date, timestamp, array<...>, map<string,...> or struct<name:...>", w)
		}
		if c.kind == isDecimal && strings.HasPrefix(p.text, "(") {
			n, err := p.numbers(2)
			if err != nil || n[0] < 1 || n[0] > mostDigits || n[1] < 0 || n[1] > n[0] {
				return nil, fmt.Errorf("a decimal has up to %d digits, of which some are behind the point: decimal(10,2)", mostDigits)
			}
			c.digits, c.scale = n[0], n[1]
		}
		return &c, nil
	}
}

// numbers takes numbers in brackets, as many as there may be; those that are not there are 0.
func (p *typeParser) numbers(most int) ([]int, error) {
	if err := p.take("("); err != nil {
		return nil, err
	}
	all := make([]int, most)
	for i := range all {
		n, err := strconv.Atoi(p.word())
		if err != nil {
			return nil, err
		}
		if all[i] = n; p.take(",") != nil {
			break
		}
	}
	return all, p.take(")")
}

func (p *typeParser) within(depth int, before string) (*column, error) {
	if err := p.take("<" + before); err != nil {
		return nil, err
	}
	of, err := p.column(depth + 1)
	if err != nil {
		return nil, err
	}
	return of, p.take(">")
}

func (p *typeParser) structure(depth int) (*column, error) {
	c := &column{kind: isStruct}
	for sep := "<"; ; sep = "," {
		if err := p.take(sep); err != nil {
			return nil, err
		}
		name := p.word()
		if name == "" || slices.Contains(c.names, name) {
			return nil, fmt.Errorf("a struct has a field %q, which is there already or has no name", name)
		}
		if err := p.take(":"); err != nil {
			return nil, err
		}
		of, err := p.column(depth + 1)
		if err != nil {
			return nil, err
		}
		c.names, c.fields = append(c.names, name), append(c.fields, of)
		if p.take(">") == nil {
			return c, nil
		}
	}
}
