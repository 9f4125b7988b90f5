// Package fanout is the transform "fanout": from each event of a gateway it makes one for
// every destination that the event's source is connected to. RudderStack's documents call
// the choice of destinations "fan-out by connection"; "route" and "router" are its words
// for delivery, which happens later.
//
// # Rules
//
// The source is the one in the message's scope. A destination gets the event when all of
// these hold:
//
//   - source and destination are connected, and the destination is enabled and has
//     isProcessorEnabled
//   - the event's "integrations" choose it by its definition's display name: true or an
//     object is yes, false is no; what is not named goes by "All". Without integrations
//     everything is chosen; with an "All" that is not a boolean, nothing is.
//   - the consent that "context.consentManagement" denies leaves it open
//   - its definition supports the event's type (in hybrid mode, from the cloud), and its
//     list of conversions, if it has one, holds the event's name
//   - where the message's scope names a destination, as that of a reverse-ETL run may, it is that one
//
// Before that, what package enrich knows is added to the event, and it is validated by the tracking plan of its source, where it has one: package
// trackingplan says how, and which events it drops.
//
// An event that no destination gets is filtered, with the rule that decided it as the reason.
// So is a track event that the workspace blocks, and an event of a source that is switched off. What
// each destination does not get is counted by the destination and the rule, whether others get the
// event or not ([event.Message.LeaveOut]).
//
// An event whose source is not in the configuration any more is not filtered, since no rule
// says so: somebody was told that it is accepted, and it is invalid.
//
// A destination with a user transformation gets what that makes of the event; the last rule is
// then asked of each event that it has made. An event that is not transformed, whatever the
// cause, goes on as it is and unfinished ([connector.Unfinished]), for a target that finishes it.
//
// # Invariants
//
//   - Every message made carries the workspace, source and destination in its scope, and the key and
//     payload of the event, unchanged but for what enrichment and a tracking plan write into its context.
//   - An event without a type is invalid as a whole when a destination that would get it
//     needs one: none gets it, so that its repair delivers nothing twice.
package fanout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"unicode"
	"unsafe"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enrich"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/trackingplan"
	"github.com/weirdata/weir/internal/usertransform"
	"github.com/weirdata/weir/internal/workspace"
)

// Config is the transform's HCL block.
type Config struct {
	// WorkspaceConfig is the path of the workspaceConfig.json with the connections; the
	// same file as the gateway's. A change of the file counts within five seconds.
	WorkspaceConfig string `hcl:"workspace_config,optional"`
	// Workspace is the name of the workspace block with the connections, in the
	// place of workspace_config.
	Workspace string `hcl:"workspace,optional"`
	// Where the code of user transformations is, which the events for a destination pass that has
	// one. Default: such a destination gets no events.
	Transformations *usertransform.Config `hcl:"transformations,block"`
	// What is added to events before anything is decided about them. Default: nothing.
	Enrichment *enrich.Config `hcl:"enrichment,block"`
	// Where tracking plans are, by which the events of a source are validated that has one. Default: they
	// are not validated, with a warning.
	TrackingPlans *trackingplan.Config `hcl:"tracking_plans,block"`
}

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	ps := connector.NamesWorkspace(c.WorkspaceConfig, c.Workspace)
	if c.Transformations != nil {
		ps = append(ps, connector.Under("transformations", c.Transformations.Validate())...)
	}
	if c.Enrichment != nil {
		ps = append(ps, connector.Under("enrichment", c.Enrichment.Validate())...)
	}
	if c.TrackingPlans != nil {
		ps = append(ps, connector.Under("tracking_plans", c.TrackingPlans.Validate())...)
	}
	return ps
}

