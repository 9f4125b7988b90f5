package workspace_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

func read(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/workspaceConfig.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte) *workspace.Workspace {
	t.Helper()
	w, err := workspace.Parse("test.json", data, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestParse(t *testing.T) {
	t.Parallel()
	w := parse(t, read(t))
	s := w.ByWriteKey("WRITEKEY1")
	if s == nil || s != w.BySource("src1") || s != w.ByAuthorization("Basic V1JJVEVLRVkxOg==") {
		t.Fatalf("source %v", s)
	}
	if s.Workspace != "ws1" || s.Scope.Workspace != "ws1" || s.Scope.Source != "src1" || !s.Enabled || s.Category != "" || !s.Blocked["Spam"] {
		t.Errorf("%+v", s)
	}
	if len(s.Connections) != 2 || s.Connections[0].Destination != w.Destination("dst1") || s.Connections[0].Scope.Destination != "dst1" {
		t.Fatalf("connections %+v", s.Connections)
	}
	d := w.Destination("dst1")
	if d.Type != "WEBHOOK" || d.DisplayName != "Webhook" || !d.Enabled || !d.Processed || !strings.Contains(string(d.Config), "webhookUrl") {
		t.Errorf("%+v", d)
	}
	if d := cmp.Diff(map[string]bool{"track": true}, s.Connections[1].Types); d != "" {
		t.Errorf("types of a hybrid destination without identify, -want +got:\n%s", d)
	}
	other := w.BySource("src2")
	if len(other.Connections) != 1 || other.Connections[0].Scope.Workspace != "ws2" || len(other.Connections[0].Types) != 2 {
		t.Errorf("a connection that only connections speaks of: %+v", other.Connections)
	}
	if len(w.Warnings) != 1 || !strings.Contains(w.Warnings[0], "dst9") {
		t.Errorf("warnings %q", w.Warnings)
	}
	if w.ByWriteKey("") != nil || w.ByWriteKey("x") != nil || w.Destination("x") != nil || w.Destinations() != 2 {
		t.Error("something was found that is not there")
	}
}

func TestConnectionSwitchedOff(t *testing.T) {
	t.Parallel()
	w := parse(t, []byte(strings.Replace(string(read(t)), `"destinationId": "dst1", "enabled": true`, `"destinationId": "dst1", "enabled": false`, 1)))
	if cs := w.BySource("src1").Connections; len(cs) != 1 || cs[0].Destination.ID != "dst2" {
		t.Errorf("connections %+v", cs)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	w := parse(t, []byte(`{"sources":[{"id":"a","enabled":true,"destinations":[{"id":"d","enabled":true,"destinationDefinition":{"name":"X"}}]},
		{"id":"b","writeKey":"k","destinations":[{"id":"d","enabled":false,"destinationDefinition":{"name":"X"}}]}]}`))
	want := []string{
		`source "a" (sources[0]) has no writeKey: nobody can send events to it`,
		`destination "d" (sources[0].destinations[0]) is enabled, but "isProcessorEnabled" is not true: it gets no events`,
		`destination "d" (sources[1].destinations[0]) differs from where it occurs first in the file: the first counts`,
	}
	if d := cmp.Diff(want, w.Warnings); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                       "line 1, column 1: unexpected end of JSON input",
		"{\n  \"sources\": [,]}": "line 2, column 15: invalid character ',' looking for beginning of value",
		`{"sources":{}}`:         `line 1, column 12: "sources" is a object, and must be a list`,
		`{"sources":[{"id":5}]}`: `"sources.id" is a number, and must be a text`,
		`{"sources":[{}]}`:       `sources[0] has no id: give every source one`,
		`{"sources":[{"id":"a","writeKey":"k"},{"id":"b","writeKey":"k"}]}`: `source "b" (sources[1]): source "a" has the same writeKey: events could not be told apart`,
		`{"sources":[{"id":"a","writeKey":"k"},{"id":"a","writeKey":"l"}]}`: `source "a" (sources[1]): the id is used twice: give every source its own`,
		`{}`:               `there is no list of "sources"`,
		`{"sources":null}`: `there is no list of "sources"`,
	} {
		_, err := workspace.Parse("test.json", []byte(text), time.Time{})
		if err == nil || !strings.HasPrefix(err.Error(), "read workspace config test.json: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  got  %v\n  want %s", text, err, want)
		}
	}
}

// TestOddDestinations: one that cannot be read, or asks for what is not built, is switched off
// with the reason, and the others get their events.
func TestOddDestinations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:         `sources[0].destinations[1] has no id: give every destination one`,
		`{"id":"d"}`: `destination "d" (sources[0].destinations[1]) is switched off: it has no destinationDefinition.name, which says what kind of destination it is, such as WEBHOOK`,
		`{"id":"d","enabled":true,"isProcessorEnabled":true,"config":[],"destinationDefinition":{"name":"X"}}`:                                 `destination "d" (sources[0].destinations[1]) is switched off: config: "" is a array, and must be an object`,
		`{"id":"d","enabled":true,"isProcessorEnabled":true,"config":{"consentManagement":5},"destinationDefinition":{"name":"X"}}`:            `config: "consentManagement" must be a list, or an object with a list for each type of source`,
		`{"id":"d","enabled":true,"isProcessorEnabled":true,"config":{"ketchConsentPurposes":{"web":5}},"destinationDefinition":{"name":"X"}}`: `config: "ketchConsentPurposes.web" is a number, and must be a list`,
		`{"id":"d","enabled":"yes","isProcessorEnabled":true,"destinationDefinition":{"name":"X"}}`:                                            `"enabled" is a string, and must be true or false`,
		`{"id":"d","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X","config":{"supportedMessageTypes":5}}}`:        `destinationDefinition.config: `,
		`[1]`: `sources[0].destinations[1] has no id`,
	} {
		w := parse(t, []byte(`{"sources":[{"id":"a","writeKey":"k","enabled":true,"destinations":[
			{"id":"good","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"}},`+text+`]}]}`))
		if !strings.Contains(strings.Join(w.Warnings, "\n"), want) {
			t.Errorf("%s\n  got  %q\n  want %s", text, w.Warnings, want)
		}
		if d := w.Destination("good"); d == nil || !d.Enabled || d.Off != "" {
			t.Errorf("%s: the other destination is off: %+v", text, d)
		}
		if d := w.Destination("d"); d != nil && (d.Enabled || d.Off == "") {
			t.Errorf("%s: it is on: %+v", text, d)
		}
	}
}

