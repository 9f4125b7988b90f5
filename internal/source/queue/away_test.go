package queuesource_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// remote is a store that may be away.
type remote struct {
	queue.Store
	mu   sync.Mutex
	back chan struct{} // nil: it is here
	asks int           // of a store that was away
}

func (r *remote) Away() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.back != nil {
		return queue.ErrAway
	}
	return nil
}

func (r *remote) Leasable() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.back != nil {
		return r.back
	}
	here := make(chan struct{})
	close(here)
	return here
}

func (r *remote) Lease(ctx context.Context, q queue.Query) ([]queue.Job, error) {
	if r.Away() != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asks++
		return nil, errors.New("the database has not been heard of")
	}
	return r.Store.Lease(ctx, q)
}

func (r *remote) goes() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.back, r.asks = make(chan struct{}), 0
}

func (r *remote) comes() (asks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.back)
	r.back = nil
	return r.asks
}

// TestReadsWhenTheStoreIsBack: while a store is away a read neither fails nor asks again and again,
// and it goes on at the moment when the store is back, however long that took.
func TestReadsWhenTheStoreIsBack(t *testing.T) {
	for seed := range uint64(8) {
		bubble(t, func(t *testing.T, s *embedded.Store) {
			draw := rand.New(rand.NewPCG(seed, 7))
			r := &remote{Store: s}
			src := source(t, r, nil)
			for range 5 {
				r.goes()
				appends(t, s, job("x"))
				type outcome struct {
					n   int
					err error
				}
				done := make(chan outcome, 1)
				go func() {
					b, ack, err := src.Read(t.Context(), connector.Room{})
					if err == nil {
						err = ack(t.Context(), nil)
					}
					done <- outcome{len(b), err}
				}()
				away := time.Duration(draw.Int64N(int64(10 * time.Minute)))
				time.Sleep(away)
				synctest.Wait()
				asks, back := r.comes(), time.Now()
				if got := <-done; got.err != nil || got.n != 1 {
					t.Fatalf("after %s: %d messages, %v", away, got.n, got.err)
				}
				if late := time.Since(back); late > 2*time.Second {
					t.Errorf("after %s it went on %s late", away, late)
				}
				if most := int(away/(20*time.Second)) + 2; asks > most {
					t.Errorf("in %s it asked %d times", away, asks)
				}
			}
			r.goes()
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if _, _, err := src.Read(ctx, connector.Room{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a read that is stopped while the store is away: %v", err)
			}
			r.comes()
			closes(t, src)
		})
	}
}

// TestStoreThatIsNeverAway: an error of one is the read's.
func TestStoreThatIsNeverAway(t *testing.T) {
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	src := source(t, s, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := src.Read(t.Context(), connector.Room{}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("read: %v", err)
	}
}
