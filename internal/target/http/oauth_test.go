package httptarget

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
)

// authority is a token endpoint that hands out token-1, token-2 and so on.
type authority struct {
	*server
	mu      sync.Mutex
	grants  []url.Values
	refresh string // rotated refresh token to hand out
	refuse  bool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{}
	a.server = serve(t, func(w http.ResponseWriter, r *http.Request, body string) {
		a.mu.Lock()
		defer a.mu.Unlock()
		form, _ := url.ParseQuery(body)
		if id, secret, ok := r.BasicAuth(); ok {
			form.Set("basic", id+":"+secret)
		}
		a.grants = append(a.grants, form)
		w.Header().Set("Content-Type", "application/json")
		if a.refuse {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"invalid_grant","error_description":"%s is no good"}`, form.Get("refresh_token"))
			return
		}
		answer := map[string]any{"access_token": fmt.Sprintf("token-%d", len(a.grants)), "token_type": "Bearer", "expires_in": 3600}
		if a.refresh != "" {
			answer["refresh_token"] = a.refresh
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	return a
}

func (a *authority) seen() []url.Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]url.Values(nil), a.grants...)
}

func TestOAuthRefreshToken(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.refresh = "second-refresh"
	refused := false
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Header.Get("Authorization") == "Bearer token-1" && refused {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	target := build(t, s.URL, func(c *Config) {
		c.OAuth2ClientID, c.OAuth2ClientSecret, c.OAuth2RefreshToken, c.OAuth2TokenURL = "id", "secret", "first-refresh", a.URL
	})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := target.Write(context.Background(), messages(`1`)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(a.seen()); n != 1 {
		t.Fatalf("%d tokens fetched for 5 writes at once", n)
	}
	refused = true
	if err := target.Write(context.Background(), messages(`1`)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Fatalf("refused token: %v", err)
	}
	if err := target.Write(context.Background(), messages(`1`)); err != nil {
		t.Fatalf("after a refused token: %v", err)
	}
	want := []url.Values{
		{"grant_type": {"refresh_token"}, "refresh_token": {"first-refresh"}, "basic": {"id:secret"}},
		{"grant_type": {"refresh_token"}, "refresh_token": {"second-refresh"}, "basic": {"id:secret"}},
	}
	if diff := cmp.Diff(want, a.seen()); diff != "" {
		t.Error(diff)
	}
}

func TestOAuthClientCredentials(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := serve(t, nil)
	target := build(t, s.URL, func(c *Config) {
		c.OAuthClient = &httpclient.OAuthClient{ClientID: "id", ClientSecret: "secret", TokenURL: a.URL, Scopes: []string{"a", "b"}}
	})
	for range 2 {
		if err := target.Write(context.Background(), messages(`1`)); err != nil {
			t.Fatal(err)
		}
	}
	want := []url.Values{{"grant_type": {"client_credentials"}, "scope": {"a b"}, "basic": {"id:secret"}}}
	if diff := cmp.Diff(want, a.seen()); diff != "" {
		t.Error(diff)
	}
	if got := s.requests()[1].header.Get("Authorization"); got != "Bearer token-1" {
		t.Errorf("Authorization %q", got)
	}
}

func TestOAuthJWT(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t)
	s := serve(t, nil)
	c := defaults()
	c.URL = s.URL
	c.OAuthJWT = &httpclient.OAuthJWT{Issuer: "me", PrivateKeyFile: "key.pem", TokenURL: a.URL, Scopes: []string{"w"}}
	target, err := New(context.Background(), connector.Deps{Dir: dir}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close(context.Background())
	if err := target.Write(context.Background(), messages(`1`)); err != nil {
		t.Fatal(err)
	}
	g := a.seen()[0]
	if g.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || strings.Count(g.Get("assertion"), ".") != 2 {
		t.Errorf("grant: %v", g)
	}
	c.OAuthJWT.PrivateKeyFile, c.OAuthJWT.PrivateKey = "", "not a key"
	if _, err := New(context.Background(), connector.Deps{}, c); err == nil || strings.Contains(err.Error(), "not a key") || fault.Of(err) != fault.Setup {
		t.Errorf("bad key: %v", err)
	}
}

func TestOAuthFailure(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.refuse = true
	s := serve(t, nil)
	oauth := func(c *Config) {
		c.OAuthClient = &httpclient.OAuthClient{ClientID: "id", ClientSecret: "secret-secret", RefreshToken: "my-refresh-token", TokenURL: a.URL + "?hush=hush"}
	}
	err := build(t, s.URL, oauth).Write(context.Background(), messages(`1`))
	if fault.Of(err) != fault.Setup {
		t.Errorf("a refused client is %v: %v", fault.Of(err), err)
	}
	for _, secret := range []string{"secret-secret", "my-refresh-token", "hush"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q shows %q", err, secret)
		}
	}
	if !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("%q does not say why", err)
	}
	err = build(t, s.URL, func(c *Config) {
		oauth(c)
		rules(Rule{Type: "fatal", HTTPCodes: []int{0}, Body: "invalid_grant"})(c)
	}).Write(context.Background(), messages(`1`))
	if fault.Of(err) != fault.Fatal {
		t.Errorf("a rule for the token failure: %v (%v)", err, fault.Of(err))
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests without a token", n)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	tlsServer := httptest.NewUnstartedServer(nil)
	s := &server{Server: tlsServer}
	tlsServer.Config.Handler = s.handler(func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"over-tls","token_type":"Bearer"}`))
	})
	tlsServer.EnableHTTP2 = true
	tlsServer.Config.ErrorLog = quiet
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"system authorities", func(*Config) {}, false},
		{"settings without enable_tls", func(c *Config) { c.CAFile = ca }, false},
		{"CA alone", func(c *Config) { c.EnableTLS, c.CAFile = true, ca }, true},
		{"skip verify alone", func(c *Config) { c.EnableTLS, c.SkipVerifyTLS = true, true }, true},
		{"OAuth keeps the settings", func(c *Config) {
			c.EnableTLS, c.CAFile = true, ca
			c.OAuthClient = &httpclient.OAuthClient{ClientID: "id", ClientSecret: "secret", TokenURL: s.URL + "/token"}
		}, true},
		{"OAuth without the settings", func(c *Config) {
			c.OAuth2ClientID, c.OAuth2RefreshToken, c.OAuth2TokenURL = "id", "refresh", s.URL+"/token"
		}, false},
		{"OAuth with a refresh token keeps the settings", func(c *Config) {
			c.EnableTLS, c.CAFile = true, ca
			c.OAuth2ClientID, c.OAuth2RefreshToken, c.OAuth2TokenURL = "id", "refresh", s.URL+"/token"
		}, true},
	} {
		target := build(t, s.URL, tc.change)
		err := target.Write(context.Background(), messages(`1`))
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !tc.ok && fault.Of(err) != fault.Setup {
			t.Errorf("%s: %v fault: %v", tc.name, fault.Of(err), err)
		}
		if err := target.Check(context.Background()); (err == nil) != tc.ok {
			t.Errorf("%s: check: %v", tc.name, err)
		}
	}
	if last := s.requests()[len(s.requests())-1]; last.header.Get("Authorization") != "Bearer over-tls" {
		t.Errorf("last request: %v", last.header)
	}
}

func TestCheckSendsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	if err := build(t, s.URL, nil).Check(context.Background()); err != nil {
		t.Error(err)
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
	gone := serve(t, nil)
	gone.Close()
	if err := build(t, gone.URL, nil).Check(context.Background()); err == nil || !strings.Contains(err.Error(), "connect to 127.0.0.1:") {
		t.Errorf("a closed port: %v", err)
	}
}
