package gatewaysource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/postgres"
)

// far is a store that looks as one that others have, too, and whose clock a test sets.
type far struct {
	queue.Store
	mu   sync.Mutex
	now  time.Time
	away error
	asks int
}

func (f *far) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *far) Away() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

func (f *far) Leasable() <-chan struct{} { return nil }

func (f *far) Update(ctx context.Context, fn func(queue.Tx) error) error {
	f.mu.Lock()
	f.asks++
	away := f.away
	f.mu.Unlock()
	if away != nil {
		return away
	}
	return f.Store.Update(ctx, fn)
}

func farStore(t *testing.T) *far {
	t.Helper()
	s, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &far{Store: s, now: time.Unix(1_700_000_000, 0)}
}

func limits(r rate, s queue.Store) *limiter {
	l := newLimiter(r, nil)
	l.share(s, slog.New(slog.DiscardHandler))
	return l
}

// TestSharedRate: whoever gets the requests, and whenever, gateways together let in no more than the limit
// and a portion for each; and one that is alone lets in whatever the limit allows.
func TestSharedRate(t *testing.T) {
	t.Parallel()
	f := farStore(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		workspace := fmt.Sprint("w", round)
		r := rate{rapid.Int64Range(1, 5000).Draw(rt, "events"), rapid.Int64Range(1, 5000).Draw(rt, "burst"), time.Duration(rapid.IntRange(1, 120).Draw(rt, "seconds")) * time.Second}
		var gateways []*limiter
		for range rapid.IntRange(1, 4).Draw(rt, "gateways") {
			gateways = append(gateways, limits(r, f))
		}
		alone := newLimiter(r, nil)
		began, in := f.Now(), int64(0)
		for range rapid.IntRange(1, 60).Draw(rt, "requests") {
			f.mu.Lock()
			f.now = f.now.Add(time.Duration(rapid.Int64Range(0, int64(r.window)/8).Draw(rt, "later")))
			now := f.now
			f.mu.Unlock()
			g := gateways[rapid.IntRange(0, len(gateways)-1).Draw(rt, "at")]
			n := rapid.Int64Range(1, r.burst).Draw(rt, "n")
			wait := g.take(workspace, int(n), now)
			if wait == 0 {
				in += n
			}
			if most := float64(r.burst) + float64(r.events)*float64(now.Sub(began))/float64(r.window) + float64(int64(len(gateways))*r.portion()) + 1; float64(in) > most {
				rt.Fatalf("%d events were let in, at most %f may be", in, most)
			}
			if len(gateways) > 1 {
				continue
			}
			// Where the portion was not whole, it is asked again after a while only.
			if own := alone.take(workspace, int(n), now); own == 0 && wait > askGap {
				rt.Fatalf("the limit allows %d events, and the gateway wants %s to pass", n, wait)
			} else if own == 0 && wait > 0 {
				return
			} else if own > 0 && wait == 0 {
				alone.ask(rate{r.events, 1 << 40, r.window}, workspace, int(n), now, true) // of the portion it held
			}
		}
	})
}

// TestShareCostsLittle: the store is asked once for many requests, whether they are let in or refused.
func TestShareCostsLittle(t *testing.T) {
	t.Parallel()
	f := farStore(t)
	l := limits(rate{60_000, 60_000, time.Minute}, f)
	in := 0
	for range 200_000 {
		if l.spent("w", 1, f.Now()) == 0 && l.take("w", 1, f.Now()) == 0 {
			in++
		}
	}
	if in != 60_000 || f.asks > 50 {
		t.Errorf("%d of 60000 events were let in, and the store was asked %d times", in, f.asks)
	}
	if wait := l.spent("w", 1, f.Now()); wait <= 0 || wait > time.Second {
		t.Errorf("there is room again in %s", wait)
	}
}

// TestShareWithoutStore: while the store is away a gateway lets in its share, and the limit holds over all
// again when it is back.
func TestShareWithoutStore(t *testing.T) {
	t.Parallel()
	f := farStore(t)
	r := rate{100, 100, time.Hour}
	one, two := limits(r, f), limits(r, f)
	for _, l := range []*limiter{one, two} {
		if wait := l.take("w", 10, f.Now()); wait != 0 {
			t.Fatalf("refused for %s", wait)
		}
	}
	// It must have seen the other.
	if wait := one.take("w", 10, f.Now()); wait != 0 {
		t.Fatalf("refused for %s", wait)
	}
	f.mu.Lock()
	f.away = errors.New("away")
	f.mu.Unlock()
	in := 0
	for range 300 {
		if one.take("w", 1, f.Now()) == 0 {
			in++
		}
	}
	if most := 50 + int(r.portion()); in < 50 || in > most {
		t.Errorf("alone, %d events were let in, want 50 to %d", in, most)
	}
	f.mu.Lock()
	f.away = nil
	f.mu.Unlock()
	in = 0
	for range 300 {
		if two.take("w", 1, f.Now()) == 0 {
			in++
		}
	}
	if in < 60 || in > 70+int(r.portion()) {
		t.Errorf("together again, %d events were let in", in)
	}
}

// TestSharedTogether: over stores of several processes in PostgreSQL, to which many send at once, the sum is
// what the limit says, and at most a portion for each more.
func TestSharedTogether(t *testing.T) {
	t.Parallel()
	url := enginetest.Postgres(t)
	r := rate{3600, 300, time.Hour}
	var all []*limiter
	var stores []*postgres.Store
	for n := range 3 {
		s, err := postgres.New(postgres.Options{DSN: url, Name: fmt.Sprint("process-", n)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		stores, all = append(stores, s), append(all, limits(r, s))
	}
	began := stores[0].Now()
	var in atomic.Int64
	var wg sync.WaitGroup
	for c := range 9 {
		wg.Go(func() {
			for range 200 {
				at := c % 3
				if c > 5 {
					at = 0 // which gets more than the others
				}
				if all[at].take("w", 1, time.Now()) == 0 {
					in.Add(1)
				}
			}
		})
	}
	wg.Wait()
	passed := float64(3600*stores[0].Now().Sub(began)) / float64(time.Hour)
	if got, least, most := float64(in.Load()), float64(r.burst-3*r.portion()), float64(r.burst+3*r.portion())+passed+1; got < least || got > most {
		t.Errorf("%v events were let in, want %v to %v", got, least, most)
	}
}
