package config

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// Workspace is a workspace configuration: who sends events, and where to. The source "gateway", the
// transform "fanout" and the target "webhook" use it by its name.
type Workspace struct {
	// Name of the workspace, which is its id where it is written here, in blocks. Letters, digits,
	// "_", "-" and "."; at most 64 characters.
	Name string `hcl:"name,label"`

	WorkspaceParts `hcl:",remain"`

	doc    *document
	header hcl.Range
	body   *hclsyntax.Body
}

// WorkspaceParts is where a workspace configuration comes from: one of a file, a control plane,
// or the blocks source, destination and connection.
type WorkspaceParts struct {
	// Path of the workspaceConfig.json with sources, destinations and their connections. A
	// relative path means from the directory of the config file. A change of the file counts
	// within five seconds.
	Config string `hcl:"config,optional"`
	// The control plane that the configuration is fetched from.
	ControlPlane *ControlPlane `hcl:"control_plane,block"`
	// Who sends events.
	Sources []*WorkspaceSource `hcl:"source,block"`
	// Where events go.
	Destinations []*WorkspaceDestination `hcl:"destination,block"`
	// Which source's events go to which destination.
	Connections []*WorkspaceConnection `hcl:"connection,block"`
	// Names of track events that nobody gets, whatever their source.
	BlockedEvents []string `hcl:"blocked_events,optional"`
}

// ControlPlane is the control plane that a workspace configuration is fetched from, with RudderStack's
// protocol.
type ControlPlane struct {
	// URL of the control plane, such as "https://api.rudderstack.com": CONFIG_BACKEND_URL of
	// RudderStack.
	URL string `hcl:"url"`
	// Token of the workspace (WORKSPACE_TOKEN of RudderStack), or with a namespace its secret
	// (HOSTED_SERVICE_SECRET): sent as the user name of Basic authorization.
	Token string `hcl:"token"`
	// Namespace whose workspaces are served, all by this process; none by default, which asks for
	// the one workspace of the token.
	Namespace string `hcl:"namespace,optional"`
	// Path of the file that keeps the last configuration for a start while the control plane is
	// away. It holds the secrets of the destinations; only its owner can read it. A relative path
	// means from the directory of the config file. None by default: a start waits for the plane.
	Cache string `hcl:"cache,optional"`
	// How often, in milliseconds, it is asked for changes; 5000 by default, at least 100.
	PollIntervalMillis int `hcl:"poll_interval_ms,optional"`
	// Longest time, in milliseconds, for a request with its answer; 30000 by default.
	RequestTimeoutMillis int `hcl:"request_timeout_ms,optional"`
	// Longest time, in seconds, for which a start waits for the first configuration where there is
	// no cache; 60 by default. 0 does not wait.
	StartWaitSeconds int `hcl:"start_wait_seconds,optional"`
	// Largest answer, in bytes, that is read; 268435456, which is 256 MiB, by default.
	MaxBytes int `hcl:"max_bytes,optional"`
}

// SetDefaults sets what a control_plane block need not say.
func (c *ControlPlane) SetDefaults() {
	c.PollIntervalMillis, c.RequestTimeoutMillis, c.StartWaitSeconds, c.MaxBytes = 5000, 30000, 60, 256<<20
}

// Poll is PollIntervalMillis as a duration.
func (c *ControlPlane) Poll() time.Duration { return millis(c.PollIntervalMillis) }

// Timeout is RequestTimeoutMillis as a duration.
func (c *ControlPlane) Timeout() time.Duration { return millis(c.RequestTimeoutMillis) }

// StartWait is StartWaitSeconds as a duration.
func (c *ControlPlane) StartWait() time.Duration {
	return time.Duration(c.StartWaitSeconds) * time.Second
}

// WorkspaceSource is who sends events.
type WorkspaceSource struct {
	// ID of the source. Letters, digits, "_", "-" and "."; at most 64 characters.
	ID string `hcl:"id,label"`
	// The key that SDKs authorize themselves with. Keep it in the environment: env.NAME.
	WriteKey string `hcl:"write_key"`
	// Name of the source; its ID by default.
	Name string `hcl:"name,optional"`
	// Whether it may send events; true by default.
	Enabled bool `hcl:"enabled,optional"`
	// Kind of the source, such as "HTTP" or "Javascript": the name of RudderStack's definition.
	Definition string `hcl:"definition,optional"`
	// Where the source runs: "cloud", by default, "web", "android", "ios" and so on.
	Type string `hcl:"type,optional"`
	// Category of the definition; empty, by default, for event streams, "webhook" for a webhook.
	Category string `hcl:"category,optional"`
	// The source's own settings, as in the config of a source in workspaceConfig.json.
	Config cty.Value `hcl:"config,optional"`
}

// SetDefaults sets what a source block need not say.
func (s *WorkspaceSource) SetDefaults() { s.Enabled, s.Type = true, "cloud" }

