package workspace

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// document is the part of the file that counts here. encoding/json matches keys whatever
// their case, as RudderStack does. What is not read as it stands is read by itself, so that one
// odd part of a file is no mistake of the others.
type document struct {
	WorkspaceID json.RawMessage   `json:"workspaceId"`
	Sources     []json.RawMessage `json:"sources"`
	Connections json.RawMessage   `json:"connections"`
	Settings    json.RawMessage   `json:"settings"`
	Libraries   json.RawMessage   `json:"libraries"`
	Credentials json.RawMessage   `json:"credentials"`
	Replays     json.RawMessage   `json:"eventReplays"`
	UpdatedAt   json.RawMessage   `json:"updatedAt"`
}

type settingsDocument struct {
	EventBlocking struct {
		Events map[string][]string `json:"events"`
	} `json:"eventBlocking"`
	EventAudit bool `json:"eventAuditEnabled"`
	Retention  struct {
		DisableReportingPII bool `json:"disableReportingPii"`
		Preferences         struct {
			GatewayDumps bool `json:"gatewayDumps"`
		} `json:"storagePreferences"`
	} `json:"dataRetention"`
}

// sourceDocument is a source. Who it is, and whether it is switched on, must be readable; what
// else is not, is not there.
type sourceDocument struct {
	ID            string            `json:"id"`
	WriteKey      string            `json:"writeKey"`
	Enabled       bool              `json:"enabled"`
	WorkspaceID   string            `json:"workspaceId"`
	Destinations  []json.RawMessage `json:"destinations"`
	Name          json.RawMessage   `json:"name"`
	OriginalID    json.RawMessage   `json:"originalId"`
	Config        json.RawMessage   `json:"config"`
	Definition    json.RawMessage   `json:"sourceDefinition"`
	TrackingPlan  json.RawMessage   `json:"dgSourceTrackingPlanConfig"`
	GeoEnrichment json.RawMessage   `json:"geoEnrichment"`
	Transient     json.RawMessage   `json:"transient"`
}

type sourceDefinition struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Category string `json:"category"`
	Type     string `json:"type"`
	Options  struct {
		Hydration struct {
			Enabled bool `json:"enabled"`
		} `json:"hydration"`
	} `json:"options"`
}

type trackingPlanDocument struct {
	Plan struct {
		ID      string `json:"id"`
		Version int    `json:"version"`
	} `json:"trackingPlan"`
	Version int             `json:"version"`
	Config  json.RawMessage `json:"config"`
	Merged  json.RawMessage `json:"mergedConfig"`
	Deleted bool            `json:"deleted"`
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
		ID          string          `json:"id"`
		Name        string          `json:"name"`
		DisplayName string          `json:"displayName"`
		Config      json.RawMessage `json:"config"`
	} `json:"destinationDefinition"`
	Transformations []struct {
		ID        string `json:"id"`
		VersionID string `json:"versionId"`
		Language  string `json:"language"`
	} `json:"transformations"`
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
	ConsentManagement json.RawMessage `json:"consentManagement"`
	OneTrust          json.RawMessage `json:"oneTrustCookieCategories"`
	Ketch             json.RawMessage `json:"ketchConsentPurposes"`
}

type consentDocument struct {
	Provider           string `json:"provider"`
	ResolutionStrategy string `json:"resolutionStrategy"`
	Consents           []struct {
		Consent string `json:"consent"`
	} `json:"consents"`
}

type oneTrustDocument struct {
	Category string `json:"oneTrustCookieCategory"`
}

type ketchDocument struct {
	Purpose string `json:"purpose"`
}

// bySourceType is a list, or an object with a list for each type of source: {"web": [...]}.
type bySourceType[T any] struct {
	all []T
	of  map[string][]T
}

// read reads the value of the member name.
func (b *bySourceType[T]) read(name string, text json.RawMessage) error {
	if null(text) {
		return nil
	}
	switch text[0] {
	case '[':
		if err := json.Unmarshal(text, &b.all); err != nil {
			return plainAt(name, err)
		}
		return nil
	case '{':
		return b.readObject(name, text)
	}
	return fmt.Errorf("%q must be a list, or an object with a list for each type of source, such as {\"web\": [...]}", name)
}

func (b *bySourceType[T]) readObject(name string, text json.RawMessage) error {
	var lists map[string]json.RawMessage
	if err := json.Unmarshal(text, &lists); err != nil {
		return plainAt(name, err)
	}
	b.of = make(map[string][]T, len(lists))
	for _, sourceType := range slices.Sorted(maps.Keys(lists)) {
		var list []T
		if err := json.Unmarshal(lists[sourceType], &list); err != nil {
			return plainAt(name+"."+sourceType, err)
		}
		b.of[sourceType] = list
	}
	return nil
}
