package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// document is the part of the file that counts here. encoding/json matches keys whatever
// their case, as RudderStack does.
type document struct {
	WorkspaceID string                        `json:"workspaceId"`
	Sources     []sourceDocument              `json:"sources"`
	Connections map[string]connectionDocument `json:"connections"`
	Libraries   []libraryDocument             `json:"libraries"`
	Credentials map[string]credentialDocument `json:"credentials"`
	Settings    struct {
		EventBlocking struct {
			Events map[string][]string `json:"events"`
		} `json:"eventBlocking"`
	} `json:"settings"`
}

type sourceDocument struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	WriteKey     string            `json:"writeKey"`
	Enabled      bool              `json:"enabled"`
	WorkspaceID  string            `json:"workspaceId"`
	OriginalID   string            `json:"originalId"`
	Config       json.RawMessage   `json:"config"`
	Definition   sourceDefinition  `json:"sourceDefinition"`
	Destinations []json.RawMessage `json:"destinations"`
	TrackingPlan struct {
		Plan struct {
			ID string `json:"id"`
		} `json:"trackingPlan"`
	} `json:"dgSourceTrackingPlanConfig"`
	GeoEnrichment struct {
		Enabled bool `json:"enabled"`
	} `json:"geoEnrichment"`
	Transient bool `json:"transient"`
}

type sourceDefinition struct {
	Name     string `json:"name"`
	Category string `json:"category"`
	Type     string `json:"type"`
}

type destinationDocument struct {
	ID                 string          `json:"id"`
	Name               string          `json:"name"`
	Enabled            bool            `json:"enabled"`
	IsProcessorEnabled bool            `json:"isProcessorEnabled"`
	WorkspaceID        string          `json:"workspaceId"`
	RevisionID         string          `json:"revisionId"`
	ConnectionMode     string          `json:"connectionMode"`
	Config             json.RawMessage `json:"config"`
	Definition         struct {
		Name        string          `json:"name"`
		DisplayName string          `json:"displayName"`
		Config      json.RawMessage `json:"config"`
	} `json:"destinationDefinition"`
	Transformations []transformationDocument `json:"transformations"`
}

type connectionDocument struct {
	SourceID      string `json:"sourceId"`
	DestinationID string `json:"destinationId"`
	Enabled       *bool  `json:"enabled"`
}

// definitionConfig is what is read of a destination definition's config.
type definitionConfig struct {
	SupportedMessageTypes messageTypes `json:"supportedMessageTypes"`
	IncludeKeys           keys         `json:"includeKeys"`
	ExcludeKeys           keys         `json:"excludeKeys"`
	SecretKeys            keys         `json:"secretKeys"`
	Hybrid                map[string]struct {
		MessageType []string `json:"messageType"`
	} `json:"hybridModeCloudEventsFilter"`
}

// keys is a list of texts; what is none is empty.
type keys []string

func (k *keys) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, (*[]string)(k)) != nil {
		*k = nil
	}
	return nil
}

// messageTypes is a list, or in later definitions an object of which the list for events
// that come through a server counts: {"cloud": [...], "device": {...}}.
type messageTypes []string

func (t *messageTypes) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return json.Unmarshal(data, (*[]string)(t))
	}
	var by struct {
		Cloud []string `json:"cloud"`
	}
	err := json.Unmarshal(data, &by)
	*t = by.Cloud
	return err
}

// destinationConfig is what is read of a destination's config here; the rest is for the
// target that delivers to it.
type destinationConfig struct {
	ConnectionMode           any   `json:"connectionMode"`
	EnableServerSideIdentify *bool `json:"enableServerSideIdentify"`
	ListOfConversions        []struct {
		Conversions string `json:"conversions"`
	} `json:"listOfConversions"`
	ConsentManagement []struct {
		Provider           string `json:"provider"`
		ResolutionStrategy string `json:"resolutionStrategy"`
		Consents           []struct {
			Consent string `json:"consent"`
		} `json:"consents"`
	} `json:"consentManagement"`
	OneTrust []struct {
		Category string `json:"oneTrustCookieCategory"`
	} `json:"oneTrustCookieCategories"`
	Ketch []struct {
		Purpose string `json:"purpose"`
	} `json:"ketchConsentPurposes"`
}

