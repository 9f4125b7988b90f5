package usertransform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

// engine is an engine whose directory has files, with the options that set makes.
func engine(t testing.TB, files map[string]string, set func(*Config)) *Engine {
	t.Helper()
	var c Config
	c.SetDefaults()
	c.PatienceMillis = int(wholePatience.Milliseconds()) // no test depends on how fast anything is
	c.TimeoutMillis = 60_000
	c.Directory = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.Directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if set != nil {
		set(&c)
	}
	e, err := New(connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func way(version string, libraries ...string) (*workspace.Workspace, *workspace.Source, *workspace.Connection) {
	quoted, _ := json.Marshal(libraries)
	w, err := workspace.Parse("test.json", []byte(`{"workspaceId":"ws","sources":[],"credentials":{"c1":{"key":"token","value":"s3cret","isSecret":true}},"libraries":`+
		strings.NewReplacer("[\"", "[{\"versionId\":\"", "\"]", "\"}]", "\",\"", "\"},{\"versionId\":\"").Replace(string(quoted))+`}`), time.Time{})
	if err != nil {
		panic(err)
	}
	s := &workspace.Source{ID: "src", Name: "Site", Workspace: "ws", Definition: "Javascript", Category: "web"}
	return w, s, &workspace.Connection{Destination: &workspace.Destination{ID: "dst", Name: "Hook", Type: "WEBHOOK", Workspace: "ws", Transformations: []workspace.Transformation{
		{ID: "t1", Version: version, Language: workspace.JavaScript},
	}}}
}

func events(payloads ...string) event.Batch {
	b := make(event.Batch, len(payloads))
	for i, p := range payloads {
		b[i] = event.New([]byte(p))
		b[i].Times.Created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}
	return b
}

// told is the results as text: the events of each, or "! " and its error.
func told(results []Result) []string {
	all := make([]string, len(results))
	for i, r := range results {
		if r.Err != nil {
			all[i] = "! " + r.Err.Error()
			continue
		}
		texts := make([]string, len(r.Out))
		for j, o := range r.Out {
			texts[j] = string(o)
		}
		all[i] = strings.Join(texts, " ")
	}
	return all
}

func run(t testing.TB, e *Engine, version string, libraries []string, payloads ...string) []string {
	t.Helper()
	w, s, c := way(version, libraries...)
	return told(e.Run(t.Context(), w, s, c, events(payloads...), Brief))
}

// TestForms: what the contract says of every form of a result, event by event.
func TestForms(t *testing.T) {
	t.Parallel()
	const a, b = `{"messageId":"a","n":1}`, `{"messageId":"b","n":12345678901234567890}`
	for name, x := range map[string]struct {
		code string
		want []string // a text that begins with ! is contained in the error
	}{
		"changed":         {`export function transformEvent(event) { event.x = 1; return event }`, []string{`{"messageId":"a","n":1,"x":1}`, `{"messageId":"b","n":12345678901234567890,"x":1}`}},
		"async":           {`export async function transformEvent(event) { await null; event.x = 1; return event }`, []string{`{"messageId":"a","n":1,"x":1}`, "*"}},
		"arrow":           {`const transformEvent = (e) => ({n: e.n + 1}); export { transformEvent }`, []string{`{"n":2}`, `{"n":12345678901234567000}`}},
		"renamed":         {`function f(e) { return e } export { f as transformEvent }`, []string{a, b}},
		"null":            {`export function transformEvent(event) { return event.messageId === 'a' ? null : event }`, []string{"", b}},
		"undefined":       {`export function transformEvent(event) {}`, []string{"", ""}},
		"many":            {`export function transformEvent(event) { return [event, {of: event.messageId}] }`, []string{a + ` {"of":"a"}`, b + ` {"of":"b"}`}},
		"none":            {`export function transformEvent(event) { return [] }`, []string{"", ""}},
		"one bad of many": {`export function transformEvent(event) { return [event, event.n > 1 ? 7 : {}] }`, []string{a + " {}", "! returned event in events array from transformEvent(event) is not an object"}},
		"a text":          {`export function transformEvent(event) { return "x" }`, []string{"! returned event from transformEvent(event) is not an object", "! is not an object"}},
		"a date":          {`export function transformEvent(event) { return new Date() }`, []string{"! is not an object", "! is not an object"}},
		"thrown":          {"export function transformEvent(event) {\n  if (event.n > 1) throw new Error('bad ' + event.messageId)\n  return event\n}", []string{a, "! Error: bad b at transformEvent (transformation:2:"}},
		"rejected":        {"export async function transformEvent(event) {\n  if (event.n > 1) throw new TypeError('bad')\n  return event\n}", []string{a, "! TypeError: bad"}},
		"never settled":   {`export function transformEvent(event) { return new Promise(() => {}) }`, []string{"! nothing will ever settle", "! settle"}},
		"batch":           {`export function transformBatch(events, metadata) { return events.reverse() }`, []string{a, b}},
		"batch async":     {`export async function transformBatch(events) { return events.filter(e => e.messageId == 'b').map(e => ({messageId: 'b'})) }`, []string{"", `{"messageId":"b"}`}},
		"batch new":       {`export function transformBatch(events) { return [{n: events.length}] }`, []string{`{"n":2}`, ""}},
		"batch no array":  {`export function transformBatch(events) { return events[0] }`, []string{"! returned events from transformBatch(event) is not an array", "! is not an array"}},
		"batch thrown":    {`export function transformBatch(events) { throw new Error('all') }`, []string{"! Error: all", "! Error: all"}},
		"both":            {`export function transformBatch(events) {} export function transformEvent(e) {}`, []string{"! Expected one of transformEvent,transformBatch. Found transformEvent,transformBatch", "! Expected one of"}},
		"neither":         {`export function other() {}`, []string{"! Expected one of transformEvent,transformBatch. Found ", "! Expected one of"}},
		"syntax":          {"export function transformEvent(e) {\n  return e +\n}", []string{"! SyntaxError: transformation:3:1", "! SyntaxError"}},
		"unknown import":  {`import {x} from "nowhere"; export function transformEvent(e) { return x(e) }`, []string{"! import from nowhere failed. Module not found.", "! Module not found"}},
		"version 0":       {`function transform(events) { return events.map(e => { e.x = 1; return e }) }`, []string{`{"messageId":"a","n":1,"x":1}`, `{"messageId":"b","n":12345678901234567890,"x":1}`}},
		"version 0 text":  {`function transform(events) { return 'x' }`, []string{"! returned events from transform(events) is not an array", "! not an array"}},
		"later syntax":    {`export async function transformEvent(e) { async function* g() { yield e.n ?? 0 } for await (const n of g()) { e.m ||= n } return e }`, []string{`{"messageId":"a","n":1,"m":1}`, "*"}},
		"metadata":        {`export function transformEvent(e, metadata) { const m = metadata(e); return {s: m.sourceId, sn: m.sourceName, st: m.sourceType, sc: m.sourceCategory, w: m.workspaceId, d: m.destinationId, dn: m.destinationName, dt: m.destinationType, id: m.messageId, at: m.receivedAt, no: metadata({messageId: 'zz'}).sourceId === undefined} }`, []string{`{"s":"src","sn":"Site","st":"Javascript","sc":"web","w":"ws","d":"dst","dn":"Hook","dt":"WEBHOOK","id":"a","at":"2026-01-02T03:04:05.000Z","no":true}`, "*"}},
		"credential":      {`export function transformEvent(e) { return {t: getCredential('token'), no: getCredential('x') === undefined} }`, []string{`{"t":"s3cret","no":true}`, "*"}},
		"credential null": {`export function transformEvent(e) { return {t: getCredential(null)} }`, []string{"! TypeError: Key should be valid and defined", "*"}},
		"log":             {`export function transformEvent(e) { log('a', {b: 1}); return e }`, []string{a, b}},
		"geolocation":     {`export async function transformEvent(e) { try { return await geolocation('1.1.1.1') } catch (x) { return {e: x.message} } }`, []string{`{"e":"geolocation is not available right now"}`, "*"}},
		"geolocation bad": {`export async function transformEvent(e) { try { return await geolocation('x') } catch (x) { return {e: x.message} } }`, []string{`{"e":"invalid ip address"}`, "*"}},
		"geolocation no":  {`export async function transformEvent(e) { try { return await geolocation() } catch (x) { return {e: x.message} } }`, []string{`{"e":"ip address is required"}`, "*"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, map[string]string{"v.js": x.code}, nil)
			got := run(t, e, "v", nil, a, b)
			for i, want := range x.want {
				text, failed := strings.CutPrefix(want, "! ")
				if want != "*" && (failed && (!strings.HasPrefix(got[i], "! ") || !strings.Contains(got[i], text)) || !failed && got[i] != want) {
					t.Errorf("event %d became\n%s\nwant\n%s", i, got[i], want)
				}
			}
		})
	}
}

// TestLimits: code that takes too long or too much fails for its event, and no other.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"for ever":       `export function transformEvent(e) { while (e.bad) {} return e }`,
		"for ever async": `export async function transformEvent(e) { await null; while (e.bad) {} return e }`,
		"too deep":       `export function transformEvent(e) { const f = () => f() + 1; if (e.bad) f(); return e }`,
		"too much":       `export async function transformEvent(e) { await null; const a = []; while (e.bad) a.push('x'.repeat(100000) + a.length); return e }`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := `{"n":1}`
			var got []string
			for limit := 300; ; limit *= 2 { // on a busy machine a good event may take the time that a bad one has
				e := engine(t, map[string]string{"v.js": code}, func(c *Config) {
					if strings.Contains(name, "ever") {
						c.TimeoutMillis = limit
					}
				})
				if got = run(t, e, "v", nil, good, `{"bad":true}`, good); got[0] == good && got[2] == good || limit > 60_000 {
					break
				}
			}
			if got[0] != good || got[2] != good || !strings.HasPrefix(got[1], "! user transformation: ") {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestNothingLeaks: no call sees what another has left, whatever its form.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"variable": `let n = 0; export function transformEvent(e) { return {n: ++n} }`,
		"global":   `export function transformEvent(e) { globalThis.n = (globalThis.n || 0) + 1; return {n: globalThis.n} }`,
		"proto":    `export function transformEvent(e) { Array.prototype.n = (Array.prototype.n || 0) + 1; return {n: [].n} }`,
		"async":    `let n = 0; export async function transformEvent(e) { await null; return {n: ++n} }`,
		"batch":    `let n = 0; export function transformBatch(es) { return es.map(e => ({n: ++n})) }`,
		"closure":  `const f = (() => { let n = 0; return () => ++n })(); export function transformEvent(e) { return {n: f()} }`,
		"library":  `import {f} from 'counter'; export function transformEvent(e) { return {n: f()} }`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, map[string]string{"v.js": code, "l1.json": `{"name":"Counter","code":"let n = 0; export function f() { return ++n }"}`}, nil)
			for range 3 {
				if got := run(t, e, "v", []string{"l1"}, `{}`); got[0] != `{"n":1}` {
					t.Fatalf("a call sees %s", got)
				}
			}
		})
	}
}

