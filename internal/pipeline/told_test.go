package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

// logged is the log of a pipeline, and what of it is above INFO, a line for each record.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

type told struct {
	Level, Msg, Destination, Error, Command string
	Messages, Attempts                      int
}

func (l *logged) lines(t *testing.T, level string) []told {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []told
	for text := range strings.SplitSeq(strings.TrimSpace(l.text.String()), "\n") {
		var x told
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &x); err != nil {
			t.Fatal(err)
		}
		if x.Level == level {
			all = append(all, x)
		}
	}
	return all
}

// scoped puts n messages for a destination into a queue.
func scoped(t *testing.T, s queue.Store, name, destination string, n int) {
	t.Helper()
	jobs := make([]queue.Job, n)
	for i := range jobs {
		jobs[i] = queue.Job{Queue: name, Msg: event.New(fmt.Appendf(nil, "%s-%d", destination, i)), Scope: queue.Scope{Destination: destination}}
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

// TestDeathsAreTold: of what dies there is one error for each destination, with the count, the
// cause and the command that lists it, and nothing dead is said to be due again.
func TestDeathsAreTold(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"dead", "failure target", "keep", "refused"} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t, vfs.NewMem())
			scoped(t, s, "a", "down", 70)
			scoped(t, s, "a", "up", 30)
			scoped(t, s, "a", "", 5)
			var log logged
			b := newBench()
			b.parts.Source = queueSource(t, s, "a", nil)
			b.parts.Log = slog.New(slog.NewJSONHandler(&log, nil))
			b.parts.Look = "weir failures ls p.hcl --pipeline x"
			b.parts.Target.Limits.MaxBatchMessages = 7
			b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 1, InvalidAfterMax: way == "failure target"}}
			b.parts.Keep = way == "keep"
			cause := errors.New("no answer")
			if way == "keep" || way == "refused" {
				cause = fault.New(fault.Invalid, cause)
			}
			if way == "refused" { // by the failure target
				b.failure.before = failing(100, fault.New(fault.Invalid, errors.New("no room")))
			}
			b.target.before = func(_ context.Context, batch event.Batch) error {
				failed := map[int]error{}
				for i, m := range batch {
					if !strings.HasPrefix(string(m.Data), "up") {
						failed[i] = cause
					}
				}
				if len(failed) == 0 {
					return nil
				}
				return &connector.Partial{Failed: failed}
			}
			err := b.run(t.Context())
			if _, kept := errors.AsType[*Kept](err); err != nil && !kept {
				t.Fatal(err)
			}
			text := map[string]string{"dead": givenUp.Text, "failure target": gaveAway.Text, "keep": keptDead.Text, "refused": keptDead.Text}[way]
			got := map[string]told{}
			for _, l := range log.lines(t, "ERROR") {
				if _, twice := got[l.Destination]; twice || l.Msg != text || l.Error == "" {
					t.Errorf("%s: %+v", way, l)
				}
				got[l.Destination] = l
			}
			if l := got["down"]; l.Messages != 70 || l.Command != "weir failures ls p.hcl --pipeline x --destination down" {
				t.Errorf("%s: %+v", way, l)
			}
			if l := got[""]; l.Messages != 5 || l.Command != "weir failures ls p.hcl --pipeline x" {
				t.Errorf("%s: %+v", way, l)
			}
			if again := log.lines(t, "WARN"); len(got) != 2 || len(again) != 0 {
				t.Errorf("%s: errors of %d destinations; %+v", way, len(got), again)
			}
			closeStore(t, s)
		})
	}
}

// TestAnOutageIsTold: while a destination is down, there is a line a minute and not one for each
// write, others have none, and its end is told.
func TestAnOutageIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		scoped(t, s, "a", "down", 200)
		scoped(t, s, "a", "up", 200)
		var log logged
		b := newBench()
		b.parts.Source = queueSource(t, s, "a", nil)
		b.parts.Log = slog.New(slog.NewJSONHandler(&log, nil))
		b.parts.Target.Limits.MaxBatchMessages = 1
		b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxDelay: 2 * time.Second, MaxAttempts: 5, TryFor: time.Hour}}
		over := time.Now().Add(10*time.Minute + 30*time.Second)
		b.target.before = func(_ context.Context, batch event.Batch) error {
			if strings.HasPrefix(string(batch[0].Data), "down") && time.Now().Before(over) {
				return errors.New("no answer")
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		again, well := log.lines(t, "WARN"), []told{}
		for _, l := range log.lines(t, "INFO") {
			if l.Msg == "writes succeed again" {
				well = append(well, l)
			}
		}
		if len(again) < 9 || len(again) > 12 || len(well) != 1 || well[0].Destination != "down" || well[0].Attempts < 200*200 {
			t.Errorf("%d lines of the outage; its end: %+v", len(again), well)
		}
		for _, l := range again {
			if l.Destination != "down" || l.Msg != dueAgain.Text {
				t.Errorf("%+v", l)
			}
		}
		if errs := log.lines(t, "ERROR"); len(errs) > 0 {
			t.Errorf("%+v", errs)
		}
		closeStore(t, s)
	})
}
