package gatewaysource

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/workspace"
)

var _ gateway.Visited = (*Source)(nil)

// tallyOf is what a gateway counts by sources. It goes on over reloads.
func tallyOf(d connector.Deps) *gateway.Tally {
	made := func() any { return &gateway.Tally{} }
	if d.Kept == nil {
		return made().(*gateway.Tally)
	}
	return d.Kept("gateway tally "+d.Pipeline, made).(*gateway.Tally)
}

// Now implements gateway.Visited.
func (s *Source) Now() (*workspace.Workspace, *gateway.Tally) { return s.file.Current(), s.tally }

// Reached implements gateway.Visited.
func (s *Source) Reached() (address string, hosts []string, tls bool) {
	if at := s.Addr(); at != nil {
		address = at.String()
	}
	return address, s.c.HostNames, s.tls != nil
}

// longestAnswer is how much of an answer is told.
const longestAnswer = 1 << 10

// Try implements gateway.Visited.
func (s *Source) Try(ctx context.Context, key string, event []byte) (*gateway.Tried, error) {
	at, ok := s.Addr().(*net.TCPAddr)
	switch {
	case !ok || at == nil:
		return nil, errors.New("the gateway does not listen yet")
	case s.c.CAFile != "":
		return nil, errors.New("the gateway asks its clients for a certificate, which a trial has none of: send one with a client of yours")
	}
	to, host := at.String(), ""
	if at.IP.IsUnspecified() {
		to = net.JoinHostPort("localhost", strconv.Itoa(at.Port))
	}
	scheme := "http"
	// It is this process that is called, at the address that it listens on, whatever names its certificate
	// has.
	trust := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
	if len(s.c.HostNames) > 0 {
		host = s.c.HostNames[0]
		trust.ServerName = host
	}
	if s.tls != nil {
		scheme = "https"
	}
	client := httpclient.New(httpclient.Options{TLS: trust, Direct: true, NoRedirects: true, HTTP1: true})
	defer client.Close()
	ctx, done := context.WithTimeout(ctx, time.Duration(s.c.ResponseTimeoutMillis)*time.Millisecond+5*time.Second)
	defer done()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+to+"/v1/track", bytes.NewReader(event))
	if err != nil {
		return nil, err
	}
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	began := time.Now()
	a, err := client.Do(r, httpclient.Basic{User: key})
	if err != nil {
		return nil, fmt.Errorf("the gateway cannot be reached: %w", err)
	}
	defer a.Body.Close()
	text, err := httpclient.Body(a, longestAnswer)
	if err != nil {
		return nil, fmt.Errorf("the answer of the gateway broke off: %w", err)
	}
	return &gateway.Tried{Code: a.StatusCode, Answer: strings.TrimSpace(string(text)), Seconds: time.Since(began).Seconds()}, nil
}
