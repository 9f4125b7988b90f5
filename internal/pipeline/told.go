package pipeline

import (
	"log/slog"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/retry"
)

// What is told of messages that were not delivered, by destination (invariant 9).
var (
	// dueAgain: they are in their queue, with the time of their next attempt. A message counts as
	// often as it was tried.
	dueAgain = &outage.Kind{Level: slog.LevelWarn, Text: "write failed, messages are due again later", Gather: 100 * time.Millisecond, Count: "attempts", Passes: true}
	// triedAgain: a writer waits, and has them. A message counts as often as it was tried.
	triedAgain = &outage.Kind{Level: slog.LevelWarn, Text: "write failed, trying again", Gather: 100 * time.Millisecond, Count: "attempts", Passes: true}
	// readAgain: the source was not read from.
	readAgain = &outage.Kind{Level: slog.LevelWarn, Text: "read failed, trying again", Count: "reads", Passes: true, Over: "reads succeed again"}
	// unsure: the source was told that they are settled, and may not know.
	unsure = &outage.Kind{Level: slog.LevelError, Text: "the source may deliver settled messages again", Gather: time.Second, Passes: true, Over: "the source knows again what is settled"}
	// givenUp: they are dead in their queue; gaveAway: the failure target gets them.
	givenUp  = &outage.Kind{Level: slog.LevelError, Text: "messages are given up; they are kept, dead, in the queue that they come from", Gather: time.Second, Shown: true}
	gaveAway = &outage.Kind{Level: slog.LevelError, Text: "messages are given up; they go to the failure target", Gather: time.Second, Shown: true}
	// turnedDown: the failure target gets them. cutShort: it gets a part, and nothing the whole;
	// overflows: it gets a part, or nothing, and the store the whole.
	turnedDown = &outage.Kind{Level: slog.LevelInfo, Text: "messages are refused and go to the failure target", Gather: 100 * time.Millisecond}
	cutShort   = &outage.Kind{Level: slog.LevelError, Gather: time.Second,
		Text: "failed messages are cut to fit the failure target, and are whole nowhere: raise its batching.max_message_bytes, or set spill = true in failure_target, which keeps them whole in the store"}
	overflows = &outage.Kind{Level: slog.LevelError, Gather: time.Second, Shown: true,
		Text: "failed messages are larger than the failure target takes, or refused by it: it gets what fits, and they are kept whole in the store"}
	// keptDead: they were refused, and stay where they come from.
	keptDead = &outage.Kind{Level: slog.LevelError, Text: "messages are refused; they are kept, dead, in the queue that they come from", Gather: time.Second, Shown: true}
)

// destinationOf is whom a message is for, where that is known.
func destinationOf(m *event.Message) string {
	if m.Meta.Scope == nil {
		return ""
	}
	return m.Meta.Scope.Destination
}

// noteRetry notes whom the messages of an attempt that failed are for.
func (s *sink) noteRetry(a *retry.Attempt) {
	more := []slog.Attr{slog.String(meter.KeyKind, a.Kind.String()), slog.Int(meter.KeyAttempt, a.Number), slog.Duration(meter.KeyDelay, a.Delay)}
	if d := fault.DetailOf(a.Err); d.Fix != "" {
		more = append(more, slog.String(meter.KeyAnswer, d.Answer), slog.String(keyFix, d.Fix))
	}
	cause := a.Kind.String() + " " + fault.DetailOf(a.Err).Code
	for left := a.Left; len(left) > 0; {
		to, n := destinationOf(left[0]), 1
		for n < len(left) && destinationOf(left[n]) == to {
			n++
		}
		s.told.NoteAs(triedAgain, to, cause, n, a.Err, more...)
		left = left[n:]
	}
}

// outcomes are what the metrics call what became of messages.
var outcomes = map[*outage.Kind]string{
	dueAgain: meter.OutcomeAgain, givenUp: meter.OutcomeDead, keptDead: meter.OutcomeDead, gaveAway: meter.OutcomeFailed,
	turnedDown: meter.OutcomeFailed, overflows: meter.OutcomeFailed, cutShort: meter.OutcomeCut,
}

// blame tells and counts that a message was not taken.
func (s *sink) blame(kind *outage.Kind, m *event.Message, err error) {
	s.told.Note(kind, destinationOf(m), 1, err)
	s.charge(kind, m)
}

// charge counts a message that was not taken, by whom it is for and from.
func (s *sink) charge(kind *outage.Kind, m *event.Message) {
	if scope := m.Meta.Scope; scope != nil {
		s.meter.Blame(scope.Destination, scope.Source, outcomes[kind], 1)
	}
}

// well notes whom the messages of b are for that did not fail.
func (s *sink) well(b event.Batch, failed map[int]error) {
	if !s.told.Passing() {
		return
	}
	last, known := "", false
	for i, m := range b {
		if failed[i] != nil {
			continue
		}
		if d := destinationOf(m); !known || d != last {
			s.told.Well(d)
			last, known = d, true
		}
	}
}