// TestLibraries: libraries are imported by their names in camel case, in every form, and only
// those of the workspace and RudderStack's.
func TestLibraries(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string]string{
		"v.json":          `{"name":"T","codeVersion":"1","code":"import { twice, k as key } from \"myMathLib\"; import * as all from 'myMathLib'; import base from 'myMathLib'; import { trim } from '@rs/text/v2';\nexport function transformEvent(e) { return {a: twice(e.n), k: key, b: all.twice(2), d: base.x, t: trim(' x ')} }"}`,
		"l1.json":         `{"name":"My Math lib","code":"export const k = 3; export function twice(n) { return 2 * n }\nexport default {x: 9}"}`,
		"rs-text-v2.json": `{"name":"text","code":"export const trim = s => s.trim()"}`,
		"other.json":      `{"name":"other","code":"export const x = 1"}`,
		"w.js":            `import {x} from 'other'; export function transformEvent(e) { return {x} }`,
	}, nil)
	if got := run(t, e, "v", []string{"l1"}, `{"n":4}`); got[0] != `{"a":8,"k":3,"b":4,"d":9,"t":"x"}` {
		t.Error(got)
	}
	if got := run(t, e, "w", []string{"l1"}, `{}`); !strings.Contains(got[0], "import from other failed. Module not found.") {
		t.Error("a library of nobody was imported:", got)
	}
}

