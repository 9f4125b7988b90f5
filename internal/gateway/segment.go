package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
)

// settingsOf is the write key in a path by which Segment's browser SDK asks for its settings.
func settingsOf(path string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v1/projects/")
	if !ok {
		return "", false
	}
	key, ok = strings.CutSuffix(rest, "/settings")
	return key, ok && key != "" && !strings.Contains(key, "/")
}

// settings is what Segment's browser SDK needs to start without Segment: events go to this
// gateway, by the name that the request has for it, and nothing is loaded or reported elsewhere.
// The page says which protocol is spoken, if it is not HTTPS.
func (g *Gateway) settings(r *http.Request, key string) *Answer {
	s, no := byKey(g.file.Current(), key)
	if no != nil {
		return no
	}
	if !s.Enabled {
		return SourceDisabled
	}
	every := json.RawMessage(`{"__default":{"enabled":true,"integrations":{}}}`)
	return jsonAnswer(map[string]any{
		"integrations": map[string]any{"Segment.io": map[string]any{
			"apiKey": s.WriteKey, "apiHost": hostName(r.Host) + "/v1",
			"unbundledIntegrations": []string{}, "addBundledMetadata": true, "maybeBundledConfigIds": struct{}{},
		}},
		"plan":         map[string]any{"track": every, "identify": every, "group": every},
		"edgeFunction": struct{}{}, "analyticsNextEnabled": true,
		"middlewareSettings": struct{}{}, "enabledMiddleware": struct{}{},
		"metrics": map[string]any{"sampleRate": 0}, "legacyVideoPluginsEnabled": false, "remotePlugins": []string{},
	})
}

// hostName is a Host header, if it is nothing but a name or address and a port.
func hostName(host string) string {
	for _, c := range []byte(host) {
		if c != '.' && c != '-' && c != ':' && c != '[' && c != ']' && (c|' ' < 'a' || c|' ' > 'z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return host
}
