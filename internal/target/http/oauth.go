package httptarget

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
)

// tokens holds the access token in use. One goroutine fetches at a time; the others wait
// for its token, each as long as its own context allows.
type tokens struct {
	// fetch gets a token; refresh is the newest refresh token the server gave us.
	fetch func(ctx context.Context, refresh string) (*oauth2.Token, error)
	turn  chan struct{} // holds a value while somebody fetches

	mu      sync.Mutex
	current *oauth2.Token
	refresh string
}

// newTokens is the source of tokens that c asks for, or nil. client makes the requests, so
// that they use the target's TLS settings and timeout.
func newTokens(c Config, dir string, client *http.Client) (*tokens, error) {
	o := c.OAuthClient
	if c.OAuth2ClientID != "" {
		o = &OAuthClient{ClientID: c.OAuth2ClientID, ClientSecret: c.OAuth2ClientSecret, RefreshToken: c.OAuth2RefreshToken, TokenURL: c.OAuth2TokenURL}
	}
	s := &tokens{turn: make(chan struct{}, 1)}
	with := func(ctx context.Context) context.Context { return context.WithValue(ctx, oauth2.HTTPClient, client) }
	switch {
	case c.OAuthJWT != nil:
		conf, err := c.OAuthJWT.config(dir)
		if err != nil {
			return nil, err
		}
		s.fetch = func(ctx context.Context, _ string) (*oauth2.Token, error) { return conf.TokenSource(with(ctx)).Token() }
	case o == nil:
		return nil, nil
	case o.RefreshToken != "":
		conf := &oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: oauth2.Endpoint{TokenURL: o.TokenURL}}
		s.refresh = o.RefreshToken
		s.fetch = func(ctx context.Context, refresh string) (*oauth2.Token, error) {
			return conf.TokenSource(with(ctx), &oauth2.Token{RefreshToken: refresh}).Token()
		}
	default:
		conf := &clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes}
		s.fetch = func(ctx context.Context, _ string) (*oauth2.Token, error) { return conf.Token(with(ctx)) }
	}
	return s, nil
}

// config reads the key, so that a bad one is found when the target is built.
func (j *OAuthJWT) config(dir string) (*jwt.Config, error) {
	key := []byte(j.PrivateKey)
	if j.PrivateKeyFile != "" {
		var err error
		if key, err = connector.ReadFile(dir, "oauth_jwt.private_key_file", j.PrivateKeyFile); err != nil {
			return nil, connector.Blame("oauth_jwt.private_key_file", "name a file that can be read; a relative path means from the directory of the config file", fmt.Errorf("read oauth_jwt.private_key_file: %w", err))
		}
	}
	if err := checkRSA(key); err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("read the private key of oauth_jwt: %w", err))
	}
	return &jwt.Config{
		Email: j.Issuer, PrivateKey: key, PrivateKeyID: j.KeyID, Subject: j.Subject,
		Scopes: j.Scopes, TokenURL: j.TokenURL, Audience: j.Audience,
	}, nil
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

// get is a token that is valid now.
func (s *tokens) get(ctx context.Context) (*oauth2.Token, error) {
	if t := s.valid(); t != nil {
		return t, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if t := s.valid(); t != nil {
		return t, nil
	}
	s.mu.Lock()
	refresh := s.refresh
	s.mu.Unlock()
	t, err := s.fetch(ctx, refresh)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = t
	if t.RefreshToken != "" {
		s.refresh = t.RefreshToken
	}
	return t, nil
}

func (s *tokens) valid() *oauth2.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Valid() {
		return s.current
	}
	return nil
}

// drop forgets the token that the other side refused, given as its Authorization header,
// unless a newer one is in use already.
func (s *tokens) drop(authorization string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && strings.HasSuffix(authorization, " "+s.current.AccessToken) {
		s.current = nil
	}
}

// secrets are the tokens that no error may show.
func (s *tokens) secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	if s.current != nil && len(s.current.AccessToken) >= 4 {
		all = append(all, s.current.AccessToken)
	}
	if len(s.refresh) >= 4 {
		all = append(all, s.refresh)
	}
	return all
}