// Parse makes a workspace of a workspaceConfig.json. name stands for the file in errors,
// which name every mistake that was found.
func Parse(name string, data []byte, now time.Time) (*Workspace, error) {
	var doc document
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &doc); err != nil {
		return nil, syntax(name, data, err)
	}
	p := parser{w: &Workspace{
		ID: doc.WorkspaceID, Loaded: now, byKey: map[string]*Source{}, byHeader: map[string]*Source{},
		byID: map[string]*Source{}, destinations: map[string]*Destination{},
	}, texts: map[string]destinationDocument{}, libraries: librariesOf(doc.Libraries), credentials: credentialsOf(doc.Credentials)}
	var blocked map[string]bool
	if names := doc.Settings.EventBlocking.Events["track"]; len(names) > 0 {
		blocked = setOf(names)
	}
	if doc.Sources == nil {
		p.refuse("there is no list of \"sources\": this is no workspaceConfig.json")
	}
	off := p.switchedOff(doc.Connections)
	for i := range doc.Sources {
		p.source(i, &doc.Sources[i], doc.WorkspaceID, blocked)
	}
	for i, s := range p.w.Sources {
		for j := range doc.Sources[p.index[i]].Destinations {
			to := p.destination(fmt.Sprintf("sources[%d].destinations[%d]", p.index[i], j), doc.Sources[p.index[i]].Destinations[j], s)
			if to != nil && !off[[2]string{s.ID, to.ID}] {
				p.connect(s, to)
			}
		}
	}
	p.added(doc.Connections)
	if len(p.problems) > 0 {
		return nil, fmt.Errorf("read workspace config %s: %s", name, strings.Join(p.problems, "; "))
	}
	return p.w, nil
}

// parser collects a workspace and what is wrong with its file.
type parser struct {
	w        *Workspace
	index    []int // of each source, in the file
	texts    map[string]destinationDocument
	problems []string

	libraries   []string
	credentials []Credential
}

