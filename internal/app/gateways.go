package app

import (
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/gateway"
)

// Gateway is the source of a pipeline that takes events by write keys.
type Gateway struct {
	Pipeline string
	gateway.Visited
}

// visited notes a source where it takes events by write keys.
func (a *assembly) visited(s connector.Source) {
	if g, is := s.(gateway.Visited); is && a.config != nil {
		a.built.gateways = append(a.built.gateways, Gateway{a.config.Name, g})
	}
}

// Gateways are those of the config that runs.
func (a *App) Gateways() []Gateway {
	if g := a.generation(); g != nil {
		return g.gateways
	}
	return nil
}

// Machines are those of the config that runs, in its order.
func (a *App) Machines() []*executor.Machine {
	g := a.generation()
	if g == nil {
		return nil
	}
	var out []*executor.Machine
	for _, m := range g.order {
		if r, is := m.Runner.(*machineRunner); is {
			out = append(out, r.machine())
		}
	}
	return out
}
