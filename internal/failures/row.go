package failures

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/event"
)

// Kind is what a row tells of: the name of its schema.
type Kind string

// The kinds.
const (
	GenericError    Kind = "generic_error"
	ForwardingError Kind = "event_forwarding_error"
	SizeViolation   Kind = "size_violation"
)

// Failure is one failed event.
type Failure struct {
	// ID names the failure in the place it was found in.
	ID   string
	Kind Kind
	// Time is when the event was read from its source, in whole seconds.
	Time time.Time
	// Errors say why it failed; a size violation has none.
	Errors []string
	// Code and Type are those of a forwarding error: "400 Bad Request", "api".
	Code, Type string
	// Payload is what the row has: as it was read if AsRead, and otherwise as transforms
	// left it.
	Payload []byte
	AsRead  bool
	// Latest is the payload as transforms left it; nil when the row does not have it.
	Latest []byte
	// Cut says that Payload is not whole.
	Cut bool
	// LatestCut says that Latest is not whole.
	LatestCut bool
	// Doubtful says that another product wrote the row and that the payload holds U+FFFD,
	// which may stand for bytes that are lost.
	Doubtful bool
	// Actual and Maximum are the sizes of a size violation, in bytes.
	Actual, Maximum int
	// Artifact and Version are the processor that wrote the row.
	Artifact, Version string
	// Context is what the row says of its message beside the payload; empty where it does not.
	Context Context
	// Row is the whole row.
	Row []byte

	// Of a queue only: the message that holds the row, and why the row could not be
	// delivered.
	Message *event.Message
	Dead    bool
	Refusal string
	// Attempts is how often a dead message was tried, Died when it was given up.
	Attempts int
	Died     time.Time
}

// ErrNotFailure says that a line is no row of a failed event at all.
var ErrNotFailure = errors.New("not a failed event")

// schemaPrefix is what the schemas of rows begin with.
const schemaPrefix = "iglu:com.snowplowanalytics.snowplow.badrows/"

// stdoutStart and stdoutData are the parts of a line of the target stdout.
const (
	stdoutStart = "PartitionKey:"
	stdoutData  = ",Data:"
)

// row is the JSON of all three schemas.
type row struct {
	Schema string `json:"schema"`
	Data   *struct {
		Failure struct {
			Timestamp string   `json:"timestamp"`
			Errors    []string `json:"errors"`

			ErrorCode    string  `json:"errorCode"`
			ErrorMessage string  `json:"errorMessage"`
			ErrorType    string  `json:"errorType"`
			LatestState  *string `json:"latestState"`

			ActualSizeBytes         int `json:"actualSizeBytes"`
			MaximumAllowedSizeBytes int `json:"maximumAllowedSizeBytes"`
		} `json:"failure"`
		Payload   *string `json:"payload"`
		Processor struct {
			Artifact string `json:"artifact"`
			Version  string `json:"version"`
		} `json:"processor"`
	} `json:"data"`
	Context *contextJSON `json:"weir"`
}

// Parse reads a row, or a line of the target stdout that holds one. The error is
// [ErrNotFailure] when the line is something else, and another one when it is a row that is
// damaged. The failure does not share memory with line.
func Parse(line []byte) (*Failure, error) {
	text := bytes.TrimSpace(line)
	if bytes.HasPrefix(text, []byte(stdoutStart)) {
		if _, data, ok := bytes.Cut(text, []byte(stdoutData)); ok {
			text = data
		}
	}
	if len(text) == 0 || text[0] != '{' {
		return nil, ErrNotFailure
	}
	if f, err := recordOf(text); !errors.Is(err, ErrNotFailure) {
		return f, err
	}
	if !bytes.Contains(text, []byte(`"payload"`)) {
		return nil, ErrNotFailure
	}
	var r row
	if err := json.Unmarshal(text, &r); err != nil {
		if !strings.HasPrefix(r.Schema, schemaPrefix) && !bytes.HasPrefix(text, []byte(`{"data":{"failure":`)) {
			return nil, ErrNotFailure
		}
		return nil, fmt.Errorf("a damaged row: %w", err)
	}
	kind, version, _ := strings.Cut(strings.TrimPrefix(r.Schema, schemaPrefix), "/jsonschema/")
	switch Kind(kind) {
	case GenericError, ForwardingError, SizeViolation:
	default:
		return nil, ErrNotFailure
	}
	if !strings.HasPrefix(r.Schema, schemaPrefix) || !strings.HasPrefix(version, "1-") {
		return nil, ErrNotFailure
	}
	if r.Data == nil || r.Data.Payload == nil {
		return nil, fmt.Errorf("a damaged row: a %s without a payload", kind)
	}
	return r.failure(Kind(kind), bytes.Clone(text)), nil
}

