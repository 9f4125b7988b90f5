package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// probeName begins the names of what Check writes.
const probeName = ".weir-check-"

// Check tries what a writer needs, and takes away what it has written: it lists, creates an
// object, looks at it, finds that nobody can create it a second time, begins an upload, finds
// that its completion does not replace the object, aborts it, and deletes the object. What is
// not allowed is the error of its request.
func (b *Bucket) Check(ctx context.Context) error {
	if _, err := b.List(ctx, blob.Query{Limit: 1}); err != nil {
		return err
	}
	name := probeName + rand.Text()
	data := []byte("weir check writes this, and deletes it again.\n")
	if _, err := b.Create(ctx, name, data); err != nil {
		return err
	}
	err := b.probe(ctx, name, data)
	return errors.Join(err, b.Delete(ctx, name))
}

var errUnconditional = errors.New("the store ignores the condition that there is no object yet: two writers would take each other's objects for their own; use a store that knows conditional writes (If-None-Match)")

func (b *Bucket) probe(ctx context.Context, name string, data []byte) error {
	if _, err := b.Head(ctx, name); err != nil {
		return err
	}
	if _, err := b.Create(ctx, name, data); err == nil {
		return b.failed(ctx, "create", name, fault.New(fault.Setup, errUnconditional))
	} else if !errors.Is(err, blob.ErrExists) {
		return err
	}
	up, err := b.store.Begin(ctx, b.prefix+name, rand.Text())
	if err != nil {
		return b.failed(ctx, "begin an upload of", name, err)
	}
	err = up.Part(ctx, 1, data, true)
	if err == nil {
		err = up.Complete(ctx)
		switch {
		case errors.Is(err, ErrCondition):
			err = nil
		case err == nil:
			err = fault.New(fault.Setup, fmt.Errorf("complete an upload: %w", errUnconditional))
		}
	}
	if aborted := up.Abort(ctx); !errors.Is(aborted, ErrNoUpload) {
		err = errors.Join(err, aborted)
	}
	return b.failed(ctx, "upload to", name, err)
}
