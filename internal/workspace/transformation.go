package workspace

import (
	"maps"
	"slices"
	"strings"
)

// Transformation names the code that the events for a destination pass before they go there.
type Transformation struct {
	ID string
	// Version names the code, and a version never changes.
	Version string
	// Language is in lower case, "javascript" where the file says nothing.
	Language string
}

// Transformation is what events pass on their way here; nil for none. Nobody may deliver an event
// to a destination that has one without it.
func (d *Destination) Transformation() *Transformation {
	if len(d.Transformations) == 0 {
		return nil
	}
	return &d.Transformations[0]
}

// JavaScript is the language of transformations that run here.
const JavaScript = "javascript"

func language(name string) string {
	if name == "" {
		return JavaScript
	}
	return strings.ToLower(name)
}

// Code is what the transformations of a workspace may use. It is shared: never write into it.
type Code struct {
	// Libraries are the versions of libraries.
	Libraries []string
	// Credentials are in the order of their ids.
	Credentials []Credential
}

// Credential is a value that transformations may ask for by its key.
type Credential struct {
	ID, Key, Value string
	Secret         bool
}

type libraryDocument struct {
	VersionID string `json:"versionId"`
}

type credentialDocument struct {
	Key      string `json:"key"`
	Value    string `json:"value"`
	IsSecret bool   `json:"isSecret"`
}

var noCode Code

// Code is what the transformations of destinations of a workspace, by its id, may use.
func (w *Workspace) Code(id string) *Code {
	for _, name := range [...]string{id, w.ID} {
		if c := w.code[name]; c != nil {
			return c
		}
	}
	return &noCode
}

// code reads what transformations may use.
func (p *parser) code(doc *document) {
	var ls []libraryDocument
	var cs map[string]credentialDocument
	p.read("libraries", doc.Libraries, &ls)
	p.read("credentials", doc.Credentials, &cs)
	c := &Code{}
	for _, l := range ls {
		if l.VersionID != "" && !slices.Contains(c.Libraries, l.VersionID) {
			c.Libraries = append(c.Libraries, l.VersionID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(cs)) {
		c.Credentials = append(c.Credentials, Credential{ID: id, Key: cs[id].Key, Value: cs[id].Value, Secret: cs[id].IsSecret})
	}
	p.w.code = map[string]*Code{p.w.ID: c}
}

// Reasons why an event does not go to a destination that it was chosen for.
const (
	NotSupported = "type of the event is not supported"
	NoConversion = "event is no conversion of the destination"
)

// Takes is why the destination of c does not take events of a type and a name; empty when it
// does. known is false when it depends on the type, and there is none.
func (c *Connection) Takes(kind, name []byte) (reason string, known bool) {
	if c.Types != nil {
		if len(kind) == 0 {
			return "", false
		}
		if !c.Types[string(kind)] {
			return NotSupported, true
		}
	}
	if d := c.Destination; d.Conversions != nil && !d.Conversions[string(name)] {
		return NoConversion, true
	}
	return "", true
}

// To finds the connection of s to a destination by its id; nil when there is none.
func (s *Source) To(destination string) *Connection {
	for _, c := range s.Connections {
		if c.Destination.ID == destination {
			return c
		}
	}
	return nil
}
