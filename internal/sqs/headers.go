package sqs

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/event"
)

const (
	// TypesHeader names the types of attributes that are not plain Strings.
	TypesHeader = "sqs-attribute-types"
	// RestAttribute holds the headers that cannot be attributes.
	RestAttribute = "weir-headers"
	// EncodingAttribute says how a body is written that SQS refuses as it is: one of the
	// encodings below.
	EncodingAttribute = "weir-encoding"
)

// The encodings of a body.
const (
	encodingBase64 = "base64"
	encodingEmpty  = "empty" // the payload is empty
	encodingNone   = "none"  // there is no payload
)

var number = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?$`)

// plainName reports whether s has one to most characters, and none but those that names have.
func plainName(s string, most int) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return s != "" && len(s) <= most
}

// legalType reports whether t is a type that attributes have, with a label or without.
func legalType(t string) bool {
	base, label, labelled := strings.Cut(t, ".")
	return (base == "String" || base == "Number" || base == "Binary") && (!labelled || plainName(label, 249))
}

// legalName reports whether an attribute may be called name.
func legalName(name string) bool {
	if !plainName(name, 256) || name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..") {
		return false
	}
	lower := strings.ToLower(name)
	return !strings.HasPrefix(lower, "aws.") && !strings.HasPrefix(lower, "amazon.") && name != RestAttribute && name != EncodingAttribute
}

// rest is one header in [RestAttribute]. A name that is no text is in base64.
type rest struct {
	Name   string `json:"name,omitempty"`
	Name64 []byte `json:"name64,omitempty"`
	Value  []byte `json:"value"`
}

// Attributes are the attributes that carry h, at most as many as that.
func Attributes(h event.Headers, most int) []Attribute {
	if len(h) == 0 || most < 1 {
		return nil
	}
	types := typesOf(h.Text(TypesHeader))
	var as []Attribute
	var left []rest
	seen := make(map[string]bool, len(h))
	direct := func(x event.Header) bool {
		return !seen[x.Name] && legalName(x.Name) && len(x.Value) > 0
	}
	n, all := 0, true
	for _, x := range h {
		if x.Name == TypesHeader {
			continue
		}
		if !direct(x) {
			all = false
			continue
		}
		seen[x.Name] = true
		n++
	}
	room := most
	if !all || n > most {
		room = most - 1 // one is for the rest
	}
	clear(seen)
	for _, x := range h {
		switch {
		case x.Name == TypesHeader:
		case len(as) < room && direct(x):
			seen[x.Name] = true
			as = append(as, Attribute{Name: x.Name, Type: typeOf(x.Value, types[x.Name]), Value: x.Value})
		default:
			r := rest{Name: x.Name, Value: x.Value}
			if !utf8.ValidString(x.Name) {
				r.Name, r.Name64 = "", []byte(x.Name)
			}
			left = append(left, r)
		}
	}
	if len(left) > 0 {
		text, err := json.Marshal(left)
		if err != nil {
			panic(fmt.Sprintf("headers as JSON: %v", err)) // texts and bytes always can be
		}
		as = append(as, Attribute{Name: RestAttribute, Type: "String", Value: text})
	}
	return as
}

// typeOf is the type that a value is sent with: the one it came with, where it still has that.
func typeOf(value []byte, was string) string {
	switch {
	case strings.HasPrefix(was, "Binary"):
		return was
	case !Legal(value):
		return "Binary"
	case strings.HasPrefix(was, "Number") && isNumber(value), strings.HasPrefix(was, "String"):
		return was
	}
	return "String"
}

// isNumber reports whether SQS takes a value as a Number: at most 38 digits of precision.
func isNumber(value []byte) bool {
	if !number.Match(value) {
		return false
	}
	text, _, _ := strings.Cut(strings.ToLower(string(value)), "e")
	text = strings.ReplaceAll(strings.TrimLeft(text, "+-"), ".", "")
	return len(strings.Trim(text, "0")) <= 38
}

// typesOf reads a [TypesHeader].
func typesOf(text string) map[string]string {
	types := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if name, t, ok := strings.Cut(part, "="); ok && legalType(t) {
			types[name] = t
		}
	}
	return types
}

// Headers are the headers that as stands for, in the order of their names, and what carries the
// rest undone.
func Headers(as []Attribute) event.Headers {
	if len(as) == 0 {
		return nil
	}
	as = slices.Clone(as)
	slices.SortFunc(as, func(a, b Attribute) int { return strings.Compare(a.Name, b.Name) })
	h := make(event.Headers, 0, len(as)+1)
	var types []string
	var left []rest
	for _, a := range as {
		switch {
		case a.Name == EncodingAttribute:
			continue
		case a.Name == RestAttribute && json.Unmarshal(a.Value, &left) == nil:
			continue
		}
		h = append(h, event.Header{Name: a.Name, Value: a.Value})
		if a.Type != "String" {
			types = append(types, a.Name+"="+a.Type)
		}
	}
	for _, r := range left {
		if r.Name64 != nil {
			r.Name = string(r.Name64)
		}
		if r.Value == nil {
			r.Value = []byte{}
		}
		h = append(h, event.Header{Name: r.Name, Value: r.Value})
	}
	if len(types) > 0 {
		h = append(h, event.Header{Name: TypesHeader, Value: []byte(strings.Join(types, ","))})
	}
	return h
}

// Encode is the body that stands for a payload that SQS refuses, and the attribute that says
// how.
func Encode(data []byte) (body string, how Attribute) {
	how = Attribute{Name: EncodingAttribute, Type: "String", Value: []byte(encodingBase64)}
	switch {
	case data == nil:
		body, how.Value = "-", []byte(encodingNone)
	case len(data) == 0:
		body, how.Value = "-", []byte(encodingEmpty)
	default:
		body = base64.StdEncoding.EncodeToString(data)
	}
	return body, how
}

// EncodedSize is how long the body and the attribute of [Encode] are.
func EncodedSize(data []byte) int {
	return max(base64.StdEncoding.EncodedLen(len(data)), 1) + len(EncodingAttribute) + len("String") + len(encodingBase64)
}

// Decode is the payload that a body stands for, by the attributes beside it.
func Decode(body string, as []Attribute) []byte {
	for _, a := range as {
		if a.Name != EncodingAttribute {
			continue
		}
		switch string(a.Value) {
		case encodingNone:
			return nil
		case encodingEmpty:
			return []byte{}
		case encodingBase64:
			if data, err := base64.StdEncoding.DecodeString(body); err == nil {
				return data
			}
		}
	}
	return []byte(body)
}
