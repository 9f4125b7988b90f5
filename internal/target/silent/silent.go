// Package silent is the target that accepts everything and keeps nothing: the default for
// filtered messages, and a way to run a pipeline for its side effects or its speed.
package silent

import (
	"context"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// Config is the HCL of the silent target.
type Config struct {
	// How messages are grouped before they are dropped.
	Batching *connector.Batching `hcl:"batching,block"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	return connector.Under("batching", c.Batching.Validate())
}

// Entry is the silent target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "silent", Summary: "Accepts every message and keeps none.", Stability: connector.Stable, Whole: true,
	Default: func() Config {
		return Config{Batching: &connector.Batching{MaxBatchMessages: 500, MaxBatchBytes: 1e11, MaxMessageBytes: 1e11, MaxConcurrentBatches: 5, FlushPeriodMillis: 200}}
	},
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Target, error) {
		l := c.Batching.Limits()
		l.Eager = true
		return target{l}, nil
	},
})

type target struct{ limits connector.Limits }

var _ connector.Limiter = target{}

func (t target) Limits() connector.Limits               { return t.limits }
func (target) Open(context.Context) error               { return nil }
func (target) Close(context.Context) error              { return nil }
func (target) Write(context.Context, event.Batch) error { return nil }
