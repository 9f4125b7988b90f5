package workspace

import (
	"maps"
	"slices"
	"strings"
)

// Transformation is the code that the events for a destination pass before they go there.
type Transformation struct {
	ID string
	// Version names the code, and a version never changes.
	Version string
	// Language is in lower case, "javascript" where the file says nothing.
	Language string
	// Libraries are the versions of the workspace's libraries, which the code may import. The
	// list is shared: never write into it.
	Libraries []string
	// Credentials are the workspace's, for the code to ask for, in the order of their ids. The
	// list is shared: never write into it.
	Credentials []Credential
}

// Credential is a value that transformations may ask for by its key.
type Credential struct {
	ID, Key, Value string
	Secret         bool
}

type transformationDocument struct {
	ID        string `json:"id"`
	VersionID string `json:"versionId"`
	Language  string `json:"language"`
}

type libraryDocument struct {
	VersionID string `json:"versionId"`
}

type credentialDocument struct {
	Key      string `json:"key"`
	Value    string `json:"value"`
	IsSecret bool   `json:"isSecret"`
}

// librariesOf are the versions of libraries, without those that have none.
func librariesOf(ds []libraryDocument) (versions []string) {
	for _, d := range ds {
		if d.VersionID != "" && !slices.Contains(versions, d.VersionID) {
			versions = append(versions, d.VersionID)
		}
	}
	return versions
}

func credentialsOf(ds map[string]credentialDocument) (all []Credential) {
	for _, id := range slices.Sorted(maps.Keys(ds)) {
		all = append(all, Credential{ID: id, Key: ds[id].Key, Value: ds[id].Value, Secret: ds[id].IsSecret})
	}
	return all
}

// transformation is the first of a destination's transformations, the only one that counts; nil
// when it has none.
func (p *parser) transformation(ds []transformationDocument) *Transformation {
	if len(ds) == 0 {
		return nil
	}
	t := &Transformation{ID: ds[0].ID, Version: ds[0].VersionID, Language: strings.ToLower(ds[0].Language), Libraries: p.libraries, Credentials: p.credentials}
	if t.Language == "" {
		t.Language = JavaScript
	}
	return t
}

// JavaScript is the language of transformations that run here.
const JavaScript = "javascript"

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