func (p *parser) refuse(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

func (p *parser) warn(format string, args ...any) {
	p.w.Warnings = append(p.w.Warnings, fmt.Sprintf(format, args...))
}

func (p *parser) source(i int, d *sourceDocument, workspace string, blocked map[string]bool) {
	at := fmt.Sprintf("sources[%d]", i)
	if d.ID == "" {
		p.refuse("%s has no id: give every source one", at)
		return
	}
	at = fmt.Sprintf("source %q (%s)", d.ID, at)
	if p.w.byID[d.ID] != nil {
		p.refuse("%s: the id is used twice: give every source its own", at)
		return
	}
	if d.WorkspaceID != "" {
		workspace = d.WorkspaceID
	}
	s := &Source{
		ID: d.ID, Name: d.Name, WriteKey: d.WriteKey, Enabled: d.Enabled, Workspace: workspace,
		Definition: d.Definition.Name, Category: d.Definition.Category, Type: d.Definition.Type, OriginalID: d.OriginalID,
		Scope: &event.Scope{Workspace: workspace, Source: d.ID},
	}
	if !null(d.Config) {
		s.Config = d.Config
	}
	if s.Category == "" {
		s.Blocked = blocked
	}
	switch other := p.w.byKey[d.WriteKey]; {
	case d.WriteKey == "":
		p.warn("%s has no writeKey: nobody can send events to it", at)
	case other != nil:
		p.refuse("%s: source %q has the same writeKey: events could not be told apart", at, other.ID)
		return
	default:
		p.w.byKey[d.WriteKey] = s
		p.w.byHeader[authorization(d.WriteKey)] = s
	}
	p.notBuilt(at, d)
	p.w.byID[d.ID] = s
	p.w.Sources = append(p.w.Sources, s)
	p.index = append(p.index, i)
}

// notBuilt warns of what a source asks for and does not get.
func (p *parser) notBuilt(at string, d *sourceDocument) {
	warn := func(asked bool, what string) {
		if asked {
			p.warn("%s asks for what is not built, %s", at, what)
		}
	}
	warn(d.TrackingPlan.Plan.ID != "", "the tracking plan "+d.TrackingPlan.Plan.ID+": its events are not validated")
	warn(d.GeoEnrichment.Enabled, "geoEnrichment: its events get no location")
	warn(d.Transient, "transient: its events are kept like others until they are delivered")
}

// destination is the destination that text describes, made when it is new. One that cannot be
// read, or that asks for what is not built, is switched off, and no other.
func (p *parser) destination(at string, text json.RawMessage, s *Source) *Destination {
	var d destinationDocument
	wrong := json.Unmarshal(text, &d)
	if d.ID == "" {
		p.warn("%s has no id: give every destination one; it gets no events", at)
		return nil
	}
	at = fmt.Sprintf("destination %q (%s)", d.ID, at)
	if known := p.w.destinations[d.ID]; known != nil {
		first := p.texts[d.ID]
		if first.Enabled != d.Enabled || first.IsProcessorEnabled != d.IsProcessorEnabled || first.Definition.Name != d.Definition.Name || !sameText(first.Config, d.Config) {
			p.warn("%s differs from where it occurs first in the file: the first counts", at)
		}
		return known
	}
	to := &Destination{
		ID: d.ID, Name: d.Name, Type: strings.ToUpper(d.Definition.Name), DisplayName: d.Definition.DisplayName,
		Enabled: d.Enabled, Processed: d.IsProcessorEnabled, Workspace: d.WorkspaceID, Revision: d.RevisionID, Config: d.Config,
	}
	if to.Workspace == "" {
		to.Workspace = s.Workspace
	}
	if to.DisplayName == "" {
		to.DisplayName = d.Definition.Name
	}
	if null(to.Config) {
		to.Config = json.RawMessage("{}")
	}
	switch {
	case wrong != nil:
		to.Off = plain(wrong).Error()
	case d.Definition.Name == "":
		to.Off = "it has no destinationDefinition.name, which says what kind of destination it is, such as WEBHOOK"
	default:
		to.Transformation = p.transformation(d.Transformations)
		to.Off = settings(to, &d)
	}
	switch {
	case to.Off != "":
		p.warn("%s is switched off: %s", at, to.Off)
		to.Enabled = false
	case to.Enabled && !to.Processed:
		p.warn(`%s is enabled, but "isProcessorEnabled" is not true: it gets no events`, at)
	}
	p.w.destinations[d.ID] = to
	p.texts[d.ID] = d
	return to
}

// settings reads what the choice of destinations depends on; what it returns is wrong with it.
func settings(to *Destination, d *destinationDocument) (wrong string) {
	var c destinationConfig
	if err := json.Unmarshal(to.Config, &c); err != nil {
		return fmt.Sprintf("config: %v", plain(err))
	}
	var def definitionConfig
	if !null(d.Definition.Config) {
		if err := json.Unmarshal(d.Definition.Config, &def); err != nil {
			return fmt.Sprintf("destinationDefinition.config: %v", plain(err))
		}
	}
	to.KnowsSecrets = len(def.SecretKeys) > 0
	for _, name := range def.IncludeKeys {
		if !slices.Contains(def.SecretKeys, name) && !slices.Contains(def.ExcludeKeys, name) {
			to.Browser = append(to.Browser, name)
		}
	}
	if len(def.SupportedMessageTypes) > 0 {
		to.types = setOf(def.SupportedMessageTypes)
		if c.EnableServerSideIdentify != nil && !*c.EnableServerSideIdentify {
			delete(to.types, "identify")
		}
	}
	if mode, _ := c.ConnectionMode.(string); mode == "hybrid" || d.ConnectionMode == "hybrid" {
		to.cloud = map[string]map[string]bool{}
		for sourceType, f := range def.Hybrid {
			to.cloud[sourceType] = setOf(f.MessageType)
		}
	}
	for _, l := range c.ListOfConversions {
		if l.Conversions != "" {
			if to.Conversions == nil {
				to.Conversions = map[string]bool{}
			}
			to.Conversions[l.Conversions] = true
		}
	}
	for _, m := range c.ConsentManagement {
		var ids []string
		for _, x := range m.Consents {
			if id := strings.TrimSpace(x.Consent); id != "" {
				ids = append(ids, id)
			}
		}
		if to.Consent.Providers == nil {
			to.Consent.Providers = map[string]Purposes{}
		}
		to.Consent.Providers[m.Provider] = Purposes{Any: m.ResolutionStrategy == "or", IDs: ids}
	}
	for _, x := range c.OneTrust {
		if id := strings.TrimSpace(x.Category); id != "" {
			to.Consent.OneTrust = append(to.Consent.OneTrust, id)
		}
	}
	for _, x := range c.Ketch {
		if id := strings.TrimSpace(x.Purpose); id != "" {
			to.Consent.Ketch = append(to.Consent.Ketch, id)
		}
	}
	return ""
}

func (p *parser) connect(s *Source, to *Destination) {
	for _, c := range s.Connections {
		if c.Destination == to {
			return
		}
	}
	s.Connections = append(s.Connections, &Connection{
		Destination: to, Types: to.accepts(s.Type),
		Scope: &event.Scope{Workspace: s.Workspace, Source: s.ID, Destination: to.ID},
	})
}

// switchedOff are the pairs of source and destination whose connection is not enabled.
func (p *parser) switchedOff(cs map[string]connectionDocument) map[[2]string]bool {
	off := map[[2]string]bool{}
	for _, c := range cs {
		if c.Enabled != nil && !*c.Enabled {
			off[[2]string{c.SourceID, c.DestinationID}] = true
		}
	}
	return off
}

// added makes the connections that only "connections" speaks of.
func (p *parser) added(cs map[string]connectionDocument) {
	names := make([]string, 0, len(cs))
	for name := range cs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := cs[name]
		s, to := p.w.byID[c.SourceID], p.w.destinations[c.DestinationID]
		switch {
		case s == nil || to == nil:
			p.warn("connection %q is between source %q and destination %q, which are not both in the file: it has no effect", name, c.SourceID, c.DestinationID)
		case c.Enabled == nil || *c.Enabled:
			p.connect(s, to)
		}
	}
}

// syntax says where in the file a mistake is.
func syntax(name string, data []byte, err error) error {
	at := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = e.Offset
	}
	if at < 0 || at > int64(len(data)) {
		return fmt.Errorf("read workspace config %s: %w", name, plain(err))
	}
	before := data[:at]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Errorf("read workspace config %s: line %d, column %d: %w", name, line, max(column, 1), plain(err))
}

// plain is err in the words of the file instead of those of Go.
func plain(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		want := map[string]string{"string": "a text", "bool": "true or false"}[e.Type.String()]
		switch {
		case want != "":
		case e.Type.Kind().String() == "slice":
			want = "a list"
		default:
			want = "an object"
		}
		return fmt.Errorf("%q is a %s, and must be %s", e.Field, e.Value, want)
	}
	return err
}

// setOf is names as event types and event names are compared.
func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

func null(m json.RawMessage) bool { return len(m) == 0 || string(m) == "null" }

func sameText(a, b json.RawMessage) bool {
	if null(a) || null(b) {
		return null(a) == null(b)
	}
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
