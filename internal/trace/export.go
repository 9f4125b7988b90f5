package trace

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/weirdata/weir/internal/meter"
)

const (
	// maxWaiting is how many ended spans may wait for their export; one takes about a
	// kilobyte.
	maxWaiting = 8192
	// maxExport is how many spans one request holds at most.
	maxExport = 512
	// exportEvery is how long a span waits for others at most.
	exportEvery = 2 * time.Second
)

// export sends spans that have ended, in the background. What cannot be sent, or finds no
// room to wait, is dropped and counted.
type export struct {
	to      sdk.SpanExporter
	log     *slog.Logger
	safe    func(error) string // what of an error is logged
	dropped *atomic.Int64

	waiting chan sdk.ReadOnlySpan
	stop    chan struct{} // closed to have what waits sent
	flush   chan chan struct{}
	ended   chan struct{}
	cut     context.CancelFunc // ends sending at once
	once    sync.Once
	closed  atomic.Bool

	failing bool // the last export failed; of the goroutine
}

func startExport(to sdk.SpanExporter, s Settings) *export {
	log, dropped := s.Log, s.Dropped
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if dropped == nil {
		dropped = new(atomic.Int64)
	}
	ctx, cut := context.WithCancel(context.Background())
	e := &export{to: to, log: log, safe: s.Safe, dropped: dropped, waiting: make(chan sdk.ReadOnlySpan, maxWaiting),
		stop: make(chan struct{}), flush: make(chan chan struct{}), ended: make(chan struct{}), cut: cut}
	go e.run(ctx)
	return e
}

var _ sdk.SpanProcessor = (*export)(nil)

// OnStart implements sdk.SpanProcessor.
func (*export) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor. It never blocks.
func (e *export) OnEnd(s sdk.ReadOnlySpan) {
	if e.closed.Load() {
		e.dropped.Add(1)
		return
	}
	select {
	case e.waiting <- s:
	default:
		e.dropped.Add(1)
	}
}

// run sends until it is stopped, and then what is left.
func (e *export) run(ctx context.Context) {
	defer close(e.ended)
	batch := make([]sdk.ReadOnlySpan, 0, maxExport)
	timer := time.NewTimer(exportEvery)
	defer timer.Stop()
	timer.Stop()
	send := func() {
		timer.Stop()
		e.send(ctx, batch)
		clear(batch)
		batch = batch[:0]
	}
	rest := func() { // what waits now
		for {
			select {
			case s := <-e.waiting:
				if batch = append(batch, s); len(batch) == maxExport {
					send()
				}
				continue
			default:
			}
			send()
			return
		}
	}
	for {
		select {
		case s := <-e.waiting:
			if batch = append(batch, s); len(batch) == 1 {
				timer.Reset(exportEvery)
			}
			if len(batch) == maxExport {
				send()
			}
		case <-timer.C:
			send()
		case done := <-e.flush:
			rest()
			close(done)
		case <-e.stop:
			rest()
			return
		}
	}
}

// send exports one batch. The log hears of the first failure in a row, and of its end.
func (e *export) send(ctx context.Context, batch []sdk.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	err := e.to.ExportSpans(ctx, batch)
	switch {
	case err != nil:
		e.dropped.Add(int64(len(batch)))
		if !e.failing {
			e.log.Warn("traces cannot be exported; spans are dropped until they can", meter.KeyError, e.safe(err))
		}
	case e.failing:
		e.log.Info("traces are exported again")
	}
	e.failing = err != nil
}

// ForceFlush implements sdk.SpanProcessor: it returns when what has ended is sent.
func (e *export) ForceFlush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case e.flush <- done:
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Shutdown implements sdk.SpanProcessor: it sends what has ended, until ctx ends.
func (e *export) Shutdown(ctx context.Context) error {
	var err error
	e.once.Do(func() {
		e.closed.Store(true)
		close(e.stop)
		select {
		case <-e.ended:
		case <-ctx.Done():
			err = fmt.Errorf("%d spans or more are lost: %w", len(e.waiting), context.Cause(ctx))
		}
		e.cut() // a request that still runs ends now
		<-e.ended
		e.dropped.Add(int64(len(e.waiting)))
		if after := e.to.Shutdown(ctx); err == nil && ctx.Err() == nil {
			err = after
		}
	})
	return err
}
