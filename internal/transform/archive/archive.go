// Package archive is the transform "archive": of an event of a gateway it makes the line that
// RudderStack's archive has of it,
//
//	{"userId":ORDER,"payload":EVENT,"createdAt":TIME,"messageId":ID}
//
// where userId is what events are kept in order by, and createdAt when the gateway took the event. Behind
// it belongs a target that keeps lines, as "object". The payload is the event as it is written, so that
// it can be sent again.
//
// Events of a source that is transient leave nothing in an archive: they are filtered. Those of a source
// that has left the configuration are failures, as where they are processed: they were acknowledged.
package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/workspace"
)

// Config is the transform's HCL block.
type Config struct {
	// WorkspaceConfig is the path of the workspaceConfig.json with the sources; the same file as the
	// gateway's. A change of the file counts within five seconds.
	WorkspaceConfig string `hcl:"workspace_config,optional"`
	// Workspace is the name of the workspace block with the sources, in the place of workspace_config.
	Workspace string `hcl:"workspace,optional"`
}

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	return connector.NamesWorkspace(c.WorkspaceConfig, c.Workspace)
}

// Entry is the transform's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "archive",
	Summary:   "Makes the line that RudderStack's archive has of an event.",
	Stability: connector.Experimental,
	Default:   func() Config { return Config{} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Transform, error) {
		if ps := c.Validate(); len(ps) > 0 {
			return nil, fault.New(fault.Setup, fmt.Errorf("archive: %s: %s", ps[0].What, ps[0].Fix))
		}
		file, err := d.Workspace(c.WorkspaceConfig, c.Workspace)
		if err != nil {
			return nil, err
		}
		return connector.Stateless(&worker{file}), nil
	},
})

type worker struct{ file workspace.Live }

// transient is why events are filtered.
const transient = "source is transient"

var (
	errNoSource = errors.New("the message does not say which source it is from: put the transform behind a gateway, or a queue that a gateway fills")
	errNoEvent  = errors.New("the payload is not a JSON object")
)

// Apply implements connector.Worker.
func (w *worker) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	if m.Meta.Scope == nil || m.Meta.Scope.Source == "" {
		return nil, invalid(errNoSource)
	}
	switch s := w.file.Current().BySource(m.Meta.Scope.Source); {
	case s == nil:
		return nil, gone(m.Meta.Scope.Source)
	case s.Transient:
		m.Drop(transient)
		return out, nil
	}
	s := jsontext.Scan(m.Data)
	members, ok := s.Object(nil)
	if !ok || !s.End() {
		return nil, invalid(errNoEvent)
	}
	id, _ := jsontext.Last(string(m.Data), members, "messageId")
	if len(id) == 0 || id[0] != '"' {
		id = `""`
	}
	created := m.Times.Created
	if created.IsZero() {
		created = m.Times.Read
	}
	line := append(make([]byte, 0, len(m.Data)+len(m.Key)+len(id)+96), `{"userId":`...)
	line = append(jsontext.AppendString(line, m.Key), `,"payload":`...)
	line = append(jsontext.Compact(line, m.Data), `,"createdAt":"`...)
	line = append(created.UTC().AppendFormat(line, time.RFC3339Nano), `","messageId":`...)
	m.Replace(append(append(line, id...), '}'))
	return append(out, m), nil
}

// gone is the error of an event whose source has left the configuration.
func gone(source string) error {
	return fault.Describe(fault.Invalid,
		fmt.Errorf("the source %q, which accepted the event, is not in the workspace configuration any more: put it back and send the event again, or delete the failure", source),
		fault.Detail{Type: "transformation", Code: "410", Safe: "the source is not in the workspace configuration any more"})
}

func invalid(err error) error {
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "transformation", Code: "400", Safe: err.Error()})
}
