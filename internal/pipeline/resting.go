package pipeline

import (
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// resting is which values the one target of the pipeline has rest; nil when nobody can say. The
// values must be what the target knows: destinations.
func (p *Pipeline) resting() func(value string) bool {
	r, can := p.parts.Target.Target.(connector.Resting)
	if !can || len(p.parts.Routes) > 0 || p.divided == nil || p.divided.Isolation() != queue.ByDestination {
		return nil
	}
	return r.Rests
}
