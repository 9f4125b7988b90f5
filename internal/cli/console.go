package cli

import (
	"context"
	"sync"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/console"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/queue"
)

// accessOf is who may do what by an admin block, which has been checked.
func accessOf(a *config.Admin) *api.Access {
	out := &api.Access{Token: a.Token, Closed: !a.Local()}
	if a.Auth == nil {
		return out
	}
	for _, t := range a.Auth.Tokens {
		right, _ := api.RightOf(t.Right)
		hash, err := t.Hash()
		if err == nil {
			out.Tokens = append(out.Tokens, api.Token{Name: t.Name, Hash: hash, Right: right})
		}
	}
	for _, p := range a.Auth.Proxies {
		networks, err := p.Prefixes()
		if err != nil {
			continue
		}
		one := api.Proxy{Networks: networks, Header: p.UserHeader, Named: map[string]api.Right{}}
		one.Right, _ = api.RightOf(p.Right)
		for _, name := range p.Payloads {
			one.Named[name] = max(api.Payloads, one.Right)
		}
		for _, name := range p.Operate {
			one.Named[name] = api.Operate
		}
		out.Proxies = append(out.Proxies, one)
	}
	return out
}

// console adds what operators see and do beside the store, with pages where the config has them.
func (r *runner) console(o *admin.Options, a *config.Admin) (end func(), err error) {
	settings := a.Console
	if settings == nil {
		settings = &config.Console{}
		settings.SetDefaults()
	}
	c, err := console.New(console.Options{
		Path: a.Path, Pages: a.Console != nil, Version: Version(), MaxStreams: settings.MaxStreams, Log: r.log, Pipelines: r.meter,
		Taps: r.builder.Taps, Failures: failed{r}, Points: r.points, Config: r.standing, OfMessage: ofMessage, Lakes: lakes{r.app}, Gateways: r.gateways, Machines: r.app.Machines, Graph: r.drawing, Ready: r.app.Ready, Store: r.app.Store,
	})
	if err != nil {
		return nil, err
	}
	o.More = c.Routes
	return c.Close, nil
}

func ofMessage(ctx context.Context, s queue.Store, id string, most int) (found []queue.Job, looked int, all bool, err error) {
	return admin.Local{Store: s}.OfMessage(ctx, id, most)
}

// gateways are those of what runs.
func (r *runner) gateways() []console.OpenGateway {
	all := r.app.Gateways()
	out := make([]console.OpenGateway, len(all))
	for i, g := range all {
		out[i] = console.OpenGateway(g)
	}
	return out
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
