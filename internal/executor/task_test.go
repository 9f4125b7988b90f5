package executor_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// TestParallel: tasks of branches run at the same time, and both answers count.
func TestParallel(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		var both sync.WaitGroup
		both.Add(2)
		meet := does(func(context.Context, executor.Call) error { both.Done(); both.Wait(); return nil })
		r := run(t, s, `{"StartAt":"P","States":{"P":{"Type":"Parallel","End":true,"Branches":[
			{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"arn:aws:lambda:eu-west-1:123456789012:function:Meet","End":true}}},
			{"StartAt":"B","States":{"B":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"Meet:$LATEST","Payload.$":"$"},"OutputPath":"$.Payload","End":true}}}]}}}`,
			map[string]executor.Function{"Meet": meet})
		if err := r.Execute(t.Context(), event.Batch{event.New([]byte(`{"x":1}`))}); err != nil {
			t.Error(err)
		}
		r.ends(t)
	})
}

// TestTimeouts: of a task, and of an execution whose task hangs.
func TestTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		hang := does(func(ctx context.Context, _ executor.Call) error { <-ctx.Done(); return context.Cause(ctx) })
		r := run(t, s, `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"Hang","TimeoutSeconds":30,"End":true,
			"Catch":[{"ErrorEquals":["States.Timeout"],"Next":"Late"}]},"Late":{"Type":"Pass","End":true}}}`, map[string]executor.Function{"Hang": hang})
		began := time.Now()
		if err := r.Execute(t.Context(), event.Batch{event.New(nil)}); err != nil || time.Since(began) > 31*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		r.ends(t)

		r = run(t, s, `{"TimeoutSeconds":3600,"StartAt":"T","States":{"T":{"Type":"Task","Resource":"Hang","TimeoutSeconds":7200,"End":true}}}`, map[string]executor.Function{"Hang": hang})
		began = time.Now()
		err := r.Execute(t.Context(), event.Batch{event.New(nil)})
		if err == nil || !strings.Contains(err.Error(), "TIMED_OUT") || time.Since(began).Round(time.Minute) != time.Hour {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		r.ends(t)
	})
}

// TestHeartbeat: no function can give a sign of life, so a task that takes longer than its
// HeartbeatSeconds fails, whether it runs within a step or is a job of its own; a Catcher knows
// it by both names.
func TestHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		hang := does(func(ctx context.Context, _ executor.Call) error { <-ctx.Done(); return context.Cause(ctx) })
		const task = `{"Type":"Task","Resource":"Hang","HeartbeatSeconds":20,"TimeoutSeconds":60,"End":true,"Catch":[{"ErrorEquals":["%s"],"Next":"%s"}]}`
		text := `{"StartAt":"First","States":{"First":{"Type":"Task","Resource":"Hang","HeartbeatSeconds":20,"Next":"P","Catch":[{"ErrorEquals":["States.HeartbeatTimeout"],"Next":"P"}]},
			"P":{"Type":"Parallel","End":true,"Branches":[
			{"StartAt":"A","States":{"A":` + fmt.Sprintf(task, "States.HeartbeatTimeout", "C") + `,"C":{"Type":"Pass","End":true}}},
			{"StartAt":"B","States":{"B":` + fmt.Sprintf(task, "States.Timeout", "D") + `,"D":{"Type":"Pass","End":true}}}]}}}`
		r := run(t, s, text, map[string]executor.Function{"Hang": hang})
		began := time.Now()
		if err := r.Execute(t.Context(), event.Batch{event.New(nil)}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began).Round(time.Second); took != 40*time.Second || hang.calls.Load() != 3 {
			t.Errorf("%d calls in %s, want 3 in 40s", hang.calls.Load(), took)
		}
		r.ends(t)
	})
}
