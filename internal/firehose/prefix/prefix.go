// Package prefix reads the prefixes that Amazon Data Firehose puts before the names of objects, with
// their expressions and all of their rules.
//
// # Expressions
//
//	!{timestamp:PATTERN}              the time of the oldest record in the object, in the letters of
//	                                  Java's DateTimeFormatter; all in one prefix are of one instant
//	!{firehose:random-string}         eleven new characters, others at each place
//	!{firehose:error-output-type}     what kind of failure; in error prefixes only
//	!{partitionKeyFromQuery:NAME}     a partition key of the records; not in error prefixes
//	!{partitionKeyFromLambda:NAME}
//
// # Rules
//
//   - "!{" begins an expression and nothing else. There is no way to write it as a text.
//   - A prefix without any expression has the time behind it, as yyyy/MM/dd/HH/, joined as it is
//     written: "logs" becomes "logs2026/11/30/14/". One with an expression has nothing behind it,
//     and needs no slash at its end.
//   - An error prefix without any expression has the kind of failure and the time behind it. One with
//     an expression has !{firehose:error-output-type} in it.
//   - A prefix is at most 1024 bytes as it is written, and 512 as it becomes.
//   - A value of a record never becomes more than one level: "/" in it is %2F, and so is every
//     other byte that is not a letter, a digit, "-", "_", "=" or a dot within it. That is ours;
//     Firehose writes values as they are.
//
// The names are those of the targets "object", whose option prefix is one, as that of a failure
// target is an error prefix.
package prefix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/firehose"
)

// The most bytes of a prefix, as it is written and as it becomes.
const (
	MostWritten   = 1024
	MostEvaluated = 512
)

// Kind says which prefix it is.
type Kind int

// The kinds.
const (
	Records Kind = iota // of objects with records
	Errors              // of objects with records that failed
)

// Prefix is a prefix that was read.
type Prefix struct{ parts []part }

// part is a text or an expression.
type part struct {
	kind   partKind
	text   string
	layout Layout
	key    Key
}

type partKind int

const (
	isText partKind = iota
	isTime
	isRandom
	isErrorType
	isKey
)

// Key is a partition key that a prefix names.
type Key struct {
	Source firehose.KeySource
	Name   string
}

// Expression is k as it is written.
func (k Key) Expression() string { return "!{" + k.Source.Header(k.Name) + "}" }

// Parse reads a prefix. The error says what is wrong, for people.
func Parse(text string, kind Kind) (*Prefix, error) {
	if len(text) > MostWritten {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), MostWritten)
	}
	p := &Prefix{}
	for rest := text; rest != ""; {
		before, behind, found := strings.Cut(rest, "!{")
		if before != "" {
			p.parts = append(p.parts, part{text: before})
		}
		if !found {
			break
		}
		inner, after, err := expression(behind)
		if err != nil {
			return nil, err
		}
		x, err := parseExpression(inner)
		if err != nil {
			return nil, err
		}
		p.parts, rest = append(p.parts, x), after
	}
	if err := p.complete(kind); err != nil {
		return nil, err
	}
	return p, nil
}

// expression cuts what begins behind "!{" at its end. A brace between quotes of a time pattern is
// none.
func expression(text string) (inner, after string, err error) {
	quoted := false
	for i := range len(text) {
		switch {
		case text[i] == '\'' && strings.HasPrefix(text, "timestamp:"):
			quoted = !quoted
		case text[i] == '}' && !quoted:
			return text[:i], text[i+1:], nil
		}
	}
	return "", "", errors.New("an expression that begins with !{ has no end")
}

