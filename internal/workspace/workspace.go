// Package workspace is what a RudderStack data plane is told to do: sources and their
// write keys, destinations and their settings, and which source is connected to which
// destination. It is read from a workspaceConfig.json as RudderStack's control plane
// writes it. Where that comes from is another matter: a [File], or what sets a [State].
//
// # Format
//
// Keys are matched whatever their case, unknown keys are ignored and null is like an
// absent key. A source carries the destinations it is connected to; "connections" may
// switch a connection off, or add one between a source and a destination that both occur
// elsewhere. A destination that several sources carry is one destination.
//
// # Invariants
//
//   - A [Workspace] never changes once it is made: a new file makes a new one, so that
//     whoever holds one sees one state of the configuration.
//   - A file that cannot be read or is wrong changes nothing: the last good state stays.
//   - A part of a file that cannot be read costs that part only, and is named: a source or
//     destination that was there stays as it was, and one that was not is not there.
//   - What a workspace asks for and is not built ([Built]) is named.
//   - A change costs what it changes: what stays in the same words is the same object in the
//     new state ([ParseAfter]), so what was made of it stays good.
package workspace

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// Workspace is one state of the configuration.
type Workspace struct {
	// ID is the workspace's id; the sources of a file may belong to others.
	ID string
	// Loaded is when this state was read.
	Loaded time.Time
	// UpdatedAt is when the configuration was changed last, as it says itself; may be empty.
	UpdatedAt string
	// Sources are all sources, in the order of the file.
	Sources []*Source
	// Warnings name what is allowed and probably not meant.
	Warnings []string

	byKey        map[string]*Source // write key
	byHeader     map[string]*Source // Authorization header with the write key and no password
	byID         map[string]*Source
	destinations map[string]*Destination

	code    map[string]*Code // by id of the workspace
	blocked map[string]bool
	read    map[sum]*readSource
	texts   map[sum]*readDestination
}

// Empty is a workspace without sources.
func Empty() *Workspace { return newWorkspace(time.Time{}, 0) }

func newWorkspace(now time.Time, sources int) *Workspace {
	return &Workspace{
		Loaded: now,
		byKey:  make(map[string]*Source, sources), byHeader: make(map[string]*Source, sources),
		byID: make(map[string]*Source, sources), destinations: map[string]*Destination{},
		read: make(map[sum]*readSource, sources), texts: map[sum]*readDestination{},
	}
}

// index has the source found.
func (w *Workspace) index(s *Source) {
	w.byID[s.ID] = s
	if s.WriteKey != "" {
		w.byKey[s.WriteKey], w.byHeader[authorization(s.WriteKey)] = s, s
	}
}

// Source is where events come from.
type Source struct {
	ID, Name, WriteKey string
	Enabled            bool
	// Workspace is the id of the workspace that the source belongs to.
	Workspace string
	// Definition is the kind of source: "HTTP", "Javascript"; DefinitionID is its id.
	Definition, DefinitionID string
	// Category is the source definition's category, empty for event streams.
	Category string
	// Type is the source definition's type: "web", "cloud".
	Type string
	// Config is the source's own settings as they are in the file, a JSON object; nil without any.
	Config json.RawMessage
	// OriginalID is the id of the source whose events this one repeats; empty for every other.
	OriginalID string
	// Scope is what the source's events carry. It is shared: never write into it.
	Scope *event.Scope
	// Connections are the destinations that events of the source go to: of those that
	// are switched on, in the order of the file.
	Connections []*Connection
	// Blocked are the names of track events that the workspace does not want.
	Blocked map[string]bool
	// TrackingPlan is what its events are validated by; nil without one.
	TrackingPlan *TrackingPlan
	// GeoEnrichment: its events get a location. Transient: nothing of its events is kept.
	GeoEnrichment, Transient bool

	made *readSource
}

// Connection is a source's way to a destination.
type Connection struct {
	Destination *Destination
	// Scope is what events on this way carry. It is shared: never write into it.
	Scope *event.Scope
	// Types are the event types that the destination takes from this source; nil is all.
	Types map[string]bool
	// Consent is what the user must not have denied for events of this source.
	Consent *Consent
}

// BySource finds a source by its id; nil when there is none.
func (w *Workspace) BySource(id string) *Source { return w.byID[id] }

// ByWriteKey finds a source by its write key; nil when there is none.
func (w *Workspace) ByWriteKey(key string) *Source { return w.byKey[key] }

// ByAuthorization finds a source by the value of an Authorization header as SDKs send it:
// scheme Basic, the write key as user name, no password. Nil when there is none, which
// says nothing about headers that are written another way.
func (w *Workspace) ByAuthorization(header string) *Source { return w.byHeader[header] }

// Destination finds a destination by its id, enabled or not; nil when there is none.
func (w *Workspace) Destination(id string) *Destination { return w.destinations[id] }

// Destinations is how many destinations there are.
func (w *Workspace) Destinations() int { return len(w.destinations) }

func authorization(key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(key+":"))
}
