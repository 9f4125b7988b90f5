package pubsubtarget_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	pubsubtarget "github.com/weirdata/weir/internal/target/pubsub"
)

// TestFaults: whatever becomes of connections, every message is published once what failed is
// written again, and only what failed is there twice.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.CreateTopic(t, "events")
	proxy := faultproxy.NewTCP(t, s.Addr)
	target := opened(t, "http://"+proxy.Address, func(c *pubsubtarget.Config) {
		c.OrderingKey, c.RequestTimeoutInMillis, c.GRPCConnectionPoolSize = "key", 1500, 2
	})
	faults := []func(){
		proxy.Cut,
		func() { proxy.CutAfter(faultproxy.ToClient, 0) },
		func() { proxy.Freeze(); time.AfterFunc(2*time.Second, proxy.Thaw) },
		func() { proxy.HalfClose(faultproxy.ToClient) },
		func() { proxy.Delay(20 * time.Millisecond) },
		func() { proxy.CutAfter(faultproxy.ToServer, 50) },
		func() { proxy.Refuse(); proxy.Cut(); time.AfterFunc(time.Second, proxy.Accept) },
		func() { proxy.FreezeTo(faultproxy.ToClient); time.AfterFunc(2*time.Second, proxy.Thaw) },
	}
	failed := map[string]int{}
	var all []string
	deadline := time.Now().Add(pubsubtest.Patience)
	for i := range 4 * len(faults) {
		if i%4 == 2 {
			faults[i/4]()
		}
		var b event.Batch
		for k := range 20 {
			text := fmt.Sprintf("%03d %02d", i, k)
			all = append(all, text)
			b = append(b, message(text, fmt.Sprint("key ", k%5)))
		}
		for len(b) > 0 && time.Now().Before(deadline) {
			var again event.Batch
			for k, kind := range failures(t, target.Write(t.Context(), b)) {
				if kind != fault.Transient {
					t.Fatalf("%s: %s", b[k].Data, kind)
				}
				failed[string(b[k].Data)]++
			}
			for _, m := range b {
				if n := failed[string(m.Data)]; n > 0 && n != failed["done "+string(m.Data)] {
					again = append(again, m)
					failed["done "+string(m.Data)] = n
				}
			}
			b = again
		}
	}
	first, times := map[string]int{}, map[string]int{}
	for i, text := range texts(s, "events") {
		if _, ok := first[text]; !ok {
			first[text] = i
		}
		times[text]++
	}
	last := map[string]int{}
	twice := 0
	for _, text := range all {
		at, ok := first[text]
		if !ok {
			t.Errorf("%s was not published", text)
		}
		if times[text] > 1+failed[text] {
			t.Errorf("%s was published %d times, and failed %d times", text, times[text], failed[text])
		}
		twice += times[text] - 1
		var i, k int
		if _, err := fmt.Sscanf(text, "%d %d", &i, &k); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(k % 5)
		if before, ok := last[key]; ok && at < before {
			t.Errorf("%s was published before an earlier one of its key", text)
		}
		last[key] = at
	}
	t.Logf("%d messages, %d published again, %d connections", len(all), twice, proxy.Opened())
}
