// Package processor is what Amazon Data Firehose calls processors, beside the one that invokes a
// handler: the transforms "decompress", "cloudWatchLogs" and "deaggregate".
//
//	decompress       a payload in gzip or zstd becomes what was compressed
//	cloudWatchLogs   what a subscription filter of CloudWatch Logs sends becomes its log events
//	deaggregate      a payload with several records, JSON objects one behind the other or texts with
//	                 a delimiter between, becomes these
//
// Records that the Kinesis Producer Library has aggregated need none of them: the source "kinesis"
// takes them apart.
//
// # Invariants
//
//   - What becomes several messages is settled when all of them are.
//   - A payload that is not what the transform is for is invalid as a whole, and whole in the failure
//     target: no part of it goes on.
//   - What a payload may become is bounded by max_bytes.
package processor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/jsontext"
)

// Decompression is the block of the transform "decompress".
type Decompression struct {
	// CompressionFormat is that of payloads: "gzip" (default) or "zstd".
	CompressionFormat string `hcl:"compression_format,optional"`
	// MaxBytes is the most bytes that a payload may become; 16777216 (16 MiB) by default. One that
	// would become more is invalid.
	MaxBytes int `hcl:"max_bytes,optional"`
}

const (
	gzipped, zstandard = "gzip", "zstd"
	mostBytes          = 1 << 30
)

// Validate implements connector.Validator.
func (c Decompression) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.CompressionFormat != gzipped && c.CompressionFormat != zstandard {
		ps = append(ps, connector.Problem{Field: "compression_format", What: fmt.Sprintf("compression_format must not be %q", c.CompressionFormat), Fix: `use "gzip", or "zstd"`})
	}
	if c.MaxBytes < 1 || c.MaxBytes > mostBytes {
		ps = append(ps, connector.Problem{Field: "max_bytes", What: fmt.Sprintf("max_bytes must be from 1 to %d, not %d", mostBytes, c.MaxBytes), Fix: "leave it out for 16777216"})
	}
	return ps
}

// Decompress is the transform "decompress".
var Decompress = connector.Of(connector.Spec[Decompression, connector.Transform]{
	Name:      "decompress",
	Summary:   "Replaces a compressed payload by what was compressed.",
	Stability: connector.Experimental,
	Default:   func() Decompression { return Decompression{CompressionFormat: gzipped, MaxBytes: 16 << 20} },
	New: func(_ context.Context, _ connector.Deps, c Decompression) (connector.Transform, error) {
		return connector.Stateless(decompression{c}), nil
	},
})

type decompression struct{ c Decompression }

// Apply implements connector.Worker.
func (d decompression) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	data, err := d.unpack(m.Data)
	if err != nil {
		return out, refuse("Decompression.InvalidData", "the payload is not in %s: %v", d.c.CompressionFormat, err)
	}
	m.Replace(data)
	return append(out, m), nil
}

func (d decompression) unpack(data []byte) ([]byte, error) {
	var r io.Reader
	switch d.c.CompressionFormat {
	case zstandard:
		z, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(d.c.MaxBytes)+1<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		r = z
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(d.c.MaxBytes)+1))
	if err == nil && len(text) > d.c.MaxBytes {
		err = fmt.Errorf("it becomes more than the %d bytes of max_bytes", d.c.MaxBytes)
	}
	return text, err
}

func refuse(code, format string, args ...any) error {
	return (&firehose.Failure{Type: firehose.ProcessingFailedType, Attempts: 1, Code: code, Message: fmt.Sprintf(format, args...)}).Refuse()
}

// Logs is the block of the transform "cloudWatchLogs".
type Logs struct {
	// Extract says what becomes of a log event: "message" (default), the payload is its message
	// alone, as with Firehose's DataMessageExtraction; or "event", the payload is a JSON object with
	// its id, timestamp and message, and the owner, logGroup and logStream that it is of.
	Extract string `hcl:"extract,optional"`
}

const extractMessage, extractEvent = "message", "event"

// Validate implements connector.Validator.
func (c Logs) Validate() []connector.Problem {
	if c.Extract == extractMessage || c.Extract == extractEvent {
		return nil
	}
	return []connector.Problem{{Field: "extract", What: fmt.Sprintf("extract must not be %q", c.Extract), Fix: `use "message", or "event"`}}
}

// CloudWatchLogs is the transform "cloudWatchLogs".
var CloudWatchLogs = connector.Of(connector.Spec[Logs, connector.Transform]{
	Name:      "cloudWatchLogs",
	Summary:   "Takes the log events out of what a subscription filter of CloudWatch Logs sends.",
	Stability: connector.Experimental,
	Default:   func() Logs { return Logs{Extract: extractMessage} },
	New: func(_ context.Context, _ connector.Deps, c Logs) (connector.Transform, error) {
		return connector.Stateless(logs{c}), nil
	},
})

type logs struct{ c Logs }

// subscription is what a subscription filter sends.
type subscription struct {
	Type   string `json:"messageType"`
	Owner  string `json:"owner"`
	Group  string `json:"logGroup"`
	Stream string `json:"logStream"`
	Events *[]struct {
		ID        string          `json:"id"`
		Timestamp json.RawMessage `json:"timestamp"`
		Message   *string         `json:"message"`
	} `json:"logEvents"`
}

