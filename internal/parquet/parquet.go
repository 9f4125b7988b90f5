// Package parquet turns JSON objects into Parquet files whose schema is inferred from the
// objects and only ever grows, and reads such files back as the same JSON.
//
// # From JSON to columns
//
// A [Decoder] reads one object at a time against a [Schema] and learns new fields from it;
// a [Rows] collects decoded objects as columns; [Rows.Write] makes a Parquet file of them.
// An object that is refused (not an object, too deep, one column too many)
// leaves neither a row nor a column behind.
//
//	JSON value                        column
//	true, false                       BOOLEAN
//	number without fraction, in 64 b  INT64
//	other number                      DOUBLE
//	string                            BYTE_ARRAY (STRING)
//	object                            optional group
//	array                             LIST of one element type
//	null                              like a field that is not there
//
// Other types are declared ([Options.Types]): times of every unit, days, decimals, UUIDs. They hold
// the value of the text or number exactly, but for times of microseconds, which are kept to those.
//
// Columns are optional, elements of lists too. A field that was only ever null has no column.
//
// # Types never change
//
// The type of a column is settled by the first batch that fills it. Within that batch,
// whole numbers widen to DOUBLE as soon as one number has a fraction, unless a whole number
// beyond 2^53 would lose digits, and what one value alone would decide, most of them do
// ([Survey]). Once a column is in a file its type is fixed, so that
// every file of a dataset agrees on every column and a reader needs to know nothing but
// the newest schema. A later value that does not fit goes to a variant, a column beside it
// that is added when it is first needed:
//
//	score          INT64
//	score__double  DOUBLE         numbers that score cannot hold: 1.5
//	score__json    STRING (JSON)  everything else, as JSON text: "high", [1], 1e999
//
// What counts as fitting: a DOUBLE holds a whole number only up to 2^53, or in a spelling with
// a point or an exponent one that it gives back digit for digit, and no number that it would
// make zero or infinite; an INT64 also holds 5.0; a STRING no half of a surrogate pair, which
// is U+FFFD in the JSON text, so that every reader can read that. An array fits as a whole or not at all.
// One value of an object is in exactly one of the three columns, so coalescing them gives it back.
//
// # What has no column
//
// An array or an object without any value that tells a type has no column yet. It waits in one of its
// own, _rest, which holds a JSON object of the members without a column: {"tags":[]}, or {"user":{"tags":[]}}
// where they are deeper. Objects in lists have one of their own each. When the type is known, what
// comes then is in the column that has it.
//
// Where no columns are learnt ([Options.Closed]) every field without a column is there, and every value
// that does not fit; where they are refused ([Options.Refuse]) the object is.
//
// # Names
//
// A column is named after its key. Characters that are neither letter, digit nor underscore
// become underscores, a name is cut at 128 bytes, and since readers differ in whether case
// matters, a name that another one equals apart from case gets _2, _3 and so on, in the
// order of their first arrival. The schema keeps the key beside the name, and every file
// holds its schema (metadata key "weir.schema"), so each file alone gives back the JSON.
//
// # Files
//
// One row group, pages of about 1 MiB, zstd. Strings and numbers that repeat are dictionary
// encoded; of other strings the lengths are apart from the text (DELTA_LENGTH_BYTE_ARRAY),
// and lengths and other whole numbers are differences (DELTA_BINARY_PACKED). Min, max and
// null counts are in the footer. Equal rows and schemas make equal bytes.
package parquet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/jsontext"
)

// Kind is the type of a column.
type Kind uint8

