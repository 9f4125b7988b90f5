package executor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// unsure is a store whose answers get lost: of some transactions it says that they failed,
// though they did not, as a database does whose connection breaks at the commit. Others do
// fail, and so does taking jobs.
type unsure struct {
	queue.Store
	random     *rand.Rand // of one goroutine at a time
	turn       chan struct{}
	lied, lost atomic.Int64
}

var errBroken = fault.New(fault.Transient, errors.New("the connection broke"))

func (u *unsure) chance() int {
	u.turn <- struct{}{}
	defer func() { <-u.turn }()
	return u.random.IntN(10)
}

func (u *unsure) Update(ctx context.Context, f func(queue.Tx) error) error {
	switch u.chance() {
	case 0:
		u.lost.Add(1)
		return errBroken
	case 1, 2:
		if err := u.Store.Update(ctx, f); err != nil {
			return err
		}
		u.lied.Add(1)
		return errBroken
	}
	return u.Store.Update(ctx, f)
}

func (u *unsure) View(ctx context.Context, f func(queue.Reader) error) error {
	if u.chance() == 0 {
		return errBroken
	}
	return u.Store.View(ctx, f)
}

func (u *unsure) Lease(ctx context.Context, q queue.Query) ([]queue.Job, error) {
	if u.chance() == 0 {
		return nil, errBroken
	}
	return u.Store.Lease(ctx, q)
}

// TestUnsure: whatever a broken connection leaves in doubt, each execution ends once, what is
// put in transactions is there once, and nothing is left.
func TestUnsure(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *embedded.Store) {
				u := &unsure{Store: s, random: rand.New(rand.NewPCG(seed, 1)), turn: make(chan struct{}, 1)}
				fs := map[string]executor.Function{"A": echo(), "B": echo(), "Put": putter()}
				small := func(o *executor.Options) { o.InFlight, o.Workers, o.Lease = 20, 4, 5*time.Second }
				var r *running
				for r == nil { // recording the definition may fail, and then the machine does not run
					m := run(t, u, sharedMachine, fs, small)
					time.Sleep(time.Second)
					if m.State() == executor.Ended {
						if err := m.stop(); !errors.Is(err, errBroken) {
							t.Fatalf("the machine ended with %v", err)
						}
						continue
					}
					r = m
				}
				const n = 100
				inputs := make([]string, n)
				for i := range inputs {
					inputs[i] = fmt.Sprint(i)
				}
				m := executor.New(executor.Options{Name: "m", Definition: parse(t, sharedMachine), Store: func() queue.Store { return s }})
				start(t, m, inputs...)
				settle(t, s)
				r.ends(t)
				got := payloads(t, s, "out")
				for _, in := range inputs {
					if got[in] != 1 {
						t.Errorf("out has %s %d times", in, got[in])
					}
				}
				if len(dead(t, s)) != 0 || executions(t, s) != 0 || u.lied.Load() == 0 || u.lost.Load() == 0 {
					t.Errorf("%d dead, %d left; %d answers were lost and %d transactions failed", len(dead(t, s)), executions(t, s), u.lied.Load(), u.lost.Load())
				}
			})
		})
	}
}
