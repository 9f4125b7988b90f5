package kafkasource_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
)

func TestConformance(t *testing.T) {
	conntest.Source(t, conntest.SourceCase{
		Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
			c := cluster(t, kfake.SeedTopics(1, "events"))
			put(t, brokers(c), "events", 0, payloads...)
			conf := config(brokers(c), "events")
			return func() connector.Source { return newSource(t, conf, nil) }
		},
		Features: conntest.SourceFeatures{Ordered: true, Acknowledges: true, Remembers: true, Binary: true, Empty: true, Positions: true, Seeks: true},
	})
}
