package httptarget

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
)

// FuzzArray holds the array encoder to what encoding/json makes of the same message.
func FuzzArray(f *testing.F) {
	for _, s := range []string{
		`{}`, `[1, 2 ,3]`, `"a"`, ` { "a" : "<b>&\u2028` + "\u2028\u2029\xe2\x80" + `" } `, `{"a":"\\\""}`, `null`, `-0.1e+5`, `01`, `1 2`, ``, ` `,
		"\"\xff\xfe\"", "{\"a\":\"\x00\"}", `{"a":1}{"b":2}`, `"\`, `"\u12"`, `[[[[]]]]`, `{"a":1,}`, `tru`, "\ufeff{}", `<`, "\u2028",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		keep := bytes.Clone(src)
		got, ok := appendMessage([]byte("["), src)
		want, err := json.Marshal([]json.RawMessage{src})
		if len(src) == 0 || !json.Valid(src) {
			err = os.ErrInvalid // Marshal writes null for a nil message
		}
		if ok != (err == nil) {
			t.Fatalf("%q: accepted %v, encoding/json says %v", src, ok, err)
		}
		if ok && string(got)+"]" != string(want) {
			t.Fatalf("%q:\n got %s]\nwant %s", src, got, want)
		}
		if !ok && string(got) != "[" {
			t.Fatalf("%q left %q behind", src, got)
		}
		if !bytes.Equal(src, keep) {
			t.Fatal("the payload was modified")
		}
	})
}

func TestDeepNestingIsRefusedLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{jsontext.MaxDepth, jsontext.MaxDepth + 1, 5_000_000} {
		src := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		if _, ok := appendMessage(nil, src); ok != (depth <= jsontext.MaxDepth) {
			t.Errorf("depth %d: accepted %v", depth, ok)
		}
	}
}

func TestArrayBody(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	err := build(t, s.URL, nil).Write(context.Background(), messages(`{"a": "<x>"}`, ` [1, 2]`, `"s"`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`[{"a":"\u003cx\u003e"},[1,2],"s"]`}
	if diff := cmp.Diff(want, s.bodies()); diff != "" {
		t.Fatal(diff)
	}
	if ct := s.requests()[0].header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
}

func writeTemplate(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "request.tmpl")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTemplates(t *testing.T) {
	t.Setenv("HTTP_TEMPLATE_KEY", "from env")
	for _, tc := range []struct{ name, template, in, want string }{
		{"numbers are floats", `{{range .}}{{.n}};{{end}}`, `{"n":1000000}|{"n":1.5}|{"n":21}`, `1e+06;1.5;21;`},
		{"prettyPrint of large floats", `{{range .}}{{prettyPrint .ms}};{{end}}`, `{"ms":1732900000000}|{"ms":-9007199254740991}|{"ms":1732900000000.25}`, `1732900000000;-9007199254740991;1732900000000.25;`},
		{"missing key", `{{(index . 0).none}} {{prettyPrint (index . 0).none}}`, `{"a":1}`, `<no value> null`},
		{"prettyPrint is compact and escaped", `{{prettyPrint .}}`, `{"b": "<&>", "a": [1, 2]}`, `[{"a":[1,2],"b":"\u003c\u0026\u003e"}]`},
		{"a map without prettyPrint", `{{index . 0}}`, `{"b":1,"a":"x"}`, `map[a:x b:1]`},
		{"env", `{"key":"{{env "HTTP_TEMPLATE_KEY"}}","n":{{len .}}}`, `{}|{}`, `{"key":"from env","n":2}`},
		{"commas", `[{{range $i, $e := .}}{{if $i}},{{end}}{{prettyPrint $e.v}}{{end}}]`, `{"v":1}|{"v":"x"}`, `[1,"x"]`},
		{"large integers keep their digits", `{{prettyPrint (index . 0).id}}`, `{"id":9007199254740993}`, `9007199254740993`},
	} {
		s := serve(t, nil)
		target := build(t, s.URL, func(c *Config) { c.TemplateFile = writeTemplate(t, tc.template) })
		if err := target.Write(context.Background(), messages(strings.Split(tc.in, "|")...)); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff([]string{tc.want}, s.bodies()); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestTemplateThatFailsForOneEventSparesTheOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	target := build(t, s.URL, func(c *Config) {
		c.TemplateFile = writeTemplate(t, `{{range .}}{{index .list 1}},{{end}}`)
	})
	failed := partial(t, target.Write(context.Background(), messages(`{"list":[1,2]}`, `{"list":[1,3]}`, `{"list":[1]}`, `{"list":[1,4]}`)))
	if len(failed) != 1 || fault.Of(failed[2]) != fault.Invalid {
		t.Fatalf("failed: %v", failed)
	}
	if text := failed[2].Error(); !strings.HasPrefix(text, "Could not create request JSON: template: HTTP:1:") {
		t.Errorf("error: %s", text)
	}
	want := fault.Detail{Type: "template", Safe: "Could not create request JSON"}
	if diff := cmp.Diff(want, fault.DetailOf(failed[2])); diff != "" {
		t.Error(diff)
	}
	if got := strings.Join(s.bodies(), ""); got != "2,3,4," {
		t.Errorf("delivered %q", got)
	}
}

func TestTemplateThatNeverEndsIsStopped(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	target := build(t, s.URL, func(c *Config) {
		c.TemplateFile = writeTemplate(t, `{{range 1000000000000}}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{end}}`)
	})
	target.maxBody = 1 << 16
	err := target.Write(context.Background(), messages(`{}`))
	if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "exceeds 65536 bytes") {
		t.Fatalf("Write: %v", err)
	}
	target.maxBody = 1 << 40
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := target.Write(ctx, messages(`{}`)); fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), "canceled") {
		t.Fatalf("Write with a cancelled context: %v", err)
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	l := build(t, "http://localhost", nil).Limits()
	if l.MaxMessageBytes != 1048525 || l.MaxBatchBytes != 1048525 {
		t.Errorf("default limits: %d %d, want 1048525", l.MaxMessageBytes, l.MaxBatchBytes)
	}
	if l.Alone != nil {
		t.Error("messages are alone without dynamic headers")
	}
	text := strings.Repeat("x", 100)
	l = build(t, "http://localhost", func(c *Config) {
		c.TemplateFile = writeTemplate(t, text)
		c.Batching.MaxBatchMessages, c.Batching.MaxBatchBytes, c.Batching.MaxMessageBytes = 11, 1000, 500
	}).Limits()
	if l.MaxBatchBytes != 890 || l.MaxMessageBytes != 500 {
		t.Errorf("with a template: %d %d, want 890 and 500", l.MaxBatchBytes, l.MaxMessageBytes)
	}
}

// TestBodyBuffersAreNotReusedTooEarly answers some requests before their bodies have
// arrived, so that the transport may still be sending them, and looks whether bodies of
// later requests get mixed up with them. The race detector looks as well.
func TestBodyBuffersAreNotReusedTooEarly(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if c := body[2]; strings.Trim(string(body[1:len(body)-1]), `"`) != strings.Repeat(string(c), len(body)-4) {
			w.WriteHeader(http.StatusConflict)
		}
	}))
	t.Cleanup(s.Close)
	early, whole := build(t, s.URL+"/early", nil), build(t, s.URL+"/whole", nil)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			b := messages(`"` + strings.Repeat(string(rune('a'+g)), 1<<19) + `"`)
			for range 3 {
				_ = early.Write(context.Background(), b)
				if err := whole.Write(context.Background(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
