package workspace

import (
	"encoding/json"
	"slices"
)

// Destination is where events go.
type Destination struct {
	ID, Name string
	// Type is the destination definition's name in upper case: "WEBHOOK".
	Type string
	// DisplayName is the name by which clients choose it in an event's integrations.
	DisplayName string
	// Enabled is also false where Off says why the destination is switched off whatever the
	// file says: it cannot be read, or asks for what is not built.
	Enabled bool
	Off     string
	// Processed: RudderStack's isProcessorEnabled. Events go to a destination only when it
	// is Enabled and Processed.
	Processed bool
	Workspace string
	Revision  string
	// Config is the destination's own settings as they are in the file, a JSON object.
	Config json.RawMessage
	// Transformation is what events pass on their way here; nil for none. Nobody may deliver an
	// event to a destination that has one without it.
	Transformation *Transformation
	// Browser are the settings that the definition's code in a browser needs, and KnowsSecrets that the
	// definition says which of its settings are secret: those are not among them.
	Browser      []string
	KnowsSecrets bool
	// Consent is what the user must not have denied.
	Consent Consent
	// Conversions are the event names that the destination takes; nil is all.
	Conversions map[string]bool

	types map[string]bool            // types the definition supports; nil is all
	cloud map[string]map[string]bool // in hybrid mode: types taken from a source type
}

// Consent is the purposes a destination is bound to.
type Consent struct {
	// Providers are the purposes by consent manager.
	Providers map[string]Purposes
	// OneTrust are OneTrust cookie categories; one denied is enough.
	OneTrust []string
	// Ketch are Ketch purposes; all must be denied.
	Ketch []string
}

// Purposes are the purposes for one consent manager.
type Purposes struct {
	// Any: the destination is blocked only when all purposes are denied (strategy "or");
	// otherwise when one is.
	Any bool
	IDs []string
}

// Denial is what a user has denied, as an event's context.consentManagement says.
type Denial struct {
	Provider string
	// Any: the event's resolutionStrategy is "or".
	Any bool
	// IDs are the deniedConsentIds.
	IDs []string
}

// Allows reports whether a user who denied d still lets events go to a destination bound
// to c. A rule for the user's consent manager decides alone; the older OneTrust and Ketch
// settings count when there is none.
func (c *Consent) Allows(d *Denial) bool {
	if d == nil || len(d.IDs) == 0 {
		return true
	}
	if p, ok := c.Providers[d.Provider]; ok && len(p.IDs) > 0 {
		anyOf := p.Any
		// Only a manager that RudderStack does not know sets the strategy itself.
		if d.Provider != custom {
			anyOf = d.Any
		}
		if anyOf {
			return !d.all(p.IDs)
		}
		return !d.any(p.IDs)
	}
	if (d.Provider == "" || d.Provider == "oneTrust") && len(c.OneTrust) > 0 {
		return !d.any(c.OneTrust)
	}
	if (d.Provider == "" || d.Provider == "ketch") && len(c.Ketch) > 0 {
		return !d.all(c.Ketch)
	}
	return true
}

const custom = "custom"

func (d *Denial) has(id string) bool {
	return slices.Contains(d.IDs, id)
}

func (d *Denial) any(ids []string) bool {
	return slices.ContainsFunc(ids, d.has)
}

func (d *Denial) all(ids []string) bool {
	for _, id := range ids {
		if !d.has(id) {
			return false
		}
	}
	return true
}

// accepts are the event types that the destination takes from a source of a type; nil is all.
func (d *Destination) accepts(sourceType string) map[string]bool {
	hybrid, ok := d.cloud[sourceType]
	if !ok {
		return d.types
	}
	if d.types == nil {
		return hybrid
	}
	both := map[string]bool{}
	for t := range hybrid {
		if d.types[t] {
			both[t] = true
		}
	}
	return both
}
