package fanout

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

const config = `{"workspaceId":"ws1","settings":{"eventBlocking":{"events":{"track":["Spam"]}}},"sources":[
 {"id":"src1","writeKey":"k1","enabled":true,"sourceDefinition":{"name":"HTTP","type":"cloud"},"destinations":[
  {"id":"hook","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook","config":{"supportedMessageTypes":["track","identify"]}}},
  {"id":"files","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"S3","displayName":"Amazon S3"}},
  {"id":"ads","enabled":true,"isProcessorEnabled":true,"config":{"oneTrustCookieCategories":[{"oneTrustCookieCategory":"C4"}],"listOfConversions":[{"conversions":"Order"}]},"destinationDefinition":{"name":"ADS","displayName":"Ads"}},
  {"id":"off","enabled":false,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}},
  {"id":"raw","enabled":true,"isProcessorEnabled":false,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}]},
 {"id":"src2","writeKey":"k2","enabled":true,"destinations":[]},
 {"id":"src3","writeKey":"k3","enabled":false,"destinations":[{"id":"hook","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK"}}]},
 {"id":"src4","writeKey":"k4","enabled":true,"destinations":[
  {"id":"only","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook","config":{"supportedMessageTypes":["track"]}}}]},
 {"id":"src5","writeKey":"k5","enabled":true,"destinations":[
  {"id":"device","enabled":true,"isProcessorEnabled":false,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}]},
 {"id":"src6","writeKey":"k6","enabled":true,"destinations":[
  {"id":"ads2","enabled":true,"isProcessorEnabled":true,"config":{"oneTrustCookieCategories":[{"oneTrustCookieCategory":"C4"}],"listOfConversions":[{"conversions":"Order"}]},"destinationDefinition":{"name":"ADS","displayName":"Ads"}}]},
 {"id":"src7","writeKey":"k7","enabled":true,"destinations":[
  {"id":"off7","enabled":false,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}]}]}`

// build makes a worker as the engine does.
func build(t testing.TB) connector.Worker {
	t.Helper()
	return conntest.Worker(t, compile(t))
}

func compile(t testing.TB) connector.Transform {
	t.Helper()
	path := filepath.Join(t.TempDir(), "workspaceConfig.json")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := Entry.Build(context.Background(), connector.Deps{}, func(into any) error {
		into.(*Config).WorkspaceConfig = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func message(source, data string) *event.Message {
	m := event.New([]byte(data))
	m.Key = "user"
	m.Meta.Scope = &event.Scope{Workspace: "ws1", Source: source}
	return m
}

// apply is the destinations that an event goes to.
func apply(t testing.TB, tr connector.Worker, m *event.Message) ([]string, error) {
	t.Helper()
	before := event.New(nil)
	in, scope := string(m.Data), *m.Meta.Scope
	out, err := tr.Apply(context.Background(), event.Batch{before}, m)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 || out[0] != before {
		t.Fatal("what was in out before is lost")
	}
	ids := []string{}
	for _, x := range out[1:] {
		if string(x.Data) != in || x.Key != "user" || x.Meta.Scope.Source != scope.Source || x.Meta.Scope.Workspace != scope.Workspace {
			t.Errorf("changed on the way: %s %q %+v", x.Data, x.Key, x.Meta.Scope)
		}
		ids = append(ids, x.Meta.Scope.Destination)
	}
	return ids, nil
}

func TestConformance(t *testing.T) {
	tr := compile(t)
	conntest.Transform(t, conntest.TransformCase{
		New:    func(*testing.T) connector.Transform { return scoped{tr} },
		Inputs: [][]byte{[]byte(`{"type":"track","userId":"u"}`), []byte(`{"type":"page"}`), []byte(`{}`)},
	})
}

// scoped gives messages the source that the suite knows nothing of.
type scoped struct{ connector.Transform }

func (s scoped) Worker() (connector.Worker, error) {
	w, err := s.Transform.Worker()
	return scopedWorker{w}, err
}

type scopedWorker struct{ connector.Worker }

func (s scopedWorker) Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	m.Meta.Scope = &event.Scope{Workspace: "ws1", Source: "src1"}
	return s.Worker.Apply(ctx, out, m)
}

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(Entry), "../../..") }

