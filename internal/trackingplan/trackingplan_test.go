package trackingplan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

// source is a source with a plan whose config is given.
func source(t *testing.T, config string) *workspace.Source {
	t.Helper()
	w, err := workspace.Parse("ws.json", []byte(`{"workspaceId":"ws","sources":[{"id":"s","writeKey":"k","enabled":true,
		"dgSourceTrackingPlanConfig":{"trackingPlan":{"id":"tp","version":3},`+config+`}}]}`), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return w.BySource("s")
}

const shop = `{"events":[
	{"name":"Paid","eventType":"track","rules":{"type":"object","properties":{"properties":{"type":"object","properties":{"total":{"type":"number"}},"required":["total"],"additionalProperties":false}},"required":["properties"]}},
	{"name":"","eventType":"identify","rules":{"type":"object","properties":{"traits":{"type":"object","required":["email"]}}}}]}`

func plans(t *testing.T, c Config, log *slog.Logger) *Plans {
	t.Helper()
	if c.PatienceMillis == 0 {
		c.PatienceMillis = 60000
	}
	p, err := New(connector.Deps{Log: log, Dir: t.TempDir()}, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestOptions: what becomes of an event, and what is written into it, by the options of its plan.
func TestOptions(t *testing.T) {
	t.Parallel()
	p := plans(t, Config{Directory: directory(t, map[string]string{"tp-3.json": shop})}, nil)
	const (
		good      = `{"type":"track","event":"Paid","properties":{"total":1}}`
		unplanned = `{"type":"track","event":"Other"}`
		more      = `{"type":"track","event":"Paid","properties":{"total":1,"x":2}}`
		both      = `{"type":"track","event":"Paid","properties":{"total":"1","x":2}}`
		missing   = `{"type":"track","event":"Paid","properties":{}}`
	)
	for _, row := range []struct {
		config, kind, name, event string
		drops, violations         string
	}{
		{`"config":{"global":{"allowUnplannedEvents":"true"}}`, "track", "Paid", good, "", "[]"},
		{`"config":{"global":{"allowUnplannedEvents":"true"}}`, "track", "Other", unplanned, "", `[{"type":"Unplanned-Event","message":"no schema for event: Other","meta":{}}]`},
		{`"config":{"global":{"allowUnplannedEvents":false}}`, "track", "Other", unplanned, Unplanned, "Unplanned-Event"},
		{`"config":{"global":{"allowUnplannedEvents":"FALSE"},"track":{"allowUnplannedEvents":"true"}}`, "track", "Other", unplanned, "", "Unplanned-Event"},
		{`"config":{"global":{"unplannedProperties":"drop"}}`, "track", "Paid", more, Additional, `"property":"x"`},
		{`"config":{"global":{"unplannedProperties":"forward"}}`, "track", "Paid", more, "", `"instancePath":"/properties"`},
		{`"config":{"global":{"unplannedProperties":"drop","anyOtherViolation":"forward"}}`, "track", "Paid", missing, "", Missing},
		{`"config":{"global":{"anyOtherViolation":"drop"}}`, "track", "Paid", missing, Missing, Missing},
		{`"config":{"global":{"unplannedProperties":"drop","anyOtherViolation":"drop"}}`, "track", "Paid", both, Datatype, Additional},
		{`"config":{"global":{"anyOtherViolation":"drop","unplannedProperties":"drop"}}`, "track", "Paid", both, Additional, Datatype},
		{`"config":{"identify":{"anyOtherViolation":"drop"}}`, "identify", "", `{"type":"identify","traits":{}}`, Missing, `"property":"email"`},
		{`"config":{"identify":{"anyOtherViolation":"drop"}}`, "track", "Paid", missing, "", "none"},
		{`"config":{"global":{"anyOtherViolation":"drop"}}`, "group", "", `{"type":"group"}`, "", "[]"},
		{`"config":{"global":{"anyOtherViolation":"drop"}}`, "alias", "", `{"type":"alias"}`, "", "none"},
		{`"config":{}`, "track", "Other", unplanned, "", "none"},
		{`"config":{"global":{"propagateValidationErrors":"false","anyOtherViolation":"drop"}}`, "track", "Paid", missing, Missing, "none"},
		{`"config":{"global":{"anyOtherViolation":"drop"}},"mergedConfig":{"anyOtherViolation":"forward"}`, "track", "Paid", missing, "", Missing},
		{`"mergedConfig":{"allowUnplannedEvents":"false"}`, "track", "Other", unplanned, Unplanned, "Unplanned-Event"},
	} {
		v, err := p.Check(t.Context(), source(t, row.config), row.kind, row.name, []byte(row.event))
		if err != nil || v.Drops != row.drops {
			t.Errorf("%s %s: drops for %q, want %q: %v", row.config, row.event, v.Drops, row.drops, err)
		}
		if (v.Data == nil) != (row.violations == "none") {
			t.Errorf("%s %s: written %s", row.config, row.event, v.Data)
			continue
		}
		if v.Data == nil {
			continue
		}
		var got struct {
			Context struct {
				ID         string          `json:"trackingPlanId"`
				Version    int             `json:"trackingPlanVersion"`
				Violations json.RawMessage `json:"violationErrors"`
			} `json:"context"`
		}
		if err := json.Unmarshal(v.Data, &got); err != nil || got.Context.ID != "tp" || got.Context.Version != 3 || !strings.Contains(string(got.Context.Violations), row.violations) {
			t.Errorf("%s %s: written %s: %v", row.config, row.event, v.Data, err)
		}
	}
	if v, err := p.Check(t.Context(), source(t, `"config":{"global":{"anyOtherViolation":"drop"}}`), "track", "Paid", []byte(`{"context":"odd"}`)); err != nil || string(v.Data) != `{"context":"odd"}` || v.Drops != Missing {
		t.Errorf("an odd context: %s %v", v.Data, err)
	}
}

// TestOlderShape: plans of the older shape, and what is no plan.
func TestOlderShape(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	dir := directory(t, map[string]string{
		"tp.json": `{"rules":{"events":[{"name":"Paid","rules":{"required":["userId"]}},{"name":"Broken","rules":{"type":"no type"}}],"identify":{"required":["traits"]}}}`,
	})
	p := plans(t, Config{Directory: dir}, slog.New(slog.NewTextHandler(&log, nil)))
	s := source(t, `"config":{"global":{"anyOtherViolation":"drop","allowUnplannedEvents":"false"}}`)
	for _, row := range [][4]string{{"track", "Paid", `{}`, Missing}, {"identify", "", `{}`, Missing}, {"track", "Other", `{}`, Unplanned}, {"track", "Broken", `{}`, ""}} {
		if v, err := p.Check(t.Context(), s, row[0], row[1], []byte(row[2])); err != nil || v.Drops != row[3] {
			t.Errorf("%s: %q, %v", row, v.Drops, err)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `the rule for track \"Broken\"`) {
		t.Errorf("log: %s", text)
	}
	for name, text := range map[string]string{"no plan": `{"a":1}`, "no JSON": `{`} {
		p := plans(t, Config{Directory: directory(t, map[string]string{"tp.json": text})}, nil)
		if _, err := p.Check(t.Context(), s, "track", "Paid", []byte(`{}`)); fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "tracking plan tp") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReferences: a schema reads nothing that is not in it.
func TestReferences(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 9)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer server.Close()
	file := directory(t, map[string]string{"s.json": `true`}) + "/s.json"
	for _, ref := range []string{server.URL + "/s.json", "file://" + file, file, "s.json", "http://json-schema.org/other"} {
		if _, _, err := compile([]byte(fmt.Sprintf(`{"$ref":%q}`, ref))); err == nil || !strings.Contains(err.Error(), "may refer to its own parts only") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if len(asked) > 0 {
		t.Errorf("asked for %s", <-asked)
	}
	for _, text := range []string{`{"properties":{"a":{"pattern":"("}}}`, `{"type":1}`, `[`, `{"$ref":"#/definitions/none"}`, `{"$id":"http://[x/"}`} {
		if _, _, err := compile([]byte(text)); err == nil {
			t.Errorf("%s compiles", text)
		}
	}
}

// TestControlPlane: what it answers is kept; while it does not answer events wait, and a plan that is not
// there is an error of theirs.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if user, _, _ := r.BasicAuth(); user != "token" || r.URL.String() != "/workspaces/ws/tracking-plans/tp?version=3" {
			t.Errorf("asked for %s by %q", r.URL, user)
		}
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(shop))
	}))
	defer server.Close()
	s := source(t, `"config":{"global":{"anyOtherViolation":"drop"}}`)
	cache := t.TempDir()
	c := Config{URL: server.URL, Secret: "token", CacheDirectory: cache}
	for code, want := range map[int]string{401: "paced", 403: "paced", 500: "paced", 404: "invalid", 200: ""} {
		status.Store(int64(code))
		_, err := plans(t, c, nil).Check(t.Context(), s, "track", "Paid", []byte(`{}`))
		got := ""
		switch {
		case fault.Paced(err):
			got = "paced"
		case err != nil:
			got = fault.Of(err).String()
		}
		if got != want {
			t.Errorf("%d: %v", code, err)
		}
		if code == 200 {
			if err := os.RemoveAll(cache + "/plan-ws-tp-3.json"); err != nil {
				t.Error(err)
			}
		}
	}
	status.Store(200)
	if _, err := plans(t, c, nil).Check(t.Context(), s, "track", "Paid", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	server.Close()
	if v, err := plans(t, c, nil).Check(t.Context(), s, "track", "Paid", []byte(`{}`)); err != nil || v.Drops != Missing || asked.Load() != before {
		t.Errorf("what was kept: %+v, %v", v, err)
	}
}

