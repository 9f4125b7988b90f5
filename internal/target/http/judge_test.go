package httptarget

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
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
	want := "response status: '401 Unauthorized' with error details: 'why: token [hidden] refused\n'"
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
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
		for _, secret := range []string{"abc123", "hunter2", "user", "?"} {
			if strings.Contains(err.Error()+fault.DetailOf(err).Safe, secret) {
				t.Errorf("%s: %q shows %q", tc.name, err, secret)
			}
		}
		if !strings.Contains(err.Error(), "/in") {
			t.Errorf("%s: %q does not say where", tc.name, err)
		}
	}
}
