package machinetarget_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	machinetarget "github.com/weirdata/weir/internal/target/machine"
)

// recorder is a machine whose executions are the jobs of a queue; they end at once.
type recorder struct{ store *embedded.Store }

func (r recorder) Store() queue.Store { return r.store }

func (r recorder) Accepts(m *event.Message) error {
	if string(m.Data) == "refused" {
		return fault.New(fault.Invalid, errors.New("refused"))
	}
	return nil
}

func (r recorder) StartOnceIn(tx queue.Tx, b event.Batch) error { return r.StartIn(tx, b) }

func (r recorder) StartIn(tx queue.Tx, b event.Batch) error {
	for _, m := range b {
		if err := tx.Append(queue.Job{Queue: "started", Msg: m}); err != nil {
			return err
		}
	}
	return nil
}

func (r recorder) Execute(ctx context.Context, b event.Batch) error {
	if err := r.store.Update(ctx, func(tx queue.Tx) error { return r.StartIn(tx, b) }); err != nil {
		return err
	}
	failed := map[int]error{}
	for i, m := range b {
		if strings.HasPrefix(string(m.Data), "fails") {
			failed[i] = fault.New(fault.Invalid, fmt.Errorf("%s", m.Data))
		}
	}
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

func open(t *testing.T) recorder {
	t.Helper()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return recorder{s}
}

func build(t *testing.T, m connector.Machine, wait bool) connector.Target {
	t.Helper()
	target, err := machinetarget.Entry.Build(t.Context(), connector.Deps{Machines: map[string]connector.Machine{"m": m}}, func(into any) error {
		c := into.(*machinetarget.Config)
		c.Name, c.Wait = "m", wait
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func (r recorder) started(t *testing.T) (ps [][]byte) {
	t.Helper()
	page, err := r.store.List(context.Background(), queue.Search{Filter: queue.Filter{Queue: "started"}}, queue.ID{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range page.Jobs {
		ps = append(ps, j.Msg.Data)
	}
	return ps
}

func TestConformance(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(fmt.Sprintf("wait=%t", wait), func(t *testing.T) {
			conntest.Target(t, conntest.TargetCase{
				Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
					r := open(t)
					return func() connector.Target { return build(t, r, wait) }, func() [][]byte { return r.started(t) }
				},
				Refused:  [][]byte{[]byte("refused")},
				Features: conntest.TargetFeatures{Binary: true, Empty: true, Ordered: true},
			})
		})
	}
}

// TestWaitingReports gives each message the outcome of its own execution.
func TestWaitingReports(t *testing.T) {
	t.Parallel()
	target := build(t, open(t), true)
	if _, transactional := target.(connector.StoreTarget); transactional {
		t.Error("one that waits cannot be part of a transaction")
	}
	err := target.Write(t.Context(), event.Batch{event.New([]byte("refused")), event.New([]byte("good")), event.New([]byte("fails 1")), event.New([]byte("fails 2"))})
	var partial *connector.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 3 || partial.Failed[1] != nil || partial.Failed[3].Error() != "fails 2" {
		t.Errorf("Write: %v", err)
	}
}

func TestUnknownMachine(t *testing.T) {
	t.Parallel()
	_, err := machinetarget.Entry.Build(t.Context(), connector.Deps{}, func(into any) error { into.(*machinetarget.Config).Name = "orders"; return nil })
	if err == nil || !strings.Contains(err.Error(), `machine "orders" {`) {
		t.Errorf("the error is %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	c := *machinetarget.Entry.Default().(*machinetarget.Config)
	c.Name = "m"
	if ps := c.Validate(); len(ps) != 0 {
		t.Errorf("the default is refused: %v", ps)
	}
	c.Batching.MaxMessageBytes, c.Batching.MaxBatchBytes = 32<<20, 64<<20
	if ps := c.Validate(); len(ps) != 1 {
		t.Errorf("too large a message: %v", ps)
	}
}