// The kinds. A timestamp is an INT64 of microseconds since 1970 in UTC; the kinds say which
// JSON values it is made of: RFC 3339 text, or seconds, milliseconds or microseconds since
// 1970. They and JSON are never inferred but declared; see [Options].
const (
	Unknown Kind = iota // no value that decides was seen: there is no column
	Bool
	Int
	Double
	String
	JSON // the JSON text of any value
	Timestamp
	TimestampS
	TimestampMs
	TimestampUs
	TimestampNs // INT64 of nanoseconds since 1970
	Object
	List

	// Decimal, and those up to UUID, are declared too. Those of files that somebody else wrote may be of
	// another width in each of them; see [Field.Width].
	Decimal   // a number with a fixed number of digits behind the point
	Date      // a day
	LocalTime // a day and a time without zone
	UUID

	// Map, and those behind it, are of files that somebody else wrote; see [Reader].
	Map       // of text to values of one type
	TimeOfDay // without a day
	Binary    // bytes, which JSON has as base64
	Mixed     // of a dataset: values of several types, which its files do not agree on
)

var kindNames = [...]string{"unknown", "bool", "int64", "double", "string", "json",
	"timestamp", "timestamp_s", "timestamp_ms", "timestamp_us", "timestamp_ns", "object", "list",
	"decimal", "date", "timestamp_local", "uuid", "map", "time", "binary", "mixed"}

func (k Kind) String() string { return kindNames[k] }

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kindNames {
		if name == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a type of column", text)
}

// Variant says which values of a key a column holds.
type Variant string

// The variants.
const (
	Main     Variant = ""       // those that fit the column's type
	AsDouble Variant = "double" // numbers that the INT64 column cannot hold
	AsJSON   Variant = "json"   // everything else
	Rest     Variant = "rest"   // of all keys without a column, those of the object the column is in
)

// Field is a column, a group or a list.
type Field struct {
	Key     string   `json:"key,omitempty"`  // key of the JSON object; empty for elements
	Name    string   `json:"name,omitempty"` // name in the file; empty for elements
	Kind    Kind     `json:"type"`
	Variant Variant  `json:"variant,omitempty"`
	Fields  []*Field `json:"fields,omitempty"`  // of an Object
	Elem    *Field   `json:"element,omitempty"` // of a List
	// Digits is how many a Decimal has, or a Timestamp that is finer than microseconds behind the point.
	Digits int `json:"digits,omitempty"`
	// Scale is how many digits of a Decimal with a Width are behind the point.
	Scale int `json:"scale,omitempty"`
	// Width is how many bytes a Decimal, Date, LocalTime or UUID has in every file; 0 where somebody
	// else wrote the files.
	Width int `json:"width,omitempty"`

	parent       *Field
	index        map[string]*Field // Main fields by key
	names        map[string]bool   // names taken, in lower case
	json, double *Field            // variants of this Main field
	rest         *Field            // of an Object at the top or in a list: what has no column
	waited       bool              // a value is in the rest that its type may come for
	fresh        bool              // the decoder has made it
	place        int               // in parent.Fields
	tap          uint8             // 1 + number of the tap
	path         string            // keys from the top, with dots between, and [] after that of a list
	quoted       string            // of a Main field: its key as it is mostly written, with quotes and colon
	open         bool              // the kind was set since the schema was last fixed
	big          bool              // an open Int has a value beyond 2^53
	prefer       Kind              // the only kind it may get while it has none; Unknown for any
	next         *Field            // the field that followed this one in the last object
	seen         uint64            // the object that has this field already
	at           int32             // where in the tokens
}

// member reports whether f is in an object, where it can have variants.
func (f *Field) member() bool { return f.parent != nil && f.parent.Elem != f }

// Schema is the columns of a dataset.
type Schema struct {
	// Version counts the changes since the empty schema, which is 0.
	Version int      `json:"version"`
	Fields  []*Field `json:"fields"`
}

// Options decide how JSON becomes columns.
type Options struct {
	// MaxDepth is how deep objects and arrays may nest; the event itself is 1.
	MaxDepth int
	// MaxColumns is the most fields a schema may have, groups and variants included.
	MaxColumns int
	// Types declares the kinds of fields, by their dotted path, that inference would give
	// another. A field that the schema has already keeps its kind. The path of a field of
	// objects in a list is "items.price"; "items[].price" means it too.
	Types map[string]Type
	// Expected is the same for fields that are not declared and whose kind inference would not
	// find.
	Expected map[string]Kind
	// Prefer are the kinds that fields get if inference gives them one, by their path with []
	// after that of a list, as [Survey.Kinds] has them: what fits another only goes to a variant.
	Prefer map[string]Kind
	// Taps are dotted paths of fields, in no list, whose values [Decoder.Tap] tells.
	Taps []string
	// Closed has no columns learnt: what has none goes to the rest.
	Closed bool
	// Refuse makes an object invalid that has a value which does not fit its column, or, where columns are Closed,
	// a field without one.
	Refuse bool
	// Reserved are names that no column at the top may have: those of the partition folders.
	Reserved []string
}