// logEvent is a log event as a payload.
type logEvent struct {
	ID        string          `json:"id"`
	Timestamp json.RawMessage `json:"timestamp,omitempty"`
	Message   string          `json:"message"`
	Owner     string          `json:"owner"`
	Group     string          `json:"logGroup"`
	Stream    string          `json:"logStream"`
}

// Why messages are filtered.
const (
	control  = "it is a control message of CloudWatch Logs"
	noEvents = "it holds no log events"
	nothing  = "it holds no records"
)

// Apply implements connector.Worker.
func (l logs) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	const code = "CloudWatchLogProcessing.InvalidData"
	var s subscription
	if err := json.Unmarshal(m.Data, &s); err != nil {
		return out, refuse(code, "the payload is not what CloudWatch Logs sends (is decompress missing before?): %v", err)
	}
	switch {
	case s.Type == "CONTROL_MESSAGE":
		m.Drop(control)
		return out, nil
	case s.Type != "DATA_MESSAGE" || s.Events == nil:
		return out, refuse(code, "the payload is not what CloudWatch Logs sends: its messageType is %.100q, or it has no logEvents", s.Type)
	case len(*s.Events) == 0:
		m.Drop(noEvents)
		return out, nil
	}
	payloads := make([][]byte, len(*s.Events))
	for i, e := range *s.Events {
		if e.Message == nil {
			return out, refuse(code, "log event %d has no message", i)
		}
		payloads[i] = []byte(*e.Message)
		if l.c.Extract == extractEvent {
			text, err := json.Marshal(logEvent{e.ID, e.Timestamp, *e.Message, s.Owner, s.Group, s.Stream})
			if err != nil {
				return out, refuse(code, "log event %d: %v", i, err)
			}
			payloads[i] = text
		}
	}
	for i, x := range m.Split(payloads...) {
		if id := (*s.Events)[i].ID; id != "" {
			x.Meta.ID = id // what is the same log event wherever it comes again
		}
		out = append(out, x)
	}
	return out, nil
}

// Aggregation is the block of the transform "deaggregate".
type Aggregation struct {
	// SubRecordType is what the records in a payload are: "JSON" (default), objects one behind the
	// other, with or without white space between, or "DELIMITED", texts with the delimiter between.
	SubRecordType string `hcl:"sub_record_type,optional"`
	// Delimiter between texts. Required with sub_record_type = "DELIMITED".
	Delimiter string `hcl:"delimiter,optional"`
}

const recordsJSON, recordsDelimited = "JSON", "DELIMITED"

// Validate implements connector.Validator.
func (c Aggregation) Validate() []connector.Problem {
	switch {
	case c.SubRecordType != recordsJSON && c.SubRecordType != recordsDelimited:
		return []connector.Problem{{Field: "sub_record_type", What: fmt.Sprintf("sub_record_type must not be %q", c.SubRecordType), Fix: `use "JSON", or "DELIMITED" with a delimiter`}}
	case c.SubRecordType == recordsDelimited && c.Delimiter == "":
		return []connector.Problem{{Field: "delimiter", What: "there is no delimiter", Fix: `write it as it is, as delimiter = "####"; Firehose has it in base64`}}
	case c.SubRecordType == recordsJSON && c.Delimiter != "":
		return []connector.Problem{{Field: "delimiter", What: "delimiter is of no use between JSON objects", Fix: `take it out, or set sub_record_type = "DELIMITED"`}}
	}
	return nil
}

// Deaggregate is the transform "deaggregate".
var Deaggregate = connector.Of(connector.Spec[Aggregation, connector.Transform]{
	Name:      "deaggregate",
	Summary:   "Makes a message of each of the records that are in one payload.",
	Stability: connector.Experimental,
	Default:   func() Aggregation { return Aggregation{SubRecordType: recordsJSON} },
	New: func(_ context.Context, _ connector.Deps, c Aggregation) (connector.Transform, error) {
		return connector.Stateless(aggregation{c}), nil
	},
})

type aggregation struct{ c Aggregation }

// Apply implements connector.Worker.
func (a aggregation) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	var records [][]byte
	if a.c.SubRecordType == recordsDelimited {
		for text := range bytes.SplitSeq(m.Data, []byte(a.c.Delimiter)) {
			if len(text) > 0 {
				records = append(records, slices.Clip(text))
			}
		}
	} else {
		var err error
		if records, err = objects(m.Data); err != nil {
			return out, refuse("RecordDeAggregation.InvalidData", "the payload is not JSON objects one behind the other: %v", err)
		}
	}
	switch {
	case len(records) == 0:
		m.Drop(nothing)
		return out, nil
	case len(records) == 1 && len(records[0]) == len(m.Data):
		return append(out, m), nil
	}
	return append(out, m.Split(records...)...), nil
}

// objects are the JSON objects in data.
func objects(data []byte) (all [][]byte, err error) {
	for s := jsontext.Scan(data); ; {
		c := s.Next()
		at := s.At
		if at == len(data) {
			return all, nil
		}
		if c != '{' {
			return nil, fmt.Errorf("byte %d: %q begins no object", at, data[at])
		}
		if !s.Value() {
			return nil, s.Err()
		}
		all = append(all, data[at:s.At:s.At])
	}
}
