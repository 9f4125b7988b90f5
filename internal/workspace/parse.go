package workspace

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// Parse makes a workspace of a workspaceConfig.json. name stands for the file in errors,
// which name every mistake that was found.
func Parse(name string, data []byte, now time.Time) (*Workspace, error) {
	return ParseAfter(nil, name, data, now)
}

// ParseAfter is Parse of what takes the place of before, which may be nil: what is written in the
// same words is the same [Source], [Destination] and [Connection], and costs next to nothing. A source
// or destination that cannot be read any more stays as it was, with a warning.
func ParseAfter(before *Workspace, name string, data []byte, now time.Time) (*Workspace, error) {
	var doc document
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &doc); err != nil {
		return nil, syntax(name, data, err)
	}
	if before == nil {
		before = Empty()
	}
	p := parser{before: before, w: newWorkspace(now, len(doc.Sources))}
	p.read("workspaceId", doc.WorkspaceID, &p.w.ID)
	p.read("updatedAt", doc.UpdatedAt, &p.w.UpdatedAt)
	if doc.Sources == nil {
		p.refuse("there is no list of \"sources\": this is no workspaceConfig.json")
	}
	p.settings(&doc)
	p.code(&doc)
	for i, text := range doc.Sources {
		p.source(i, text)
	}
	if len(p.w.Sources) == 0 {
		p.problems = append(p.problems, p.left...)
	} else {
		p.w.Warnings = append(p.w.Warnings, p.left...)
	}
	cs := p.connections(doc.Connections)
	off := switchedOff(cs)
	for i, s := range p.w.Sources {
		p.destinations(i, s, off)
	}
	p.added(cs)
	if len(p.problems) > 0 {
		return nil, fmt.Errorf("read workspace config %s: %s", name, strings.Join(p.problems, "; "))
	}
	p.link()
	return p.w, nil
}

// sum tells texts apart.
type sum [sha256.Size]byte

// readSource is what the text of a source says, whoever else is in the file.
type readSource struct {
	sum  sum
	doc  sourceDocument // without its destinations
	of   Source         // without workspace, scope and connections
	odd  []string       // what of it cannot be read and is as if it were not there
	asks []string       // what it asks for and is not built
	// destinations are those it carries, in their order.
	destinations []*readDestination
	lost         error // why it cannot be loaded at all
}

// readDestination is what the text of a destination says.
type readDestination struct {
	sum     sum
	of      *Destination // with its id only where nothing else is readable
	enabled bool         // as it is written
	odd     bool         // of.Off is because it cannot be read
}

// parser collects a workspace and what is wrong with its file.
type parser struct {
	before, w *Workspace
	at        []int    // place of each source in the file
	problems  []string // that refuse the file
	left      []string // that leave a source out
	blocked   map[string]bool
	first     map[string]*readDestination // destinations, by ID
	chosen    [][]*Destination            // those that each source is connected to
}

