package httpclient

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// OAuthClient is an OAuth 2 client: the refresh-token grant with a refresh token, the
// client-credentials grant without one.
type OAuthClient struct {
	// ClientID is the client's identifier.
	ClientID string `hcl:"client_id"`
	// ClientSecret is the client's secret.
	ClientSecret string `hcl:"client_secret,optional"`
	// RefreshToken is exchanged for access tokens. A newer one from the server replaces
	// it in memory until the process ends.
	RefreshToken string `hcl:"refresh_token,optional"`
	// TokenURL is the token endpoint.
	TokenURL string `hcl:"token_url"`
	// Scopes are asked for in the client-credentials grant.
	Scopes []string `hcl:"scopes,optional"`
}

// OAuthJWT is a signer of assertions (RFC 7523, RS256) that are exchanged for access tokens.
type OAuthJWT struct {
	// Issuer is the iss claim, usually the address of a service account.
	Issuer string `hcl:"issuer"`
	// PrivateKey is the RSA key in PEM form; or name its file with private_key_file.
	PrivateKey string `hcl:"private_key,optional"`
	// PrivateKeyFile is the PEM file of the RSA key.
	PrivateKeyFile string `hcl:"private_key_file,optional"`
	// KeyID is the kid header of the assertion.
	KeyID string `hcl:"key_id,optional"`
	// Subject is the sub claim; empty leaves it out.
	Subject string `hcl:"subject,optional"`
	// Audience is the aud claim; the token URL by default.
	Audience string `hcl:"audience,optional"`
	// Scopes are asked for.
	Scopes []string `hcl:"scopes,optional"`
	// TokenURL is the token endpoint.
	TokenURL string `hcl:"token_url"`
}

// Validate names what could never work.
func (o OAuthClient) Validate() []connector.Problem {
	ps := CheckTokenURL("token_url", o.TokenURL)
	if o.ClientID == "" {
		ps = append(ps, connector.Problem{Field: "client_id", What: "client_id is empty", Fix: "set the client's identifier, or remove the block"})
	}
	return ps
}

// Validate names what could never work.
func (j OAuthJWT) Validate() []connector.Problem {
	ps := CheckTokenURL("token_url", j.TokenURL)
	if (j.PrivateKey == "") == (j.PrivateKeyFile == "") {
		ps = append(ps, connector.Problem{What: "oauth_jwt needs one of private_key and private_key_file", Fix: "set exactly one of them"})
	}
	return ps
}

// CheckTokenURL names what is wrong with the token endpoint that a field holds.
func CheckTokenURL(field, raw string) []connector.Problem {
	if Whole(raw) {
		return nil
	}
	return []connector.Problem{{Field: field, What: fmt.Sprintf("%q is not a token endpoint", secret.URL(raw)), Fix: "write a whole URL, such as https://auth.example.com/token"}}
}

// OAuth is access tokens of OAuth 2, fetched when they are needed. One goroutine fetches at a
// time; the others wait for its token, each as long as its own context allows.
type OAuth struct {
	client *Client
	fixed  []string // secrets of the config
	// fetch gets a token; refresh is the newest refresh token the server gave us.
	fetch func(ctx context.Context, refresh string) (*oauth2.Token, error)
	turn  chan struct{} // holds a value while somebody fetches

	mu      sync.Mutex
	current *oauth2.Token
	refresh string
}

// NewOAuthClient makes the tokens of o; c asks for them, and its requests hold secrets.
func NewOAuthClient(o OAuthClient, c *Client) *OAuth {
	a := &OAuth{client: c, fixed: []string{o.ClientSecret, o.RefreshToken}, refresh: o.RefreshToken, turn: make(chan struct{}, 1)}
	if o.RefreshToken != "" {
		conf := &oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: oauth2.Endpoint{TokenURL: o.TokenURL}}
		a.fetch = func(ctx context.Context, refresh string) (*oauth2.Token, error) {
			return conf.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
		}
		return a
	}
	conf := &clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	a.fetch = func(ctx context.Context, _ string) (*oauth2.Token, error) { return conf.Token(ctx) }
	return a
}

// NewOAuthJWT makes the tokens of j, whose key is key in PEM form; a bad one is a Setup fault.
func NewOAuthJWT(j OAuthJWT, key []byte, c *Client) (*OAuth, error) {
	if err := checkRSA(key); err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("read the private key of oauth_jwt: %w", err))
	}
	conf := &jwt.Config{
		Email: j.Issuer, PrivateKey: key, PrivateKeyID: j.KeyID, Subject: j.Subject,
		Scopes: j.Scopes, TokenURL: j.TokenURL, Audience: j.Audience,
	}
	return &OAuth{client: c, fixed: []string{string(key)}, turn: make(chan struct{}, 1),
		fetch: func(ctx context.Context, _ string) (*oauth2.Token, error) { return conf.TokenSource(ctx).Token() }}, nil
}

func checkRSA(key []byte) error {
	block, _ := pem.Decode(key)
	if block == nil {
		return errors.New("it is not in PEM form")
	}
	if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("it is neither a PKCS #1 nor a PKCS #8 key")
	}
	if _, ok := k.(*rsa.PrivateKey); !ok {
		return fmt.Errorf("it is a %T, and only RSA keys are supported", k)
	}
	return nil
}

// Refused reports whether err says that the token endpoint does not accept our credentials,
// which waiting does not mend.
func Refused(err error) bool {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || e.Response == nil {
		return false
	}
	switch e.Response.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}

// Authorize implements Auth.
func (a *OAuth) Authorize(ctx context.Context, req *http.Request) error {
	t, err := a.token(ctx)
	if err != nil {
		return err
	}
	t.SetAuthHeader(req)
	return nil
}

// Bearer is a token that is valid now, for those who carry it otherwise than in a request.
// A token endpoint that does not accept our credentials is a Setup fault.
func (a *OAuth) Bearer(ctx context.Context) (string, error) {
	t, err := a.token(ctx)
	if Refused(err) {
		return "", fault.New(fault.Setup, fmt.Errorf("%w: the token endpoint refuses us: correct client_id, client_secret, refresh_token or scopes", err))
	}
	if err != nil {
		return "", err
	}
	return t.AccessToken, nil
}

// token is a token that is valid now.
func (a *OAuth) token(ctx context.Context) (*oauth2.Token, error) {
	if t := a.valid(); t != nil {
		return t, nil
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if t := a.valid(); t != nil {
		return t, nil
	}
	a.mu.Lock()
	refresh := a.refresh
	a.mu.Unlock()
	t, err := a.fetch(context.WithValue(ctx, oauth2.HTTPClient, a.client.HTTP()), refresh)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = t
	if t.RefreshToken != "" {
		a.refresh = t.RefreshToken
	}
	return t, nil
}

func (a *OAuth) valid() *oauth2.Token {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current.Valid() {
		return a.current
	}
	return nil
}

// Drop implements Auth.
func (a *OAuth) Drop(req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current != nil && strings.HasSuffix(req.Header.Get("Authorization"), " "+a.current.AccessToken) {
		a.current = nil
	}
}

// Secrets implements Auth.
func (a *OAuth) Secrets() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := append([]string{a.refresh}, a.fixed...)
	if a.current != nil {
		all = append(all, a.current.AccessToken)
	}
	return all
}