// Entry is the transform's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "fanout",
	Summary:   "Makes one message for each destination that an event's source is connected to.",
	Stability: connector.Stable,
	Default:   func() Config { return Config{} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Transform, error) {
		if ps := c.Validate(); len(ps) > 0 {
			return nil, fault.New(fault.Setup, fmt.Errorf("fanout: %s: %s", ps[0].What, ps[0].Fix))
		}
		file, err := d.Workspace(c.WorkspaceConfig, c.Workspace)
		if err != nil {
			return nil, err
		}
		t := &Transform{file: file}
		if c.Transformations != nil {
			if t.engine, err = usertransform.New(d, *c.Transformations); err != nil {
				return nil, err
			}
		}
		if c.Enrichment != nil {
			if t.enricher, err = enrich.New(d, *c.Enrichment); err != nil {
				return nil, err
			}
		}
		if c.TrackingPlans != nil {
			if t.plans, err = trackingplan.New(d, *c.TrackingPlans); err != nil {
				return nil, err
			}
		}
		t.warn(d.Log)
		return t, nil
	},
})

// Transform chooses by one workspace file.
type Transform struct {
	file     workspace.Live
	engine   *usertransform.Engine // nil where no transformation is run
	enricher *enrich.Enricher      // nil where nothing is added
	plans    *trackingplan.Plans   // nil where events are not validated
}

// Calls implements connector.Caller: the code of transformations may fetch, and tracking plans are
// fetched.
func (t *Transform) Calls() bool { return t.engine != nil || t.plans != nil }

// warn names the sources whose events are not located or not validated, and the destinations that get no events
// because their transformation cannot be run.
func (t *Transform) warn(log *slog.Logger) {
	if log == nil {
		return
	}
	seen := map[string]bool{}
	for _, s := range t.file.Current().Sources {
		if s.GeoEnrichment && !t.enricher.Locates() {
			log.Warn("the events of a source get no location", "source", s.ID, "error", "it has geoEnrichment, and there is no database of places: write a block enrichment with geolocation_database")
		}
		if s.TrackingPlan != nil && t.plans == nil {
			log.Warn("the events of a source are not validated", "source", s.ID, "plan", s.TrackingPlan.ID, "error", "it is not said where tracking plans are: write a block tracking_plans")
		}
		for _, c := range s.Connections {
			d := c.Destination
			if d.Transformation() == nil || !d.Enabled || seen[d.ID] {
				continue
			}
			seen[d.ID] = true
			if why := t.engine.Refused(d.Transformation()); why != "" {
				log.Warn("a destination gets no events", "destination", d.ID, "error", why)
			}
		}
	}
}

// Worker implements connector.Transform.
func (t *Transform) Worker() (connector.Worker, error) {
	w := &Worker{file: t.file, engine: t.engine, enricher: t.enricher, plans: t.plans}
	if t.engine != nil {
		return &Transformer{w}, nil
	}
	return w, nil
}

// Worker is a Transform with the memory of one goroutine.
type Worker struct {
	file     workspace.Live
	engine   *usertransform.Engine
	enricher *enrich.Enricher
	plans    *trackingplan.Plans
	event    parsed
	chosen   []*workspace.Connection
	without  []event.LeftOut // of the message, should it not be invalid
}

// Apply appends a message for each destination.
func (t *Worker) Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	if m.Meta.Scope == nil || m.Meta.Scope.Source == "" {
		return nil, invalid(errNoSource)
	}
	w := t.file.Current()
	s := w.BySource(m.Meta.Scope.Source)
	switch {
	case s == nil:
		return nil, gone(m.Meta.Scope)
	case !s.Enabled:
		m.Drop(sourceOff)
		return out, nil
	case len(s.Connections) == 0:
		m.Drop(noConnection)
		return out, nil
	}
	if t.enricher != nil {
		data, drop := t.enricher.Apply(s, m.Data)
		if drop {
			m.Drop(robot)
			return out, nil
		}
		if !sameMemory(data, m.Data) {
			m.Replace(data)
		}
	}
	if err := t.event.read(m.Data); err != nil {
		return nil, invalid(err)
	}
	if string(t.event.kind) == "track" && s.Blocked[string(t.event.name)] {
		m.Drop(blocked)
		return out, nil
	}
	if s.TrackingPlan != nil && t.plans != nil {
		if err := t.validate(ctx, s, m); err != nil || m.Dropped() != "" {
			return out, err
		}
	}
	t.chosen, t.without = t.chosen[:0], t.without[:0]
	why, only, connected := "", m.Meta.Scope.Destination, false
	for _, c := range s.Connections {
		if only != "" && c.Destination.ID != only {
			continue
		}
		connected = true
		no, err := t.event.leavesOut(c, t.engine)
		if err != nil {
			return nil, invalid(err)
		}
		switch {
		case no == "":
			t.chosen = append(t.chosen, c)
			continue
		case why == "":
			why = no
		case why != no:
			why = several
		}
		t.without = append(t.without, event.LeftOut{Destination: c.Destination.ID, Reason: no})
	}
	if !connected {
		return nil, unconnected(m.Meta.Scope)
	}
	for _, x := range t.without {
		m.LeaveOut(x.Destination, x.Reason)
	}
	if len(t.chosen) == 0 {
		m.Drop(why)
	}
	for i, c := range t.chosen {
		to := m
		if i > 0 {
			to = m.Clone()
		}
		to.Meta.Scope = c.Scope
		out = append(out, to)
	}
	return out, nil
}

