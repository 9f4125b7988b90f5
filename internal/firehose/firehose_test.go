package firehose_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
)

// FuzzAnswers: whatever a handler answers, each record has one answer, and one that is Ok has data.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"records":[{"recordId":"i-000000","result":"Ok","data":"eA==","metadata":{"partitionKeys":{"a":"b"}}},{"recordId":"i-000001","result":"Dropped"}]}`))
	f.Add([]byte(`{"records":[{"recordId":"i-000001","result":"Ok","kafkaRecordValue":""},7,null,{"recordId":"i-000001"}]}`))
	f.Fuzz(func(t *testing.T, output []byte) {
		answers, err := firehose.Answers("i", 2, output)
		if err != nil {
			return
		}
		if len(answers) != 2 {
			t.Fatalf("%d answers", len(answers))
		}
		for _, a := range answers {
			if (a.Result == firehose.ProcessingFailed) != (a.Code != "") || a.Result == firehose.Ok && a.Data == nil || a.Result == "" {
				t.Errorf("%q: %+v", output, a)
			}
		}
	})
}

// TestFailureOf: what other steps refuse is told in Firehose's form too.
func TestFailureOf(t *testing.T) {
	t.Parallel()
	own := &firehose.Failure{Type: firehose.ConversionFailedType, Code: "c", Message: "m"}
	if got := firehose.FailureOf(fmt.Errorf("around: %w", own.Refuse())); got != own {
		t.Errorf("%+v", got)
	}
	other := fault.Describe(fault.Invalid, errors.New("no"), fault.Detail{Code: "400"})
	if got := firehose.FailureOf(other); got.Code != "400" || got.Message != "no" || got.Attempts != 1 || got.Type != firehose.ProcessingFailedType {
		t.Errorf("%+v", got)
	}
	if got := firehose.FailureOf(errors.New("no")); got.Code == "" {
		t.Errorf("%+v", got)
	}
}

// TestPartitionKeys: a key of a copy is not the other's, and the later one counts.
func TestPartitionKeys(t *testing.T) {
	t.Parallel()
	m := event.New(nil)
	firehose.FromLambda.Set(m, "a", "1")
	c := m.Clone()
	firehose.FromLambda.Set(c, "a", "2")
	firehose.FromQuery.Set(c, "a", "3")
	if firehose.FromLambda.Of(m, "a") != "1" || firehose.FromLambda.Of(c, "a") != "2" || firehose.FromQuery.Of(c, "a") != "3" || firehose.FromQuery.Of(m, "a") != "" {
		t.Errorf("%v, %v", m.Meta.Headers, c.Meta.Headers)
	}
}
