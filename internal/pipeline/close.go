package pipeline

import (
	"context"
	"fmt"
	"time"
)

// closeTimeout is how long one connector may take to close.
const closeTimeout = 10 * time.Second

// closer is a connector to close, and what it is in the pipeline.
type closer struct {
	what string
	f    func(context.Context) error
}

// close closes the connector. One that does not return when its context ends is left
// behind with an error, so that it keeps neither the others open nor the process alive.
func (c closer) close(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, closeTimeout)
	defer done()
	closed := make(chan error, 1)
	go func() { closed <- guard(func() error { return c.f(ctx) }) }()
	var err error
	select {
	case err = <-closed:
	case <-ctx.Done():
		select {
		case err = <-closed:
		case <-time.After(time.Second):
			err = fmt.Errorf("no answer within %s", closeTimeout)
		}
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", c.what, err)
	}
	return nil
}
