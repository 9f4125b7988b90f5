package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// Browser are the settings that the definition's code in a browser needs, and KnowsSecrets that the
	// definition says which of its settings are secret: those are not among them.
	Browser      []string
	KnowsSecrets bool
	// Consent is what the user must not have denied, whatever the source; see also that of a
	// [Connection].
	Consent Consent
	// DefinitionID is the id of the destination's definition.
	DefinitionID string
	// Transformations are the user transformations that its events pass through. Only the first
	// counts, see [Destination.Transformation].
	Transformations []Transformation
	// Conversions are the event names that the destination takes; nil is all.
	Conversions map[string]bool

	types map[string]bool            // types the definition supports; nil is all
	cloud map[string]map[string]bool // in hybrid mode: types taken from a source type
	// consents are what holds for sources of a type; nil where one consent holds for all.
	consents map[string]*Consent
	made     *readDestination
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

// consent is what holds for a source of a type.
func (d *Destination) consent(sourceType string) *Consent {
	if c := d.consents[sourceType]; c != nil {
		return c
	}
	return &d.Consent
}

// newDestination reads the text of a destination.
func newDestination(key sum, text json.RawMessage) *readDestination {
	var d destinationDocument
	wrong := json.Unmarshal(text, &d)
	to := &Destination{
		ID: d.ID, Name: d.Name, Type: strings.ToUpper(d.Definition.Name), DisplayName: d.Definition.DisplayName, DefinitionID: d.Definition.ID,
		Enabled: d.Enabled, Processed: d.IsProcessorEnabled, Workspace: d.WorkspaceID, Revision: d.RevisionID, Config: d.Config,
	}
	r := &readDestination{sum: key, of: to, enabled: d.Enabled}
	to.made = r
	if to.DisplayName == "" {
		to.DisplayName = d.Definition.Name
	}
	if null(to.Config) {
		to.Config = json.RawMessage("{}")
	}
	for _, t := range d.Transformations {
		to.Transformations = append(to.Transformations, Transformation{ID: t.ID, Version: t.VersionID, Language: language(t.Language)})
	}
	switch {
	case wrong != nil:
		to.Off, r.odd = plain(wrong).Error(), true
	case d.Definition.Name == "":
		to.Off, r.odd = "it has no destinationDefinition.name, which says what kind of destination it is, such as WEBHOOK", true
	case len(d.Transformations) > 0 && !Built[UserTransformations]:
		to.Off = fmt.Sprintf("it asks for the transformation %q, which is not built: its events would leave as they came", d.Transformations[0].ID)
	default:
		to.Off = to.settings(&d)
		r.odd = to.Off != ""
	}
	if to.Off != "" {
		to.Enabled = false
	}
	return r
}

// differs reports whether other, of the same id, says something else.
func (r *readDestination) differs(other *readDestination) bool {
	if r.sum == other.sum {
		return false
	}
	a, b := r.of, other.of
	return r.enabled != other.enabled || a.Processed != b.Processed || a.Type != b.Type || !sameText(a.Config, b.Config)
}

// settings reads what the choice of destinations depends on; what it returns is wrong with it.
func (d *Destination) settings(doc *destinationDocument) (wrong string) {
	var c destinationConfig
	if err := json.Unmarshal(d.Config, &c); err != nil {
		return fmt.Sprintf("config: %v", plain(err))
	}
	var def definitionConfig
	if !null(doc.Definition.Config) {
		if err := json.Unmarshal(doc.Definition.Config, &def); err != nil {
			return fmt.Sprintf("destinationDefinition.config: %v", plain(err))
		}
	}
	d.KnowsSecrets = len(def.SecretKeys) > 0
	for _, name := range def.IncludeKeys {
		if !slices.Contains(def.SecretKeys, name) && !slices.Contains(def.ExcludeKeys, name) {
			d.Browser = append(d.Browser, name)
		}
	}
	if len(def.SupportedMessageTypes) > 0 {
		d.types = setOf(def.SupportedMessageTypes)
		if c.EnableServerSideIdentify != nil && !*c.EnableServerSideIdentify {
			delete(d.types, "identify")
		}
	}
	if mode, _ := c.ConnectionMode.(string); mode == "hybrid" || doc.ConnectionMode == "hybrid" {
		d.cloud = map[string]map[string]bool{}
		for sourceType, f := range def.Hybrid {
			d.cloud[sourceType] = setOf(f.MessageType)
		}
	}
	for _, l := range c.ListOfConversions {
		if l.Conversions != "" {
			if d.Conversions == nil {
				d.Conversions = map[string]bool{}
			}
			d.Conversions[l.Conversions] = true
		}
	}
	if err := d.bind(&c); err != nil {
		return "config: " + err.Error()
	}
	return ""
}

// bind sets the consent that a config asks for: of all sources, and of those of a type.
func (d *Destination) bind(c *destinationConfig) error {
	var managed bySourceType[consentDocument]
	var oneTrust bySourceType[oneTrustDocument]
	var ketch bySourceType[ketchDocument]
	if err := errors.Join(managed.read("consentManagement", c.ConsentManagement),
		oneTrust.read("oneTrustCookieCategories", c.OneTrust), ketch.read("ketchConsentPurposes", c.Ketch)); err != nil {
		return err
	}
	d.Consent.add(managed.all, oneTrust.all, ketch.all)
	types := map[string]bool{}
	for t := range managed.of {
		types[t] = true
	}
	for t := range oneTrust.of {
		types[t] = true
	}
	for t := range ketch.of {
		types[t] = true
	}
	for t := range types {
		if d.consents == nil {
			d.consents = map[string]*Consent{}
		}
		own := &Consent{}
		own.add(managed.all, oneTrust.all, ketch.all)
		own.add(managed.of[t], oneTrust.of[t], ketch.of[t])
		d.consents[t] = own
	}
	return nil
}

func (c *Consent) add(managed []consentDocument, oneTrust []oneTrustDocument, ketch []ketchDocument) {
	for _, m := range managed {
		var ids []string
		for _, x := range m.Consents {
			if id := strings.TrimSpace(x.Consent); id != "" {
				ids = append(ids, id)
			}
		}
		if c.Providers == nil {
			c.Providers = map[string]Purposes{}
		}
		c.Providers[m.Provider] = Purposes{Any: m.ResolutionStrategy == "or", IDs: ids}
	}
	for _, x := range oneTrust {
		if id := strings.TrimSpace(x.Category); id != "" {
			c.OneTrust = append(c.OneTrust, id)
		}
	}
	for _, x := range ketch {
		if id := strings.TrimSpace(x.Purpose); id != "" {
			c.Ketch = append(c.Ketch, id)
		}
	}
}
