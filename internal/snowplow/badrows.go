package snowplow

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/weirdata/weir/internal/fault"
)

// The schemas of bad rows.
const (
	SizeViolationSchema   = "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"
	GenericErrorSchema    = "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"
	ForwardingErrorSchema = "iglu:com.snowplowanalytics.snowplow.badrows/event_forwarding_error/jsonschema/1-0-0"
)

const (
	expectation = "Expected payload to fit into requested target"
	noReason    = "the message was refused without a reason"

	maxArtifact = 512     // characters the schemas allow
	maxVersion  = 32      // characters the schemas allow
	maxSize     = 1 << 30 // largest size the schema of a size violation allows
)

// BadRows writes bad rows: self-describing JSON about messages that could not be
// delivered. A row is compact, its keys are in alphabetical order, and its text is
// escaped as encoding/json does it: <, > and & as \u003c and so on, bytes that are not
// UTF-8 as \ufffd.
//
// A row that would be longer than Limit is made to fit by cutting the payload (in an
// event forwarding error the latest state first, then the payload) between characters.
// If that is not enough, the text of the error is cut as well.
type BadRows struct {
	// Artifact and Version name the processor. A version that does not start with three
	// numbers, as the schemas demand, is written behind "0.0.0-".
	Artifact, Version string
	// Limit is the most bytes a row may have; 0 means no limit.
	Limit int
	// Beside is what comes after the members data and schema, as JSON that begins with a
	// comma: readers of self-describing JSON pass over it.
	Beside string
}

// SizeViolation is the row of a message that is larger than its target accepts: read is
// when the message was read, payload its data, maximum what the target accepts in bytes.
func (b BadRows) SizeViolation(read time.Time, payload []byte, maximum int) ([]byte, error) {
	head := `{"data":{"failure":{"actualSizeBytes":` + strconv.Itoa(min(len(payload), maxSize)) +
		`,"expectation":"` + expectation +
		`","maximumAllowedSizeBytes":` + strconv.Itoa(min(max(maximum, 0), maxSize)) +
		`,"timestamp":` + timestamp(read) + `},"payload":`
	r := row{limit: b.Limit, fixed: []string{head, b.tail(SizeViolationSchema)}, texts: []text{newText(view(payload))}}
	r.cutToBudget(0)
	return r.render([]int{0})
}

// GenericError is the row of a message that is invalid: payload is its data as
// transforms left it, errs say why. Nil errors are passed over; without any the row
// says that no reason was given.
func (b BadRows) GenericError(read time.Time, payload []byte, errs ...error) ([]byte, error) {
	r := row{limit: b.Limit}
	sep := `{"data":{"failure":{"errors":[`
	for _, err := range errs {
		if err == nil {
			continue
		}
		r.add(sep, err.Error())
		sep = ","
	}
	if len(r.texts) == 0 {
		r.add(sep, noReason)
	}
	n := len(r.texts)
	r.fixed = append(r.fixed, `],"timestamp":`+timestamp(read)+`},"payload":`, b.tail(GenericErrorSchema))
	r.texts = append(r.texts, newText(view(payload)))
	r.cutToBudget(n)
	order := []int{n}
	for i := range n {
		order = append(order, i)
	}
	return r.render(order)
}

// ForwardingError is the row of an event that could not be forwarded: original is the
// payload as it was read, latest what transforms made of it, err says why it failed and
// with [fault.Detail] what kind of failure it was.
func (b BadRows) ForwardingError(read time.Time, original, latest []byte, err error) ([]byte, error) {
	message, detail := noReason, fault.Detail{}
	if err != nil {
		message, detail = err.Error(), fault.DetailOf(err)
	}
	r := row{limit: b.Limit}
	r.add(`{"data":{"failure":{"errorCode":`, detail.Code)
	r.add(`,"errorMessage":`, message)
	r.add(`,"errorType":`, detail.Type)
	r.add(`,"latestState":`, view(latest))
	r.add(`,"timestamp":`+timestamp(read)+`},"payload":`, view(original))
	r.fixed = append(r.fixed, b.tail(ForwardingErrorSchema))
	return r.render([]int{3, 4, 1, 0})
}

