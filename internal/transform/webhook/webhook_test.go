package webhook

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/gateway"
)

const (
	workspaceText = `{"workspaceId":"ws1","sources":[{"id":"shop","writeKey":"SHOP","enabled":true,"sourceDefinition":{"name":"Shopify","category":"webhook"},"destinations":[]}]}`
	scriptText    = `function process(input) {
	const b = JSON.parse(input.request.body);
	if (b.fail) { throw new Error("no"); }
	return b.orders.map(id => ({type: "track", userId: "u", messageId: "m" + id}));
}`
	request = `{"weirWebhook":1,"receivedAt":"2026-11-20T12:05:00Z","ip":"192.0.2.7","request":{"method":"POST","body":`
)

func compile(t testing.TB) connector.Transform {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"workspaceConfig.json": workspaceText, "shop.js": scriptText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := Entry.Build(context.Background(), connector.Deps{Dir: dir}, func(into any) error {
		into.(*Config).WorkspaceConfig = "workspaceConfig.json"
		into.(*Config).Webhooks = []*gateway.Webhook{{Source: "Shopify", ScriptPath: "shop.js", TimeoutMillis: 120_000}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestApply: a request that was kept becomes its events, and everything else stays as it is.
func TestApply(t *testing.T) {
	t.Parallel()
	w := conntest.Worker(t, compile(t))
	for _, row := range []struct {
		name, data string
		ids        []string
		dropped    string
		bad        bool
	}{
		{"an event", `{"type":"track"}`, nil, "", false},
		{"no JSON", `x`, nil, "", false},
		{"two", request + `"{\"orders\":[1,2]}"}}`, []string{"m1", "m2"}, "", false},
		{"none", request + `"{\"orders\":[]}"}}`, nil, noEvents, false},
		{"still failing", request + `"{\"fail\":1}"}}`, nil, "", true},
		{"torn", request, nil, "", true},
	} {
		m := event.New([]byte(row.data))
		m.Meta.Scope = &event.Scope{Workspace: "ws1", Source: "shop"}
		out, err := w.Apply(t.Context(), nil, m)
		if (err != nil) != row.bad || (err != nil && fault.Of(err) != fault.Invalid) || m.Dropped() != row.dropped {
			t.Errorf("%s: dropped %q, %v", row.name, m.Dropped(), err)
			continue
		}
		if row.bad || row.dropped != "" {
			continue
		}
		if row.ids == nil {
			if len(out) != 1 || out[0] != m || string(m.Data) != row.data {
				t.Errorf("%s: %d messages", row.name, len(out))
			}
			continue
		}
		for i, id := range row.ids {
			if len(out) != len(row.ids) || out[i].Meta.ID != id || out[i].Key != "u" || out[i].Meta.Scope.Source != "shop" || !json.Valid(out[i].Data) || !strings.Contains(string(out[i].Data), `"request_ip":"192.0.2.7"`) {
				t.Fatalf("%s: %d messages: %s", row.name, len(out), out[0].Data)
			}
		}
	}
}

func TestConformance(t *testing.T) {
	tr := compile(t)
	conntest.Transform(t, conntest.TransformCase{
		New:    func(*testing.T) connector.Transform { return tr },
		Inputs: [][]byte{[]byte(`{"type":"track","userId":"u"}`), []byte(request + `"{\"orders\":[1]}"}}`)},
	})
}

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(Entry), "../../..") }
