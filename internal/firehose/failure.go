package firehose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// OutputType is what !{firehose:error-output-type} stands for: what kind of thing failed.
type OutputType string

// The kinds.
const (
	ProcessingFailedType OutputType = "processing-failed"
	ConversionFailedType OutputType = "format-conversion-failed"
	PartitionsExceeded   OutputType = "activePartitionExceeded"
)

// Failure is the error of a record that failed.
type Failure struct {
	Type     OutputType
	Attempts int       // made, at least 1
	Ended    time.Time // when the last one did
	Code     string
	Message  string
	Lambda   string // the ARN of the handler; empty where there is none
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Refuse makes f the error of a message that goes to the failure target. What is safe to show is
// its code.
func (f *Failure) Refuse() error {
	return fault.Describe(fault.Invalid, f, fault.Detail{Type: "transformation", Code: f.Code, Safe: f.Code})
}

// FailureOf is err as Firehose would tell of it.
func FailureOf(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	f := &Failure{Type: ProcessingFailedType, Attempts: 1, Code: fault.DetailOf(err).Code}
	if f.Code == "" {
		f.Code = "Weir.Invalid"
	}
	if err != nil {
		f.Message = err.Error()
	}
	return f
}

// line is a failed record at rest. Those that could not be converted call their code and message
// otherwise, as Firehose does.
type line struct {
	Attempts    int             `json:"attemptsMade"`
	Arrival     int64           `json:"arrivalTimestamp"`
	Code        string          `json:"errorCode,omitempty"`
	Message     string          `json:"errorMessage,omitempty"`
	LastCode    string          `json:"lastErrorCode,omitempty"`
	LastMessage string          `json:"lastErrorMessage,omitempty"`
	Ended       int64           `json:"attemptEndingTimestamp"`
	RawData     string          `json:"rawData"`
	Lambda      string          `json:"lambdaArn,omitempty"`
	Sequence    string          `json:"sequenceNumber,omitempty"`
	Sub         *uint64         `json:"subSequenceNumber,omitempty"`
	Weir        json.RawMessage `json:"weir,omitempty"`
}

// mostMessage is how much of a message a line has.
const mostMessage = 4096

// Line is the line that tells of the failed record m, without a line end: data is its payload,
// beside an object that stands in the member "weir".
func (f *Failure) Line(m *event.Message, data, beside []byte) ([]byte, error) {
	l := line{
		Attempts: max(f.Attempts, 1), Arrival: millis(Arrival(m)), Ended: millis(f.Ended),
		RawData: base64.StdEncoding.EncodeToString(data), Lambda: f.Lambda, Weir: beside,
	}
	if l.Ended == 0 {
		l.Ended = millis(time.Now())
	}
	message := f.Message
	if len(message) > mostMessage {
		message = message[:mostMessage]
	}
	if f.Type != ConversionFailedType {
		l.Code, l.Message = f.Code, message
	} else {
		l.LastCode, l.LastMessage = f.Code, message
		if o := m.Meta.Origin.Earliest(); o != nil {
			l.Sequence, l.Sub = m.Meta.ID, &o.Sub
		}
	}
	return json.Marshal(l)
}

// Failed is a line that was read.
type Failed struct {
	Arrival       time.Time
	Attempts      int
	Code, Message string
	Data          []byte
	Weir          json.RawMessage
}

// ErrNotFailed says that a line tells of no failed record.
var ErrNotFailed = errors.New("not a failed record of Firehose")

// ParseLine reads a line, of Firehose or of ours.
func ParseLine(text []byte) (*Failed, error) {
	var l line
	var has struct {
		RawData *string `json:"rawData"`
	}
	if err := json.Unmarshal(text, &has); err != nil || has.RawData == nil {
		return nil, ErrNotFailed
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("a damaged line: %w", err)
	}
	data, err := base64.StdEncoding.DecodeString(l.RawData)
	if err != nil {
		return nil, fmt.Errorf("a damaged line: its rawData is not in base64: %w", err)
	}
	f := &Failed{Attempts: l.Attempts, Code: l.Code, Message: l.Message, Data: data, Weir: l.Weir}
	if f.Code == "" && f.Message == "" {
		f.Code, f.Message = l.LastCode, l.LastMessage
	}
	if l.Arrival != 0 {
		f.Arrival = time.UnixMilli(l.Arrival).UTC()
	}
	return f, nil
}
