package eventhubtarget_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/faultproxy"
	eventhubtarget "github.com/weirdata/weir/internal/target/eventhub"
)

// TestNetwork: through connections that are cut, frozen, half closed, slow and ended in the middle
// of a frame, each event is there; those that are twice were in a write that had no answer.
func TestNetwork(t *testing.T) {
	t.Parallel()
	const partitions, each = 2, 20
	hub := enginetest.NewEventHub(t, partitions)
	proxy := faultproxy.NewTCP(t, hub.Address)
	through := hub
	through.Address = proxy.Address
	target := opened(t, through, func(c *eventhubtarget.Config) { c.ContextTimeoutInSeconds = 2 })
	want, failed, next := 0, 0, 0
	write := func() {
		var b event.Batch
		for range each {
			b = append(b, message(fmt.Sprint(next%3), fmt.Sprintf("%06d", next)))
			next++
		}
		want += each
		failed += each * writes(t, target, b...)
	}
	for round := range 2 {
		for name, f := range map[string][2]func(){
			"cut":            {proxy.Cut, nil},
			"frozen":         {proxy.Freeze, proxy.Thaw},
			"frozen to us":   {func() { proxy.FreezeTo(faultproxy.ToClient) }, proxy.Thaw},
			"half closed":    {func() { proxy.HalfClose(faultproxy.ToServer) }, nil},
			"slow":           {func() { proxy.Delay(50 * time.Millisecond) }, func() { proxy.Delay(0) }},
			"cut in a frame": {func() { proxy.CutAfter(faultproxy.ToServer, 500) }, func() { proxy.CutAfter(faultproxy.ToServer, -1) }},
		} {
			write()
			f[0]()
			if f[1] != nil {
				mended := time.AfterFunc(2500*time.Millisecond, f[1])
				write()
				mended.Stop()
				f[1]()
			}
			write()
			t.Logf("round %d, %s: %d events, %d of failed attempts", round, name, want, failed)
		}
	}
	got := map[string]int{}
	for _, e := range held(t, hub, partitions) {
		got[e.Body]++
	}
	twice := 0
	for i := range next {
		n := got[fmt.Sprintf("%06d", i)]
		if n == 0 {
			t.Errorf("event %d is lost", i)
		}
		twice += max(n-1, 0)
	}
	if twice > failed {
		t.Errorf("%d events are twice, and attempts with %d have failed", twice, failed)
	}
}
