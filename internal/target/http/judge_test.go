package httptarget

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// partial is the failures of a write that delivered some messages.
func partial(t *testing.T, err error) map[int]error {
	t.Helper()
	p, ok := errors.AsType[*connector.Partial](err)
	if !ok {
		t.Fatalf("not a partial result: %v", err)
	}
	return p.Failed
}

func TestResponseRules(t *testing.T) {
	t.Parallel()
	all := []Rule{
		{Type: "invalid", HTTPCodes: []int{400}, Body: "bad field"},
		{Type: "setup", HTTPCodes: []int{400, 401}},
		{Type: "throttle", HTTPCodes: []int{429}},
		{Type: "fatal", HTTPCodes: []int{400, 410, 500}, Body: "gone"},
		{Type: "invalid", HTTPCodes: []int{200, 202}, Body: "errors"},
		{Type: "invalid"},
	}
	for _, tc := range []struct {
		name   string
		code   int
		body   string
		kind   fault.Kind
		text   string
		detail fault.Detail
		after  time.Duration
	}{
		{name: "success", code: 200, body: "fine"},
		{name: "success of another code", code: 204},
		{name: "2xx with a body that a rule names", code: 202, body: `{"errors":1}`, kind: fault.Invalid,
			text: `HTTP Status Code: 202 Accepted Body: {"errors":1}`, detail: fault.Detail{Type: "api", Code: "202 Accepted", Safe: "errors"}},
		{name: "first of two rules", code: 400, body: "a bad field, gone", kind: fault.Invalid,
			text: "HTTP Status Code: 400 Bad Request Body: a bad field, gone", detail: fault.Detail{Type: "api", Code: "400 Bad Request", Safe: "bad field"}},
		{name: "second of two rules", code: 400, body: "gone", kind: fault.Setup, after: 7 * time.Second,
			text: "response status: '400 Bad Request' with error details: 'Setup error'", detail: fault.Detail{Type: "api", Code: "400 Bad Request", Safe: "Setup error"}},
		{name: "throttle", code: 429, body: "secret", kind: fault.Throttled, after: 7 * time.Second,
			text: "response status: '429 Too Many Requests' with error details: 'Throttle error'", detail: fault.Detail{Type: "api", Code: "429 Too Many Requests", Safe: "Throttle error"}},
		{name: "fatal", code: 410, body: "long gone", kind: fault.Fatal,
			text: "response status: '410 Gone' with error details: 'gone'", detail: fault.Detail{Type: "api", Code: "410 Gone", Safe: "gone"}},
		{name: "code without its body", code: 500, body: "other", kind: fault.Transient, after: 7 * time.Second,
			text: "response status: '500 Internal Server Error' with error details: 'Transient error'", detail: fault.Detail{Type: "api", Code: "500 Internal Server Error", Safe: "Transient error"}},
		{name: "no rule", code: 503, body: "other", kind: fault.Transient, after: 7 * time.Second,
			text: "response status: '503 Service Unavailable' with error details: 'Transient error'", detail: fault.Detail{Type: "api", Code: "503 Service Unavailable", Safe: "Transient error"}},
		{name: "too large is invalid by itself", code: 413, body: "too big", kind: fault.Invalid,
			text: "HTTP Status Code: 413 Request Entity Too Large Body: too big", detail: fault.Detail{Type: "api", Code: "413 Request Entity Too Large", Safe: "Invalid error"}},
		{name: "a redirect that would drop the body", code: 302, kind: fault.Transient, after: 7 * time.Second,
			text: "response status: '302 Found' with error details: 'Transient error'", detail: fault.Detail{Type: "api", Code: "302 Found", Safe: "Transient error"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.code)
				_, _ = w.Write([]byte(tc.body))
			})
			err := build(t, s.URL, rules(all...)).Write(context.Background(), messages(`1`))
			if tc.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tc.text, err.Error()); diff != "" {
				t.Error(diff)
			}
			if fault.Of(err) != tc.kind || fault.After(err) != tc.after {
				t.Errorf("kind %v after %v, want %v after %v", fault.Of(err), fault.After(err), tc.kind, tc.after)
			}
			if diff := cmp.Diff(tc.detail, fault.DetailOf(err)); diff != "" {
				t.Error(diff)
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestUnsafeModeShowsTheBody(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		http.Error(w, "why: token hunter2-secret refused", http.StatusUnauthorized)
	})
	err := build(t, s.URL, func(c *Config) {
		c.MetadataSafeMode = false
		c.BasicAuthUsername, c.BasicAuthPassword = "u", "hunter2-secret"
		rules(Rule{Type: "setup", HTTPCodes: []int{401}, Body: "refused"})(c)
	}).Write(context.Background(), messages(`1`))
	want := "response status: '401 Unauthorized' with error details: 'why: token (hidden) refused\n'"
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
}

