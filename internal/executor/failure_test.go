package executor_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// lines is a log that a test reads while a machine writes it.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }

func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// lastErrors is what the open jobs of the steps say they are there for.
func lastErrors(t *testing.T, s *embedded.Store) (errs []string) {
	t.Helper()
	p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: executor.StepQueue("m")}}, queue.ID{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Jobs {
		errs = append(errs, p.Jobs[i].Msg.Meta.Headers.Text(queue.HeaderLastError))
	}
	return errs
}

// TestFailuresAreSeen: what Retry and Catch handle is counted by state and error, told once in a
// while, and shown with the job that waits because of it, whether the task ran in the step or as
// a job of its own.
func TestFailuresAreSeen(t *testing.T) {
	const text = `{"StartAt":"P","States":{"P":{"Type":"Parallel","End":true,"Branches":[
		{"StartAt":"Idle","States":{"Idle":{"Type":"Wait","Seconds":90,"End":true}}},
		{"StartAt":"Charge","States":{"Charge":{"Type":"Task","Resource":"Charge","Next":"Done",
			"Retry":[{"ErrorEquals":["Declined"],"IntervalSeconds":10,"BackoffRate":1,"MaxAttempts":2}],
			"Catch":[{"ErrorEquals":["States.ALL"],"Next":"Later"}]},
			"Later":{"Type":"Wait","Seconds":20,"Next":"Done"},"Done":{"Type":"Pass","End":true}}}]}}}`
	for name, effect := range map[string]executor.Effect{"elsewhere": executor.Elsewhere, "none": executor.None} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *embedded.Store) {
				log := &lines{}
				charge := &task{effect: effect, do: func(context.Context, executor.Call) (executor.Answer, error) {
					return executor.Answer{}, &executor.TaskError{Name: "Declined", Cause: "card 7\nis empty"}
				}}
				m := run(t, s, text, map[string]executor.Function{"Charge": charge}, func(o *executor.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
				start(t, m.Machine, `{"id":1}`)
				time.Sleep(5 * time.Second)
				want := `state "Charge" failed at attempt 1: Declined: card 7 is empty`
				if got := strings.Join(lastErrors(t, s), "|"); got != "|"+want && got != want+"|" {
					t.Errorf("while it waits for its second attempt the jobs show %q", got)
				}
				time.Sleep(20 * time.Second)
				if got := strings.Join(lastErrors(t, s), "|"); !strings.Contains(got, "failed at attempt 3: Declined") {
					t.Errorf("after it was caught the jobs show %q", got)
				}
				start(t, m.Machine, `{"id":2}`, `{"id":3}`)
				settle(t, s)
				m.ends(t)
				counts := map[meter.StateFailure]int64{{State: "Charge", Error: "Declined", Outcome: "retried"}: 6, {State: "Charge", Error: "Declined", Outcome: "caught"}: 3}
				if diff := cmp.Diff(counts, m.Meter().StateFailures()); diff != "" {
					t.Errorf("failures (-want +got):\n%s", diff)
				}
				retried, caught := log.with("will be tried again"), log.with("its Catch goes on")
				if len(retried) != 1 || len(caught) != 1 {
					t.Errorf("within a minute %d and %d lines, want one each: %q", len(retried), len(caught), append(retried, caught...))
				}
				for _, line := range append(retried, caught...) {
					for _, part := range []string{"level=WARN", "state=Charge", `error="Declined: card 7 is empty"`, "execution="} {
						if !strings.Contains(line, part) {
							t.Errorf("the line %q has no %s", line, part)
						}
					}
				}
			})
		})
	}
}

// TestFailuresAreToldAgain: what goes on failing is told again, with how often it did meanwhile.
func TestFailuresAreToldAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		log := &lines{}
		until := time.Now().Add(5 * time.Minute)
		f := does(func(context.Context, executor.Call) error {
			if time.Now().Before(until) {
				return &executor.TaskError{Name: "Down"}
			}
			return nil
		})
		m := run(t, s, `{"StartAt":"F","States":{"F":{"Type":"Task","Resource":"F","End":true,"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":10,"BackoffRate":1,"MaxAttempts":99}]}}}`,
			map[string]executor.Function{"F": f}, func(o *executor.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
		start(t, m.Machine, `{}`)
		settle(t, s)
		m.ends(t)
		told := log.with("will be tried again")
		if len(told) < 4 || len(told) > 6 || !strings.Contains(told[0], "messages=1") || !strings.Contains(told[1], "messages=6") {
			t.Errorf("in five minutes of a failure every ten seconds: %q", told)
		}
	})
}
