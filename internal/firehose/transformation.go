package firehose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// MostInvocation is the most bytes of a request to a handler, and of its answer.
const MostInvocation = 6 << 20

// Stream is whose records a handler is given.
type Stream struct {
	// Name is that of the delivery stream.
	Name string
	// Region that the handler is told.
	Region string
}

const account = "000000000000"

// ARN is the delivery stream's name of its own.
func (s Stream) ARN() string {
	return "arn:aws:firehose:" + s.Region + ":" + account + ":deliverystream/" + s.Name
}

type requestRecord struct {
	RecordID string           `json:"recordId"`
	Arrival  int64            `json:"approximateArrivalTimestamp"`
	Data     string           `json:"data"`
	Kinesis  *kinesisMetadata `json:"kinesisRecordMetadata,omitempty"`
}

type kinesisMetadata struct {
	SequenceNumber string `json:"sequenceNumber"`
	Subsequence    uint64 `json:"subsequenceNumber"`
	PartitionKey   string `json:"partitionKey"`
	ShardID        string `json:"shardId"`
	Arrival        int64  `json:"approximateArrivalTimestamp"`
}

type request struct {
	InvocationID string          `json:"invocationId"`
	StreamARN    string          `json:"deliveryStreamArn"`
	SourceARN    string          `json:"sourceKinesisStreamArn,omitempty"`
	Region       string          `json:"region"`
	Records      []requestRecord `json:"records"`
}

