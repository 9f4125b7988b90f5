package gateway_test

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/runs"
	"github.com/weirdata/weir/internal/workspace"
)

const browserText = `{"workspaceId":"ws1","sources":[
	{"id":"site","name":"Site","writeKey":"SITE","enabled":true,"sourceDefinition":{"name":"Javascript","type":"web"},
	 "config":{"statsCollection":{"errors":{"enabled":true,"provider":"rs"}},"consentManagementMetadata":{"providers":[{"provider":"custom","resolutionStrategy":"or"}]},"apiSecret":"HIDDEN","nested":{"password":"HIDDEN","n":12345678901234567890}},
	 "destinations":[
		{"id":"ga","name":"GA","enabled":true,"isProcessorEnabled":false,
		 "config":{"connectionMode":{"web":"device","cloud":"cloud"},"measurementId":"G-1","apiKey":"public","apiSecret":"HIDDEN","other":"HIDDEN","clientToken":"HIDDEN",
		  "consentManagement":[{"provider":"custom","consents":[{"consent":"C1"}]}],"eventFilteringOption":"disable"},
		 "destinationDefinition":{"name":"GA4","displayName":"Google Analytics 4 (GA4)","config":{"includeKeys":["measurementId","apiKey","apiSecret","clientToken"],"secretKeys":["apiSecret"]}}},
		{"id":"old","name":"Old","enabled":true,"isProcessorEnabled":true,"config":{"useNativeSDK":{"web":true},"appId":"a","apiKey":"HIDDEN"},
		 "destinationDefinition":{"name":"OLD","displayName":"Old","config":{"includeKeys":["appId","apiKey"]}}},
		{"id":"hybrid","name":"H","enabled":true,"isProcessorEnabled":true,"config":{"connectionMode":"hybrid"},"destinationDefinition":{"name":"HY","displayName":"Hy"}},
		{"id":"cloud","name":"Cloud","enabled":true,"isProcessorEnabled":true,"config":{"connectionMode":"cloud","webhookUrl":"HIDDEN","headers":[{"from":"Authorization","to":"HIDDEN"}]},"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}},
		{"id":"plain","name":"Plain","enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":"HIDDEN"},"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}},
		{"id":"off","name":"Off","enabled":false,"isProcessorEnabled":true,"config":{"connectionMode":"device","key":"HIDDEN"},"destinationDefinition":{"name":"X","displayName":"X","config":{"includeKeys":"key"}}}]}]}`

// TestSourceConfig: the browser gets the source's own settings and what is public of the destinations that work
// in it, and never a secret.
func TestSourceConfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "workspaceConfig.json")
	if err := os.WriteFile(path, []byte(browserText), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := workspace.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.New(f, gateway.Options{})
	var c gateway.Call
	r := httptest.NewRequest("GET", "/sourceConfig/?p=npm&v=3.0.0&writeKey=SITE", nil)
	a := g.Begin(&c, r, received)
	if a.Code != 200 || strings.Contains(string(a.Body), "HIDDEN") || strings.Contains(string(a.Body), "headers") {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if !strings.Contains(string(a.Body), `"n":12345678901234567890`) {
		t.Errorf("digits are lost: %s", a.Body)
	}
	var got struct {
		Source struct {
			Config       map[string]any
			Destinations []map[string]any
		}
	}
	if err := json.Unmarshal(a.Body, &got); err != nil {
		t.Fatal(err)
	}
	type o = map[string]any
	delete(got.Source.Config, "nested")
	if d := cmp.Diff(o{"statsCollection": o{"errors": o{"enabled": true, "provider": "rs"}}, "consentManagementMetadata": o{"providers": []any{o{"provider": "custom", "resolutionStrategy": "or"}}}}, got.Source.Config); d != "" {
		t.Errorf("the source, -want +got\n%s", d)
	}
	of := func(id, name, kind, display string, config o) o {
		return o{"id": id, "name": name, "enabled": true, "config": config, "destinationDefinition": o{"name": kind, "displayName": display}, "shouldApplyDeviceModeTransformation": false, "propagateEventsUntransformedOnError": true}
	}
	want := []map[string]any{
		of("ga", "GA", "GA4", "Google Analytics 4 (GA4)", o{"connectionMode": "device", "measurementId": "G-1", "apiKey": "public", "eventFilteringOption": "disable", "consentManagement": []any{o{"provider": "custom", "consents": []any{o{"consent": "C1"}}}}}),
		of("old", "Old", "OLD", "Old", o{"useNativeSDK": true, "appId": "a"}),
		of("hybrid", "H", "HY", "Hy", o{"connectionMode": "hybrid"}),
	}
	if d := cmp.Diff(want, got.Source.Destinations); d != "" {
		t.Errorf("the destinations, -want +got\n%s", d)
	}
}

// TestOpenAPI: every path that is served is described, with its method and answers, and no other.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	for _, internal := range []bool{false, true} {
		g := open(t, gateway.Options{Version: "1.2.3", Internal: internal})
		var c gateway.Call
		a := g.Begin(&c, httptest.NewRequest("GET", "/docs", nil), received)
		var doc struct {
			OpenAPI string
			Info    struct{ Version string }
			Paths   map[string]map[string]struct {
				Summary, OperationID string
				Responses            map[string]struct{ Description string }
				RequestBody          *struct{}
			}
		}
		if err := json.Unmarshal(a.Body, &doc); err != nil || a.Code != 200 || doc.OpenAPI != "3.0.3" || doc.Info.Version != "1.2.3" {
			t.Fatalf("%v: %d %s", err, a.Code, a.Body)
		}
		if _, there := doc.Paths["/internal/v1/retl"]; there != internal || len(doc.Paths) < 25 {
			t.Errorf("%d paths, internal %t: %t", len(doc.Paths), internal, there)
		}
		seen := map[string]bool{}
		for path, methods := range doc.Paths {
			for method, op := range methods {
				if op.Summary == "" || op.OperationID == "" || seen[op.OperationID] || op.Responses["200"].Description == "" || (method == "post") != (op.RequestBody != nil) {
					t.Errorf("%s %s: %+v", method, path, op)
				}
				seen[op.OperationID] = true
				r := httptest.NewRequest(strings.ToUpper(method), strings.Replace(path, "{writeKey}", "KEY1", 1), strings.NewReader(""))
				if a := g.Begin(&c, r, received); a != nil && (a.Code == 404 || a.Code == 405) {
					t.Errorf("%s %s is described, and answered %d", method, path, a.Code)
				}
			}
		}
	}
}

// TestDescribesJobStatus: the description has the status of job runs where that is served.
func TestDescribesJobStatus(t *testing.T) {
	t.Parallel()
	for _, served := range []bool{false, true} {
		var c gateway.Call
		a := open(t, gateway.Options{Internal: true, JobStatus: served}).Begin(&c, httptest.NewRequest("GET", "/docs", nil), received)
		var doc struct{ Paths map[string]map[string]any }
		if err := json.Unmarshal(a.Body, &doc); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{runs.Path + "{run}", runs.Path + "{run}/failed-records"} {
			if got := doc.Paths[path]; (got["get"] != nil && got["delete"] != nil) != served {
				t.Errorf("%s: %v", path, got)
			}
		}
	}
}