func TestDestinations(t *testing.T) {
	t.Parallel()
	tr := build(t)
	all := []string{"hook", "files", "ads"}
	for _, row := range []struct {
		name, source, data string
		want               []string
	}{
		{"everything", "src1", `{"type":"track","event":"Order"}`, all},
		{"type in capitals", "src1", `{"type":" Track ","event":"Order"}`, all},
		{"no conversion", "src1", `{"type":"track","event":"Other"}`, []string{"hook", "files"}},
		{"type that is not supported", "src1", `{"type":"page","event":"Order"}`, []string{"files", "ads"}},
		{"blocked", "src1", `{"type":"track","event":"Spam"}`, []string{}},
		{"not blocked", "src1", `{"type":"identify","event":"Spam"}`, []string{"hook", "files"}},
		{"no connections", "src2", `{"type":"track"}`, []string{}},
		{"disabled source", "src3", `{"type":"track"}`, []string{}},

		{"all", "src1", `{"type":"track","event":"Order","integrations":{"All":true}}`, all},
		{"none", "src1", `{"type":"track","event":"Order","integrations":{"All":false}}`, []string{}},
		{"one", "src1", `{"type":"track","event":"Order","integrations":{"All":false,"Webhook":true}}`, []string{"hook"}},
		{"one by an object", "src1", `{"type":"track","event":"Order","integrations":{"All":false,"Webhook":{"x":1}}}`, []string{"hook"}},
		{"all but one", "src1", `{"type":"track","event":"Order","integrations":{"Webhook":false}}`, []string{"files", "ads"}},
		{"All is text", "src1", `{"type":"track","event":"Order","integrations":{"All":"x","Webhook":true}}`, []string{}},
		{"by definition name", "src1", `{"type":"track","event":"Order","integrations":{"All":false,"WEBHOOK":true}}`, []string{}},
		{"name with an escape", "src1", `{"type":"track","event":"Order","integrations":{"All":false,"Amazon\u0020S3":true}}`, []string{"files"}},
		{"null", "src1", `{"type":"track","event":"Order","integrations":null}`, all},
		{"neither yes nor no", "src1", `{"type":"track","event":"Order","integrations":{"Webhook":"x"}}`, all},

		{"denied", "src1", `{"type":"track","event":"Order","context":{"consentManagement":{"provider":"oneTrust","deniedConsentIds":["C1", " C4 "]}}}`, []string{"hook", "files"}},
		{"something else denied", "src1", `{"type":"track","event":"Order","context":{"consentManagement":{"provider":"oneTrust","deniedConsentIds":["C1"]}}}`, all},
		{"nothing denied", "src1", `{"type":"track","event":"Order","context":{"consentManagement":{"deniedConsentIds":[]}}}`, all},
		{"no provider", "src1", `{"type":"track","event":"Order","context":{"consentManagement":{"deniedConsentIds":["C4"]}}}`, []string{"hook", "files"}},
		{"odd consent", "src1", `{"type":"track","event":"Order","context":{"consentManagement":{"deniedConsentIds":{"a":1}}}}`, all},
		{"odd context", "src1", `{"type":"track","event":"Order","context":[1]}`, all},
	} {
		got, err := apply(t, tr, message(row.source, row.data))
		if d := cmp.Diff(row.want, got); d != "" || err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", row.name, err, d)
		}
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	tr := build(t)
	none := message("", `{}`)
	none.Meta.Scope = &event.Scope{}
	for want, m := range map[string]*event.Message{
		"not a JSON object":     message("src1", `[1]`),
		"Type assertion failed": message("src1", `{"event":"e"}`),
		"which source it is":    none,
		// It was acknowledged, and no rule leaves it out: it is kept, with the reason.
		`the source "src9", which accepted the event, is not in the workspace configuration any more`: message("src9", `{"type":"track"}`),
	} {
		_, err := apply(t, tr, m)
		if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), want) || fault.DetailOf(err).Type != "transformation" {
			t.Errorf("%s: %v", want, err)
		}
	}
	// A type is needed only by destinations that would get the event.
	if got, err := apply(t, tr, message("src1", `{"integrations":{"All":false,"Amazon S3":true}}`)); err != nil || !slices.Equal(got, []string{"files"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestReasons: what is filtered says by which rule, in words that are the same for every event.
func TestReasons(t *testing.T) {
	t.Parallel()
	tr := build(t)
	for _, row := range []struct{ source, data, want string }{
		{"src1", `{"type":"track","event":"Spam"}`, blocked},
		{"src2", `{"type":"track"}`, noConnection},
		{"src3", `{"type":"track"}`, sourceOff},
		{"src1", `{"type":"track","event":"Order","integrations":{"All":false}}`, several},
		{"src4", `{"type":"track","integrations":{"All":false}}`, integrations},
		{"src4", `{"type":"page"}`, workspace.NotSupported},
		{"src5", `{"type":"track"}`, notProcessed},
		{"src7", `{"type":"track"}`, notEnabled},
		{"src6", `{"type":"track","event":"Other"}`, workspace.NoConversion},
		{"src6", `{"type":"track","event":"Order","context":{"consentManagement":{"deniedConsentIds":["C4"]}}}`, consent},
		{"src1", `{"type":"track","event":"Order"}`, ""},
	} {
		m := message(row.source, row.data)
		got, err := apply(t, tr, m)
		if err != nil || m.Dropped() != row.want || (row.want == "") != (len(got) > 0) {
			t.Errorf("%s %s: to %v, filtered for %q (%v), want %q", row.source, row.data, got, m.Dropped(), err, row.want)
		}
	}
}

// TestLeftOut: what a destination does not get is said of it, with the rule, whoever else gets it; of an
// event that is invalid, nothing.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	tr := build(t)
	rest := []event.LeftOut{{Destination: "raw", Reason: notProcessed}, {Destination: "off", Reason: notEnabled}}
	for _, row := range []struct {
		data string
		want []event.LeftOut
	}{
		{`{"type":"track","event":"Order"}`, rest},
		{`{"type":"page","event":"Order"}`, append(rest[:2:2], event.LeftOut{Destination: "hook", Reason: workspace.NotSupported})},
		{`{"type":"track","event":"Other","integrations":{"Webhook":false}}`, []event.LeftOut{
			rest[0], rest[1], {Destination: "ads", Reason: workspace.NoConversion}, {Destination: "hook", Reason: integrations}}},
		{`{"type":"track","event":"Order","context":{"consentManagement":{"deniedConsentIds":["C4"]}}}`, append(rest[:2:2], event.LeftOut{Destination: "ads", Reason: consent})},
		{`{"event":"no type"}`, nil},
	} {
		m := message("src1", row.data)
		_, err := apply(t, tr, m)
		if d := cmp.Diff(row.want, m.TakeLeftOut(nil)); d != "" || (err != nil) != (row.want == nil) {
			t.Errorf("%s: %v, -want +got:\n%s", row.data, err, d)
		}
		if again := m.TakeLeftOut(nil); again != nil {
			t.Errorf("%s: told twice: %v", row.data, again)
		}
	}
}

// TestIntegrationsProperty compares the choice with one made of decoded JSON.
func TestIntegrationsProperty(t *testing.T) {
	t.Parallel()
	tr := build(t)
	names := map[string]string{"hook": "Webhook", "files": "Amazon S3", "ads": "Ads"}
	rapid.Check(t, func(rt *rapid.T) {
		integrations := rapid.MapOf(rapid.SampledFrom([]string{"All", "Webhook", "Amazon S3", "Ads", "Other"}),
			rapid.SampledFrom([]any{true, false, map[string]any{"a": 1.0}, map[string]any{}})).Draw(rt, "integrations")
		data, err := json.Marshal(map[string]any{"type": "track", "event": "Order", "integrations": integrations})
		if err != nil {
			rt.Fatal(err)
		}
		want := []string{}
		for _, id := range []string{"hook", "files", "ads"} {
			all, boolean := true, true
			if v, ok := integrations["All"]; ok {
				all, boolean = v.(bool)
			}
			chosen := all
			if v, ok := integrations[names[id]]; ok {
				chosen = v != any(false)
				if _, isMap := v.(map[string]any); isMap {
					chosen = true
				}
			}
			if boolean && chosen {
				want = append(want, id)
			}
		}
		got, err := apply(t, tr, message("src1", string(data)))
		if d := cmp.Diff(want, got); d != "" || err != nil {
			rt.Fatalf("%s: %v, -want +got:\n%s", data, err, d)
		}
	})
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{`{"type":"track","integrations":{"All":false,"Ads":{}},"context":{"consentManagement":{"provider":"ketch","deniedConsentIds":["a",1,null]}}}`, `{"context":{"consentManagement":[]},"integrations":[]}`, `{"type":5,"event":{}}`, ``} {
		f.Add([]byte(s))
	}
	tr := build(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := apply(t, tr, message("src1", string(data)))
		var object map[string]json.RawMessage
		if err != nil && fault.Of(err) != fault.Invalid {
			t.Fatal(err)
		}
		if err == nil && (json.Unmarshal(data, &object) != nil || object == nil) {
			t.Fatalf("taken, but no object: %q", data)
		}
	})
}

