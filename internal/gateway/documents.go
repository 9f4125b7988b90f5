package gateway

import (
	"encoding/json"
	"net/http"
	"time"
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
