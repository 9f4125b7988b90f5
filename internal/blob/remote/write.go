package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// abortTime bounds the abort of an upload whose writer's own time is over.
const abortTime = 20 * time.Second

// writer is an object that is being written.
type writer struct {
	b         *Bucket
	ctx       context.Context
	name, key string
	mark      string
	part      []byte // that is being filled
	spare     []byte
	sent      int        // parts
	sending   chan error // of the part on its way; nil when there is none
	upload    Upload     // nil while all fits into a part
	err       error      // that ends it
	ended     bool
}

var errEnded = errors.New("the writer has ended")

// Writer implements blob.Bucket.
func (b *Bucket) Writer(ctx context.Context, name string) (blob.Writer, error) {
	if err := b.ready(ctx, name); err != nil {
		return nil, err
	}
	return &writer{b: b, ctx: ctx, name: name, key: b.prefix + name, mark: rand.Text()}, nil
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (n int, err error) {
	switch {
	case w.ended:
		return 0, w.failed(w.ctx, errEnded)
	case w.err != nil:
		return 0, w.err
	case w.ctx.Err() != nil:
		return 0, context.Cause(w.ctx)
	}
	for len(p) > 0 {
		if len(w.part) == w.b.o.Part { // more is to come: it is not the last one
			if err := w.send(); err != nil {
				w.err = w.failed(w.ctx, err)
				return n, w.err
			}
		}
		k := min(len(p), w.b.o.Part-len(w.part))
		w.part = append(w.part, p[:k]...)
		p, n = p[k:], n+k
	}
	return n, nil
}

func (w *writer) failed(ctx context.Context, err error) error {
	return w.b.failed(ctx, "create", w.name, err)
}

// send sends the part that is full on its way, once the one before has arrived.
func (w *writer) send() error {
	if w.upload == nil {
		_, err := w.b.repeat(w.ctx, func() (err error) {
			w.upload, err = w.b.store.Begin(w.ctx, w.key, w.mark)
			return err
		})
		if err != nil {
			w.upload = nil
			return fmt.Errorf("begin an upload: %w", err)
		}
	}
	if err := w.arrived(); err != nil {
		return err
	}
	if w.sent+2 > w.b.o.MostParts { // this one, and the last
		return fault.New(fault.Setup, fmt.Errorf("%w: it has more than %d parts of %d bytes", blob.ErrTooLarge, w.b.o.MostParts, w.b.o.Part))
	}
	w.sent++
	n, data, done := w.sent, w.part, make(chan error, 1)
	w.sending = done
	go func() { done <- w.put(w.ctx, n, data, false) }()
	w.part, w.spare = w.spare[:0], data
	return nil
}

func (w *writer) put(ctx context.Context, n int, data []byte, last bool) error {
	_, err := w.b.repeat(ctx, func() error { return w.upload.Part(ctx, n, data, last) })
	if err != nil {
		return fmt.Errorf("upload part %d: %w", n, err)
	}
	return nil
}

// arrived waits for the part that is on its way.
func (w *writer) arrived() error {
	if w.sending == nil {
		return nil
	}
	err := <-w.sending
	w.sending = nil
	return err
}

// Commit implements blob.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.ended {
		return w.failed(ctx, errEnded)
	}
	w.ended = true
	err := w.commit(ctx)
	w.part, w.spare = nil, nil
	if err != nil {
		w.giveUp()
	}
	if ctx.Err() == nil && w.ctx.Err() != nil {
		ctx = w.ctx
	}
	return w.failed(ctx, err)
}

func (w *writer) commit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if w.err != nil {
		return w.err
	}
	if w.upload == nil {
		_, err := w.b.create(ctx, w.key, w.part)
		return err
	}
	if err := w.arrived(); err != nil {
		return err
	}
	w.sent++
	if err := w.put(ctx, w.sent, w.part, true); err != nil {
		return err
	}
	open, err := w.b.repeat(ctx, func() error { return w.upload.Complete(ctx) })
	switch {
	case errors.Is(err, ErrCondition):
		_, err = w.b.settle(ctx, w.key, w.mark, open, blob.ErrExists)
	case errors.Is(err, ErrNoUpload):
		// Either this one was completed and nobody said so, or it was swept.
		swept := fmt.Errorf("complete an upload: %w; was it swept while it was written?", err)
		_, err = w.b.settle(ctx, w.key, w.mark, open, swept)
	}
	if errors.Is(err, blob.ErrNotFound) {
		err = fmt.Errorf("complete an upload: %w: it has gone", ErrNoUpload)
	}
	return err
}

// giveUp aborts the upload, if there is one. What that fails to do a sweep does.
func (w *writer) giveUp() {
	if w.upload == nil {
		return
	}
	_ = w.arrived() // it must not arrive behind the abort
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTime)
	defer cancel()
	_ = w.abort(ctx)
}

func (w *writer) abort(ctx context.Context) error {
	_, err := w.b.repeat(ctx, func() error { return w.upload.Abort(ctx) })
	if errors.Is(err, ErrNoUpload) {
		return nil
	}
	return err
}

// Abort implements blob.Writer.
func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended, w.part, w.spare = true, nil, nil
	if w.upload == nil {
		return nil
	}
	_ = w.arrived()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTime)
	defer cancel()
	return w.failed(ctx, w.abort(ctx))
}