// TestAgain: a plan that could not be had is asked for again after a while, and one in a directory that
// changes counts anew; what cannot be read any more stays as it was.
func TestAgain(t *testing.T) {
	t.Parallel()
	dir := directory(t, nil)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := plans(t, Config{Directory: dir}, slog.New(slog.NewTextHandler(&log, nil)))
		s := source(t, `"config":{"global":{"anyOtherViolation":"drop"}}`)
		check := func() (string, error) {
			v, err := p.Check(t.Context(), s, "track", "Paid", []byte(`{"properties":{}}`))
			return v.Drops, err
		}
		for range 3 {
			if _, err := check(); fault.Of(err) != fault.Invalid {
				t.Fatal(err)
			}
			time.Sleep(again + 1)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("told %d times:\n%s", n, &log)
		}
		write := func(text string) {
			if err := os.WriteFile(dir+"/tp-3.json", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(fresh + 1)
		}
		for text, want := range map[string]string{shop: Missing} {
			write(text)
			if got, err := check(); err != nil || got != want {
				t.Errorf("%q, %v", got, err)
			}
		}
		write(strings.ReplaceAll(shop, `"required":["total"],`, ""))
		if got, err := check(); err != nil || got != "" {
			t.Errorf("another plan: %q, %v", got, err)
		}
		write("{")
		if got, err := check(); err != nil || got != "" {
			t.Errorf("a broken plan: %q, %v", got, err)
		}
	})
}