// validate has the event say what the tracking plan of its source does not allow of it. One that the plan
// drops is filtered.
func (t *Worker) validate(ctx context.Context, s *workspace.Source, m *event.Message) error {
	v, err := t.plans.Check(ctx, s, string(t.event.kind), string(t.event.name), m.Data)
	if err != nil {
		return err
	}
	if v.Data != nil {
		m.Replace(v.Data)
		err = t.event.read(m.Data)
	}
	if v.Drops != "" {
		m.Drop(unplanned + v.Drops)
	}
	return err
}

// sameMemory reports whether data is what it was.
func sameMemory(a, b []byte) bool {
	return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b)
}

// The rules by which an event goes to no destination.
const (
	robot        = "bot"
	unplanned    = "tracking plan: "
	sourceOff    = "source is switched off"
	noConnection = "source has no destination"
	blocked      = "event is blocked"
	notEnabled   = "destination is switched off"
	notUsable    = "destination cannot be used as it is, see weir check"
	notProcessed = "isProcessorEnabled of the destination is not true"
	integrations = "integrations of the event"
	consent      = "consent"
	notRun       = "user transformation cannot be run, see weir check"
	several      = "no destination takes it"
)

// gone is the error of an event whose source has left the configuration.
func gone(s *event.Scope) error {
	return fault.Describe(fault.Invalid,
		fmt.Errorf("the source %q, which accepted the event, is not in the workspace configuration any more: put it back and send the event again, or delete the failure", s.Source),
		fault.Detail{Type: "transformation", Code: "410", Safe: "the source is not in the workspace configuration any more"})
}

// unconnected is the error of an event that was sent to one destination, which its source is not
// connected to any more.
func unconnected(s *event.Scope) error {
	return fault.Describe(fault.Invalid,
		fmt.Errorf("the event was sent to the destination %q, which its source %q is not connected to any more: connect it and send the event again, or delete the failure", s.Destination, s.Source),
		fault.Detail{Type: "transformation", Code: "410", Safe: "destination is not available in the config"})
}

var (
	errNoSource = errors.New("the message does not say which source it is from: put the transform behind a gateway, or a queue that a gateway fills")
	errNoEvent  = errors.New("the payload is not a JSON object")
	errNoType   = errors.New("Invalid message type. Type assertion failed: the event has no type")
)

// invalid is the error of one message.
func invalid(err error) error {
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "transformation", Code: "400", Safe: err.Error()})
}

// parsed is what of an event the choice depends on.
type parsed struct {
	data    []byte
	kind    []byte // type, in lower case without spaces; empty when it is not text
	name    []byte // event
	all     bool   // integrations.All, or that there are none
	named   []jsontext.Member
	members []jsontext.Member
	scratch []jsontext.Member
	denial  workspace.Denial
}

