package app_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// hooks are what the destinations of a workspace got, by path.
type hooks struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string][]string
}

func newHooks(t *testing.T) *hooks {
	h := &hooks{got: map[string][]string{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got[r.URL.Path] = append(h.got[r.URL.Path], string(body))
	}))
	t.Cleanup(h.Close)
	return h
}

// of is what came to a path.
func (h *hooks) of(path string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.got[path]...)
}

// destination is a webhook destination in a workspaceConfig.json.
func (h *hooks) destination(id, more string) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":"%s/%s"},
		"destinationDefinition":{"name":"WEBHOOK","displayName":%q,"config":{"supportedMessageTypes":["track","page"]}}%s}`, id, id, h.URL, id, id, more)
}

// collecting is a config with one source, whose write key is "key".
func collecting(t *testing.T, dir, source, processor, more string, destinations ...string) (hcl, address string) {
	t.Helper()
	address = addresstest.Free(t)
	write(t, dir+"/ws.json", `{"workspaceId":"ws","sources":[{"id":"src","name":"Site","writeKey":"key","enabled":true`+source+`,"destinations":[`+strings.Join(destinations, ",")+`]}]`+more+`}`)
	return fmt.Sprintf(`
store {
  use "embedded" {
    path = "DIR/store"
  }
}
collect "shop" {
  gateway {
    address = %q
  }
  workspace {
    config = "DIR/ws.json"
  }
  processor {
    %s
  }
}
`, address, processor), address
}

// send posts an event until it is taken.
func send(t *testing.T, address, body string) {
	t.Helper()
	await(t, "the gateway takes an event", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/batch", strings.NewReader(`{"batch":[`+body+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("key", "")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		text, _ := io.ReadAll(resp.Body)
		if err := resp.Body.Close(); err != nil || resp.StatusCode == http.StatusBadRequest {
			t.Fatalf("%d %s %v", resp.StatusCode, text, err)
		}
		return resp.StatusCode == http.StatusOK
	})
}

// dead are the causes of dead jobs of a queue, by destination.
func dead(t *testing.T, dir, name string, again bool) map[string][]string {
	t.Helper()
	s, err := embedded.Open(dir+"/store", embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	causes := map[string][]string{}
	search := queue.Search{Filter: queue.Filter{Queue: name}, State: queue.Buried}
	page, err := s.List(t.Context(), search, queue.ID{}, 100)
	for _, j := range page.Jobs {
		causes[j.Scope.Destination] = append(causes[j.Scope.Destination], j.Cause+" "+string(j.Msg.Data))
	}
	if again && err == nil {
		_, err = s.Requeue(t.Context(), search)
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return causes
}

// TestUserTransformations: each destination gets what its own transformation makes of an event;
// one that fails holds up no other, and its event is kept whole and passes when it is sent again
// after the code was repaired.
func TestUserTransformations(t *testing.T) {
	t.Parallel()
	dir, h := t.TempDir(), newHooks(t)
	if err := os.Mkdir(dir+"/code", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/code/v1.js", `import { mask } from 'masking'; export function transformEvent(event, metadata) { event.userId = mask(event.userId); event.by = metadata(event).destinationId; return event.event === 'Twice' ? [event, {...event, event: 'Again'}] : event.event === 'Drop' ? null : event }`)
	write(t, dir+"/code/l1.json", `{"name":"masking","code":"export const mask = s => s[0] + '***'"}`)
	write(t, dir+"/code/v2.js", `export async function transformEvent(event) { throw new Error('broken for ' + event.event) }`)
	write(t, dir+"/code/v3.js", `export function transformEvent(event) { event.type = 'identify'; return event }`)
	transformed := func(version string) string {
		return fmt.Sprintf(`,"transformations":[{"id":"t-%s","versionId":%q,"language":"javascript"}]`, version, version)
	}
	hcl, address := collecting(t, dir, "", "transformations {\n directory = \"DIR/code\"\n patience_millis = 60000\n timeout_millis = 60000\n }", `,"libraries":[{"versionId":"l1"}]`,
		h.destination("plain", ""), h.destination("masked", transformed("v1")), h.destination("broken", transformed("v2")),
		h.destination("retyped", transformed("v3")), h.destination("python", `,"transformations":[{"id":"py","versionId":"v9","language":"pythonfaas"}]`))
	p, _ := startIn(t, dir, hcl)
	for _, name := range []string{"Paid", "Twice", "Drop"} {
		send(t, address, fmt.Sprintf(`{"type":"track","userId":"ann","event":%q}`, name))
	}
	await(t, "events at the destinations, and those that failed", func() bool {
		n := int64(0)
		for _, m := range p.Meter.Pipelines() {
			if m.Name == "shop-router" {
				n += m.Invalid.Load()
			}
		}
		return len(h.of("/plain")) == 3 && len(h.of("/masked")) == 3 && n == 3
	})
	p.ends(t)
	for _, body := range h.of("/masked") {
		if !strings.Contains(body, `"userId":"a***"`) || !strings.Contains(body, `"by":"masked"`) {
			t.Errorf("masked got %s", body)
		}
	}
	for _, path := range []string{"/broken", "/retyped", "/python"} {
		if got := h.of(path); len(got) > 0 {
			t.Errorf("%s got %q", path, got)
		}
	}
	causes := dead(t, dir, "shop-router", true)
	if len(causes) != 1 || len(causes["broken"]) != 3 {
		t.Fatalf("dead: %q", causes)
	}
	for _, c := range causes["broken"] {
		if !strings.Contains(c, "Error: broken for ") || !strings.Contains(c, `"userId":"ann"`) {
			t.Errorf("an event is kept as %s", c)
		}
	}
	write(t, dir+"/code/v2.js", `export function transformEvent(event) { event.repaired = true; return event }`)
	p, _ = startIn(t, dir, hcl)
	await(t, "the events that were sent again", func() bool { return len(h.of("/broken")) == 3 })
	p.ends(t)
	for _, body := range h.of("/broken") {
		if !strings.Contains(body, `"repaired":true`) {
			t.Errorf("broken got %s", body)
		}
	}
	if n := len(h.of("/plain")) + len(h.of("/masked")); n != 6 {
		t.Errorf("the others got %d events in the end", n)
	}
}

// TestLeftOut: what a destination gets nothing of is counted by it and the rule, also where others get
// the event, and the summary in the log says it.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	dir, h := t.TempDir(), newHooks(t)
	consent := strings.Replace(h.destination("consent", ""), `"config":{`, `"config":{"oneTrustCookieCategories":[{"oneTrustCookieCategory":"C4"}],`, 1)
	off := strings.Replace(h.destination("off", ""), `"enabled":true`, `"enabled":false`, 1)
	write(t, dir+"/drop.js", `export function transformEvent(event) { return null }`)
	hcl, address := collecting(t, dir, "", "transformations {\n directory = \"DIR\"\n patience_millis = 60000\n timeout_millis = 60000\n }", "", h.destination("plain", ""), consent, off,
		h.destination("dropped", `,"transformations":[{"id":"t","versionId":"drop"}]`))
	p, _ := startIn(t, dir, hcl)
	send(t, address, `{"type":"track","userId":"ann","event":"Paid","context":{"consentManagement":{"deniedConsentIds":["C4"]}}}`)
	send(t, address, `{"type":"track","userId":"ann","event":"Paid","integrations":{"All":false}}`)
	send(t, address, `{"type":"alias","userId":"ann","previousId":"a"}`)
	send(t, address, `{"type":"page","userId":"ann","name":"last"}`)
	await(t, "the last event", func() bool { return len(h.of("/plain")) == 2 && len(h.of("/consent")) == 1 })
	p.ends(t)
	counted := map[meter.LeftOut]int64{}
	for _, m := range p.Meter.Pipelines() {
		maps.Copy(counted, m.LeftOut())
	}
	want := map[meter.LeftOut]int64{
		{Destination: "plain", Reason: "integrations of the event"}: 1, {Destination: "plain", Reason: "type of the event is not supported"}: 1,
		{Destination: "consent", Reason: "consent"}: 1, {Destination: "consent", Reason: "integrations of the event"}: 1, {Destination: "consent", Reason: "type of the event is not supported"}: 1,
		{Destination: "off", Reason: "destination is switched off"}:            4,
		{Destination: "dropped", Reason: "user transformation has dropped it"}: 3, {Destination: "dropped", Reason: "integrations of the event"}: 1,
	}
	if d := cmp.Diff(want, counted); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestTrackingPlans: events are validated before they are copied; what the plan drops goes to the filter
// target with what is wrong with it, and an event whose plan is not there waits for it.
func TestTrackingPlans(t *testing.T) {
	t.Parallel()
	dir, h := t.TempDir(), newHooks(t)
	var there atomic.Bool
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"events":[{"name":"Paid","eventType":"track","rules":{"properties":{"properties":{"required":["total"]}}}}]}`)
	}))
	defer plane.Close()
	hcl, address := collecting(t, dir, `,"dgSourceTrackingPlanConfig":{"trackingPlan":{"id":"tp","version":1},"config":{"global":{"allowUnplannedEvents":"false"}}}`,
		fmt.Sprintf("tracking_plans {\n url = %q\n }\n filter_target {\n use \"file\" {\n path = \"DIR/filtered\"\n }\n }", plane.URL), "", h.destination("plain", ""))
	p, _ := startIn(t, dir, hcl)
	send(t, address, `{"type":"track","userId":"ann","event":"Paid","properties":{"total":1}}`)
	send(t, address, `{"type":"track","userId":"ann","event":"Other"}`)
	send(t, address, `{"type":"alias","userId":"ann","previousId":"a"}`)
	send(t, address, `{"type":"track","userId":"ann","event":"Paid","properties":{}}`)
	processor := func() *meter.Pipeline {
		for _, m := range p.Meter.Pipelines() {
			if m.Name == "shop-processor" {
				return m
			}
		}
		return meter.NewPipeline("none")
	}
	await(t, "events that wait for the plan", func() bool { return processor().Unsettled.Load() > 0 })
	if got := h.of("/plain"); len(got) > 0 {
		t.Errorf("delivered before there is a plan: %s", got)
	}
	there.Store(true)
	await(t, "the events", func() bool { return len(h.of("/plain")) == 2 && processor().Filtered.Load() == 2 })
	reasons := processor().FilteredReasons()
	p.ends(t)
	got := strings.Join(h.of("/plain"), "\n")
	for _, want := range []string{`"trackingPlanId":"tp","trackingPlanVersion":1,"violationErrors":[]`, `"violationErrors":[{"type":"Required-Missing","message":"must have required property 'total'","property":"total"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if reasons["tracking plan: Unplanned-Event"] != 1 {
		t.Errorf("filtered: %v", reasons)
	}
	if text, err := os.ReadFile(dir + "/filtered"); err != nil || !strings.Contains(string(text), "no schema for event: Other") {
		t.Errorf("the filter target has %s, %v", text, err)
	}
	if n := len(dead(t, dir, "shop-gateway", false)); n > 0 {
		t.Errorf("%d dead", n)
	}
}

// TestEnrichment: a source with geoEnrichment gets places, before its tracking plan and its destinations
// see the event; robots are dropped.
func TestEnrichment(t *testing.T) {
	t.Parallel()
	dir, h := t.TempDir(), newHooks(t)
	places, err := os.ReadFile("../geo/testdata/places.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/places.mmdb", string(places))
	write(t, dir+"/tp.json", `{"rules":{"page":{"properties":{"context":{"required":["geo"]}}}}}`)
	hcl, address := collecting(t, dir, `,"geoEnrichment":{"enabled":true},"dgSourceTrackingPlanConfig":{"trackingPlan":{"id":"tp","version":1},"config":{"global":{"anyOtherViolation":"drop"}}}`,
		"enrichment {\n geolocation_database = \"DIR/places.mmdb\"\n bots = \"drop\"\n user_agent = true\n }\n tracking_plans {\n directory = \"DIR\"\n }", "", h.destination("plain", ""))
	p, _ := startIn(t, dir, hcl)
	send(t, address, `{"type":"page","userId":"bot","context":{"userAgent":"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}}`)
	send(t, address, `{"type":"page","userId":"ann","context":{"ip":"81.2.69.160","userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"}}`)
	await(t, "the event, and the robot's", func() bool {
		n := int64(0)
		for _, m := range p.Meter.Pipelines() {
			n += m.FilteredReasons()["bot"]
		}
		return len(h.of("/plain")) == 1 && n == 1
	})
	p.ends(t)
	got := h.of("/plain")[0]
	for _, want := range []string{`"geo":{"ip":"81.2.69.160","city":"London"`, `"browser":{"name":"Firefox","version":"130.0"}`, `"violationErrors":[]`, `"userId":"ann"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}

// TestArchive: every event that was taken is a line of an object in RudderStack's layout, but for those of a
// transient source; and what is in it can be sent again through the gateway, as a source that repeats the
// other's.
func TestArchive(t *testing.T) {
	t.Parallel()
	dir, h := t.TempDir(), newHooks(t)
	hcl, address := collecting(t, dir, "", "deduplicate {}", "", h.destination("plain", ""))
	ws, err := os.ReadFile(dir + "/ws.json")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/ws.json", strings.Replace(string(ws), `"sources":[`, `"sources":[
		{"id":"secret","writeKey":"secret-key","enabled":true,"transient":true},
		{"id":"again","originalId":"src","writeKey":"again","enabled":true,"destinations":[`+h.destination("repeated", "")+`]},`, 1))
	hcl = strings.Replace(hcl, "  gateway {\n", "  archive {\n target {\n use \"object\" {\n path = \"DIR/archive\"\n batching {\n flush_period_millis = 50\n }\n }\n }\n }\n  gateway {\n internal_endpoints = true\n", 1)
	p, _ := startIn(t, dir, hcl)
	for i := range 10 {
		send(t, address, fmt.Sprintf(`{"type":"track","userId":"u%d","event":"Paid","messageId":"m%d"}`, i%3, i))
	}
	send(t, address, `{"type":"track","userId":"u0","event":"Paid","messageId":"m0"}`)
	secret, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/track", strings.NewReader(`{"userId":"secret","event":"Paid"}`))
	if err != nil {
		t.Fatal(err)
	}
	secret.SetBasicAuth("secret-key", "")
	ask(t, secret)
	name := regexp.MustCompile(`^src/gw/\d{4}-\d\d-\d\d/\d{1,2}/weir/\d+_\d+_ws_[a-z0-9]+\.json\.gz$`)
	lines := func() (all []string) {
		err := filepath.WalkDir(dir+"/archive", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
				return nil //nolint:nilerr // what is not there yet has no lines
			}
			rel, _ := filepath.Rel(dir+"/archive", path)
			if !strings.HasSuffix(rel, ".json.gz") {
				return nil // it is being written
			}
			if !name.MatchString(filepath.ToSlash(rel)) {
				t.Errorf("an object is called %s", rel)
			}
			all = append(all, unzipped(t, path)...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	await(t, "the lines, and that what is transient was left out", func() bool {
		n := int64(0)
		for _, m := range p.Meter.Pipelines() {
			n += m.FilteredReasons()["source is transient"]
		}
		return len(lines()) >= 10 && n == 1 && len(h.of("/plain")) == 10
	})
	var batch, ids []string
	for _, text := range lines() {
		var line struct {
			UserID, CreatedAt, MessageID string
			Payload                      json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.UserID == "" || line.CreatedAt == "" || !strings.HasPrefix(line.MessageID, "m") {
			t.Errorf("a line is %s: %v", text, err)
		}
		batch, ids = append(batch, string(line.Payload)), append(ids, line.MessageID)
	}
	slices.Sort(ids)
	if got := strings.Join(ids, ","); got != "m0,m1,m2,m3,m4,m5,m6,m7,m8,m9" {
		t.Errorf("kept: %s", got)
	}
	replay, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/internal/v1/replay", strings.NewReader(`{"batch":[`+strings.Join(batch, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	replay.Header.Set("X-Rudder-Source-Id", "again")
	ask(t, replay)
	await(t, "the events once more", func() bool { return len(h.of("/repeated")) == 10 })
	p.ends(t)
}

// ask sends a request that is to be answered 200.
func ask(t *testing.T, r *http.Request) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", r.URL, resp.StatusCode, text, err)
	}
}

// unzipped are the lines of a compressed file.
func unzipped(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
