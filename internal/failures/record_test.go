package failures

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
)

// TestRecords: a failed record keeps to its limit, says what failed and whose it is, and gives back
// the payload byte for byte or says that it was cut.
func TestRecords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "payload")
		kind := rapid.SampledFrom([]firehose.OutputType{firehose.ProcessingFailedType, firehose.ConversionFailedType, firehose.PartitionsExceeded}).Draw(t, "kind")
		limit := rapid.SampledFrom([]int{0, 400, 700, 2000}).Draw(t, "limit")
		c := contexts().Draw(t, "context")
		message := text().Draw(t, "message")
		m := event.New(payload)
		m.Times.Created = time.UnixMilli(1507217624302)
		m.Meta.Origin, m.Meta.ID = &event.Origin{Sub: 7}, "4959"
		why := &firehose.Failure{Type: kind, Attempts: 4, Code: "Lambda.FunctionError", Message: message, Lambda: "arn:x", Ended: time.UnixMilli(1507217624400)}
		row, err := Format{Artifact: Artifact, Context: c}.Record(m, why.Refuse(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if limit > 0 && len(row) > limit || bytes.ContainsAny(row, "\n\r") {
			t.Fatalf("%d bytes of %d: %s", len(row), limit, row)
		}
		f, err := Parse(row)
		if err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		if f.Kind != FailedRecord || f.Code != why.Code || !f.Time.Equal(m.Times.Created) || f.Artifact != Artifact || OutputType(row) != kind {
			t.Fatalf("%s: %+v", row, f)
		}
		if f.Cut && limit == 0 || !f.Cut && !bytes.Equal(f.Payload, payload) || f.Cut && (!bytes.HasPrefix(payload, f.Payload) || f.Size() != len(payload)) {
			t.Fatalf("%s: %q cut %t, want %q", row, f.Payload, f.Cut, payload)
		}
		if limit == 0 && f.Context != c {
			t.Fatalf("%+v, want %+v", f.Context, c)
		}
		var form map[string]any
		if err := json.Unmarshal(row, &form); err != nil {
			t.Fatal(err)
		}
		if form["attemptsMade"] != 4.0 || form["arrivalTimestamp"] != 1507217624302.0 || form["attemptEndingTimestamp"] != 1507217624400.0 || form["lambdaArn"] != "arn:x" {
			t.Fatalf("%s", row)
		}
		if kind == firehose.ConversionFailedType && (form["lastErrorCode"] != why.Code || form["sequenceNumber"] != "4959" || form["subSequenceNumber"] != 7.0 || form["errorCode"] != nil) {
			t.Fatalf("%s", row)
		}
	})
}

// TestRecordsOfFirehose: lines that Firehose wrote are failures whose payloads can be sent again;
// what looks like one and is damaged is said to be.
func TestRecordsOfFirehose(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte(`{"attemptsMade":4,"arrivalTimestamp":1507217624302,"errorCode":"Lambda.FunctionError","errorMessage":"The Lambda function was successfully invoked but it returned an error result.","attemptEndingTimestamp":1507217694302,"rawData":"eyJwYXlsb2FkIjoxfQ==","lambdaArn":"arn:aws:lambda:eu-west-1:1:function:f:$LATEST"}`))
	if err != nil || string(f.Payload) != `{"payload":1}` || f.Cause() != "Lambda.FunctionError: The Lambda function was successfully invoked but it returned an error result." {
		t.Fatalf("%+v, %v", f, err)
	}
	if payload, _, err := f.Replayed(Original); err != nil || string(payload) != `{"payload":1}` {
		t.Errorf("%s, %v", payload, err)
	}
	for line, damaged := range map[string]bool{
		`{"rawData":"%"}`:                             true,
		`{"rawData":"","attemptsMade":"x"}`:           true,
		`{"rawData":"","weir":7}`:                     true,
		`{"rawData":7}`:                               false,
		`{"other":"\"rawData\""}`:                     false,
		`{"rawData":"x"`:                              false,
		`{"data":{"rawData":"x"},"payload":"a"}`:      false,
		`{"rawData":null,"payload":{"rawData":"eA"}}`: false,
	} {
		if f, err := Parse([]byte(line)); err == nil || errors.Is(err, ErrNotFailure) == damaged {
			t.Errorf("%s: %+v, %v", line, f, err)
		}
	}
}