func TestCamelCase(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"My Math lib": "myMathLib", "counter": "counter", "snake_case-name": "snakeCaseName", "getURLs": "getURLs", "URL": "url", "Lib 2 x": "lib2X"} {
		if got := camelCase(in); got != want {
			t.Errorf("%q is imported as %q, want %q", in, got, want)
		}
	}
}

// TestRefused: what can never run says so by name.
func TestRefused(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string]string{"v.json": `{"language":"pythonfaas","code":"def transformEvent(e, m): return e"}`}, nil)
	for _, x := range []struct {
		t    workspace.Transformation
		want string
	}{
		{workspace.Transformation{ID: "t", Version: "v", Language: "python"}, `"t" is written in python`},
		{workspace.Transformation{ID: "t", Language: "javascript"}, "Transformation VersionID not found"},
		{workspace.Transformation{ID: "t", Version: "v", Language: "javascript"}, ""},
	} {
		if got := e.Refused(&x.t); !strings.Contains(got, x.want) || (got == "") != (x.want == "") {
			t.Errorf("%+v is refused by %q", x.t, got)
		}
	}
	if got := (*Engine)(nil).Refused(&workspace.Transformation{ID: "t"}); !strings.Contains(got, "it is not said where transformations are") {
		t.Error(got)
	}
	if got := run(t, e, "v", nil, `{}`); !strings.Contains(got[0], "it is written in pythonfaas") {
		t.Error(got)
	}
	for _, v := range []string{"../secret", "a/b", "missing", ".hidden"} {
		if got := run(t, e, v, nil, `{}`); !strings.Contains(got[0], "Transformation not found") {
			t.Errorf("%s: %s", v, got)
		}
	}
}