// tail is what follows the payload.
func (b BadRows) tail(schema string) string {
	artifact := cutChars(b.Artifact, maxArtifact)
	version := b.Version
	if !numbered(version) {
		version = "0.0.0-" + strings.Map(printable, version)
	}
	t := []byte(`,"processor":{"artifact":`)
	t = appendEscaped(t, artifact)
	t = append(t, `,"version":`...)
	t = appendEscaped(t, cutChars(version, maxVersion))
	t = append(t, `}},"schema":"`...)
	t = append(t, schema...)
	t = append(append(t, '"'), b.Beside...)
	return string(append(t, '}'))
}

// numbered reports whether s starts with three numbers and holds nothing but printable
// ASCII, so that the schemas' pattern for versions holds for all of it.
func numbered(s string) bool {
	i := 0
	for n := range 3 {
		if n > 0 {
			if i >= len(s) || s[i] != '.' {
				return false
			}
			i++
		}
		end := digits(s, i)
		if end == i || end > maxVersion {
			return false
		}
		i = end
	}
	return strings.Map(printable, s) == s
}

// printable drops all but printable ASCII.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}

// cutChars is the first n characters of s.
func cutChars(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func timestamp(t time.Time) string {
	return `"` + t.UTC().Format("2006-01-02T15:04:05Z07:00") + `"`
}

// row is a bad row in pieces: fixed[0] texts[0] fixed[1] texts[1] ... fixed[last].
type row struct {
	limit int
	fixed []string
	texts []text
}

// text is a string of a row with the length it has when escaped, without its quotes.
type text struct {
	s       string
	escaped int
}

func newText(s string) text { return text{s: s, escaped: escapedLen(s)} }

// view is b as a string that shares its memory, which nobody writes to.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (r *row) add(before, s string) {
	r.fixed = append(r.fixed, before)
	r.texts = append(r.texts, newText(s))
}

func (r *row) size() int {
	n := 2 * len(r.texts)
	for _, f := range r.fixed {
		n += len(f)
	}
	for _, t := range r.texts {
		n += t.escaped
	}
	return n
}

// cutToBudget cuts text i to the number of bytes that are left for it when escaping
// adds nothing.
func (r *row) cutToBudget(i int) {
	t := &r.texts[i]
	if budget := r.limit - (r.size() - t.escaped); r.limit > 0 && budget > 0 {
		t.cut(budget)
	}
}

// render shortens the texts, in the given order and each by a tenth at a time until it
// is empty, until the row fits its limit, and returns the row.
func (r *row) render(order []int) ([]byte, error) {
	size := r.size()
	for _, i := range order {
		t := &r.texts[i]
		for r.limit > 0 && size > r.limit && t.s != "" {
			before := t.escaped
			t.cut(len(t.s) * 9 / 10)
			size -= before - t.escaped
		}
	}
	if r.limit > 0 && size > r.limit {
		return nil, fault.New(fault.Setup, fmt.Errorf(
			"write a bad row: it has %d bytes with an empty payload and the failure target takes %d: raise max_message_bytes of the failure target",
			size, r.limit))
	}
	out := make([]byte, 0, size)
	for i, f := range r.fixed {
		out = append(out, f...)
		if i < len(r.texts) {
			out = appendEscaped(out, r.texts[i].s)
		}
	}
	return out, nil
}

// cut shortens t to at most n bytes without splitting a character.
func (t *text) cut(n int) {
	if n >= len(t.s) {
		return
	}
	for back := range min(utf8.UTFMax, n+1) {
		start := n - back
		if !utf8.RuneStart(t.s[start]) {
			continue
		}
		if _, size := utf8.DecodeRuneInString(t.s[start:]); size > back {
			n = start
		}
		break
	}
	t.escaped -= escapedLen(t.s[n:])
	t.s = t.s[:n]
}

// escapedLen is the length of s in a JSON string as appendEscaped writes it, without
// the quotes.
func escapedLen(s string) int {
	n := len(s)
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			n += int(asciiGrowth[c])
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && size == 1) || r == '\u2028' || r == '\u2029' {
			n += 6 - size
		}
		i += size
	}
	return n
}

// asciiGrowth is how many bytes escaping adds to a character.
var asciiGrowth = func() (growth [utf8.RuneSelf]uint8) {
	for c := range growth {
		growth[c] = uint8(len(appendEscaped(nil, string(rune(c)))) - 3)
	}
	return growth
}()

// appendEscaped appends s as encoding/json writes a string.
func appendEscaped(dst []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...) // a string always marshals
	}
	return append(dst, quoted...)
}
