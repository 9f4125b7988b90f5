package cli

import (
	"sync"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/console"
	"github.com/weirdata/weir/internal/layout"
)

// console adds the pages to the admin server, where the config has them.
func (r *runner) console(o *admin.Options, a *config.Admin) (end func(), err error) {
	if a.Console == nil {
		return func() {}, nil
	}
	c, err := console.New(console.Options{
		Path: a.Path, Version: Version(), MaxStreams: a.Console.MaxStreams, Log: r.log, Pipelines: r.meter,
		Graph: r.drawing, Ready: r.app.Ready, Store: r.app.Store,
	})
	if err != nil {
		return nil, err
	}
	o.Console, o.Open = c.Routes, console.Open()
	return c.Close, nil
}

// drawn is the drawing of a plan.
type drawn struct {
	mu     sync.Mutex
	plan   *config.Plan
	graph  *layout.Graph
	number int
}

// drawing is what runs now, placed, and a number that grows when it is replaced.
func (r *runner) drawing() (*layout.Graph, int) {
	plan := r.app.Plan()
	r.drawn.mu.Lock()
	defer r.drawn.mu.Unlock()
	if plan != r.drawn.plan {
		g := &layout.Graph{}
		if plan != nil {
			g = plan.Drawing()
		}
		g.Place()
		r.drawn.graph, r.drawn.plan = g, plan
		r.drawn.number++
	}
	return r.drawn.graph, r.drawn.number
}
