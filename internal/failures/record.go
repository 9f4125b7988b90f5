package failures

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
)

// FailedRecord is the kind of a line in the form of Amazon Data Firehose, its own or ours.
const FailedRecord Kind = "failed_record"

// besideRecord is the member "weir" of a failed record of ours.
type besideRecord struct {
	Type firehose.OutputType `json:"errorOutputType"`
	// Bytes is how long the payload was, where it was cut.
	Bytes int `json:"rawDataBytes,omitempty"`
	contextJSON
}

// errNoRoom says that a row cannot be made that short.
var errNoRoom = errors.New("a failed record does not fit, without any of its data")

// Record is the failed record of a message that cannot be delivered because of cause, in the form
// of Firehose, at most limit bytes long; 0 means no limit. Its data is the payload as transforms left
// it, which for the transform that failed is what it was given.
func (f Format) Record(m *event.Message, cause error, limit int) ([]byte, error) {
	if cause == nil {
		cause = errNoReason
	}
	why := firehose.FailureOf(cause)
	beside := besideRecord{Type: why.Type}
	if c := f.Context; limit <= 0 || len(c.Pipeline)+len(c.Key)+len(c.ID)+len(c.Scope.Workspace)+len(c.Scope.Source)+len(c.Scope.Destination) <= limit/contextShare {
		beside.contextJSON = contextJSON{event.Text(c.Scope.Destination), event.Text(c.ID), event.Text(c.Key), event.Text(c.Pipeline),
			event.Text(c.Scope.Source), event.Text(c.Scope.Workspace)}
	}
	for data := m.Data; ; {
		if len(data) < len(m.Data) {
			beside.Bytes = len(m.Data)
		}
		text, err := json.Marshal(beside)
		if err != nil {
			return nil, err
		}
		row, err := why.Line(m, data, text)
		if err != nil || limit <= 0 || len(row) <= limit {
			return row, err
		}
		const mark = 40 // what says that it was cut
		left := base64.StdEncoding.DecodedLen(max(base64.StdEncoding.EncodedLen(len(data))-(len(row)-limit)-mark, 0))
		switch {
		case left < len(data) && left > 0:
			data = data[:left]
		case len(data) > 0:
			data = data[:0]
		case beside.contextJSON != (contextJSON{}):
			beside.contextJSON = contextJSON{}
		case why.Message != "": // what it is matters less than that it is
			short := *why
			short.Message = ""
			why = &short
		default:
			return nil, errNoRoom
		}
	}
}

// recordOf reads a failed record; [ErrNotFailure] when text is none.
func recordOf(text []byte) (*Failure, error) {
	if !bytes.Contains(text, []byte(`"rawData"`)) {
		return nil, ErrNotFailure
	}
	l, err := firehose.ParseLine(text)
	switch {
	case errors.Is(err, firehose.ErrNotFailed):
		return nil, ErrNotFailure
	case err != nil:
		return nil, err
	}
	f := &Failure{Kind: FailedRecord, Time: l.Arrival, Errors: []string{l.Message}, Code: l.Code, Payload: l.Data, Row: bytes.Clone(text)}
	if len(l.Weir) == 0 {
		return f, nil
	}
	var beside besideRecord
	if err := json.Unmarshal(l.Weir, &beside); err != nil {
		return nil, fmt.Errorf("a damaged row: %w", err)
	}
	f.Artifact, f.Type, f.Context = Artifact, string(beside.Type), beside.context()
	if beside.Bytes > len(f.Payload) {
		f.Cut, f.Actual = true, beside.Bytes
	}
	return f, nil
}

// OutputType is what kind of failure a row tells of, as !{firehose:error-output-type} has it.
func OutputType(row []byte) firehose.OutputType {
	var beside struct {
		Weir struct {
			Type firehose.OutputType `json:"errorOutputType"`
		} `json:"weir"`
	}
	if bytes.Contains(row, []byte(`"rawData"`)) && json.Unmarshal(row, &beside) == nil {
		switch t := beside.Weir.Type; t {
		case firehose.ConversionFailedType, firehose.PartitionsExceeded:
			return t
		}
	}
	return firehose.ProcessingFailedType
}