func (p *parser) refuse(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

func (p *parser) warn(format string, args ...any) {
	p.w.Warnings = append(p.w.Warnings, fmt.Sprintf(format, args...))
}

// read reads a part that nothing else depends on; one that cannot be read is as if it were not there.
func (p *parser) read(name string, text json.RawMessage, into any) {
	if why := readPart(name, text, into); why != "" {
		p.warn("%s", why)
	}
}

// readPart is why a part cannot be read, and empty when it can.
func readPart(name string, text json.RawMessage, into any) string {
	if null(text) {
		return ""
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Sprintf("%q cannot be read, and is as if it were not there: %v", name, plainAt(name, err))
	}
	return ""
}

func (p *parser) settings(doc *document) {
	var d settingsDocument
	p.read("settings", doc.Settings, &d)
	if names := d.EventBlocking.Events["track"]; len(names) > 0 {
		p.blocked = setOf(names)
		if maps.Equal(p.blocked, p.before.blocked) {
			p.blocked = p.before.blocked
		}
	}
	p.w.blocked = p.blocked
	replays := !null(doc.Replays) && string(bytes.TrimSpace(doc.Replays)) != "{}" && string(bytes.TrimSpace(doc.Replays)) != "[]"
	for _, text := range d.asks(replays) {
		p.warn("workspace %q %s", p.w.ID, text)
	}
}

// source takes a source into the workspace.
func (p *parser) source(i int, text json.RawMessage) {
	at := fmt.Sprintf("sources[%d]", i)
	key := sum(sha256.Sum256(text))
	r := p.before.read[key]
	if r == nil {
		r = p.newSource(key, text)
	}
	old := p.before.byID[r.doc.ID]
	switch {
	case r.lost != nil && old != nil:
		p.warn("source %q (%s) stays as it was: %v", r.doc.ID, at, r.lost)
		r = old.made
	case r.lost != nil:
		p.left = append(p.left, fmt.Sprintf("%s cannot be loaded: %v", at, r.lost))
		return
	case r.doc.ID == "":
		p.left = append(p.left, fmt.Sprintf("%s has no id: give every source one", at))
		return
	}
	d := &r.doc
	at = fmt.Sprintf("source %q (%s)", d.ID, at)
	if p.w.byID[d.ID] != nil {
		p.refuse("%s: the id is used twice: give every source its own", at)
		return
	}
	s := r.of
	s.made, s.Workspace = r, p.w.ID
	if d.WorkspaceID != "" {
		s.Workspace = d.WorkspaceID
	}
	if s.Category == "" {
		s.Blocked = p.blocked
	}
	switch other := p.w.byKey[d.WriteKey]; {
	case d.WriteKey == "":
		p.warn("%s has no writeKey: nobody can send events to it", at)
	case other != nil:
		p.refuse("%s: source %q has the same writeKey: events could not be told apart", at, other.ID)
		return
	default:
		p.w.byKey[d.WriteKey] = &s
	}
	for _, text := range slices.Concat(r.odd, r.asks) {
		p.warn("%s %s", at, text)
	}
	p.w.byID[d.ID] = &s
	p.w.Sources = append(p.w.Sources, &s)
	p.at = append(p.at, i)
	p.w.read[r.sum] = r
}

// newSource reads the text of a source.
func (p *parser) newSource(key sum, text json.RawMessage) *readSource {
	r := &readSource{sum: key}
	if err := json.Unmarshal(text, &r.doc); err != nil {
		r.lost = plainAt("sources", err)
		return r
	}
	d := &r.doc
	s := &r.of
	s.ID, s.WriteKey, s.Enabled = d.ID, d.WriteKey, d.Enabled
	if !null(d.Config) {
		s.Config = d.Config
	}
	part := func(name string, text json.RawMessage, into any) {
		if why := readPart(name, text, into); why != "" {
			r.odd = append(r.odd, why)
		}
	}
	var def sourceDefinition
	var plan trackingPlanDocument
	var geo struct {
		Enabled bool `json:"enabled"`
	}
	part("name", d.Name, &s.Name)
	part("sourceDefinition", d.Definition, &def)
	part("dgSourceTrackingPlanConfig", d.TrackingPlan, &plan)
	part("geoEnrichment", d.GeoEnrichment, &geo)
	part("transient", d.Transient, &s.Transient)
	s.Definition, s.DefinitionID, s.Category, s.Type = def.Name, def.ID, def.Category, def.Type
	s.GeoEnrichment = geo.Enabled
	if plan.Plan.ID != "" && !plan.Deleted {
		var odd []string
		s.TrackingPlan, odd = newTrackingPlan(plan.Plan.ID, cmpOr(plan.Plan.Version, plan.Version), plan.Config, plan.Merged)
		r.odd = append(r.odd, odd...)
	}
	r.asks = s.asks(def.Options.Hydration.Enabled)
	for _, text := range d.Destinations {
		r.destinations = append(r.destinations, p.newDestination(text))
	}
	part("originalId", d.OriginalID, &s.OriginalID)
	*d = sourceDocument{ID: d.ID, WriteKey: d.WriteKey, WorkspaceID: d.WorkspaceID}
	return r
}

func cmpOr(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// newDestination reads the text of a destination, once for all sources that carry it.
func (p *parser) newDestination(text json.RawMessage) *readDestination {
	key := sum(sha256.Sum256(text))
	r := p.w.texts[key]
	if r == nil {
		r = p.before.texts[key]
	}
	if r == nil {
		r = newDestination(key, text)
	}
	p.w.texts[key] = r
	return r
}

// destinations finds the destinations of the source with index i.
func (p *parser) destinations(i int, s *Source, off map[[2]string]bool) {
	var chosen []*Destination
	for j, r := range s.made.destinations {
		at := fmt.Sprintf("sources[%d].destinations[%d]", p.at[i], j)
		if to := p.destination(at, r, s); to != nil && !off[[2]string{s.ID, to.ID}] && !slices.Contains(chosen, to) {
			chosen = append(chosen, to)
		}
	}
	p.chosen = append(p.chosen, chosen)
}

// destination is the destination of a text; the first of its ID counts. One that cannot be read, or
// that asks for what is not built, is switched off, and no other.
func (p *parser) destination(at string, r *readDestination, s *Source) *Destination {
	if r.of.ID == "" {
		p.warn("%s has no id: give every destination one; it gets no events", at)
		return nil
	}
	at = fmt.Sprintf("destination %q (%s)", r.of.ID, at)
	if first := p.first[r.of.ID]; first != nil {
		if first.differs(r) {
			p.warn("%s differs from where it occurs first in the file: the first counts", at)
		}
		return p.w.destinations[r.of.ID]
	}
	to := r.of
	if to.Workspace == "" {
		if old := p.before.destinations[to.ID]; old != nil && old.made == r && old.Workspace == s.Workspace {
			to = old
		} else {
			own := *to
			own.Workspace, own.made = s.Workspace, r
			to = &own
		}
	}
	if old := p.before.destinations[to.ID]; r.odd && old != nil && old.Off == "" {
		p.warn("%s stays as it was: %s", at, to.Off)
		to = old
	}
	switch {
	case to.Off != "":
		p.warn("%s is switched off: %s", at, to.Off)
	case to.Enabled && !to.Processed:
		p.warn(`%s is enabled, but "isProcessorEnabled" is not true: it gets no events`, at)
	}
	if p.first == nil {
		p.first = map[string]*readDestination{}
	}
	p.first[to.ID], p.w.destinations[to.ID], p.w.texts[r.sum] = r, to, r
	return to
}

// connections are those that the file speaks of by themselves. One that cannot be read is left out.
func (p *parser) connections(text json.RawMessage) map[string]connectionDocument {
	var texts map[string]json.RawMessage
	p.read("connections", text, &texts)
	cs := make(map[string]connectionDocument, len(texts))
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		var c connectionDocument
		if null(texts[name]) {
			continue
		}
		if err := json.Unmarshal(texts[name], &c); err != nil {
			p.warn("connection %q has no effect: %v", name, plainAt("connections."+name, err))
			continue
		}
		cs[name] = c
	}
	return cs
}

// switchedOff are the pairs of source and destination whose connection is not enabled.
func switchedOff(cs map[string]connectionDocument) map[[2]string]bool {
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
	if len(cs) == 0 {
		return
	}
	index := make(map[string]int, len(p.w.Sources))
	for i, s := range p.w.Sources {
		index[s.ID] = i
	}
	for _, name := range slices.Sorted(maps.Keys(cs)) {
		c := cs[name]
		i, known := index[c.SourceID]
		to := p.w.destinations[c.DestinationID]
		switch {
		case !known || to == nil:
			p.warn("connection %q is between source %q and destination %q, which are not both in the file: it has no effect", name, c.SourceID, c.DestinationID)
		case (c.Enabled == nil || *c.Enabled) && !slices.Contains(p.chosen[i], to):
			p.chosen[i] = append(p.chosen[i], to)
		}
	}
}

// link connects the sources to what was chosen. A source of before that is the same stays.
func (p *parser) link() {
	for i, s := range p.w.Sources {
		if old := p.before.byID[s.ID]; old != nil && old.same(s, p.chosen[i]) {
			p.w.Sources[i], s = old, old
		} else {
			s.Scope = &event.Scope{Workspace: s.Workspace, Source: s.ID}
			for _, to := range p.chosen[i] {
				s.connect(to)
			}
		}
		p.w.index(s)
	}
}

// same reports whether s is what other, which is not connected yet, would be with connections to
// the destinations.
func (s *Source) same(other *Source, to []*Destination) bool {
	if s.made != other.made || s.Workspace != other.Workspace || len(s.Connections) != len(to) || !maps.Equal(s.Blocked, other.Blocked) {
		return false
	}
	for i, c := range s.Connections {
		if c.Destination != to[i] {
			return false
		}
	}
	return true
}

func (s *Source) connect(to *Destination) {
	s.Connections = append(s.Connections, &Connection{
		Destination: to, Types: to.accepts(s.Type), Consent: to.consent(s.Type),
		Scope: &event.Scope{Workspace: s.Workspace, Source: s.ID, Destination: to.ID},
	})
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
func plain(err error) error { return plainAt("", err) }

// plainAt is plain of what is below a place.
func plainAt(place string, err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		want := map[string]string{"string": "a text", "bool": "true or false", "int": "a whole number"}[e.Type.String()]
		switch {
		case want != "":
		case e.Type.Kind().String() == "slice":
			want = "a list"
		default:
			want = "an object"
		}
		field := strings.Trim(place+"."+e.Field, ".")
		return fmt.Errorf("%q is a %s, and must be %s", field, e.Value, want)
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
