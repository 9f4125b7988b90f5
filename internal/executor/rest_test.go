package executor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/storetest"
)

// mapped is a machine whose Map has a task with an effect for each item, and puts what came of
// them into a queue.
const mapped = `{"StartAt":"M","States":{"M":{"Type":"Map","ItemsPath":"$.items","ItemProcessor":{"StartAt":"T","States":{
	"T":{"Type":"Task","Resource":"F","End":true,"Retry":[{"ErrorEquals":["States.ALL"],"MaxAttempts":2}]}}},"ResultPath":"$.items","Next":"Put"},
	"Put":{"Type":"Task","Resource":"Put","End":true}}}`

// counted is a function with effects that notes how often it ran for each item.
type counted struct {
	mu    sync.Mutex
	ran   map[int]int
	every func(total int) // called after each run
}

func (c *counted) function(rng func() float64) *task {
	return does(func(ctx context.Context, call executor.Call) error {
		var item struct{ ID int }
		if err := json.Unmarshal(call.Input, &item); err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(rng() * float64(time.Second))):
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
		c.ran[item.ID]++
		total := 0
		for _, n := range c.ran {
			total += n
		}
		c.mu.Unlock()
		c.every(total)
		return nil
	})
}

func itemsOf(n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"ID":%d,"pad":%q}`, i, strings.Repeat("x", 50))
	}
	return `{"items":[` + strings.Join(items, ",") + `]}`
}

func records(t *testing.T, s queue.Store, prefix string) []queue.Record {
	t.Helper()
	rs, err := storetest.Records(context.Background(), s, []byte(prefix), nil, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// TestMapPowerFailure cuts the power while a Map runs, again and again. The items whose results
// are there never run again; in the end each has its result, in order, the effect is there once,
// and no part is left behind. WEIR_CHAOS_RUNS is how many executions are tried.
func TestMapPowerFailure(t *testing.T) {
	t.Parallel()
	runs := 4
	if n, err := strconv.Atoi(os.Getenv("WEIR_CHAOS_RUNS")); err == nil {
		runs = n
	}
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { mapPowerFailure(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func mapPowerFailure(t *testing.T, rng *rand.Rand) {
	t.Helper()
	const n = 90
	var random sync.Mutex
	draw := func() float64 { random.Lock(); defer random.Unlock(); return rng.Float64() }
	c := &counted{ran: map[int]int{}}
	fs := vfs.NewCrashableMem()
	began, committed := false, map[int]int{}
	for crash := range 4 {
		s, err := embedded.Open("store", embedded.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records(t, s, "machine/m/p/") {
			var item struct{ ID *int }
			if json.Unmarshal(r.Value, &item) == nil && item.ID != nil { // a result
				committed[*item.ID] = c.ran[*item.ID]
			}
		}
		reached, at := make(chan struct{}), 10+rng.IntN(40)*(crash+1)
		if crash == 3 {
			at = 1 << 30
		}
		once := sync.OnceFunc(func() { close(reached) })
		c.every = func(total int) {
			if total >= at {
				once()
			}
		}
		put := &task{effect: executor.InTransaction, do: func(_ context.Context, call executor.Call) (executor.Answer, error) {
			return executor.Answer{Output: call.Input, Put: func(tx queue.Tx) error {
				return tx.Append(queue.Job{Queue: "out", Msg: event.New(call.Input)})
			}}, nil
		}}
		m := run(t, s, mapped, map[string]executor.Function{"F": c.function(draw), "Put": put})
		if !began {
			start(t, m.Machine, itemsOf(n))
			began = true
		}
		ended := make(chan struct{})
		quit := make(chan struct{})
		go func() {
			defer close(ended)
			for open(t, s) > 0 {
				select {
				case <-time.After(time.Second):
				case <-quit:
					return
				}
			}
		}()
		select {
		case <-reached:
		case <-ended:
		}
		random.Lock()
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		random.Unlock()
		close(quit)
		<-ended
		m.ends(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		fs = clone
	}
	s, err := embedded.Open("store", embedded.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "out"}}, queue.ID{}, 10)
	if err != nil || len(p.Jobs) != 1 {
		t.Fatalf("%d results, %v: want one", len(p.Jobs), err)
	}
	if got := string(p.Jobs[0].Msg.Data); got != itemsOf(n) {
		t.Errorf("the result is %s", got)
	}
	for id, before := range committed {
		if c.ran[id] != before {
			t.Errorf("item %d ran %d times, and %d times after its result was committed", id, before, c.ran[id]-before)
		}
	}
	if left := records(t, s, "machine/m/p/"); len(left) > 0 || executions(t, s) > 0 || open(t, s) > 0 {
		t.Errorf("%d parts, %d executions, %d jobs are left", len(left), executions(t, s), open(t, s))
	}
	if len(committed) == 0 {
		t.Error("the test shows nothing")
	}
}

// TestMapFailsWhole: an execution that fails, or is stopped, in the middle of a Map leaves its
// whole input and no part.
func TestMapFailsWhole(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		f := does(func(_ context.Context, c executor.Call) error {
			time.Sleep(time.Second)
			if strings.Contains(string(c.Input), `"ID":70,`) {
				return &executor.TaskError{Name: "Broken", Cause: "70"}
			}
			return nil
		})
		text := strings.Replace(mapped, `"States":{"M"`, `"TimeoutSeconds":3600,"States":{"M"`, 1)
		m := run(t, s, text, map[string]executor.Function{"F": f, "Put": echo()})
		start(t, m.Machine, itemsOf(90))
		time.Sleep(2 * time.Second)
		if len(records(t, s, "machine/m/p/")) == 0 {
			t.Error("nothing is kept in parts")
		}
		settle(t, s)
		m.ends(t)
		jobs := dead(t, s)
		if len(jobs) != 1 || string(jobs[0].Msg.Data) != itemsOf(90) || !strings.Contains(jobs[0].Cause, "Broken: 70") {
			t.Errorf("dead: %v", jobs)
		}
		if left := records(t, s, "machine/m/p/"); len(left) > 0 {
			t.Errorf("%d parts are left", len(left))
		}
	})
}

// TestVersionOneGoesOn: an execution that an earlier version kept in one piece goes on.
func TestVersionOneGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		def := parse(t, mapped)
		x, actions, err := def.Step(def.New(machine.Identity{ID: "machine/m/old", Name: "old"}), machine.Event{Kind: machine.Start, Data: []byte(itemsOf(90))}, machine.Environment{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			for _, a := range actions {
				job := fmt.Sprintf(`{"execution":"old","task":%d,"state":"T","resource":"F","input":%s}`, a.ID, a.Input.JSON())
				if err := tx.Append(queue.Job{Queue: executor.StepQueue("m"), Msg: event.New([]byte(job))}); err != nil {
					return err
				}
			}
			return tx.Put([]byte("machine/m/x/old"), x.Append([]byte(def.Revision())))
		}); err != nil {
			t.Fatal(err)
		}
		f, put := echo(), echo()
		m := run(t, s, mapped, map[string]executor.Function{"F": f, "Put": put})
		settle(t, s)
		m.ends(t)
		if f.calls.Load() != 90 || put.calls.Load() != 1 || m.Meter().Target.Written.Load() != 1 {
			t.Errorf("%d items, %d results, %d executions succeeded", f.calls.Load(), put.calls.Load(), m.Meter().Target.Written.Load())
		}
		if left := records(t, s, "machine/m/p/"); len(left) > 0 || executions(t, s) > 0 {
			t.Errorf("%d parts, %d executions are left", len(left), executions(t, s))
		}
	})
}