func BenchmarkFanout(b *testing.B) {
	tr := build(b)
	m := message("src1", `{"type":"track","messageId":"0b9d8c1c","userId":"user-1","event":"Order","properties":{"price":12.5,"items":[{"sku":"a-1","n":1},{"sku":"b-2","n":2}]},"context":{"library":{"name":"analytics-go","version":"4.2.3"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)"},"integrations":{"All":true}}`)
	scope := m.Meta.Scope
	out := make(event.Batch, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		m.Meta.Scope = scope
		got, err := tr.Apply(context.Background(), out, m)
		if err != nil || len(got) != 3 {
			b.Fatal(err, len(got))
		}
	}
}

// TestOneDestination: an event that was sent to one destination goes there or nowhere, by the same
// rules.
func TestOneDestination(t *testing.T) {
	t.Parallel()
	w := build(t)
	for _, row := range []struct {
		destination, data string
		want              []string
		dropped           string
		kind              fault.Kind
	}{
		{"files", `{"type":"track","userId":"u"}`, []string{"files"}, "", 0},
		{"hook", `{"type":"track","userId":"u"}`, []string{"hook"}, "", 0},
		{"off", `{"type":"track","userId":"u"}`, nil, notEnabled, 0},
		{"files", `{"type":"track","userId":"u","integrations":{"Amazon S3":false}}`, nil, integrations, 0},
		{"only", `{"type":"track","userId":"u"}`, nil, "", fault.Invalid},
	} {
		m := event.New([]byte(row.data))
		m.Meta.Scope = &event.Scope{Workspace: "ws1", Source: "src1", Destination: row.destination}
		out, err := w.Apply(t.Context(), nil, m)
		var got []string
		for _, to := range out {
			got = append(got, to.Meta.Scope.Destination)
		}
		if !slices.Equal(got, row.want) || m.Dropped() != row.dropped || (err != nil) != (row.kind != 0) || (err != nil && fault.Of(err) != row.kind) {
			t.Errorf("%s %s: %v, dropped %q, %v", row.destination, row.data, got, m.Dropped(), err)
		}
	}
}
