//go:build !race

// The fake changes a message that it delivers again while an earlier delivery of it is still
// written, which the race detector takes for a fault of the test.

package pubsubsource_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/faultproxy"
	pubsubsource "github.com/weirdata/weir/internal/source/pubsub"
)

// TestFaults: whatever becomes of connections, every message is read and acknowledged, and no
// more is read again than was in flight when a connection broke.
func TestFaults(t *testing.T) {
	t.Parallel()
	const n, outstanding, every = 400, 20, 40
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	put(t, s, n)
	proxy := faultproxy.NewTCP(t, s.Addr)
	src := build(t, "http://"+proxy.Address, func(c *pubsubsource.Config) {
		c.MaxOutstandingMessages, c.StreamingPullGoroutines, c.GRPCConnectionPoolSize = outstanding, 3, 2
	})
	pubsubsource.Lease(src, 5*time.Second, 100*time.Millisecond)
	// The fake answers a stream that asks whether it works with all its locks held, and hangs when
	// the stream breaks meanwhile: none asks here (see TestStreamThatDoesNotAnswer).
	pubsubsource.Hasten(src, time.Hour, time.Hour, time.Second)
	opens(t, src)
	faults := []func(){
		proxy.Cut,
		func() { proxy.Freeze(); time.AfterFunc(2*time.Second, proxy.Thaw) },
		func() { proxy.HalfClose(faultproxy.ToClient) },
		func() { proxy.CutAfter(faultproxy.ToClient, 0) },
		func() { proxy.Delay(30 * time.Millisecond) },
		func() { proxy.FreezeTo(faultproxy.ToServer); time.AfterFunc(2*time.Second, proxy.Thaw) },
		func() { proxy.Refuse(); proxy.Cut(); time.AfterFunc(time.Second, proxy.Accept) },
		func() { proxy.Delay(0) },
		func() { proxy.CutAfter(faultproxy.ToServer, 100) },
	}
	seen := map[string]int{}
	broken, unconfirmed := 0, 0
	for len(seen) < n {
		p := next(t, src, connector.Room{Messages: 10})
		for _, m := range p.batch {
			seen[string(m.Data)]++
		}
		if broken < len(faults) && len(seen) >= (broken+1)*every {
			faults[broken]()
			broken++
		}
		if err := p.settle(t, nil); err != nil {
			u, ok := errors.AsType[*connector.Unconfirmed](err)
			if !ok {
				t.Fatal(err)
			}
			unconfirmed += u.Messages
		}
	}
	twice := 0
	for _, times := range seen {
		twice += times - 1
	}
	if broken != len(faults) {
		t.Errorf("%d of %d faults happened", broken, len(faults))
	}
	if twice > broken*outstanding {
		t.Errorf("%d messages were read again, more than %d in flight at each of %d faults", twice, outstanding, broken)
	}
	if err := src.Close(t.Context()); err != nil {
		t.Error(err)
	}
	unacked := 0
	for _, m := range s.Published("events") {
		if m.Acks == 0 {
			unacked++
		}
	}
	if unacked > unconfirmed {
		t.Errorf("%d messages are not acknowledged, and %d were reported", unacked, unconfirmed)
	}
	t.Logf("%d of %d messages read again, %d not confirmed, %d connections", twice, n, unconfirmed, proxy.Opened())
}
