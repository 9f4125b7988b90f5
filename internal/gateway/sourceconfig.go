package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/workspace"
)

// sourceConfig is what the browser SDK needs to start without RudderStack's control plane: the
// source with its own settings, and of its destinations those that work in the browser, with what of
// their settings is public. What is secret by its name is left out everywhere.
func (g *Gateway) sourceConfig(r *http.Request, _ time.Time) *Answer {
	w := g.file.Current()
	s, no := byHeader(w, r)
	if no == NoWriteKey {
		s, no = byQuery(w, r)
	}
	if no != nil {
		return no
	}
	return jsonAnswer(sourceBody(s, w.Loaded))
}

func sourceBody(s *workspace.Source, loaded time.Time) any {
	destinations := []any{}
	for _, c := range s.Connections {
		if d := c.Destination; d.Enabled && inBrowser(d, s.Type) {
			destinations = append(destinations, destinationBody(d, s.Type))
		}
	}
	return map[string]any{
		"source": map[string]any{
			"id": s.ID, "name": s.Name, "writeKey": s.WriteKey, "enabled": s.Enabled, "workspaceId": s.Workspace,
			"config": sourceSettings(s.Config), "destinations": destinations,
		},
		"updatedAt": loaded.UTC().Format(time.RFC3339Nano),
	}
}

// sourceSettings are a source's own settings, and that nothing is reported where they do not say it.
func sourceSettings(text json.RawMessage) map[string]any {
	settings := map[string]any{}
	var own map[string]json.RawMessage
	if json.Unmarshal(text, &own) == nil {
		for name, value := range own {
			if !secret.Name(name) {
				settings[name] = open(value)
			}
		}
	}
	if settings["statsCollection"] == nil {
		off := map[string]bool{"enabled": false}
		settings["statsCollection"] = map[string]any{"errors": off, "metrics": off}
	}
	return settings
}

// open is a value without the members that are secret by their name.
func open(value json.RawMessage) any {
	switch {
	case len(value) > 0 && value[0] == '{':
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) != nil {
			return nil
		}
		out := make(map[string]any, len(object))
		for name, member := range object {
			if !secret.Name(name) {
				out[name] = open(member)
			}
		}
		return out
	case len(value) > 0 && value[0] == '[':
		var list []json.RawMessage
		if json.Unmarshal(value, &list) != nil {
			return nil
		}
		out := make([]any, len(list))
		for i, element := range list {
			out[i] = open(element)
		}
		return out
	}
	return value
}

// sdkSettings are the settings of a destination that the SDK itself reads.
var sdkSettings = []string{
	"connectionMode", "useNativeSDK", "useNativeSDKToSend", "blacklistedEvents", "whitelistedEvents", "eventFilteringOption",
	"consentManagement", "oneTrustCookieCategories", "ketchConsentPurposes", "iubendaConsentPurposes",
}

// never are words in the names of settings that no definition makes public.
var never = []string{"secret", "password", "token", "private", "credential"}

// public reports whether the value of a setting may go to a browser: the SDK reads it, or the
// definition says that its code in the browser needs it.
func public(d *workspace.Destination, name string) bool {
	if slices.Contains(sdkSettings, name) {
		return true
	}
	lower := strings.ToLower(name)
	if !slices.Contains(d.Browser, name) || slices.ContainsFunc(never, func(word string) bool { return strings.Contains(lower, word) }) {
		return false
	}
	return d.KnowsSecrets || !secret.Name(name)
}

// settingsFor are the public settings of a destination for a type of sources: one that is written for
// each type is that of this one.
func settingsFor(d *workspace.Destination, sourceType string) map[string]any {
	var all map[string]json.RawMessage
	if json.Unmarshal(d.Config, &all) != nil {
		return nil
	}
	out := map[string]any{}
	for name, value := range all {
		if !public(d, name) {
			continue
		}
		if len(value) > 0 && value[0] == '{' {
			var by map[string]json.RawMessage
			if json.Unmarshal(value, &by) == nil && by[sourceType] != nil {
				value = by[sourceType]
			}
		}
		out[name] = open(value)
	}
	return out
}

// inBrowser reports whether a destination gets events from the SDK in the browser.
func inBrowser(d *workspace.Destination, sourceType string) bool {
	settings := settingsFor(d, sourceType)
	switch text, _ := settings["connectionMode"].(json.RawMessage); string(text) {
	case `"device"`, `"hybrid"`:
		return true
	case "":
		native, _ := settings["useNativeSDK"].(json.RawMessage)
		return string(native) == "true"
	}
	return false
}

func destinationBody(d *workspace.Destination, sourceType string) any {
	return map[string]any{
		"id": d.ID, "name": d.Name, "enabled": true, "config": settingsFor(d, sourceType),
		"destinationDefinition":               map[string]any{"name": d.Type, "displayName": d.DisplayName},
		"shouldApplyDeviceModeTransformation": false, "propagateEventsUntransformedOnError": true,
	}
}