func parseExpression(text string) (part, error) {
	namespace, value, valued := strings.Cut(text, ":")
	if !valued || value == "" {
		return part{}, fmt.Errorf("!{%s} is no expression of the form !{namespace:value}", text)
	}
	switch {
	case namespace == "timestamp":
		l, err := ParseLayout(value)
		return part{kind: isTime, layout: l}, err
	case text == "firehose:random-string":
		return part{kind: isRandom}, nil
	case text == "firehose:error-output-type":
		return part{kind: isErrorType}, nil
	case namespace == "firehose":
		return part{}, fmt.Errorf("there is no !{%s}: of firehose there are random-string and error-output-type", text)
	case namespace == string(firehose.FromQuery), namespace == string(firehose.FromLambda):
		return part{kind: isKey, key: Key{firehose.KeySource(namespace), value}}, nil
	}
	return part{}, fmt.Errorf("there is no namespace %q: they are timestamp, firehose, %s and %s", namespace, firehose.FromQuery, firehose.FromLambda)
}

// complete keeps the rules of a kind of prefix, and adds what stands behind one without
// expressions.
func (p *Prefix) complete(kind Kind) error {
	plain := !slices.ContainsFunc(p.parts, func(x part) bool { return x.kind != isText })
	switch {
	case plain && kind == Records:
		p.parts = append(p.parts, part{kind: isTime, layout: Must(DefaultLayout)})
	case plain:
		p.parts = append(p.parts, part{kind: isErrorType}, part{text: "/"}, part{kind: isTime, layout: Must(DefaultLayout)})
	case kind == Records && p.has(isErrorType):
		return errors.New("!{firehose:error-output-type} stands in error prefixes only, which are those of failure targets")
	case kind == Errors && !p.has(isErrorType):
		return errors.New("an error prefix with an expression needs !{firehose:error-output-type}")
	}
	if keys := p.Keys(); kind == Errors && len(keys) > 0 {
		return fmt.Errorf("%s does not stand in error prefixes: what failed may have no partition keys", keys[0].Expression())
	}
	if keys := p.Keys(); len(keys) > firehose.MostKeys {
		return fmt.Errorf("it has %d partition keys, more than %d", len(keys), firehose.MostKeys)
	}
	return nil
}

func (p *Prefix) has(kind partKind) bool {
	return slices.ContainsFunc(p.parts, func(x part) bool { return x.kind == kind })
}

// Keys are the partition keys that p names, each once.
func (p *Prefix) Keys() (all []Key) {
	for _, x := range p.parts {
		if x.kind == isKey && !slices.Contains(all, x.key) {
			all = append(all, x.key)
		}
	}
	return all
}

// ErrorType reports whether p tells kinds of failures apart.
func (p *Prefix) ErrorType() bool { return p.has(isErrorType) }

// Random reports whether p is another one each time.
func (p *Prefix) Random() bool { return p.has(isRandom) }

// Values are what the expressions of a prefix stand for.
type Values struct {
	At        time.Time // in the time zone that is wanted
	ErrorType firehose.OutputType
	Key       func(Key) string
	Random    func() string
}

// Evaluate is the prefix of an object.
func (p *Prefix) Evaluate(v Values) (string, error) {
	var b strings.Builder
	for _, x := range p.parts {
		switch x.kind {
		case isText:
			b.WriteString(x.text)
		case isTime:
			x.layout.Append(&b, v.At)
		case isRandom:
			b.WriteString(v.Random())
		case isErrorType:
			b.WriteString(string(v.ErrorType))
		case isKey:
			value := v.Key(x.key)
			if value == "" {
				return "", fmt.Errorf("the record has no partition key for %s", x.key.Expression())
			}
			b.WriteString(Safe(value))
		}
	}
	if b.Len() > MostEvaluated {
		return "", fmt.Errorf("the prefix of its object would have %d bytes, more than %d", b.Len(), MostEvaluated)
	}
	return b.String(), nil
}

// Safe is s as a part of a name: letters, digits, "-", "_", "=" and dots within it stay, every
// other byte is % and two digits. So no value leads to another folder.
func Safe(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '=', c == '.' && i > 0 && i < len(s)-1:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