// TestSourcesAskForMore: what a source asks for and is not built is named.
func TestSourcesAskForMore(t *testing.T) {
	t.Parallel()
	w := parse(t, []byte(`{"sources":[{"id":"a","writeKey":"k","geoEnrichment":{"enabled":true},"transient":true,"sourceDefinition":{"name":"x","options":{"hydration":{"enabled":true}}},"dgSourceTrackingPlanConfig":{"trackingPlan":{"id":"tp1"}}}]}`))
	all := strings.Join(w.Warnings, "\n")
	for _, want := range []string{"hydration"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	if len(w.Warnings) != 1 {
		t.Errorf("warnings: %q", w.Warnings)
	}
}

func TestConsent(t *testing.T) {
	t.Parallel()
	or := workspace.Purposes{Any: true, IDs: []string{"a", "b"}}
	and := workspace.Purposes{IDs: []string{"a", "b"}}
	all := workspace.Consent{
		Providers: map[string]workspace.Purposes{"custom": or, "iubenda": or},
		OneTrust:  []string{"a", "b"}, Ketch: []string{"a", "b"},
	}
	for _, row := range []struct {
		name    string
		consent workspace.Consent
		denial  workspace.Denial
		want    bool
	}{
		{"nothing denied", all, workspace.Denial{Provider: "custom"}, true},
		{"nothing configured", workspace.Consent{}, workspace.Denial{Provider: "custom", IDs: []string{"a"}}, true},
		{"custom or, one", all, workspace.Denial{Provider: "custom", IDs: []string{"a"}}, true},
		{"custom or, all", all, workspace.Denial{Provider: "custom", IDs: []string{"b", "a"}}, false},
		{"custom and, one", workspace.Consent{Providers: map[string]workspace.Purposes{"custom": and}}, workspace.Denial{Provider: "custom", Any: true, IDs: []string{"a"}}, false},
		{"custom and, another", workspace.Consent{Providers: map[string]workspace.Purposes{"custom": and}}, workspace.Denial{Provider: "custom", IDs: []string{"c"}}, true},
		{"the event's strategy", all, workspace.Denial{Provider: "iubenda", IDs: []string{"a"}}, false},
		{"the event's strategy or", all, workspace.Denial{Provider: "iubenda", Any: true, IDs: []string{"a"}}, true},
		{"oneTrust, one", all, workspace.Denial{Provider: "oneTrust", IDs: []string{"b"}}, false},
		{"no provider: oneTrust first", all, workspace.Denial{IDs: []string{"b"}}, false},
		{"ketch, one", all, workspace.Denial{Provider: "ketch", IDs: []string{"a"}}, true},
		{"ketch, all", all, workspace.Denial{Provider: "ketch", IDs: []string{"a", "b"}}, false},
		{"no provider: ketch", workspace.Consent{Ketch: []string{"a"}}, workspace.Denial{IDs: []string{"a"}}, false},
		{"another provider", all, workspace.Denial{Provider: "other", IDs: []string{"a", "b"}}, true},
	} {
		if got := row.consent.Allows(&row.denial); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// TestMessageTypes: the list of types is there in two forms.
func TestMessageTypes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]bool{
		`["track","page"]`: {"track": true, "page": true},
		`{"cloud":["track","page"],"device":{"web":["identify"]}}`: {"track": true, "page": true},
		`{"device":{"web":["identify"]}}`:                          nil,
		`null`:                                                     nil,
		`[]`:                                                       nil,
	} {
		w := parse(t, []byte(`{"sources":[{"id":"a","writeKey":"k","destinations":[{"id":"d","destinationDefinition":{"name":"X","config":{"supportedMessageTypes":`+text+`}}}]}]}`))
		if d := cmp.Diff(want, w.BySource("a").Connections[0].Types); d != "" {
			t.Errorf("%s: -want +got:\n%s", text, d)
		}
	}
	for _, text := range []string{`"track"`, `{"cloud":"track"}`, `[1]`} {
		w := parse(t, []byte(`{"sources":[{"id":"a","destinations":[{"id":"d","destinationDefinition":{"name":"X","config":{"supportedMessageTypes":`+text+`}}}]}]}`))
		if d := w.Destination("d"); !strings.Contains(d.Off, "destinationDefinition.config: ") {
			t.Errorf("%s: %q", text, d.Off)
		}
	}
}

// write replaces a file; its time is set, since the clock of a file system is coarse.
func write(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "workspaceConfig.json")
	if _, err := workspace.Open(path, nil); !errors.Is(err, fs.ErrNotExist) || fault.Of(err) != fault.Setup {
		t.Errorf("no file: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		write(t, path, `{"sources":[{"id":"a","writeKey":"one"}]}`, time.Now())
		f, err := workspace.Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		go workspace.Watch(t.Context())
		again, err := workspace.Open(filepath.Join(filepath.Dir(path), ".", "workspaceConfig.json"), nil)
		if err != nil || again != f {
			t.Errorf("one path is two files: %v", err)
		}
		has := func(key string) bool { return f.Current().ByWriteKey(key) != nil }
		write(t, path, `{"sources":[{"id":"a","writeKey":"two"}]}`, time.Now().Add(time.Second))
		if !has("one") || has("two") {
			t.Error("read before its time")
		}
		time.Sleep(workspace.CheckPeriod)
		synctest.Wait()
		if has("one") || !has("two") || f.Err() != nil {
			t.Errorf("not read again: %v", f.Err())
		}
		write(t, path, `{`, time.Now().Add(2*time.Second))
		time.Sleep(workspace.CheckPeriod)
		synctest.Wait()
		if !has("two") || f.Err() == nil || fault.Of(f.Err()) != fault.Setup {
			t.Errorf("a broken file: %v", f.Err())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := f.Reload(); !errors.Is(err, fs.ErrNotExist) || !has("two") {
			t.Errorf("a file that is gone: %v", err)
		}
		write(t, path, `{"sources":[{"id":"a","writeKey":"three"}]}`, time.Now())
		if err := f.Reload(); err != nil || !has("three") || f.Err() != nil {
			t.Errorf("Reload: %v", err)
		}
		runtime.KeepAlive(again)
	})
}

func FuzzParse(f *testing.F) {
	f.Add(read(f))
	for _, s := range []string{`{}`, `null`, `{"sources":null}`, `{"SOURCES":[{"ID":"a","destinations":[{"id":"d","config":null,"destinationDefinition":{"name":"x","config":null}}]}]}`, `{"connections":{"c":null},"settings":{"eventBlocking":null}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := workspace.Parse("f", data, time.Time{})
		if (w == nil) == (err == nil) {
			t.Fatalf("%v, %v", w, err)
		}
		if w == nil {
			return
		}
		for _, s := range w.Sources {
			if w.BySource(s.ID) != s || (s.WriteKey != "" && w.ByWriteKey(s.WriteKey) != s) {
				t.Fatalf("source %q is not found", s.ID)
			}
			for _, c := range s.Connections {
				if w.Destination(c.Destination.ID) != c.Destination || c.Scope.Source != s.ID {
					t.Fatalf("connection to %q", c.Destination.ID)
				}
			}
		}
	})
}

// TestTransformation: the first transformation of a destination counts, and each workspace says
// what its own may use.
func TestTransformation(t *testing.T) {
	t.Parallel()
	one := parse(t, []byte(`{"workspaceId":"one","sources":[{"id":"a","writeKey":"k","enabled":true,"destinations":[
		{"id":"d","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"},"transformations":[{"id":"t1","versionId":"v1","language":"Python"},{"id":"t2","versionId":"v2"}]},
		{"id":"e","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"},"transformations":[{"id":"t2","versionId":"v2"}]},
		{"id":"f","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"},"transformations":[]}]}],
		"libraries":[{"versionId":"l1"},{"versionId":"l2"},{"versionId":"l1"}],"credentials":{"c2":{"key":"b","value":"2"},"c1":{"key":"a","value":"1","isSecret":true}}}`))
	for id, want := range map[string]*workspace.Transformation{
		"d": {ID: "t1", Version: "v1", Language: "python"},
		"e": {ID: "t2", Version: "v2", Language: "javascript"},
		"f": nil,
	} {
		d := one.Destination(id)
		if got := d.Transformation(); !reflect.DeepEqual(got, want) || !d.Enabled || d.Off != "" {
			t.Errorf("%s has %+v, want %+v; off: %q", id, got, want, d.Off)
		}
	}
	two := parse(t, []byte(`{"workspaceId":"two","sources":[],"libraries":[{"versionId":"l3"}]}`))
	both := workspace.Join([]*workspace.Workspace{one, two}, time.Time{})
	code := &workspace.Code{Libraries: []string{"l1", "l2"}, Credentials: []workspace.Credential{{ID: "c1", Key: "a", Value: "1", Secret: true}, {ID: "c2", Key: "b", Value: "2"}}}
	for _, got := range []*workspace.Code{one.Code("one"), one.Code("another"), both.Code("one")} {
		if !reflect.DeepEqual(got, code) {
			t.Errorf("it may use %+v", got)
		}
	}
	if got := both.Code("two"); len(got.Libraries) != 1 || got.Libraries[0] != "l3" || len(got.Credentials) > 0 {
		t.Errorf("two may use %+v", got)
	}
	if got := both.Code("none"); len(got.Libraries)+len(got.Credentials) > 0 {
		t.Errorf("none may use %+v", got)
	}
}