// TestFetch: what code may reach, and what it gets of it.
func TestFetch(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Method+" "+r.Header.Get("X-Mine")+" "+string(body))
		switch r.URL.Path {
		case "/text":
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "hello")
		default:
			_, _ = io.WriteString(w, `{"path":"`+r.URL.Path+`"}`)
		}
	}))
	t.Cleanup(server.Close)
	code := `export async function transformEvent(e) {
  const all = await Promise.all([fetch(e.url + '/a'), fetch(e.url + '/text')])
  const v2 = await fetchV2(e.url + '/text', {method: 'post', headers: {'X-Mine': 'm'}, body: JSON.stringify({b: 1})})
  return {all, status: v2.status, seen: v2.headers['x-seen'], body: v2.body, json: (await fetchV2(e.url + '/b')).body.path}
}`
	open := engine(t, map[string]string{"v.js": code}, func(c *Config) { c.AllowNetworks = []string{"127.0.0.0/8", "::1/128"} })
	want := `{"all":[{"path":"/a"},"ERROR"],"status":418,"seen":"POST m {\"b\":1}","body":"hello","json":"/b"}`
	if got := run(t, open, "v", nil, fmt.Sprintf(`{"url":%q}`, server.URL)); got[0] != want {
		t.Errorf("got  %s\nwant %s", got[0], want)
	}
	closed := engine(t, map[string]string{
		"v.js": `export async function transformEvent(e) { return {f: await fetch(e.url)} }`,
		"w.js": `export async function transformEvent(e) { try { await fetchV2(e.url) } catch (x) { return {name: x.name, has: x.message.length > 0} } }`,
	}, nil)
	for _, url := range []string{server.URL, "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]:1/", "file:///etc/passwd", "x"} {
		if got := run(t, closed, "v", nil, fmt.Sprintf(`{"url":%q}`, url)); got[0] != `{"f":"ERROR"}` {
			t.Errorf("%s was fetched: %s", url, got)
		}
		if got := run(t, closed, "w", nil, fmt.Sprintf(`{"url":%q}`, url)); got[0] != `{"name":"FetchError","has":true}` {
			t.Errorf("%s was fetched: %s", url, got)
		}
	}
}

// TestPatience: an event whose code waits longer than others may wait for it is left, at once the
// next time, and passes where nobody waits.
func TestPatience(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		select {
		case <-free:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "1")
	}))
	t.Cleanup(server.Close)
	e := engine(t, map[string]string{"v.js": `export async function transformEvent(e) { e.f = await fetch(e.url); return e }`}, func(c *Config) {
		c.AllowNetworks, c.PatienceMillis = []string{"127.0.0.0/8"}, 20
	})
	w, s, c := way("v")
	in := fmt.Sprintf(`{"url":%q}`, server.URL)
	for range 2 {
		for _, r := range e.Run(t.Context(), w, s, c, events(in, in), Brief) {
			if r.Err == nil || fault.Of(r.Err) == fault.Invalid {
				t.Fatalf("an event that waits is %v", told([]Result{r}))
			}
		}
	}
	if calls.Load() > 2 {
		t.Errorf("%d calls of code that has just kept others waiting", calls.Load())
	}
	close(free)
	got := e.Run(t.Context(), w, s, c, events(in), Whole)
	if want := fmt.Sprintf(`{"url":%q,"f":1}`, server.URL); told(got)[0] != want {
		t.Errorf("where nobody waits: %s", told(got))
	}
}

