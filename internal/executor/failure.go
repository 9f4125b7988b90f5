package executor

import (
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// A failure that Retry or Catch of a definition handles ends no execution, and is seen
// nevertheless: it is counted by state and error, the log says so (seldom, where it repeats
// itself), and the job that is there because of it tells it in the header weir-last-error.

// maxShown is how much of a failure a line of the log and a header show, in bytes.
const maxShown = 1024

// tellFailures counts and reports what failed in a unit that is committed. What ended the
// execution is reported with its end.
func (m *Machine) tellFailures(u *unit) {
	for i := range u.failures {
		f := &u.failures[i]
		m.o.Meter.StateFailed(meter.StateFailure{State: f.State, Error: f.Error, Outcome: string(f.Outcome)})
		if f.Outcome == machine.Uncaught {
			continue
		}
		now, times := m.seldom.say("state\x00" + f.State + "\x00" + f.Error + "\x00" + string(f.Outcome))
		if !now {
			continue
		}
		attrs := []any{meter.KeyState, f.State, meter.KeyError, shorten(errorText(f)), meter.KeyAttempt, f.Attempt, keyExecution, u.w.execution, meter.KeyMessages, times}
		if f.Outcome == machine.Retried {
			m.o.Log.Warn("a state failed and will be tried again", append(attrs, meter.KeyDelay, f.Delay)...)
		} else {
			m.o.Log.Warn("a state failed and its Catch goes on", append(attrs, keyNext, f.Next)...)
		}
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
