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
	"github.com/weirdata/weir/internal/jsontext"
)

// key is a template of names: texts and expressions in turn.
type key []piece

// piece is a text or an expression.
type piece struct {
	kind   kind
	text   string   // of a text; of a field, as it was written
	path   []string // of a field
	layout []layout // of a time
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
		l, err := parseLayout(value)
		return piece{kind: isTime, layout: l}, err
	case name == "field" && value != "":
		return piece{kind: isField, text: value, path: jsontext.Path(value)}, nil
	case text == "firehose:random-string":
		return piece{kind: isRandom}, nil
	case text == "firehose:error-output-type":
		return piece{}, errors.New("!{firehose:error-output-type} is of error prefixes: a failure target has a path of its own")
	case name == "partitionKeyFromQuery" || name == "partitionKeyFromLambda":
		return piece{}, fmt.Errorf("!{%s} is a result of dynamic partitioning: name the field itself, as !{field:%s}", text, value)
	case valued:
	case text == "yyyy" || text == "MM" || text == "dd" || text == "HH" || text == "mm":
		l, err := parseLayout(text)
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

// layout is a letter of a time, as often as it is there, or a text.
type layout struct {
	letter byte // 0 for a text
	n      int
	text   string
}

// parseLayout reads a pattern of Java's DateTimeFormatter, of the letters that are numbers.
func parseLayout(text string) ([]layout, error) {
	var all []layout
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\'':
			end := strings.IndexByte(text[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a text in a time pattern that begins with ' has no end")
			}
			quoted := text[i+1 : i+1+end]
			if end == 0 {
				quoted = "'"
			}
			all = append(all, layout{text: quoted})
			i += end + 2
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := 1
			for i+n < len(text) && text[i+n] == c {
				n++
			}
			if !strings.ContainsRune("yuMdHmsSD", rune(c)) || n > 9 || c == 'M' && n > 2 {
				return nil, fmt.Errorf("a time pattern has %q, which is not one of y, M, d, D, H, m, s and S as numbers; texts stand between ''", text[i:i+n])
			}
			all = append(all, layout{letter: c, n: n})
			i += n
		default:
			all = append(all, layout{text: string(c)})
			i++
		}
	}
	if len(all) == 0 {
		return nil, errors.New("a time pattern is empty")
	}
	return all, nil
}

func appendTime(b *strings.Builder, t time.Time, all []layout) {
	for _, l := range all {
		v := 0
		switch l.letter {
		case 0:
			b.WriteString(l.text)
			continue
		case 'y', 'u':
			if v = t.Year(); l.n == 2 {
				v %= 100
			}
		case 'M':
			v = int(t.Month())
		case 'd':
			v = t.Day()
		case 'D':
			v = t.YearDay()
		case 'H':
			v = t.Hour()
		case 'm':
			v = t.Minute()
		case 's':
			v = t.Second()
		case 'S':
			b.WriteString(fmt.Sprintf("%09d", t.Nanosecond())[:l.n])
			continue
		}
		fmt.Fprintf(b, "%0*d", l.n, v)
	}
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
func (k key) unique() bool { return k.has(isUnique) || k.has(isRandom) }

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
			appendTime(&b, at, p.layout)
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
		default:
			continue
		}
		if text = safe(text); len(text) > mostValue {
			return "", fault.New(fault.Invalid, fmt.Errorf("a value in the name of an object has %d bytes, more than %d", len(text), mostValue))
		}
		b.WriteString(text)
		b.WriteByte(0)
	}
	return b.String(), nil
}

// safe is s as a part of a name: letters, digits, "-", "_", "=" and dots within it stay, every
// other byte is % and two digits. So no value leads to another folder.
func safe(s string) string {
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

// randomString is eleven characters, as Firehose has them.
func randomString() string { return rand.Text()[:11] }

// fresh is a text that nothing else has, and that grows with time.
func fresh(now time.Time) string {
	return fmt.Sprintf("%013d-%s", now.UnixMilli(), strings.ToLower(rand.Text()))
}
