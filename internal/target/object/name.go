package object

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose/prefix"
	"github.com/weirdata/weir/internal/jsontext"
)

// key is a template of names: texts and expressions in turn.
type key []piece

// piece is a text or an expression.
type piece struct {
	kind   kind
	text   string   // of a text; of a field, as it was written
	path   []string // of a field
	layout prefix.Layout
	prefix *prefix.Prefix
}

type kind int

const (
	isText kind = iota
	isTime
	isField
	isStream
	isPartition
	isSource
	isWorkspace
	isFirst
	isLast
	isUnique
	isRandom
	isPrefix // of Firehose
	isUUID   // unique, in the form of a UUID
)

const expressions = `use !{timestamp:yyyy/MM/dd/HH}, !{yyyy}, !{MM}, !{dd}, !{HH}, !{mm}, !{field:NAME}, !{stream}, !{partition}, !{source}, !{workspace}, !{first}, !{last}, !{unique}, !{firehose:random-string} or !{extension}`

// parseName reads a template. Its error says what is wrong.
func parseName(text, extension string) (key, error) {
	var k key
	for rest := text; rest != ""; {
		before, behind, found := strings.Cut(rest, "!{")
		if before != "" {
			k = append(k, piece{text: before})
		}
		if !found {
			break
		}
		inner, after, closed := strings.Cut(behind, "}")
		if !closed {
			return nil, errors.New("an expression that begins with !{ has no end")
		}
		rest = after
		p, err := parseExpression(inner, extension)
		if err != nil {
			return nil, connector.Blame("", expressions, err)
		}
		k = append(k, p)
	}
	sample := k.name(time.Unix(0, 0).UTC(), func(piece) string { return "x" })
	if err := blob.CheckName(sample); err != nil {
		return nil, fmt.Errorf("a name would be %w", err)
	}
	return k, nil
}

func parseExpression(text, extension string) (piece, error) {
	name, value, valued := strings.Cut(text, ":")
	switch {
	case name == "timestamp" && valued:
		l, err := prefix.ParseLayout(value)
		return piece{kind: isTime, layout: l}, err
	case name == "field" && value != "":
		return piece{kind: isField, text: value, path: jsontext.Path(value)}, nil
	case text == "firehose:random-string":
		return piece{kind: isRandom}, nil
	case text == "firehose:error-output-type":
		return piece{}, errors.New("!{firehose:error-output-type} is of error prefixes: write prefix instead of name, in a failure target")
	case name == "partitionKeyFromQuery" || name == "partitionKeyFromLambda":
		return piece{}, fmt.Errorf("!{%s} is of prefixes: write prefix instead of name, or name the field itself, as !{field:%s}", text, value)
	case valued:
	case text == "yyyy" || text == "MM" || text == "dd" || text == "HH" || text == "mm":
		l, err := prefix.ParseLayout(text)
		return piece{kind: isTime, layout: l}, err
	case text == "stream":
		return piece{kind: isStream}, nil
	case text == "partition":
		return piece{kind: isPartition}, nil
	case text == "source":
		return piece{kind: isSource}, nil
	case text == "workspace":
		return piece{kind: isWorkspace}, nil
	case text == "first":
		return piece{kind: isFirst}, nil
	case text == "last":
		return piece{kind: isLast}, nil
	case text == "unique":
		return piece{kind: isUnique}, nil
	case text == "extension":
		return piece{text: extension}, nil
	}
	return piece{}, fmt.Errorf("there is no expression !{%s}", text)
}

func (k key) has(what kind) bool {
	for _, p := range k {
		if p.kind == what {
			return true
		}
	}
	return false
}

// unique reports whether two objects never have one name.
func (k key) unique() bool { return k.named() || k.has(isRandom) }

// named reports whether an object is called after its messages.
func (k key) named() bool { return k.has(isUnique) || k.has(isUUID) }

// grouped reports whether messages decide about names.
func (k key) grouped() bool {
	for _, p := range k {
		if p.kind == isField || p.kind == isStream || p.kind == isPartition || p.kind == isSource || p.kind == isWorkspace || p.kind == isPrefix && (len(p.prefix.Keys()) > 0 || p.prefix.ErrorType()) {
			return true
		}
	}
	return false
}

// fields are the pieces that a payload decides.
func (k key) fields() (all []piece) {
	for _, p := range k {
		if p.kind == isField {
			all = append(all, p)
		}
	}
	return all
}

// name is the name at a time, with the values of what else is in it.
func (k key) name(at time.Time, value func(piece) string) string {
	var b strings.Builder
	for _, p := range k {
		switch p.kind {
		case isText:
			b.WriteString(p.text)
		case isTime:
			p.layout.Append(&b, at)
		default:
			b.WriteString(value(p))
		}
	}
	return b.String()
}

const mostValue = 200 // bytes of a value in a name

// group is what of the name the message alone decides, with a byte between that no value has.
func (k key) group(m *event.Message) (string, error) {
	var b strings.Builder
	for _, p := range k {
		var text string
		switch origin := m.Meta.Origin.Earliest(); p.kind {
		case isField:
			if text = jsontext.Field(m.Data, p.path); text == "" {
				return "", fault.New(fault.Invalid, fmt.Errorf("the payload has no text or number in the field %q, which is in the name of its object", p.text))
			}
		case isSource, isWorkspace:
			if s := m.Meta.Scope; s != nil && p.kind == isSource {
				text = s.Source
			} else if s != nil {
				text = s.Workspace
			}
			if text == "" {
				text = "none"
			}
		case isStream, isPartition:
			if origin != nil && p.kind == isStream {
				text = origin.Stream
			} else if origin != nil {
				text = origin.Partition
			}
			if text == "" {
				text = "none"
			}
		case isPrefix:
			var err error
			if text, err = prefixGroup(p.prefix, m); err != nil {
				return "", err
			}
			b.WriteString(text)
			b.WriteByte(0)
			continue
		default:
			continue
		}
		if text = prefix.Safe(text); len(text) > mostValue {
			return "", tooLong(text)
		}
		b.WriteString(text)
		b.WriteByte(0)
	}
	return b.String(), nil
}

func tooLong(text string) error {
	return fault.New(fault.Invalid, fmt.Errorf("a value in the name of an object has %d bytes, more than %d", len(text), mostValue))
}

// randomString is eleven characters, as Firehose has them.
func randomString() string { return rand.Text()[:11] }

// fresh is a text that nothing else has, and that grows with time.
func fresh(now time.Time) string {
	return fmt.Sprintf("%013d-%s", now.UnixMilli(), strings.ToLower(rand.Text()))
}