// TestPatience: an event waits for a plan no longer than it is said, and no caller after it.
func TestPatience(t *testing.T) {
	t.Parallel()
	let := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-let
		_, _ = w.Write([]byte(shop))
	}))
	defer server.Close()
	p := plans(t, Config{URL: server.URL, PatienceMillis: 10}, nil)
	s := source(t, `"config":{"global":{"anyOtherViolation":"drop"}}`)
	if _, err := p.Check(t.Context(), s, "track", "Paid", []byte(`{}`)); !fault.Paced(err) {
		t.Errorf("while it is fetched: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.c.PatienceMillis = 60000
	if _, err := p.Check(ctx, s, "track", "Paid", []byte(`{}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is over: %v", err)
	}
	close(let)
	if v, err := p.Check(t.Context(), s, "track", "Paid", []byte(`{}`)); err != nil || v.Drops != Missing {
		t.Errorf("once it is there: %+v, %v", v, err)
	}
}

// FuzzCheck: whatever an event is, its validation ends, and what is written is JSON.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"properties":{"total":1e999999999}}`, `{"context":{"violationErrors":1}}`, `{"properties":{"a":[[]],"total":-0.0}}`} {
		f.Add([]byte(s))
	}
	p, err := read([]byte(`{"rules":{"identify":{"properties":{"properties":{"properties":{"total":{"type":"integer","multipleOf":0.01,"maximum":5},"a":{"uniqueItems":true,"contains":{"pattern":"(a+)+$"}}},"additionalProperties":false}},"unevaluatedProperties":{"format":"date-time"}}}}`))
	if err != nil || len(p.broken()) > 0 {
		f.Fatal(err, p.broken())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := decode(data)
		if err != nil {
			return
		}
		if _, err := p.rules[key{"identify", ""}].violations(v); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	r := &rule{}
	if r.schema, r.doc, r.err = compile([]byte(`{"type":"object","properties":{"properties":{"type":"object","properties":{"total":{"type":"number"}},"required":["total"]}}}`)); r.err != nil {
		b.Fatal(r.err)
	}
	event := []byte(`{"type":"track","event":"Paid","userId":"u","messageId":"m","context":{"library":{"name":"x","version":"1"},"page":{"url":"https://example.com/a","path":"/a"}},"properties":{"total":12.5,"currency":"EUR","items":[{"sku":"a","n":1},{"sku":"b","n":2}]}}`)
	b.ReportAllocs()
	for b.Loop() {
		v, err := decode(event)
		if err != nil {
			b.Fatal(err)
		}
		if got, err := r.violations(v); err != nil || got != nil {
			b.Fatal(got, err)
		}
	}
}
