package object

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
)

// CSV makes lines of comma-separated values (RFC 4180) of JSON objects. A payload that is no object is
// invalid.
type CSV struct {
	// Columns are the fields of the payload that lines have, in their order: ["id", "shop.id", "at"]. A dot
	// leads into an object; one that is part of a name has a backslash. An object or a list is its JSON
	// text.
	Columns []string `hcl:"columns"`
	// Header begins each object with the names of the columns; true by default.
	Header bool `hcl:"header,optional"`
	// Separator stands between values: a character; "," by default.
	Separator string `hcl:"separator,optional"`
	// Quote says which values are in quotes: "needed" (default), those that hold a separator, a quote or a
	// line end, or begin or end with white space, and texts that are empty; or "all" but those that are
	// not there. A quote in a value is doubled.
	Quote string `hcl:"quote,optional"`
	// Null is what stands, without quotes, for a field that is not there or null; nothing by default.
	Null string `hcl:"null,optional"`
	// UnknownKeys says what becomes of a member of the payload that no column is of: "drop" (default)
	// leaves it out; "invalid" makes the message invalid.
	UnknownKeys string `hcl:"unknown_keys,optional"`
}

const (
	quoteNeeded, quoteAll      = "needed", "all"
	unknownDrop, unknownInvald = "drop", "invalid"
)

// SetDefaults sets what a csv block need not say.
func (c *CSV) SetDefaults() {
	c.Header, c.Separator, c.Quote, c.UnknownKeys = true, ",", quoteNeeded, unknownDrop
}

// problems are what is wrong with the block.
func (c *CSV) problems() (ps []connector.Problem) {
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	if len(c.Columns) == 0 {
		refuse("columns", `write columns = ["id"]`, "columns names none")
	}
	for i, name := range c.Columns {
		if name == "" || slices.Contains(c.Columns[:i], name) {
			refuse("columns", "name each field once", "columns has %q twice, or without a name", name)
		}
	}
	if r, n := utf8.DecodeRuneInString(c.Separator); n != len(c.Separator) || n == 0 || r == utf8.RuneError || strings.ContainsRune("\"\r\n", r) {
		refuse("separator", `use ",", ";" or "\t"`, "separator is one character that is no quote and no line end, not %q", c.Separator)
	} else if strings.ContainsAny(c.Null, "\"\r\n"+c.Separator) {
		refuse("null", `leave it out, or use "\\N"`, "null must not hold a quote, a line end or the separator")
	}
	if c.Quote != quoteNeeded && c.Quote != quoteAll {
		refuse("quote", `use "needed", or "all"`, "quote must not be %q", c.Quote)
	}
	if c.UnknownKeys != unknownDrop && c.UnknownKeys != unknownInvald {
		refuse("unknown_keys", `use "drop", or "invalid"`, "unknown_keys must not be %q", c.UnknownKeys)
	}
	return ps
}

// table writes lines as a block says.
type table struct {
	c       CSV
	paths   [][]string
	top     map[string]bool // the members of a payload that columns are of
	lineEnd string
}

func (c *CSV) table(lineEnd string) *table {
	t := &table{c: *c, lineEnd: lineEnd, top: map[string]bool{}}
	for _, name := range c.Columns {
		path := jsontext.Path(name)
		t.paths = append(t.paths, path)
		t.top[path[0]] = true
	}
	return t
}

// header appends the first line of an object.
func (t *table) header(dst []byte) []byte {
	for i, name := range t.c.Columns {
		dst = t.value(t.separate(dst, i), name)
	}
	return append(dst, t.lineEnd...)
}

// line appends the line of a payload.
func (t *table) line(dst, payload []byte) ([]byte, error) {
	if err := jsontext.Check(payload); err != nil {
		return dst, fault.New(fault.Invalid, fmt.Errorf("the payload is no JSON, of which a line could be made: %w", err))
	}
	s := jsontext.Scan(payload)
	members, ok := s.Object(nil)
	if !ok {
		return dst, fault.New(fault.Invalid, fmt.Errorf("the payload is JSON, but no object, of which a line could be made"))
	}
	if t.c.UnknownKeys == unknownInvald {
		for _, m := range members {
			if key := string(m.Name(payload)); !t.top[key] {
				return dst, fault.New(fault.Invalid, fmt.Errorf("there is no column for the member %.200q of the payload: add it to columns, or set unknown_keys = \"drop\"", key))
			}
		}
	}
	text := string(payload)
	for i, path := range t.paths {
		dst = t.separate(dst, i)
		value, found := jsontext.Find(text, path)
		switch {
		case !found || value == "null":
			dst = append(dst, t.c.Null...)
		case value[0] == '"':
			dst = t.value(dst, string(jsontext.Unquote(nil, value)))
		case value[0] == '{' || value[0] == '[':
			dst = t.value(dst, string(jsontext.Compact(nil, value)))
		default:
			dst = t.value(dst, value)
		}
	}
	return append(dst, t.lineEnd...), nil
}

func (t *table) separate(dst []byte, i int) []byte {
	if i == 0 {
		return dst
	}
	return append(dst, t.c.Separator...)
}

// value appends one that is there, so that it is told from one that is not.
func (t *table) value(dst []byte, text string) []byte {
	plain := t.c.Quote == quoteNeeded && text != "" && text != t.c.Null && text == strings.TrimSpace(text) &&
		!strings.ContainsAny(text, "\"\r\n") && !strings.Contains(text, t.c.Separator)
	if plain {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	dst = append(dst, bytes.ReplaceAll([]byte(text), []byte(`"`), []byte(`""`))...)
	return append(dst, '"')
}
