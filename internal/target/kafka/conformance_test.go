package kafkatarget_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/fault"
)

func TestConformance(t *testing.T) {
	setup := func(t *testing.T) (func() connector.Target, func() [][]byte) {
		c := cluster(t, kfake.SeedTopics(1, "events"))
		return func() connector.Target { return newTarget(t, connector.Deps{}, config(brokers(c), "events")) },
			func() (ps [][]byte) {
				info := c.PartitionInfo("events", 0)
				for _, r := range records(t, brokers(c), "events", int(info.HighWatermark)) {
					ps = append(ps, r.Value)
				}
				return ps
			}
	}
	conntest.Target(t, conntest.TargetCase{
		Setup:   setup,
		Refused: [][]byte{bytes.Repeat([]byte("x"), 1_100_000)},
		Broken: func(t *testing.T) connector.Target {
			c := cluster(t, kfake.SeedTopics(1, "events"))
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
			return newTarget(t, connector.Deps{}, config(brokers(c), "events"))
		},
		Want: fault.Setup,
		Stuck: func(t *testing.T) connector.Target {
			c := cluster(t, kfake.SeedTopics(1, "events"))
			stop := make(chan struct{})
			t.Cleanup(func() { close(stop) })
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				c.SleepControl(func() {
					select {
					case <-stop:
					case <-time.After(patience):
					}
				})
				return nil, nil, false
			})
			return newTarget(t, connector.Deps{}, config(brokers(c), "events"))
		},
		Features: conntest.TargetFeatures{Binary: true, Empty: true, Tombstone: true, Ordered: true},
	})
}
