package executor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

const looked = `{"Comment":"c","StartAt":"C","States":{
	"C":{"Type":"Choice","Choices":[{"Variable":"$.wait","IsPresent":true,"Next":"W"},{"Variable":"$.bad","IsPresent":true,"Next":"T"}],"Default":"S"},
	"W":{"Type":"Wait","SecondsPath":"$.wait","Next":"T"},
	"T":{"Type":"Task","Resource":"F","End":true},
	"S":{"Type":"Succeed"}}}`

// TestLook: executions are found by what they are at, with the time that they wait for, page by page;
// what failed says where, and one is shown with its input and output.
func TestLook(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		fails := does(func(_ context.Context, c executor.Call) error {
			if strings.Contains(string(c.Input), "bad") {
				return &executor.TaskError{Name: "Broken", Cause: "it is bad"}
			}
			return nil
		})
		r := run(t, s, looked, map[string]executor.Function{"F": fails}, func(o *executor.Options) { o.Keep = time.Hour })
		began := s.Now()
		var inputs []string
		for n := range 30 {
			inputs = append(inputs, fmt.Sprintf(`{"wait":%d}`, 1000+n))
		}
		start(t, r.Machine, append(inputs, `{"bad":1}`, `{"n":7}`)...)
		time.Sleep(10 * time.Second)
		ctx := context.Background()

		var all []*executor.Seen
		for after := ""; ; after = all[len(all)-1].ID {
			var page []*executor.Seen
			if err := r.Running(ctx, after, func(s *executor.Seen) bool { page = append(page, s); return len(page) < 7 }); err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
		}
		if len(all) != 30 {
			t.Fatalf("%d executions go on", len(all))
		}
		if complete, err := r.Timers(ctx, all); err != nil || !complete {
			t.Fatal(complete, err)
		}
		due := map[int]bool{}
		for _, x := range all {
			if x.Status != machine.Running || !x.Waits() || len(x.At) != 1 || x.At[0].State != "W" || x.Trouble != "" {
				t.Errorf("one that waits is %+v", x)
			}
			due[int(x.Due.Sub(began).Seconds())/10] = true
		}
		if len(due) != 3 || !due[100] || !due[102] {
			t.Errorf("they wait until %v", due)
		}
		one, err := r.Look(ctx, all[3].ID, queue.ID{})
		if err != nil || one == nil || !strings.Contains(string(one.Input), "wait") || one.Definition == nil || one.Output != nil {
			t.Errorf("one of them is %+v, %v", one, err)
		}

		var ended []*executor.Seen
		if err := r.Kept(ctx, "", func(s *executor.Seen) bool { ended = append(ended, s); return true }); err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(ended, func(s *executor.Seen) bool { return s.Status == machine.Succeeded })
		if len(ended) != 2 || at < 0 || ended[at].Stopped.IsZero() {
			t.Fatalf("those that ended are %+v", ended)
		}
		if one, err = r.Look(ctx, ended[at].ID, queue.ID{}); err != nil || string(one.Output) != `{"n":7}` || string(one.Input) != `{"n":7}` {
			t.Errorf("the one that succeeded is %+v, %v", one, err)
		}

		var failed []*executor.Seen
		var jobs []queue.ID
		if err := r.Failed(ctx, queue.ID{}, func(s *executor.Seen, id queue.ID) bool {
			failed, jobs = append(failed, s), append(jobs, id)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(failed) != 1 || failed[0].Place != "T" || failed[0].Status != machine.Failed || !strings.Contains(failed[0].Cause, "it is bad") {
			t.Fatalf("those that failed are %+v", failed)
		}
		if one, err = r.Look(ctx, failed[0].ID, jobs[0]); err != nil || one == nil || string(one.Input) != `{"bad":1}` || one.Place != "T" {
			t.Errorf("the one that failed is %+v, %v", one, err)
		}
		if one, err = r.Look(ctx, "nobody", queue.ID{}); one != nil || err != nil {
			t.Errorf("one that is not there is %+v, %v", one, err)
		}
		r.ends(t)
	})
}
