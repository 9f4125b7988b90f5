package executor

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/queue"
)

// A failure that Retry or Catch of a definition handles ends no execution, and is seen
// nevertheless: it is counted by state and error, the log says so (seldom, where it repeats
// itself), and the job that is there because of it tells it in the header weir-last-error.

// maxShown is how much of a failure a line of the log and a header show, in bytes.
const maxShown = 1024

// What is told of executions that go on.
var (
	retried = &outage.Kind{Level: slog.LevelWarn, Text: "a state failed and will be tried again", Lazy: true}
	caught  = &outage.Kind{Level: slog.LevelWarn, Text: "a state failed and its Catch goes on", Lazy: true}
	// elsewhere: a process with another version of the program goes on with them.
	elsewhere = &outage.Kind{Level: slog.LevelError, Text: "an execution cannot go on with this version of the program: its job stays in the queue", Lazy: true}
)

// tellFailures counts and reports what failed in a unit that is committed. What ended the
// execution is reported with its end.
func (m *Machine) tellFailures(u *unit) {
	for i := range u.failures {
		f := &u.failures[i]
		m.o.Meter.StateFailed(meter.StateFailure{State: f.State, Error: f.Error, Outcome: string(f.Outcome)})
		if f.Outcome == machine.Uncaught {
			continue
		}
		kind, more := caught, slog.String(keyNext, f.Next)
		if f.Outcome == machine.Retried {
			kind, more = retried, slog.Duration(meter.KeyDelay, f.Delay)
		}
		m.told.NoteAs(kind, "", f.State+"\x00"+f.Error, 1, errors.New(shorten(errorText(f))),
			slog.String(meter.KeyState, f.State), slog.Int(meter.KeyAttempt, f.Attempt), slog.String(keyExecution, u.w.execution), more)
	}
}

const keyNext = "next"

func errorText(f *machine.Failure) string {
	switch {
	case f.Cause == "":
		return f.Error
	case f.Error == "":
		return f.Cause
	}
	return f.Error + ": " + f.Cause
}

// shorten is text without line ends, and no more of it than is shown.
func shorten(text string) string {
	text = strings.ReplaceAll(text, "\n", " ")
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "..."
	}
	return text
}

// lastError is a failure as the job shows it that is there because of it.
func lastError(f *machine.Failure) string {
	return shorten(fmt.Sprintf("state %q failed at attempt %d: %s", f.State, f.Attempt, errorText(f)))
}

// lastError is what the job of w shows: what follows from it is there for the same reason.
func (w *work) lastError() string {
	if w.step.Timer == 0 {
		return ""
	}
	return w.job.Msg.Meta.Headers.Text(queue.HeaderLastError)
}

// after is a job that is there because of an error; empty: it is not.
func after(j queue.Job, lastError string) queue.Job {
	if lastError != "" {
		j.Msg.SetHeader(queue.HeaderLastError, lastError)
	}
	return j
}
