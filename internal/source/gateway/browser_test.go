package gatewaysource

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
)

// TestBrowserSDKs: pages of another origin, in a real browser, send every kind of call by the SDKs
// of Segment and RudderStack, and what arrives is what they were called with. The pages ask
// nobody but the gateway for settings.
func TestBrowserSDKs(t *testing.T) {
	t.Parallel()
	calls := `
a.track("Bought", {total: 12.5});
a.identify("ann", {plan: "pro"});
a.page("Home");
a.group("acme", {size: 3});
a.alias("anna");
`
	for name, script := range map[string]string{
		"segment": `
<script src="/@segment/analytics-next/dist/umd/index.js"></script>
<script>
const a = AnalyticsNext.AnalyticsBrowser.load({writeKey: "KEY1", cdnURL: GATEWAY}, {integrations: {"Segment.io": {protocol: "http"}}});
CALLS
</script>`,
		"segment in batches": `
<script src="/@segment/analytics-next/dist/umd/index.js"></script>
<script>
const a = AnalyticsNext.AnalyticsBrowser.load({writeKey: "KEY1", cdnURL: GATEWAY},
	{integrations: {"Segment.io": {protocol: "http", deliveryStrategy: {strategy: "batching", config: {size: 5, timeout: 500}}}}});
CALLS
</script>`,
		"rudderstack": `
<script src="/@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js"></script>
<script>
const a = new rudderanalytics.RudderAnalytics();
a.load("KEY1", GATEWAY, {configUrl: GATEWAY});
a.ready(() => {
CALLS
});
</script>`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			var mu sync.Mutex
			got := map[string]map[string]any{}
			s.run(t, func(b event.Batch) event.Outcomes {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range b {
					var e map[string]any
					if err := json.Unmarshal(m.Data, &e); err != nil {
						t.Errorf("%v: %s", err, m.Data)
					}
					if kind := fmt.Sprint(e["type"]); got[kind] != nil {
						t.Errorf("a second %s: %s", kind, m.Data)
					} else {
						got[kind] = e
					}
				}
				return nil
			})
			page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					enginetest.BrowserSDKs(t).ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				gateway, _ := json.Marshal("http://" + s.Addr().String())
				fmt.Fprint(w, "<!doctype html><title>page</title>"+strings.NewReplacer("GATEWAY", string(gateway), "CALLS", calls).Replace(script))
			}))
			t.Cleanup(page.Close)
			enginetest.BrowserSDKs(t)
			enginetest.Browse(t, page.URL)
			all := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(got) >= 5
			}
			for until := time.Now().Add(3 * time.Minute); !all(); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(until) {
					mu.Lock()
					t.Fatalf("of five calls arrived: %v", got)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for kind, want := range map[string]string{
				"track":    `["Bought",12.5]`,
				"identify": `["ann","pro"]`,
				"page":     `["Home"]`,
				"group":    `["acme",3]`,
				"alias":    `["ann"]`, // Segment's names the new one only to who is not identified yet
			} {
				if text := said(kind, got[kind]); text != want {
					t.Errorf("%s: %s, want %s: %v", kind, text, want, got[kind])
				}
			}
			for kind, e := range got {
				if e["messageId"] == "" || e["anonymousId"] == "" || e["rudderId"] == nil || e["writeKey"] != nil {
					t.Errorf("%s: %v", kind, e)
				}
			}
		})
	}
}

// said is what a call was made with, by the event that it came to.
func said(kind string, e map[string]any) string {
	of := func(path ...string) any {
		var v any = e
		for _, name := range path {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		return v
	}
	var parts []any
	switch kind {
	case "track":
		parts = []any{of("event"), of("properties", "total")}
	case "identify":
		traits := of("traits", "plan")
		if traits == nil {
			traits = of("context", "traits", "plan")
		}
		parts = []any{of("userId"), traits}
	case "page":
		parts = []any{of("name")}
	case "group":
		parts = []any{of("groupId"), of("traits", "size")}
	case "alias":
		parts = []any{of("previousId")}
	}
	text, _ := json.Marshal(parts)
	return string(text)
}
