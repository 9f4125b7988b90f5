package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/meter"
)

// buildHandler builds the handler of package lambda's tests into dir: a program of a module of
// its own, which knows AWS's official library and nothing of this product.
func buildHandler(t *testing.T, dir string) {
	t.Helper()
	c := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), ".")
	c.Dir = filepath.Join("..", "lambda", "testdata", "handler")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the handler: %v: %s", err, out)
	}
}

// said is a log that is written and read at once.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }
func (s *said) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// TestLambda runs a deployed Lambda handler as the tasks of a machine: what it answers, and
// each way it can fail, matched by Retry and Catch of the definition, by the resource of the
// function and by lambda:invoke.
func TestLambda(t *testing.T) {
	t.Parallel()
	// Each error has a retrier and a catcher of its own, so that the name decides.
	const policies = `
		"Retry": [{"ErrorEquals": ["ErrInvalidCountryCode"], "MaxAttempts": 0}, {"ErrorEquals": ["Sandbox.Timedout"], "IntervalSeconds": 1, "MaxAttempts": 1},
			{"ErrorEquals": ["Runtime.ExitError"], "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 2}, {"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 1, "MaxAttempts": 1}],
		"Catch": [{"ErrorEquals": ["ErrInvalidCountryCode"], "ResultPath": "$.error", "Next": "Expected"}, {"ErrorEquals": ["Sandbox.Timedout"], "ResultPath": "$.error", "Next": "Late"},
			{"ErrorEquals": ["Runtime.ExitError"], "ResultPath": "$.error", "Next": "Exited"},
			{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Unexpected"}],`
	end := func(name string) string {
		return fmt.Sprintf(`%q: {"Type": "Pass", "Result": %q, "ResultPath": "$.end", "Next": "Put"}`, name, name)
	}
	dir := t.TempDir()
	files := map[string]string{
		"weir.hcl": `
store {
  use "embedded" {
    path = "DIR/store"
  }
}
source {
  use "file" {
    path = "DIR/in.jsonl"
  }
}
target {
  use "machine" {
    name = "m"
  }
}
machine "m" {
  definition      = "m.asl.json"
  stop_when_empty = true
}
function "Legacy" {
  lambda {
    command     = ["./bootstrap"]
    concurrency = 2
    timeout_ms = 5000
    init_timeout_ms = 120000
    env = {
      STAGE = "test"
    }
  }
}
function "Put" {
  target {
    use "directory" {
      path       = "DIR/out"
      name_field = "id"
    }
  }
}
`,
		"m.asl.json": `{"StartAt": "Which", "States": {
			"Which": {"Type": "Choice", "Choices": [{"Variable": "$.invoke", "IsPresent": true, "Next": "Invoke"}], "Default": "Direct"},
			"Direct": {"Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:Legacy", ` + policies + `
				"ResultSelector": {"id.$": "$.id", "request.$": "$.request_id", "pid.$": "$.pid", "stage.$": "$.env"}, "ResultPath": "$.answer", "Next": "Good"},
			"Invoke": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": "Legacy", "Payload.$": "$"}, ` + policies + `
				"ResultSelector": {"id.$": "$.Payload.id", "request.$": "$.Payload.request_id", "pid.$": "$.Payload.pid", "status.$": "$.StatusCode"}, "ResultPath": "$.answer", "Next": "Good"},
			` + strings.Join([]string{end("Good"), end("Expected"), end("Late"), end("Exited"), end("Unexpected")}, ",\n") + `,
			"Put": {"Type": "Task", "Resource": "Put", "End": true}}}`,
	}
	type row struct {
		end, errorType, cause string
		calls                 int
	}
	want := map[string]row{}
	var in strings.Builder
	for code, r := range map[string]row{
		"GB":    {"Good", "", "", 1},
		"FR":    {"Expected", "ErrInvalidCountryCode", "invalid country code: FR", 1},
		"PLAIN": {"Unexpected", "errorString", "a plain error", 2},
		"PANIC": {"Unexpected", "string", "a panic of the handler", 2},
		"EXIT":  {"Exited", "Runtime.ExitError", "exit status 3", 3},
		"SLOW":  {"Late", "Sandbox.Timedout", "Task timed out after 5.00 seconds", 2},
	} {
		want["direct-"+code], want["invoke-"+code] = r, r
		fmt.Fprintf(&in, "{\"id\":\"direct-%s\",\"country_code\":%q}\n{\"id\":\"invoke-%s\",\"country_code\":%q,\"invoke\":true}\n", code, code, code, code)
	}
	files["in.jsonl"] = in.String()
	buildHandler(t, dir)
	log := &said{}
	b, built, found := machineConfigIn(t, dir, slog.New(slog.NewTextHandler(log, nil)), files)
	if len(found) > 0 {
		t.Fatal(found.Text())
	}
	a := app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: b}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Run(ctx, built); err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err(), log)
	}

	got, pids := map[string]row{}, map[int]bool{}
	for id := range want {
		text, err := os.ReadFile(filepath.Join(dir, "out", id+".json"))
		if err != nil {
			t.Errorf("%v\n%s", err, log)
			continue
		}
		var o struct {
			End    string
			Error  struct{ Error, Cause string }
			Answer struct {
				ID, Request string
				PID         int
			}
		}
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		r := row{end: o.End, errorType: o.Error.Error, calls: strings.Count(log.String(), `"order `+id+`"`)}
		if want[id].cause != "" && strings.Contains(o.Error.Cause, want[id].cause) && json.Valid([]byte(o.Error.Cause)) {
			r.cause = want[id].cause
		}
		got[id] = r
		if o.End == "Good" {
			if o.Answer.ID != id || o.Answer.Request == "" || o.Answer.PID == 0 {
				t.Errorf("%s: the answer is %s", id, text)
			}
			pids[o.Answer.PID] = true
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("ends (-want +got):\n%s", diff)
	}
	for pid := range pids {
		if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
			t.Errorf("the handler %d outlived the run", pid)
		}
	}
}
