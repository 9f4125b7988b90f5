package queuesource_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	queuesource "github.com/weirdata/weir/internal/source/queue"
)

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	for _, ends := range []bool{false, true} {
		name := "waits"
		if ends {
			name = "stop_when_empty"
		}
		t.Run(name, func(t *testing.T) {
			conntest.Source(t, conntest.SourceCase{
				Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
					s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					})
					var jobs []queue.Job
					for _, p := range payloads {
						jobs = append(jobs, queue.Job{Queue: "q", Msg: event.New(p)})
					}
					if len(jobs) > 0 {
						appends(t, s, jobs...)
					}
					return func() connector.Source {
						return build(t, s, func(c *queuesource.Config) { c.StopWhenEmpty = ends })
					}
				},
				Features: conntest.SourceFeatures{Acknowledges: true, Remembers: true, Binary: true, Empty: true, Positions: true, Seeks: true, Consumes: true},
			})
		})
	}
}
