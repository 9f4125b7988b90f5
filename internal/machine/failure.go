package machine

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// The names of errors that the interpreter raises or matches.
const (
	errorAll            = "States.ALL"
	errorTaskFailed     = "States.TaskFailed"
	errorTimeout        = "States.Timeout"
	errorHeartbeat      = "States.HeartbeatTimeout"
	errorRuntime        = "States.Runtime"
	errorDataLimit      = "States.DataLimitExceeded"
	errorIntrinsic      = "States.IntrinsicFailure"
	errorResultPath     = "States.ResultPathMatchFailure"
	maxErrorBytes       = 256
	maxCauseBytes       = 32_768
	maxQuotedInputBytes = 4_096 // of an input that a cause quotes
)

// failure is why a state did not end well. Its error and cause are undefined where nobody
// gave one.
type failure struct {
	name, cause jsonvalue.Value
	// own says that the interpreter raised it while executing a state, so that the
	// cause is to name the state.
	own bool
	// final says that neither Retry nor Catch may handle it.
	final     bool
	heartbeat bool
	place     string // the state that it came from, once nothing in it could handle it
}

// raise is an error of the interpreter itself.
func raise(name, format string, args ...any) *failure {
	return &failure{
		name: jsonvalue.OfString(name), cause: jsonvalue.OfString(fmt.Sprintf(format, args...)),
		own: true, final: name == errorRuntime,
	}
}

const resultTooLarge = "The state/task '%s' returned a result with a size exceeding the maximum number of bytes service limit."

// dataLimit says that something is too large; its cause does not name the state again.
func dataLimit(format, what string) *failure {
	return &failure{name: jsonvalue.OfString(errorDataLimit), cause: jsonvalue.OfString(fmt.Sprintf(format, what))}
}

// reported is an error that came from outside.
func reported(name, cause *string) *failure {
	f := &failure{name: textOrNothing(name, maxErrorBytes), cause: textOrNothing(cause, maxCauseBytes)}
	f.final = f.name.Text() == errorRuntime
	return f
}

func textOrNothing(s *string, most int) jsonvalue.Value {
	if s == nil {
		return jsonvalue.Value{}
	}
	return jsonvalue.OfString(cut(strings.ToValidUTF8(*s, "\uFFFD"), most))
}

// cut is at most n bytes of s, and no half character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// output is what a Catcher hands on.
func (f *failure) output() jsonvalue.Value {
	cause := f.cause
	if !cause.Defined() && f.name.Text() == errorTimeout {
		cause = jsonvalue.OfString("")
	}
	var b jsonvalue.Builder
	return b.Set("Error", orNull(f.name)).Set("Cause", orNull(cause)).Object()
}

func orNull(v jsonvalue.Value) jsonvalue.Value {
	if !v.Defined() {
		return jsonvalue.NullValue
	}
	return v
}

func textPointer(v jsonvalue.Value) *string {
	if !v.Defined() {
		return nil
	}
	s := v.Text()
	return &s
}

// matches reports whether a list of error names covers f.
func (f *failure) matches(names []string) bool {
	if f.final {
		return false
	}
	for _, n := range names {
		switch {
		case n == errorAll:
			return true
		case n == errorTaskFailed && f.name.Text() != errorTimeout:
			return true
		case n == errorHeartbeat && f.heartbeat:
			return true
		case f.name.Defined() && n == f.name.Text():
			return true
		}
	}
	return false
}

// located is f with the state in its cause, the first time it passes a state.
func (f *failure) located(state string, event uint64) *failure {
	if !f.own {
		return f
	}
	cause := fmt.Sprintf("An error occurred while executing the state '%s' (entered at the event id #%d). %s", state, event, f.cause.Text())
	return &failure{
		name: f.name, cause: jsonvalue.OfString(cut(cause, maxCauseBytes)),
		final: f.final, heartbeat: f.heartbeat,
	}
}

// quoted is an input as a cause shows it.
func quoted(v jsonvalue.Value) string {
	switch size := v.Size(); {
	case size <= maxQuotedInputBytes:
		return v.JSON()
	case size <= 16*DefaultPayload:
		return cut(v.JSON(), maxQuotedInputBytes) + "..."
	}
	return fmt.Sprintf("%d bytes", v.Size())
}
