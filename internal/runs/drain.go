package runs

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

const (
	// DrainPath is where a run is cancelled.
	DrainPath = "/internal/drain/job/"

	drainEvery = 10 * time.Second // it is looked for runs that other processes have cancelled
	drainAge   = 24 * time.Hour   // that a run stays cancelled
)

// ErrCancelled is why events of a run are given up that was cancelled.
var ErrCancelled = fault.Describe(fault.Invalid, errors.New("cancelled jobRunID: the run that sent the event was cancelled"),
	fault.Detail{Type: "api", Code: "410", Safe: "cancelled jobRunID"})

// Cancel has the events of a run given up that are not delivered yet, at the next attempt, and those
// that come within a day.
func (b *Book) Cancel(ctx context.Context, run string) error {
	err := b.store().Update(ctx, func(tx queue.Tx) error {
		return tx.Put(join(cancelled, hash(run)), binary.AppendVarint(appendText([]byte{form}, run), b.store().Now().Unix()))
	})
	if err != nil {
		return err
	}
	return b.lookCancelled(ctx)
}

// Cancelled reports whether a run is cancelled, as far as this process has heard.
func (b *Book) Cancelled(run string) bool {
	all := b.cancels.Load()
	if all == nil {
		return false
	}
	_, is := (*all)[run]
	return is
}

// lookCancelled finds which runs are cancelled.
func (b *Book) lookCancelled(ctx context.Context) error {
	all := map[string]struct{}{}
	since := b.store().Now().Add(-drainAge)
	err := b.store().View(ctx, func(r queue.Reader) error {
		clear(all)
		for rec, err := range r.Scan([]byte(cancelled), nil) {
			if err != nil {
				return err
			}
			run, at, err := readKnown(rec)
			if err != nil {
				return err
			}
			if at.After(since) {
				all[run] = struct{}{}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if old := b.cancels.Load(); old == nil || !maps.Equal(*old, all) {
		b.cancels.Store(&all)
	}
	return nil
}

// forgetCancelled takes away what has been cancelled for long.
func (b *Book) forgetCancelled(ctx context.Context) error {
	since := b.store().Now().Add(-drainAge)
	return b.each(ctx, []byte(cancelled), func(page []queue.Record) error {
		for _, rec := range page {
			_, at, err := readKnown(rec)
			if err != nil {
				return err
			}
			if at.After(since) {
				continue
			}
			if err := b.forgetOne(ctx, rec); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *Book) putCancel(w http.ResponseWriter, r *http.Request) {
	if err := b.Cancel(r.Context(), r.PathValue("run")); err != nil {
		b.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
}
