package executor

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/jsontext"
)

// TestStepJobs: a payload comes back, also with an input that nests as deep as texts may, and
// one that a value grew to.
func TestStepJobs(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", jsontext.MaxDepth) + strings.Repeat("]", jsontext.MaxDepth)
	for _, want := range []stepJob{
		{Execution: "e", Timer: 7, State: "Wait"},
		{Execution: "e\"\n", Task: 1, State: "A", Resource: "r", TimeoutMillis: 5, HeartbeatMillis: 6, Input: json.RawMessage(`{"a":[1e999,"\ud800"]}`)},
		{Execution: "e", Task: 1, Input: json.RawMessage(deep)},
		{Execution: "e", Task: 1, Input: json.RawMessage("[" + deep + "]")},
	} {
		var got stepJob
		if err := got.read(want.append(nil)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	var got stepJob
	if err := got.read([]byte(` {"input" : {"execution":"no"} , "execution":"yes","task":3}`)); err != nil || got.Execution != "yes" || got.Task != 3 || string(got.Input) != `{"execution":"no"}` {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{``, `{`, `[]`, `{"execution":1}`, `{"execution":"e"} x`} {
		if err := got.read([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