// TestServersRepeatSecrets asserts that an error shows no credential that its request had,
// whatever its name and wherever it stood, when the other side repeats all it was sent.
func TestServersRepeatSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "cannot serve %s (%s): ", r.URL.RequestURI(), path.Base(r.URL.Path))
		for name, values := range r.Header {
			fmt.Fprintf(w, "%s=%s, ", name, strings.Join(values, ","))
		}
	})
	m := messages(`1`)
	m[0].Meta.Headers = event.HeadersOf(map[string]string{"X-Session-Token": "hunter2-of-the-message", "X-Color": "green-as-grass"})
	target := build(t, s.URL+"/services/T000/B000/hunter2inpath?sig=hunter2-query", func(c *Config) {
		c.MetadataSafeMode = false
		c.DynamicHeaders = true
		c.BasicAuthUsername, c.BasicAuthPassword = "me", "hunter2-basic"
		c.Headers = map[string]string{"X-Team": "of-the-data"}
		for i, name := range []string{"X-Auth", "X-Passwd", "X-Pwd", "X-Api-Key", "apikey", "X-Signature", "X-Sig", "X-Access-Token", "Cookie", "X-Credential", "X-Client-Secret"} {
			c.Headers[name] = fmt.Sprintf("hunter2-%d-%s", i, name)
		}
		rules(Rule{Type: "invalid", HTTPCodes: []int{400}})(c)
	})
	err := target.Write(context.Background(), m)
	if err == nil {
		t.Fatal("it is accepted")
	}
	shown := err.Error() + fault.DetailOf(err).Safe
	for _, hidden := range []string{"hunter2", "/services", base64.StdEncoding.EncodeToString([]byte("me:hunter2-basic"))} {
		if strings.Contains(shown, hidden) {
			t.Errorf("%q is shown: %s", hidden, shown)
		}
	}
	for _, kept := range []string{"of-the-data", "green-as-grass"} {
		if !strings.Contains(shown, kept) {
			t.Errorf("%q, which is no secret, is hidden: %s", kept, shown)
		}
	}
}

func TestLongResponseIsClippedInErrors(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(500)
		_, _ = w.Write([]byte(strings.Repeat("é", 2<<20)))
	})
	err := build(t, s.URL, func(c *Config) { c.MetadataSafeMode = false }).Write(context.Background(), messages(`1`))
	if err == nil || len(err.Error()) > maxShown+100 || strings.Contains(err.Error(), "\ufffd") {
		t.Fatalf("error of %d bytes", len(fmt.Sprint(err)))
	}
}

func TestStatusZero(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	url := strings.Replace(s.URL, "http://", "http://user:hunter2@", 1) + "/in?token=abc123"
	for _, tc := range []struct {
		name string
		rule Rule
		kind fault.Kind
	}{
		{"no rule", Rule{Type: "setup", HTTPCodes: []int{500}}, fault.Transient},
		{"any failure", Rule{Type: "throttle", HTTPCodes: []int{0}}, fault.Throttled},
		{"matched against the whole text", Rule{Type: "setup", HTTPCodes: []int{0}, Body: "token=abc123"}, fault.Setup},
		{"another text", Rule{Type: "setup", HTTPCodes: []int{0}, Body: "elsewhere"}, fault.Transient},
		{"invalid", Rule{Type: "invalid", HTTPCodes: []int{0}, Body: "EOF"}, fault.Invalid},
	} {
		err := build(t, url, rules(tc.rule)).Write(context.Background(), messages(`1`, `2`))
		if err == nil || fault.Of(err) != tc.kind {
			t.Errorf("%s: %v (%v), want %v", tc.name, err, fault.Of(err), tc.kind)
			continue
		}
		if d := fault.DetailOf(err); d.Code != "Client failed to complete request" || d.Safe == "" {
			t.Errorf("%s: detail %+v", tc.name, d)
		}
		for _, secret := range []string{"abc123", "hunter2", "user", "?", "/in"} {
			if strings.Contains(err.Error()+fault.DetailOf(err).Safe, secret) {
				t.Errorf("%s: %q shows %q", tc.name, err, secret)
			}
		}
		if !strings.Contains(err.Error(), s.Listener.Addr().String()) {
			t.Errorf("%s: %q does not say where", tc.name, err)
		}
	}
}
