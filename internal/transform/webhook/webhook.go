// Package webhook is the transform "webhook": of a request to a webhook source that the source
// "gateway" kept, because no events could be made of it, it makes the events that the source's script
// makes of it now. It stands behind that gateway, so that a kept request can be sent again; every other
// message passes it as it is.
package webhook

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/gateway"
)

// Config is the transform's HCL block.
type Config struct {
	// WorkspaceConfig is the path of the workspaceConfig.json with the sources; the same file as the
	// gateway's. A change of the file counts within five seconds.
	WorkspaceConfig string `hcl:"workspace_config,optional"`
	// Workspace is the name of the workspace block with the sources, in the place of workspace_config.
	Workspace string `hcl:"workspace,optional"`
	// AllowEventsWithoutIDs accepts events with neither userId nor anonymousId; off by default.
	AllowEventsWithoutIDs bool `hcl:"allow_events_without_ids,optional"`
	// Webhooks are the scripts of webhook sources, as the gateway has them.
	Webhooks []*gateway.Webhook `hcl:"webhook,block"`
}

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	return append(gateway.CheckWebhooks(c.Webhooks), connector.NamesWorkspace(c.WorkspaceConfig, c.Workspace)...)
}

// Entry is the transform's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "webhook",
	Summary:   "Makes events of requests to webhook sources that a gateway kept and that are sent again.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Transform, error) {
		if ps := c.Validate(); len(ps) > 0 {
			return nil, fault.New(fault.Setup, fmt.Errorf("webhook: %s: %s", ps[0].What, ps[0].Fix))
		}
		file, err := d.Workspace(c.WorkspaceConfig, c.Workspace)
		if err != nil {
			return nil, err
		}
		hooks, err := gateway.NewHooks(d, c.Webhooks)
		if err != nil {
			return nil, err
		}
		return connector.Stateless(&worker{gateway.New(file, gateway.Options{AnyID: c.AllowEventsWithoutIDs, Hooks: hooks})}), nil
	},
})

type worker struct{ door *gateway.Gateway }

// noEvents is why a request is filtered that comes to nothing.
const noEvents = "the webhook source makes no events of it"

// Apply implements connector.Worker.
func (w *worker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	if !gateway.Kept(m.Data) {
		return append(out, m), nil
	}
	b, err := w.door.Again(m)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		m.Drop(noEvents)
		return out, nil
	}
	payloads := make([][]byte, len(b))
	for i, of := range b {
		payloads[i] = of.Data
	}
	for i, to := range m.Split(payloads...) {
		to.Key, to.Meta.ID, to.Meta.Scope, to.Meta.Descriptor = b[i].Key, b[i].Meta.ID, b[i].Meta.Scope, b[i].Meta.Descriptor
		out = append(out, to)
	}
	return out, nil
}