// WorkspaceDestination is where events go.
type WorkspaceDestination struct {
	// ID of the destination. Letters, digits, "_", "-" and "."; at most 64 characters.
	ID string `hcl:"id,label"`
	// Type of the destination, such as "WEBHOOK".
	Type string `hcl:"type"`
	// Name of the destination; its ID by default.
	Name string `hcl:"name,optional"`
	// The name by which clients choose it in the integrations of an event; by default that of the
	// type, for WEBHOOK "Webhook".
	DisplayName string `hcl:"display_name,optional"`
	// Whether it gets events; true by default.
	Enabled bool `hcl:"enabled,optional"`
	// The settings of the destination, as in the config of a destination in workspaceConfig.json:
	// of a webhook webhookUrl, webhookMethod and headers.
	Config cty.Value `hcl:"config,optional"`
	// Types of events that it takes, such as "track"; all by default.
	MessageTypes []string `hcl:"message_types,optional"`
}

// SetDefaults sets what a destination block need not say.
func (d *WorkspaceDestination) SetDefaults() { d.Enabled = true }

// WorkspaceConnection has the events of a source go to a destination.
type WorkspaceConnection struct {
	// ID of the source.
	Source string `hcl:"source"`
	// ID of the destination.
	Destination string `hcl:"destination"`
	// Whether events go that way; true by default.
	Enabled bool `hcl:"enabled,optional"`
}

// SetDefaults sets what a connection block need not say.
func (c *WorkspaceConnection) SetDefaults() { c.Enabled = true }

// Dir is the directory of the file w is in.
func (w *Workspace) Dir() string { return filepath.Dir(w.header.Filename) }

// Position is where w is written, as file:line:column.
func (w *Workspace) Position() string { return position(w.header) }

// Diagnose makes a diagnostic at one of w's attributes, or at w when field is empty or not written.
func (w *Workspace) Diagnose(field, what, fix string) Diagnostic {
	r, _ := locate(w.body, w.header, field)
	return w.doc.errorAt(r, scrub(what, nil, w.doc.hiddenValues(w.body)), fix)
}

// Warn makes a warning of w.
func (w *Workspace) Warn(what, fix string) Diagnostic {
	d := w.Diagnose("", what, fix)
	d.Severity = Warning
	return d
}

// Written reports whether the configuration is in blocks.
func (w *WorkspaceParts) Written() bool {
	return len(w.Sources)+len(w.Destinations)+len(w.Connections)+len(w.BlockedEvents) > 0
}

// Document is the blocks of w as a workspaceConfig.json.
func (w *Workspace) Document() ([]byte, error) {
	on := map[[2]string]bool{}
	for _, c := range w.Connections {
		on[[2]string{c.Source, c.Destination}] = c.Enabled
	}
	destinations := make([]map[string]any, len(w.Destinations))
	for i, d := range w.Destinations {
		settings, err := jsonOf(d.Config)
		if err != nil {
			return nil, fmt.Errorf("config of destination %q: %w", d.ID, err)
		}
		definition := map[string]any{"name": strings.ToUpper(d.Type), "displayName": d.displayName()}
		if len(d.MessageTypes) > 0 {
			definition["config"] = map[string]any{"supportedMessageTypes": d.MessageTypes}
		}
		destinations[i] = map[string]any{"id": d.ID, "name": cmpOr(d.Name, d.ID), "enabled": d.Enabled, "isProcessorEnabled": true, "config": settings, "destinationDefinition": definition}
	}
	sources, connections := make([]map[string]any, len(w.Sources)), map[string]any{}
	for i, s := range w.Sources {
		settings, err := jsonOf(s.Config)
		if err != nil {
			return nil, fmt.Errorf("config of source %q: %w", s.ID, err)
		}
		carries := []any{} // the first carries all, so that one without a connection is known
		for j, d := range w.Destinations {
			way := [2]string{s.ID, d.ID}
			if i == 0 || on[way] {
				carries = append(carries, destinations[j])
			}
			if !on[way] && i == 0 {
				connections[s.ID+" "+d.ID] = map[string]any{"sourceId": s.ID, "destinationId": d.ID, "enabled": false}
			}
		}
		sources[i] = map[string]any{"id": s.ID, "name": cmpOr(s.Name, s.ID), "writeKey": s.WriteKey, "enabled": s.Enabled, "config": settings, "destinations": carries,
			"sourceDefinition": map[string]any{"name": s.Definition, "type": s.Type, "category": s.Category}}
	}
	return json.Marshal(map[string]any{"workspaceId": w.Name, "sources": sources, "connections": connections,
		"settings": map[string]any{"eventBlocking": map[string]any{"events": map[string]any{"track": w.BlockedEvents}}}})
}

func (d *WorkspaceDestination) displayName() string {
	if d.DisplayName == "" && strings.EqualFold(d.Type, "WEBHOOK") {
		return "Webhook"
	}
	return cmpOr(d.DisplayName, d.Type)
}