// TestControlPlane: code comes from a control plane by version, once, and from the cache when
// that is away.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[string]int{}
	away := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.String()]++
		user, _, _ := r.BasicAuth()
		switch {
		case away:
			w.WriteHeader(http.StatusBadGateway)
		case user != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.String() == "/transformation/getByVersionId?versionId=v":
			_, _ = io.WriteString(w, `{"id":"t","versionId":"v","name":"T","codeVersion":"1","language":"javascript","code":"import {f} from 'lib'; export function transformEvent(e) { return {f: f()} }","imports":["lib"]}`)
		case r.URL.String() == "/transformationLibrary/getByVersionId?versionId=l1":
			_, _ = io.WriteString(w, `{"versionId":"l1","name":"Lib","code":"export const f = () => 7"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	cache := t.TempDir()
	set := func(c *Config) { c.Directory, c.URL, c.Secret, c.CacheDirectory = "", server.URL, "token", cache }
	e := engine(t, nil, set)
	for range 3 {
		if got := run(t, e, "v", []string{"l1"}, `{}`, `{}`); got[0] != `{"f":7}` || got[1] != `{"f":7}` {
			t.Fatal(got)
		}
	}
	if got := run(t, e, "unknown", nil, `{}`); !strings.Contains(got[0], "Transformation not found at ") {
		t.Error(got)
	}
	mu.Lock()
	for _, url := range slices.Sorted(maps.Keys(asked)) {
		if asked[url] != 1 {
			t.Errorf("%s was asked for %d times", url, asked[url])
		}
	}
	away = true
	mu.Unlock()
	later := engine(t, nil, set)
	if got := run(t, later, "v", []string{"l1"}, `{}`); got[0] != `{"f":7}` {
		t.Error("without the control plane:", got)
	}
	w, s, c := way("new")
	if r := later.Run(t.Context(), w, s, c, events(`{}`), Brief)[0]; r.Err == nil || fault.Of(r.Err) == fault.Invalid {
		t.Error("an event whose code cannot be had just now is", told([]Result{r}))
	}
}

// TestDirectoryChanges: code that is changed in a directory counts, and code that breaks breaks.
func TestDirectoryChanges(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string]string{"v.js": `export function transformEvent(e) { return {n: 1} }`}, nil)
	if got := run(t, e, "v", nil, `{}`); got[0] != `{"n":1}` {
		t.Fatal(got)
	}
	path := filepath.Join(e.c.Directory, "v.js")
	for _, x := range []struct{ code, want string }{
		{`export function transformEvent(e) { return {n: 2} }`, `{"n":2}`},
		{`export function transformEvent(e) {`, "! user transformation: SyntaxError"},
		{`export function transformEvent(e) { return {n: 3} }`, `{"n":3}`},
	} {
		if err := os.WriteFile(path, []byte(x.code), 0o600); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		for _, l := range e.programs {
			<-l.done
			l.at = l.at.Add(-time.Hour)
		}
		e.mu.Unlock()
		if got := run(t, e, "v", nil, `{}`); !strings.HasPrefix(got[0], x.want) {
			t.Errorf("%s: %s", x.code, got)
		}
	}
}

// TestManyAtOnce is for the race detector: goroutines share programs.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	e := engine(t, map[string]string{
		"a.js": `export function transformEvent(e, metadata) { return {n: e.n, d: metadata(e).destinationId} }`,
		"b.js": `export async function transformEvent(e) { await null; return {n: e.n} }`,
	}, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				in := fmt.Sprintf(`{"messageId":"m","n":%d}`, g*100+i)
				if got := run(t, e, "a", nil, in); got[0] != fmt.Sprintf(`{"n":%d,"d":"dst"}`, g*100+i) {
					t.Error(got)
				}
				if got := run(t, e, "b", nil, in); got[0] != fmt.Sprintf(`{"n":%d}`, g*100+i) {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
}

// TestProgramsAreBounded: as many programs are kept as the bound says.
func TestProgramsAreBounded(t *testing.T) {
	t.Parallel()
	e := engine(t, nil, nil)
	for i := range maxPrograms + 20 {
		run(t, e, fmt.Sprint("v", i), nil, `{}`)
	}
	if n := len(e.programs); n > maxPrograms {
		t.Errorf("%d programs are kept", n)
	}
}

// TestRemote: an existing transformer runs the code, by its contract.
func TestRemote(t *testing.T) {
	t.Parallel()
	var mode atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/customTransform" || r.Header.Get("X-Feature-Filter-Code") != "?1" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var in []struct {
			Message     map[string]any
			Metadata    map[string]any
			Destination struct{ Transformations []struct{ VersionID string } }
			Libraries   []struct{ VersionID string }
			Credentials []map[string]any
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		switch mode.Load() {
		case "away":
			w.WriteHeader(809)
			return
		case "no":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "no such thing")
			return
		case "old":
			_, _ = io.WriteString(w, "[]")
			return
		}
		w.Header().Set("apiVersion", "2")
		var out []map[string]any
		for _, e := range in {
			if e.Destination.Transformations[0].VersionID != "v" || e.Libraries[0].VersionID != "l1" || e.Credentials[0]["key"] != "token" || e.Metadata["sourceId"] != "src" {
				t.Errorf("asked with %+v", e)
			}
			switch e.Message["do"] {
			case "drop":
				out = append(out, map[string]any{"statusCode": 298, "metadata": e.Metadata})
			case "fail":
				out = append(out, map[string]any{"statusCode": 400, "error": "broken", "metadata": e.Metadata})
			case "forget":
			case "twice":
				out = append(out, map[string]any{"statusCode": 200, "output": map[string]any{"n": 1}, "metadata": e.Metadata})
				fallthrough
			default:
				out = append(out, map[string]any{"statusCode": 200, "output": map[string]any{"n": 2}, "metadata": e.Metadata})
			}
		}
		slices.Reverse(out)
		if err := json.NewEncoder(w).Encode(out); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	e := engine(t, nil, func(c *Config) { c.Directory, c.TransformerURL = "", server.URL+"/" })
	in := []string{`{"messageId":"1"}`, `{"messageId":"2","do":"drop"}`, `{"messageId":"3","do":"fail"}`, `{"messageId":"4","do":"forget"}`, `{"messageId":"5","do":"twice"}`}
	mode.Store("")
	got := run(t, e, "v", []string{"l1"}, in...)
	want := []string{`{"n":2}`, "", "! user transformation: the transformer says 400: broken", "! user transformation: the transformer answers nothing for the event", `{"n":2} {"n":1}`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	w, s, c := way("v", "l1")
	for _, x := range []struct {
		mode    string
		invalid bool
	}{{"no", true}, {"away", false}, {"old", false}} {
		mode.Store(x.mode)
		r := e.Run(t.Context(), w, s, c, events(in[0]), Whole)[0]
		if r.Err == nil || (fault.Of(r.Err) == fault.Invalid) != x.invalid {
			t.Errorf("%s: %v", x.mode, told([]Result{r}))
		}
	}
	mode.Store("")
	if r := e.Run(t.Context(), w, s, c, events(in[0]), Brief)[0]; r.Err == nil || fault.Of(r.Err) == fault.Invalid {
		t.Error("a transformer that was away is asked in a hurry:", told([]Result{r}))
	}
	if r := e.Run(t.Context(), w, s, c, events(in[0]), Whole)[0]; r.Err != nil {
		t.Error(r.Err)
	}
}

func BenchmarkRun(b *testing.B) {
	e := engine(b, map[string]string{
		"event.js": `export function transformEvent(event, metadata) { event.context.source = metadata(event).sourceId; delete event.context.traits; return event }`,
		"async.js": `export async function transformEvent(event) { delete event.context.traits; return event }`,
	}, nil)
	const payload = `{"type":"track","messageId":"m-1","userId":"ann","event":"Paid","properties":{"total":12.5,"items":[1,2,3]},"context":{"ip":"1.2.3.4","library":{"name":"x","version":"1"},"traits":{"email":"a@b.c"}}}`
	batch := events(slices.Repeat([]string{payload}, 100)...)
	for _, version := range []string{"event", "async"} {
		b.Run(version, func(b *testing.B) {
			w, s, c := way(version)
			for b.Loop() {
				for _, r := range e.Run(context.Background(), w, s, c, batch, Brief) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
		})
	}
}
