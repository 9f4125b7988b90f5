package httpclient

import (
	"context"
	"encoding/base64"
	"net/http"
)

// Auth proves to another side who we are. Many goroutines may use one at once.
type Auth interface {
	// Authorize adds what proves it to a request that is about to be sent, whose headers are
	// its own. It may ask for it elsewhere, for as long as ctx lasts.
	Authorize(ctx context.Context, req *http.Request) error
	// Secrets are the values that no log, error or failure payload may show, those of now
	// among them; package secret hides them. Some may be empty.
	Secrets() []string
	// Drop forgets what can be renewed of that which req carried, because the other side
	// refused it. What was renewed since then stays.
	Drop(req *http.Request)
}

// Header is a header with a value that never changes.
type Header struct{ Name, Value string }

// Authorize implements Auth.
func (h Header) Authorize(_ context.Context, req *http.Request) error {
	req.Header.Set(h.Name, h.Value)
	return nil
}

// Secrets implements Auth.
func (h Header) Secrets() []string { return []string{h.Value} }

// Drop implements Auth: there is nothing to renew.
func (h Header) Drop(*http.Request) {}

// Basic is a user name and a password.
type Basic struct{ User, Password string }

// Authorize implements Auth.
func (b Basic) Authorize(_ context.Context, req *http.Request) error {
	req.SetBasicAuth(b.User, b.Password)
	return nil
}

// Secrets implements Auth.
func (b Basic) Secrets() []string {
	return []string{b.Password, base64.StdEncoding.EncodeToString([]byte(b.User + ":" + b.Password))}
}

// Drop implements Auth: there is nothing to renew.
func (b Basic) Drop(*http.Request) {}