// maxName is the longest name of a column, in bytes.
const maxName = 128

// tree is a schema as the decoder works on it.
type tree struct {
	root  *Field
	count int
}

// grow makes the working form of s, which shares nothing with s.
func (s *Schema) grow(o Options) *tree {
	t := &tree{root: &Field{Kind: Object}}
	for _, name := range o.Reserved {
		t.root.take(strings.ToLower(name))
	}
	for _, f := range s.Fields {
		t.copyInto(t.root, f, o)
	}
	return t
}

func (f *Field) take(name string) {
	if f.names == nil {
		f.names = map[string]bool{}
	}
	f.names[name] = true
}

func (t *tree) copyInto(parent, f *Field, o Options) {
	c := &Field{Key: f.Key, Name: f.Name, Kind: f.Kind, Variant: f.Variant, Digits: f.Digits, Scale: f.Scale, Width: f.Width}
	t.attach(parent, c, o)
	for _, kid := range f.Fields {
		t.copyInto(c, kid, o)
	}
	if f.Elem != nil {
		t.copyElem(c, f.Elem, o)
	}
}

func (t *tree) copyElem(parent, f *Field, o Options) {
	c := &Field{Kind: f.Kind, Digits: f.Digits, Scale: f.Scale, Width: f.Width, parent: parent, path: parent.path + "[]"}
	parent.Elem = c
	t.count++
	for _, kid := range f.Fields {
		t.copyInto(c, kid, o)
	}
	if f.Elem != nil {
		t.copyElem(c, f.Elem, o)
	}
}

// attach makes f, which has its name, the last field of parent.
func (t *tree) attach(parent, f *Field, o Options) {
	f.parent, f.place = parent, len(parent.Fields)
	f.path = f.Key
	if parent.path != "" {
		f.path = parent.path + "." + f.Key
	}
	parent.Fields = append(parent.Fields, f)
	parent.take(strings.ToLower(f.Name))
	t.count++
	switch base := parent.index[f.Key]; f.Variant {
	case AsJSON:
		base.json = f
	case AsDouble:
		base.double = f
	case Rest:
		parent.rest = f
	default:
		if parent.index == nil {
			parent.index = map[string]*Field{}
		}
		parent.index[f.Key] = f
		if jsontext.Stop(f.Key, 0) == len(f.Key) {
			f.quoted = `"` + f.Key + `":`
		}
		for i, path := range o.Taps {
			if path == f.path && !f.inList() {
				f.tap = uint8(i + 1)
			}
		}
	}
}

// inList reports whether one object can have several of f.
func (f *Field) inList() bool {
	for ; f.parent != nil; f = f.parent {
		if f.parent.Elem == f {
			return true
		}
	}
	return false
}

// within is the path of f without what tells lists.
func (f *Field) within() string {
	switch p := f.parent; {
	case p == nil:
		return ""
	case p.Elem == f:
		return p.within()
	case p.parent == nil:
		return f.Key
	default:
		return p.within() + "." + f.Key
	}
}

// detach undoes attach; f is the last field of its parent.
func (t *tree) detach(f *Field) {
	p := f.parent
	p.Fields = p.Fields[:len(p.Fields)-1]
	delete(p.names, strings.ToLower(f.Name))
	t.count--
	switch base := p.index[f.Key]; f.Variant {
	case AsJSON:
		base.json = nil
	case AsDouble:
		base.double = nil
	case Rest:
		p.rest = nil
	default:
		delete(p.index, f.Key)
		for _, x := range p.Fields {
			if x.next == f {
				x.next = nil
			}
		}
	}
}

