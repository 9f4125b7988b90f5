package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/weirdata/weir/internal/event"
)

// TestHangingDestinations: while every place of a hundred destinations is taken by requests that
// are never answered, in the same write and in others, another destination gets its events.
func TestHangingDestinations(t *testing.T) {
	t.Parallel()
	const hanging, limit = 100, 2
	h := serve(t)
	release := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(hanging * limit)
	delivered := make(chan struct{}, 2)
	h.answer = func(_ http.ResponseWriter, g got) {
		if g.URL == "/hang" {
			arrived.Done()
			<-release
			return
		}
		delivered <- struct{}{}
	}
	all := []string{destination("well", `{"webhookUrl":"`+h.URL+`/well"}`, "")}
	var b event.Batch
	for i := range hanging {
		id := fmt.Sprint("hangs", i)
		all = append(all, destination(id, `{"webhookUrl":"`+h.URL+`/hang"}`, ""))
		for range limit {
			b = append(b, message(id, "", `{}`))
		}
	}
	b = append(b, message("well", "", `{}`))
	w := build(t, func(c *Config) { c.MaxConcurrentRequests, c.RequestTimeoutMillis = limit, 600_000 }, all...)
	var first sync.WaitGroup
	first.Go(func() {
		if err := w.Write(context.Background(), b); err != nil {
			t.Error(err)
		}
	})
	arrived.Wait()
	<-delivered // of the write that hangs
	if err := w.Write(context.Background(), event.Batch{message("well", "", `{}`)}); err != nil {
		t.Error(err)
	}
	<-delivered
	close(release)
	first.Wait()
	if n := len(w.places.busy); n != 0 {
		t.Errorf("%d destinations are still remembered", n)
	}
}

// TestPlaces: a destination has so many places and no more, a wait ends with its context, and
// nothing is remembered of who has left.
func TestPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(2)
		var leave [3]func()
		for i := range 2 {
			var err error
			if leave[i], err = p.enter(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		waits := make(chan error)
		for range 3 {
			go func() {
				_, err := p.enter(ctx, "a")
				waits <- err
			}()
		}
		synctest.Wait()
		var err error
		if leave[2], err = p.enter(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		cancel(gone)
		for range 3 {
			if err := <-waits; !errors.Is(err, gone) {
				t.Error(err)
			}
		}
		if _, err := p.enter(ctx, "c"); !errors.Is(err, gone) {
			t.Error(err)
		}
		for _, f := range leave {
			f()
		}
		if len(p.busy) != 0 {
			t.Errorf("remembered: %v", p.busy)
		}
	})
}
