package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// openStore opens the durable store that b needs, for the life of the process. Closing
// adds its error to what Run returns.
func (a *App) openStore(ctx context.Context, b *Built) (closeStore func(*error), err error) {
	if b.Store == nil {
		return func(*error) {}, nil
	}
	s, err := a.openWaiting(ctx, b.Store)
	if err != nil && b.Spare {
		a.Log.Warn("the store, which is to keep failed messages whole that are too large for their failure target, cannot be opened: such messages are cut; write spill = false in their failure_target if that is meant, or a store block that names another place",
			meter.KeyError, err)
		return func(*error) {}, nil
	}
	if err != nil {
		return nil, atStore(b, err)
	}
	a.Builder.Store = s
	a.mu.Lock()
	a.store, a.storeID = s, b.Store.Identity()
	a.mu.Unlock()
	return func(result *error) {
		a.mu.Lock()
		a.store, a.storeID = nil, ""
		a.mu.Unlock()
		if err := s.Close(); err != nil {
			*result = errors.Join(*result, fmt.Errorf("close the store: %w", err))
		}
	}, nil
}

// Placed is an error of what a config names, with its place there.
type Placed struct {
	Found config.Diagnostics
	Err   error
}

func (e *Placed) Error() string { return e.Err.Error() }

// Unwrap is the error without a place.
func (e *Placed) Unwrap() error { return e.Err }

// atStore is err at the place of the store of b.
func atStore(b *Built, err error) error {
	if b.Plan.Store == nil || b.Plan.Store.Position() == "" {
		return err
	}
	return &Placed{b.Plan.Store.Diagnose(err), err}
}

// openWaiting opens a store, and waits for one that is away.
func (a *App) openWaiting(ctx context.Context, o connector.StoreOpener) (queue.Store, error) {
	p, ok := o.(connector.PatientOpener)
	if !ok {
		return o.Open(ctx)
	}
	waits := func(why error) (first bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		first, a.waits = a.waits == nil, why
		return first
	}
	defer waits(nil)
	return p.OpenWaiting(ctx, func(why error, atMost time.Duration) {
		if waits(why) {
			a.Log.Warn("the store cannot be reached: the start waits for it", meter.KeyError, why, "at_most", atMost)
		}
	})
}

// renew finds whether the open store takes the options of b's config. adopt has it take them, and
// tells of those that change at the next start only.
func (a *App) renew(ctx context.Context, b *Built) (adopt func(), err error) {
	s, _, _ := a.Store()
	if s == nil || b.Store == nil {
		return func() {}, nil
	}
	renewed, err := b.Store.Renew(ctx, s)
	if err != nil {
		return nil, atStore(b, err)
	}
	return func() {
		later, err := renewed()
		if err != nil {
			a.Log.Error("the store goes on with the options of before", meter.KeyError, err)
		}
		if len(later) > 0 {
			a.Log.Warn("part of the options of the store changes at the next start only", "options", later)
		}
	}, nil
}
