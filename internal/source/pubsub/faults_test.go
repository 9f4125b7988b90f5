package pubsubsource_test

import (
	"testing"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/faultproxy"
)

// TestServiceThatIsAway: a service that is away, at the start and later, ends nothing.
func TestServiceThatIsAway(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	put(t, s, 20)
	proxy := faultproxy.NewTCP(t, s.Addr)
	proxy.Refuse()
	src := opens(t, build(t, "http://"+proxy.Address, nil))
	for range 3 {
		if _, _, err := src.Read(t.Context(), connector.Room{}); err == nil {
			t.Error("Read returns without a service")
		}
	}
	proxy.Accept()
	for _, p := range reads(t, src, 20) {
		if err := p.settle(t, nil); err != nil {
			t.Error(err)
		}
	}
}
