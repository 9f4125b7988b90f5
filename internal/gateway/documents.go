package gateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/workspace"
)

func jsonAnswer(v any) *Answer {
	body, err := json.Marshal(v)
	if err != nil { // of a value of our own, which always has a text
		return Unavailable
	}
	return &Answer{Code: http.StatusOK, Type: jsonText, Body: body}
}

// healthBody has RudderStack's members; db stands for where events are kept.
type healthBody struct {
	AppType            string `json:"appType"`
	Server             string `json:"server"`
	DB                 string `json:"db"`
	AcceptingEvents    string `json:"acceptingEvents"`
	RoutingEvents      string `json:"routingEvents"`
	Mode               string `json:"mode"`
	BackendConfigMode  string `json:"backendConfigMode"`
	LastSync           string `json:"lastSync"`
	LastRegulationSync string `json:"lastRegulationSync"`
}

func (g *Gateway) health(_ *http.Request, now time.Time) *Answer {
	return jsonAnswer(healthBody{
		AppType: "EMBEDDED", Server: "UP", DB: "UP", AcceptingEvents: "TRUE", RoutingEvents: "TRUE",
		Mode: "NORMAL", BackendConfigMode: "JSON", LastSync: g.file.Current().Loaded.UTC().Format(time.RFC3339),
	})
}

// Down is the answer of /health while events are not taken.
var Down = again(http.StatusServiceUnavailable, "Cannot connect to db")

// IsHealth reports whether r asks for the gateway's health.
func IsHealth(r *http.Request) bool { return r.URL.Path == "/health" || r.URL.Path == "/" }

func versionBody(version string) []byte {
	return jsonAnswer(map[string]any{"Version": version, "Features": []string{"gzip-req-payload"}}).Body
}

func (g *Gateway) versions(*http.Request, time.Time) *Answer {
	return &Answer{Code: http.StatusOK, Type: jsonText, Body: g.version}
}

var robots = &Answer{Code: http.StatusOK, Type: plainText, Body: []byte("User-agent: * \nDisallow: / \n")}

func (g *Gateway) robots(*http.Request, time.Time) *Answer { return robots }

// sourceConfig is what the browser SDK needs to start without RudderStack's control
// plane. It lists no destinations: those that run in the browser would load vendors' code.
func (g *Gateway) sourceConfig(r *http.Request, now time.Time) *Answer {
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
	off := map[string]bool{"enabled": false}
	return map[string]any{
		"source": map[string]any{
			"id": s.ID, "name": s.Name, "writeKey": s.WriteKey, "enabled": s.Enabled, "workspaceId": s.Workspace,
			"config":       map[string]any{"statsCollection": map[string]any{"errors": off, "metrics": off}},
			"destinations": []any{},
		},
		"updatedAt": loaded.UTC().Format(time.RFC3339Nano),
	}
}