// nameFor is the name in the file of a new field of parent.
func nameFor(parent *Field, key string) string {
	var b strings.Builder
	for _, r := range key {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			r = '_'
		}
		if b.Len()+utf8.RuneLen(r) > maxName-16 { // room for what makes it unique
			break
		}
		b.WriteRune(r)
	}
	base := b.String()
	if base == "" {
		base = "_"
	}
	name := base
	for n := 2; parent.names[strings.ToLower(name)]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	return name
}

// schema is t without what only decoding needs.
func (t *tree) schema(version int) *Schema {
	return &Schema{Version: version, Fields: plain(t.root.Fields)}
}

func plain(fields []*Field) []*Field {
	var out []*Field
	for _, f := range fields {
		out = append(out, f.plain())
	}
	return out
}

func (f *Field) plain() *Field {
	c := &Field{Key: f.Key, Name: f.Name, Kind: f.Kind, Variant: f.Variant, Digits: f.Digits, Scale: f.Scale, Width: f.Width, Fields: plain(f.Fields)}
	if f.Elem != nil {
		c.Elem = f.Elem.plain()
	}
	return c
}

// Parse reads the JSON form of a schema and checks that it is one.
func Parse(text []byte) (*Schema, error) {
	s := &Schema{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("parse the schema: %w", err)
	}
	if s.Version < 0 {
		return nil, fmt.Errorf("parse the schema: version %d", s.Version)
	}
	if err := checkFields(s.Fields, 1); err != nil {
		return nil, fmt.Errorf("parse the schema: %w", err)
	}
	return s, nil
}

// deepest bounds the nesting of a schema that is read.
const deepest = 1000

func checkFields(fields []*Field, depth int) error {
	names, keys, rest := map[string]bool{}, map[string]bool{}, false
	for _, f := range fields {
		if f == nil {
			return errors.New("a field is null")
		}
		if f.Name == "" || names[f.Name] {
			return fmt.Errorf("field %q: the name %q is empty or taken", f.Key, f.Name)
		}
		names[f.Name] = true
		switch {
		case f.Variant == Rest:
			if f.Kind != JSON || rest {
				return fmt.Errorf("the column %q of the rest is of type %s, or not the only one", f.Name, f.Kind)
			}
			rest = true
			continue
		case f.Variant == Main && keys[f.Key]:
			return fmt.Errorf("field %q is there twice", f.Key)
		case f.Variant != Main && !keys[f.Key]:
			return fmt.Errorf("field %q has a variant before itself", f.Key)
		case f.Variant == AsJSON && f.Kind != JSON, f.Variant == AsDouble && f.Kind != Double:
			return fmt.Errorf("field %q: the %s variant is of type %s", f.Key, f.Variant, f.Kind)
		case f.Variant != Main && f.Variant != AsJSON && f.Variant != AsDouble:
			return fmt.Errorf("field %q: unknown variant %q", f.Key, f.Variant)
		}
		keys[f.Key] = true
		if err := f.check(depth, true); err != nil {
			return fmt.Errorf("field %q: %w", f.Key, err)
		}
	}
	return nil
}

func (f *Field) check(depth int, member bool) error {
	switch {
	case depth > deepest:
		return fmt.Errorf("deeper than %d", deepest)
	case (f.Kind == Object) != (len(f.Fields) > 0):
		return fmt.Errorf("a field of type %s with %d fields", f.Kind, len(f.Fields))
	case (f.Kind == List || f.Kind == Map) != (f.Elem != nil):
		return fmt.Errorf("a field of type %s, and whether it has an element type", f.Kind)
	case f.Kind == Unknown && !member:
		return errors.New("an element without a type")
	case f.Width != 0 && f.Width != f.declared().width():
		return fmt.Errorf("a field of type %s and %d bytes", f.declared(), f.Width)
	case f.Kind == Object:
		return checkFields(f.Fields, depth+1)
	case f.Elem != nil:
		return f.Elem.check(depth+1, false)
	}
	return nil
}
