package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/secret"
)

func TestName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "X-Auth", "x_auth", "xauth", "basicAuth", "X-Passwd", "X-Pass", "password", "basic_auth_password",
		"PGPASSWORD", "passphrase", "pwd", "db-pwd", "X-Api-Key", "apiKey", "APIKey", "api_key", "APIKEY", "Ocp-Apim-Subscription-Key", "writeKey",
		"X-Amz-Security-Token", "X-Amz-Signature", "X-Hub-Signature-256", "sig", "DD-API-KEY", "X-Vault-Token", "private_key", "Cookie", "Set-Cookie",
		"oauth2_client_secret", "secret_id", "refresh_token", "X-Session-Id", "session", "X-CSRF-Token", "SENTRY_DSN", "dsn", "connection_string",
		"ConnectionString", "AccountKey", "X-Credential", "creds", "sasl_password", "hash_salt_secret", "client_assertion", "X-Otp", "key", "X-OAuth2",
		"request.auth.password", "AWS_SECRET_ACCESS_KEY", "bearer", "X-SAS", "Authentication-Info", "http.headers.X-Auth",
	} {
		if !secret.Name(name) {
			t.Errorf("%q is a secret", name)
		}
	}
	for _, name := range []string{
		"", "-", "url", "method", "Content-Type", "Accept", "User-Agent", "X-Team", "author", "key_file", "cert_file", "token_url", "token_type",
		"basic_auth_username", "oauth2_client_id", "stream_name", "host", "pipeline", "component", "error", "kind", "attempt", "delay", "messages",
		"file", "address", "stack", "name", "signal", "design", "assignment", "keyed", "monkeys_count", "passenger", "sessions_count",
	} {
		if secret.Name(name) {
			t.Errorf("%q is no secret", name)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"no address": "no address",
		`Post "https://u:p@h.example:8/services/T0/B0/x?k=v#f": refused`: `Post "https://h.example:8": refused`,
		"amqp://me:pw@h, and postgres://x:y@z/db?sslmode=a.":             "amqp://h, and postgres://z.",
		"see (https://h/p).": "see (https://h).",
		"http://%zz@h?a":     secret.Mark,
		"file:///etc/passwd": secret.Mark,
		"HTTP://H/x":         "http://H",
		"at http://[::1]:8/x?y: refused; http://[::1].": "at http://[::1]:8: refused; http://[::1].",
	} {
		if got := secret.Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"somewhere": "somewhere", "hooks.example/services/T0?k=v": "hooks.example", "user:pw@example": secret.Mark, "": secret.Mark, "/services/T0": secret.Mark,
		"https://h/p": "https://h", "u@h/p": secret.Mark,
	} {
		if got := secret.URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestInURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://example.com/events": false, "https://example.com/com.vendor.product/tp2": false, "https://example.com/api/v1/batch": false, "plain": false,
		"https://u:pw@example.com": true, "https://example.com/?token=x": true, "https://hooks.example/services/T024BE7LD/B024BE7LE/a1b2c3": true,
		"https://discord.example/api/webhooks/x/abcdefghijklmnopqrstuvwxyz": true, "http://%zz": true,
	} {
		if got := secret.InURL(text); got != want {
			t.Errorf("InURL(%q) = %t", text, got)
		}
	}
}

// TestHide draws secrets and what a server may make of them.
func TestHide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-zA-Z0-9<>&"\\/+= _-]{4,40}`).Draw(t, "secret")
		text := rapid.String().Draw(t, "text")
		var v secret.Values
		switch rapid.IntRange(0, 3).Draw(t, "where") {
		case 0:
			v.Add(s)
		case 1:
			v.AddHeader(http.Header{"X-Api-Key": {s}})
		case 2:
			v.AddHeader(http.Header{"Authorization": {"Bearer " + s}})
			s = strings.TrimSpace(s)
		case 3:
			v.AddURL(&url.URL{Scheme: "https", Host: "h", User: url.UserPassword("me", s)})
		}
		if len(s) < 4 {
			return
		}
		quoted, _ := json.Marshal(s)
		for _, shown := range []string{s, url.QueryEscape(s), url.PathEscape(s), string(quoted), html.EscapeString(s)} {
			if got := v.Hide("<" + shown + ">"); strings.Contains(strings.ReplaceAll(got, secret.Mark, ""), shown) {
				t.Fatalf("%q is left in %q", shown, got)
			}
		}
		if got := v.Hide(text); !strings.Contains(text, s) && len(text) < 4 && got != text {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func TestHideParts(t *testing.T) {
	t.Parallel()
	var v secret.Values
	u, err := url.Parse("https://hooks.example/services/T0/s3cretpath?q=v4lue")
	if err != nil {
		t.Fatal(err)
	}
	v.AddURL(u)
	v.AddBasic("me", "pa55word")
	v.AddNamed("X-Team", "data")
	v.AddNamed("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("you:0ther")))
	for in, want := range map[string]string{
		"no /services/T0/s3cretpath here": "no (hidden) here",
		"no s3cretpath, no v4lue":         "no (hidden), no (hidden)",
		"team data, by bWU6cGE1NXdvcmQ=":  "team data, by (hidden)",
		"0ther":                           "(hidden)",
		"cut within: s3cretpat":           "cut within: (hidden)",
		"cut within: /services/T0/s":      "cut within: (hidden)",
		"":                                "",
	} {
		if got := v.Hide(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := (*secret.Values)(nil).Hide("x"); got != "x" {
		t.Errorf("none hide %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("dial tcp://a", "user:pass", "h.example/p", "q=1")
	f.Fuzz(func(t *testing.T, before, user, path, query string) {
		once := secret.Text(before)
		if again := secret.Text(once); again != once {
			t.Errorf("%q cut twice is %q", once, again)
		}
		if len(user) < 4 || len(path) < 4 || strings.ContainsAny(user+path+query, " \t\r\n\"'<>`/?#@\\xy") || !printable(user+path+query) {
			return
		}
		got := secret.Text("x https://" + user + "@h.example/" + path + "?" + query + "=1 y")
		if strings.Contains(got, user+"@") || strings.Contains(got, "/"+path) {
			t.Errorf("%q: a secret is left", got)
		}
	})
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