// Arrival is when the record that m is came into its stream, as far as that is known.
func Arrival(m *event.Message) time.Time {
	if o := m.Meta.Origin.Earliest(); o != nil && !o.At.IsZero() {
		return o.At
	}
	if !m.Times.Created.IsZero() {
		return m.Times.Created
	}
	return m.Times.Read
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// shardPrefix is how the names of shards of a Kinesis stream begin.
const shardPrefix = "shardId-"

// RecordID is the name of the i-th record of an invocation.
func RecordID(invocation string, i int) string { return fmt.Sprintf("%s-%06d", invocation, i) }

// Request is the event that a handler is invoked with to transform b.
func (s Stream) Request(invocation string, b event.Batch) ([]byte, error) {
	r := request{InvocationID: invocation, StreamARN: s.ARN(), Region: s.Region, Records: make([]requestRecord, len(b))}
	for i, m := range b {
		x := requestRecord{RecordID: RecordID(invocation, i), Arrival: millis(Arrival(m)), Data: base64.StdEncoding.EncodeToString(m.Data)}
		if o := m.Meta.Origin.Earliest(); o != nil && strings.HasPrefix(o.Partition, shardPrefix) {
			sequence, _, _ := strings.Cut(m.Meta.ID, "/")
			x.Kinesis = &kinesisMetadata{SequenceNumber: sequence, Subsequence: o.Sub, PartitionKey: m.Key, ShardID: o.Partition, Arrival: x.Arrival}
			r.SourceARN = "arn:aws:kinesis:" + s.Region + ":" + account + ":stream/" + o.Stream
		}
		r.Records[i] = x
	}
	return json.Marshal(r)
}

// RequestBytes is about how much of a request the record of m takes.
func RequestBytes(m *event.Message) int {
	const around = 400 // the names of the members, and what is in the others
	return base64.StdEncoding.EncodedLen(len(m.Data)) + len(m.Key) + len(m.Meta.ID) + around
}

// Result is what a handler says of a record.
type Result string

// The results.
const (
	Ok               Result = "Ok"
	Dropped          Result = "Dropped"
	ProcessingFailed Result = "ProcessingFailed"
)

// Answer is what became of one record.
type Answer struct {
	Result Result
	Data   []byte
	Keys   map[string]string // the partition keys
	// Code and Message say why the record failed, where it did.
	Code, Message string
}

func failed(code, format string, args ...any) Answer {
	return Answer{Result: ProcessingFailed, Code: code, Message: fmt.Sprintf(format, args...)}
}

// The codes of records that failed in a transformation.
const (
	CodeStatus    = "Lambda.ProcessingFailedStatus"
	CodeJSON      = "Lambda.JsonProcessingException"
	CodeMissing   = "Lambda.MissingRecordId"
	CodeDuplicate = "Lambda.DuplicatedRecordId"
	CodeFunction  = "Lambda.FunctionError"
	CodeTimedOut  = "Lambda.FunctionTimedOut"
	CodeTooLarge  = "Lambda.RequestEntityTooLarge"
	CodeKeys      = "DynamicPartitioning.InvalidPartitionKeys"
)

type answerRecord struct {
	RecordID string  `json:"recordId"`
	Result   string  `json:"result"`
	Data     *string `json:"data"`
	Kafka    *string `json:"kafkaRecordValue"`
	Metadata *struct {
		Keys map[string]json.RawMessage `json:"partitionKeys"`
	} `json:"metadata"`
}

// Answers reads what a handler answered to an invocation with n records: one answer for each. An
// error says that it is no answer to anything.
func Answers(invocation string, n int, output []byte) ([]Answer, error) {
	var top struct {
		Records []json.RawMessage `json:"records"`
	}
	if err := json.Unmarshal(output, &top); err != nil {
		return nil, fmt.Errorf("the answer is not an object with records: %w", err)
	}
	if top.Records == nil {
		return nil, errors.New("the answer has no records")
	}
	answers := make([]Answer, n)
	seen := make([]int, n)
	for _, raw := range top.Records {
		var r answerRecord
		err := json.Unmarshal(raw, &r)
		i, known := indexOf(invocation, r.RecordID, n)
		if !known {
			continue // whose answer it is does not show: that record's is missing
		}
		if seen[i]++; seen[i] > 1 {
			answers[i] = failed(CodeDuplicate, "the answer has the record %d times", seen[i])
			continue
		}
		if err != nil {
			answers[i] = failed(CodeJSON, "the answer to the record cannot be read: %v", err)
			continue
		}
		answers[i] = r.answer()
	}
	for i := range answers {
		if seen[i] == 0 {
			answers[i] = failed(CodeMissing, "the answer does not have the record")
		}
	}
	return answers, nil
}

func indexOf(invocation, id string, n int) (int, bool) {
	text, ours := strings.CutPrefix(id, invocation+"-")
	i, err := strconv.Atoi(text)
	return i, ours && err == nil && i >= 0 && i < n && id == RecordID(invocation, i)
}

// mostReason is how much a message quotes of what a handler has said.
const mostReason = 200

func (r answerRecord) answer() Answer {
	switch Result(r.Result) {
	case Dropped:
		return Answer{Result: Dropped}
	case ProcessingFailed:
		return failed(CodeStatus, "the handler answered ProcessingFailed")
	case Ok:
	default:
		return failed(CodeJSON, "the result is %.*q, none of Ok, Dropped and ProcessingFailed", mostReason, r.Result)
	}
	text := r.Data
	if text == nil {
		text = r.Kafka
	}
	if text == nil {
		return failed(CodeJSON, "the result is Ok, and there is no data")
	}
	data, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		return failed(CodeJSON, "the data is not in base64: %v", err)
	}
	a := Answer{Result: Ok, Data: data}
	if r.Metadata == nil || len(r.Metadata.Keys) == 0 {
		return a
	}
	if len(r.Metadata.Keys) > MostKeys {
		return failed(CodeKeys, "the record has %d partition keys, more than %d", len(r.Metadata.Keys), MostKeys)
	}
	a.Keys = make(map[string]string, len(r.Metadata.Keys))
	for name, raw := range r.Metadata.Keys {
		var value *string
		if err := json.Unmarshal(raw, &value); err != nil || value == nil || *value == "" {
			return failed(CodeKeys, "the partition key %.*q is not a text with something in it", mostReason, name)
		}
		a.Keys[name] = *value
	}
	return a
}
