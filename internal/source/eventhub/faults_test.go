package eventhubsource_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
)

// TestNetwork: E3, through connections that are cut, frozen, half closed, slow, ended in the middle
// of a frame and refused, a source reads each event, and none twice as long as it owns the partition.
func TestNetwork(t *testing.T) {
	t.Parallel()
	const partitions, each = 3, 40
	hub := enginetest.NewEventHub(t, partitions)
	proxy := faultproxy.NewTCP(t, hub.Address)
	through := hub
	through.Address = proxy.Address
	s := options{hub: through, store: memory(t)}.source(t, nil)
	s.Impatient(500*time.Millisecond, 2*time.Second)
	opened(t, s)
	var all []string
	next := 0
	for _, f := range []struct {
		name      string
		fault     func()
		mend      func()
		meanwhile time.Duration
	}{
		{"nothing", func() {}, nil, 0},
		{"cut", proxy.Cut, nil, 0},
		{"frozen", proxy.Freeze, proxy.Thaw, time.Second},
		{"frozen to us", func() { proxy.FreezeTo(faultproxy.ToClient) }, proxy.Thaw, time.Second},
		{"half closed", func() { proxy.HalfClose(faultproxy.ToClient) }, nil, 0},
		{"slow", func() { proxy.Delay(100 * time.Millisecond) }, func() { proxy.Delay(0) }, time.Second},
		{"cut in a frame", func() { proxy.CutAfter(faultproxy.ToClient, 1000) }, func() { proxy.CutAfter(faultproxy.ToClient, -1) }, time.Second},
		{"refused", func() { proxy.Refuse(); proxy.Cut() }, proxy.Accept, time.Second},
	} {
		f.fault()
		for p := range partitions {
			var bodies []string
			for i := range each {
				bodies = append(bodies, fmt.Sprintf("%d:%06d", p, next+i))
			}
			hub.Append(t, p, bodies...)
		}
		next += each
		if f.mend != nil {
			time.Sleep(f.meanwhile)
			f.mend()
		}
		begun := time.Now()
		gots := read(t, s, partitions*each)
		t.Logf("%s: read on after %s", f.name, time.Since(begun).Round(time.Millisecond))
		all = append(all, texts(gots)...)
		acked(t, gots)
	}
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != partitions*next || n != len(all) {
		t.Errorf("read %d events, %d different, of %d", len(all), n, partitions*next)
	}
}