func jsonOf(v cty.Value) (json.RawMessage, error) {
	if v == cty.NilVal || v.IsNull() {
		return json.RawMessage("{}"), nil
	}
	return ctyjson.Marshal(v, v.Type())
}

// workspaces completes the workspace blocks, and finds what is wrong with them.
func (d *document) workspaces(root *hclsyntax.Body, p *Process) Diagnostics {
	blocks := BlocksOf(root, "workspace")
	ds := d.blockNames(blocks, "workspace")
	for i, w := range p.Workspaces {
		w.doc, w.header, w.body = d, HeaderOf(blocks[i]), blocks[i].Body
		var ps problems
		w.validate(&ps)
		ds = append(ds, d.found(w.body, w.header, ps)...)
		ds = append(ds, d.blockNames(BlocksOf(w.body, "source"), "source")...)
		ds = append(ds, d.blockNames(BlocksOf(w.body, "destination"), "destination")...)
	}
	return ds
}

func (w *Workspace) validate(ps *problems) {
	const ways = "write one of config, a control_plane block, or blocks source, destination and connection"
	from := 0
	for _, has := range []bool{w.Config != "", w.ControlPlane != nil, w.Written()} {
		if has {
			from++
		}
	}
	switch {
	case from == 0:
		ps.add("", "nothing says where the workspace configuration comes from", ways)
	case from > 1:
		ps.add("", "the workspace configuration comes from several places", ways)
	case w.Written():
		w.validateBlocks(ps)
	}
	if c := w.ControlPlane; c != nil {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			ps.add("control_plane.url", "url is not the URL of a control plane", "write the whole URL, with http:// or https:// and a host")
		}
		if c.Token == "" {
			ps.add("control_plane.token", "token is empty", "write token = env.WORKSPACE_TOKEN, and set that")
		}
		ps.least("control_plane.poll_interval_ms", 100, c.PollIntervalMillis, "leave it out for 5000")
		ps.most("control_plane.poll_interval_ms", maxMillis, c.PollIntervalMillis)
		ps.least("control_plane.request_timeout_ms", 1, c.RequestTimeoutMillis, "leave it out for 30000")
		ps.most("control_plane.request_timeout_ms", maxMillis, c.RequestTimeoutMillis)
		ps.least("control_plane.start_wait_seconds", 0, c.StartWaitSeconds, "leave it out for 60")
		ps.most("control_plane.start_wait_seconds", maxSeconds, c.StartWaitSeconds)
		ps.least("control_plane.max_bytes", 1, c.MaxBytes, "leave it out for 268435456, which is 256 MiB")
	}
}

func (w *Workspace) validateBlocks(ps *problems) {
	if len(w.Sources) == 0 {
		ps.add("", "no source is written: nobody could send events", `write source "site" { write_key = env.SITE_KEY }`)
	}
	sources, destinations, keys := map[string]bool{}, map[string]bool{}, map[string]string{}
	for i, s := range w.Sources {
		sources[s.ID] = true
		other, twice := keys[s.WriteKey]
		switch {
		case s.WriteKey == "":
			ps.add(fmt.Sprintf("source[%d].write_key", i), "write_key is empty", "write write_key = env.SITE_KEY, and set that")
		case twice:
			ps.add(fmt.Sprintf("source[%d].write_key", i), fmt.Sprintf("source %q has the same write_key: events could not be told apart", other), "give each source its own")
		}
		keys[s.WriteKey] = s.ID
		w.object(ps, fmt.Sprintf("source[%d].config", i), s.Config)
	}
	for i, d := range w.Destinations {
		destinations[d.ID] = true
		if d.Type == "" {
			ps.add(fmt.Sprintf("destination[%d].type", i), "type is empty", `write type = "WEBHOOK"`)
		}
		w.object(ps, fmt.Sprintf("destination[%d].config", i), d.Config)
	}
	seen := map[[2]string]bool{}
	for i, c := range w.Connections {
		way := [2]string{c.Source, c.Destination}
		switch {
		case !sources[c.Source]:
			ps.add(fmt.Sprintf("connection[%d].source", i), fmt.Sprintf("there is no source %q in this workspace", c.Source), "name one of its source blocks")
		case !destinations[c.Destination]:
			ps.add(fmt.Sprintf("connection[%d].destination", i), fmt.Sprintf("there is no destination %q in this workspace", c.Destination), "name one of its destination blocks")
		case seen[way]:
			ps.add(fmt.Sprintf("connection[%d]", i), fmt.Sprintf("source %q and destination %q are connected twice", c.Source, c.Destination), "keep one of the two")
		}
		seen[way] = true
	}
}

// object requires a value to be an object.
func (*Workspace) object(ps *problems, at string, v cty.Value) {
	if v == cty.NilVal || v.IsNull() {
		return
	}
	if t := v.Type(); !t.IsObjectType() && !t.IsMapType() || !v.IsWhollyKnown() {
		ps.add(at, "config must be an object", `write config = { webhookUrl = "https://..." }`)
	}
}