// read looks at the members of an event.
func (p *parsed) read(data []byte) error {
	p.data, p.kind, p.name, p.all, p.named = data, nil, nil, true, p.named[:0]
	p.denial = workspace.Denial{IDs: p.denial.IDs[:0]}
	s := jsontext.Scan(data)
	var ok bool
	if p.members, ok = s.Object(p.members[:0]); !ok || !s.End() {
		return errNoEvent
	}
	for _, m := range p.members {
		switch string(m.Name(data)) {
		case "type":
			p.kind = bytes.TrimSpace(text(m.Of(data)))
			if bytes.ContainsFunc(p.kind, unicode.IsUpper) {
				p.kind = bytes.ToLower(p.kind)
			}
		case "event":
			p.name = text(m.Of(data))
		case "integrations":
			p.integrations(m)
		case "context":
			p.consent(m)
		}
	}
	return nil
}

// integrations reads the member of that name. What is no object says nothing.
func (p *parsed) integrations(m jsontext.Member) {
	p.all = true
	s := jsontext.ScanFrom(p.data, m.Value)
	p.named, _ = s.Object(p.named[:0])
	for _, n := range p.named {
		if string(n.Name(p.data)) == "All" {
			p.all = string(n.Of(p.data)) == "true"
			if v := n.Of(p.data)[0]; v != 't' && v != 'f' {
				p.all, p.named = false, p.named[:0]
				return
			}
		}
	}
}

// chooses reports whether integrations choose a destination by its display name.
func (p *parsed) chooses(name string) bool {
	chosen := p.all
	for _, n := range p.named {
		if string(n.Name(p.data)) == name {
			switch n.Of(p.data)[0] {
			case 't', '{':
				chosen = true
			case 'f':
				chosen = false
			default: // neither yes nor no
				chosen = p.all
			}
		}
	}
	return chosen
}

// consent reads consentManagement of the context.
func (p *parsed) consent(m jsontext.Member) {
	management := p.member(m, "consentManagement")
	if management.End == 0 {
		return
	}
	p.denial = workspace.Denial{IDs: p.denial.IDs[:0]}
	p.denial.Provider = string(text(p.member(management, "provider").Of(p.data)))
	p.denial.Any = string(text(p.member(management, "resolutionStrategy").Of(p.data))) == "or"
	denied := p.member(management, "deniedConsentIds")
	s := jsontext.ScanFrom(p.data, denied.Value)
	if denied.End == 0 || !s.Take('[') || s.Take(']') {
		return
	}
	for {
		s.Next()
		from := s.At
		if !s.Value() {
			return
		}
		if id := bytes.TrimSpace(text(p.data[from:s.At])); len(id) > 0 {
			p.denial.IDs = append(p.denial.IDs, string(id))
		}
		if !s.Take(',') {
			return
		}
	}
}

// member finds a member of the object that is the value of m; zero when there is none.
func (p *parsed) member(m jsontext.Member, name string) (found jsontext.Member) {
	s := jsontext.ScanFrom(p.data, m.Value)
	p.scratch, _ = s.Object(p.scratch[:0])
	for _, x := range p.scratch {
		if string(x.Name(p.data)) == name {
			found = x
		}
	}
	return found
}

// text is a JSON string's text, in the memory of value if it has no escapes; empty for
// other values.
func text(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return nil
	}
	return jsontext.Unquoted(value)
}

// leavesOut is the rule by which the event does not go to the destination of a connection;
// empty when it does.
func (p *parsed) leavesOut(c *workspace.Connection, e *usertransform.Engine) (string, error) {
	d := c.Destination
	switch {
	case d.Off != "":
		return notUsable, nil
	case !d.Enabled:
		return notEnabled, nil
	case !d.Processed:
		return notProcessed, nil
	case !p.chooses(d.DisplayName):
		return integrations, nil
	case !c.Consent.Allows(&p.denial):
		return consent, nil
	}
	if t := d.Transformation(); t != nil {
		if e.Refused(t) != "" {
			return notRun, nil
		}
		return "", nil // what is left is asked of what the event becomes
	}
	return p.taken(c)
}

// taken is why the destination of a connection does not take the event for what it is.
func (p *parsed) taken(c *workspace.Connection) (string, error) {
	why, known := c.Takes(p.kind, p.name)
	if !known {
		return "", errNoType
	}
	return why, nil
}
