package kinesissource

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	for _, shards := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d shards", shards), func(t *testing.T) {
			endpoint := enginetest.Kinesalite(t)
			losing := func(t *testing.T, payloads [][]byte) (func() connector.Source, func()) {
				s, d := makeStream(t, endpoint, shards), newDesk()
				s.put(t, func(i int) string { return fmt.Sprint(i % (5 * shards)) }, payloads...)
				return func() connector.Source { return &thorough{s.source(d, nil), d} }, func() { s.remove(t) }
			}
			conntest.Source(t, conntest.SourceCase{
				Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
					restart, _ := losing(t, payloads)
					return restart
				},
				Losing:   losing, // all of it; what a stream trims shows in TestSeekWhatIsNotThere
				Features: conntest.SourceFeatures{Acknowledges: true, Remembers: true, Binary: true, Empty: true, Ordered: shards == 1, Positions: true, Seeks: true},
			})
		})
	}
}

// thorough is a source whose reads are cancelled when everything was fetched that there is: the
// suite knows no other sign that what has to come has come.
type thorough struct {
	*Source
	d *desk
}

func (s *thorough) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		select {
		case <-ctx.Done():
		case <-inner.Done():
			return
		}
		for until := time.Now().Add(10 * time.Second); time.Now().Before(until) && !s.idle() && pause(inner, 10*time.Millisecond) == nil; {
		}
		stop()
	}()
	return s.Source.Read(inner, room)
}

// idle reports whether every shard that is not at its end was asked and had nothing new.
func (s *thorough) idle() bool {
	n := s.current()
	if n == nil {
		return true
	}
	idle := map[string]bool{}
	n.mu.Lock()
	for sh := range n.held {
		sh.mu.Lock()
		idle[sh.id] = sh.idle && sh.oldest.IsZero()
		sh.mu.Unlock()
	}
	n.mu.Unlock()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for id, r := range s.d.rows {
		if r.at != lease.End && !idle[id] {
			return false
		}
	}
	return true
}