func (r *row) failure(kind Kind, text []byte) *Failure {
	d := r.Data
	f := &Failure{Kind: kind, Artifact: d.Processor.Artifact, Version: d.Processor.Version, Row: text}
	if t, err := time.Parse(time.RFC3339, d.Failure.Timestamp); err == nil {
		f.Time = t.UTC()
	}
	var whole bool
	f.Payload, whole = f.decode(*d.Payload)
	f.Cut = !whole
	ours := f.Artifact == Artifact
	switch kind {
	case GenericError:
		f.Errors = d.Failure.Errors
		if n := len(f.Errors); ours && n > 1 { // we write one, and one more for a cut
			f.Errors, f.Cut = f.Errors[:1], true
		}
	case ForwardingError:
		f.AsRead = true
		f.Code, f.Type = d.Failure.ErrorCode, d.Failure.ErrorType
		message := d.Failure.ErrorMessage
		if ours {
			payload, latest := strings.HasPrefix(message, cutMark), strings.HasPrefix(message, latestMark)
			f.Cut, f.LatestCut = f.Cut || payload, payload || latest
			if payload || latest {
				_, message, _ = strings.Cut(message, " bytes: ")
			}
		}
		f.Errors = []string{message}
		if d.Failure.LatestState != nil {
			var whole bool
			f.Latest, whole = f.decode(*d.Failure.LatestState)
			f.LatestCut = f.LatestCut || !whole
		}
	case SizeViolation:
		f.Actual, f.Maximum = d.Failure.ActualSizeBytes, d.Failure.MaximumAllowedSizeBytes
		f.Cut = f.Cut || len(f.Payload) < f.Actual
	}
	if ours && r.Context != nil {
		f.Context = r.Context.context()
	}
	f.Doubtful = !ours && bytes.ContainsRune(f.Payload, utf8.RuneError)
	return f
}

// decode is a payload as it was before it became text; whole is false when it was cut
// within its encoding.
func (f *Failure) decode(text string) (payload []byte, whole bool) {
	encoded, ok := strings.CutPrefix(text, binaryPrefix)
	if !ok || f.Artifact != Artifact {
		return []byte(text), true
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err == nil {
		return payload, true
	}
	// What comes before the cut, as far as it is whole groups of four.
	start := encoded[:len(encoded)/4*4]
	if payload, err = base64.StdEncoding.DecodeString(start); err != nil {
		return []byte(text), false
	}
	return payload, false
}

// OfMessage reads the failure that a message of a queue holds. The message has the payload
// as it was read, unless it came into the queue as a row.
func OfMessage(m *event.Message) (*Failure, error) {
	f, err := Parse(m.Data)
	if err != nil {
		return nil, err
	}
	f.Message = m
	f.Context = f.Context.or(ContextOf("", m))
	if raw := m.Raw(); !bytes.Equal(raw, m.Data) {
		if f.Latest == nil && !f.AsRead && !f.Cut {
			f.Latest = f.Payload
		}
		f.Payload, f.AsRead, f.Cut, f.Doubtful = raw, true, false, false
	}
	return f, nil
}

// Cause is why the event failed, in one line of text.
func (f *Failure) Cause() string {
	if f.Kind == SizeViolation {
		return fmt.Sprintf("payload of %d bytes is larger than the target takes (%d)", f.Actual, f.Maximum)
	}
	text := strings.Join(f.Errors, "; ")
	if f.Code != "" && !strings.Contains(text, f.Code) {
		text = f.Code + ": " + text
	}
	return text
}

// Size is the number of bytes of the payload, also of one that was cut where that is known.
func (f *Failure) Size() int {
	if f.Cut {
		return max(len(f.Payload), f.Actual)
	}
	return len(f.Payload)
}

// Which says which payload is sent through a pipeline again.
type Which int

// The payloads: as it was read, or else as transforms left it; as it was read, or nothing;
// as transforms left it, or nothing.
const (
	Original Which = iota
	Read
	Latest
)

// ErrNoPayload says that a failure has no payload that could be sent again.
var ErrNoPayload = errors.New("it cannot be replayed")

// Replayed is the payload to send again, and whether it is as it was read.
func (f *Failure) Replayed(w Which) (payload []byte, asRead bool, err error) {
	switch {
	case w == Latest && f.AsRead && f.Latest == nil:
		return nil, false, fmt.Errorf("%w: the payload as transforms left it was not kept", ErrNoPayload)
	case w == Latest && f.AsRead && f.LatestCut:
		return nil, false, fmt.Errorf("%w: the payload as transforms left it was cut to %d bytes", ErrNoPayload, len(f.Latest))
	case w == Latest && f.AsRead:
		return f.Latest, false, nil
	case w == Read && !f.AsRead:
		return nil, false, fmt.Errorf("%w: a %s keeps the payload as transforms left it only", ErrNoPayload, f.Kind)
	case f.Cut:
		return nil, false, fmt.Errorf("%w: its payload was cut to %d bytes", ErrNoPayload, len(f.Payload))
	}
	return f.Payload, f.AsRead, nil
}
