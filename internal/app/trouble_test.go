package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
)

// waiting is a part that may have trouble while it runs.
type waiting struct {
	*part
	mu  sync.Mutex
	why error
}

func (w *waiting) Trouble() error { w.mu.Lock(); defer w.mu.Unlock(); return w.why }
func (w *waiting) set(err error)  { w.mu.Lock(); defer w.mu.Unlock(); w.why = err }

// TestTroubleIsSeen: a pipeline that runs and waits for what it needs is degraded for as long, and
// is not started again for that; it is said once when it begins, and once when it is over.
func TestTroubleIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder // written by the one member that has trouble
		away := errors.New("look at the leases: connection refused")
		w := &waiting{part: &part{name: "orders", meter: meter.NewPipeline("orders")}}
		fails := make(chan error, 1)
		w.run = func(ctx context.Context) error {
			select {
			case err := <-fails:
				return err
			case <-ctx.Done():
				return nil
			}
		}
		a := &App{Log: slog.New(slog.NewTextHandler(&log, nil)), Meter: &meter.Registry{}, Builder: &Builder{}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx, &Built{Plan: &config.Plan{}, Pipelines: []Runner{w}}) }()
		degraded := func(why string) {
			t.Helper()
			time.Sleep(3 * lookAfter)
			synctest.Wait()
			if err := a.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			lines, gauge := a.Degraded(), w.meter.Degraded.Load()
			if why == "" && (len(lines) != 0 || gauge != 0) || why != "" && (len(lines) != 1 || !strings.Contains(lines[0], why) || gauge != 1) {
				t.Errorf("degraded: %q, and the metric is %d, want %q", lines, gauge, why)
			}
		}
		degraded("")
		w.set(away)
		degraded(away.Error())
		w.set(nil)
		degraded("")
		if _, runs := w.seen(); runs != 1 || w.meter.Restarts.Load() != 0 {
			t.Errorf("it ran %d times", runs)
		}
		w.set(away)
		degraded(away.Error())
		w.part.mu.Lock()
		w.open = func() error { return errDown }
		w.part.mu.Unlock()
		fails <- errDown // what it failed by is what counts now
		degraded(errDown.Error())
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := strings.Count(log.String(), "it waits for what it needs"); n != 2 {
			t.Errorf("the beginning was said %d times, want 2:\n%s", n, &log)
		}
		if n := strings.Count(log.String(), "waits no more"); n != 2 {
			t.Errorf("the end was said %d times, want 2:\n%s", n, &log)
		}
	})
}

// leasing is a source that may have trouble.
type leasing struct{ why error }

func (leasing) Open(context.Context) error  { return nil }
func (leasing) Close(context.Context) error { return nil }
func (leasing) Read(ctx context.Context, _ connector.Room) (event.Batch, connector.Ack, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func (l leasing) Trouble() error { return l.why }

// TestTroubleOfASource: the trouble of a pipeline is that of its source.
func TestTroubleOfASource(t *testing.T) {
	t.Parallel()
	why := errors.New("connection refused")
	r := newPipelineRunner(pipeline.Parts{Name: "a", Source: leasing{why}}, nil, nil, Terms{})
	if err := r.Trouble(); !errors.Is(err, why) {
		t.Errorf("trouble: %v", err)
	}
	r = newPipelineRunner(pipeline.Parts{Name: "a", Source: struct{ connector.Source }{leasing{why}}}, nil, nil, Terms{})
	if err := r.Trouble(); err != nil {
		t.Errorf("trouble of a source that has none: %v", err)
	}
}
