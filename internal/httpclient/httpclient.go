// Package httpclient is how the product speaks HTTP to others: one client that every connector
// and reporter uses, so that what is true of one is true of all.
//
// # Rules
//
//   - A redirect is followed only as the same request again: a method that would change, and a
//     body with it, ends the journey with the redirect as the answer. So does the eleventh.
//   - A request that carries credentials never leaves the server it was made for: neither for
//     another host or port, nor from https down to http. From http to https of the same host is
//     no other server. Credentials are whatever an [Auth] or a client certificate proves, user
//     information and query of the URL, and every header that is not known to hold none; with
//     [Options].Secret the body is one too. No redirect tells where it came from (Referer).
//   - Where only public networks may be reached, the address that a name has become is looked
//     at when it is dialled, so that no name, redirect or second look-up leads elsewhere; no
//     proxy is used, which would connect in our place.
//   - What the other side sends is bounded: headers by the transport, bodies by [Body], waits by
//     [RetryAfter].
package httpclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/secret"
)

const (
	dialTimeout = 30 * time.Second
	// maxIdle bounds the connections that a client keeps open without a request.
	maxIdle = 100
	// maxHeader bounds the bytes of a response's headers.
	maxHeader = 1 << 20
)

// Options are what clients differ in; the zero value is a client as net/http's default, less
// what the rules of the package forbid.
type Options struct {
	// TLS is nil for the system's authorities and no certificate of our own.
	TLS *tls.Config
	// Timeout bounds a whole request with its redirects, to the end of the response; zero
	// leaves that to the request's context.
	Timeout time.Duration
	// DialTimeout bounds connecting; zero means 30 seconds.
	DialTimeout time.Duration
	// IdlePerHost and Idle are the most connections kept open without a request, for one host
	// and in all; zero means 2 and 100.
	IdlePerHost, Idle int
	// WriteBuffer is the bytes of a request that leave in one write; zero means 4 KiB.
	WriteBuffer int
	// ReadBuffer is the bytes of an answer that are read at once; zero means 4 KiB.
	ReadBuffer int
	// HTTP1 keeps to HTTP/1.1 over TLS.
	HTTP1 bool
	// Verbatim neither asks for compressed responses nor unpacks them.
	Verbatim bool
	// Public refuses every address that is not of the public internet.
	Public bool
	// Except are the networks that may be reached though Public is set.
	Except []netip.Prefix
	// Direct passes by the proxy of the environment.
	Direct bool
	// Secret says that the bodies of requests hold credentials.
	Secret bool
	// NoRedirects makes every redirect the answer, and leaves user information of URLs unsent.
	// Only the request's context bounds its time.
	NoRedirects bool
	// Transport sends the requests in place of one of the client's own; what above is a
	// transport's is then its business.
	Transport http.RoundTripper
}

// Client sends requests. Many goroutines may use it at once.
type Client struct {
	o         Options
	transport *http.Transport // nil when it is somebody else's
	http      http.Client
}

// New makes a client; it touches no network.
func New(o Options) *Client {
	c := &Client{o: o}
	round := o.Transport
	if round == nil {
		c.transport = transport(o)
		round = c.transport
	}
	c.http = http.Client{Transport: round, Timeout: o.Timeout, CheckRedirect: c.follow}
	return c
}

func transport(o Options) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if o.DialTimeout > 0 {
		dialer.Timeout = o.DialTimeout
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: o.TLS,
		ForceAttemptHTTP2: true, DisableCompression: o.Verbatim, ReadBufferSize: o.ReadBuffer, WriteBufferSize: o.WriteBuffer,
		MaxIdleConns: max(o.Idle, o.IdlePerHost), MaxIdleConnsPerHost: o.IdlePerHost, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: maxHeader,
	}
	if o.Idle == 0 {
		t.MaxIdleConns = max(maxIdle, o.IdlePerHost)
	}
	if o.HTTP1 {
		t.ForceAttemptHTTP2 = false
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	if o.Public {
		dialer.Control = refusePrivate(o.Except)
		t.Proxy = nil
	}
	if o.Direct {
		t.Proxy = nil
	}
	return t
}

// Do sends req with the credentials of auth; nil is none. An error is a *url.Error, as
// net/http's. What auth proves is dropped when the other side refuses it with 401.
func (c *Client) Do(req *http.Request, auth Auth) (*http.Response, error) {
	if auth != nil {
		if err := auth.Authorize(req.Context(), req); err != nil {
			if req.Body != nil {
				_ = req.Body.Close() // as net/http does with a request that it cannot send
			}
			return nil, &url.Error{Op: verb(req.Method), URL: req.URL.String(), Err: err}
		}
		req = req.WithContext(context.WithValue(req.Context(), authKey{}, auth))
	}
	resp, err := c.send(req)
	if err == nil && auth != nil && resp.StatusCode == http.StatusUnauthorized {
		auth.Drop(resp.Request)
	}
	return resp, err
}

func (c *Client) send(req *http.Request) (*http.Response, error) {
	if !c.o.NoRedirects {
		return c.http.Do(req)
	}
	resp, err := c.http.Transport.RoundTrip(req)
	if err != nil {
		return nil, &url.Error{Op: verb(req.Method), URL: req.URL.String(), Err: err}
	}
	return resp, nil
}

// authKey is where a request's context has its Auth.
type authKey struct{}

// verb is a method as net/http writes it in its errors.
func verb(method string) string {
	if method == "" {
		method = http.MethodGet
	}
	return method[:1] + strings.ToLower(method[1:])
}

// HTTP is the client for a library that wants one of net/http's; the rules are the same.
func (c *Client) HTTP() *http.Client { return &c.http }

// Transport is the client's own transport; nil when it was given one.
func (c *Client) Transport() *http.Transport { return c.transport }

// Close closes the connections that wait for a request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Reach opens a connection to where requests to u go, over TLS if they do, and sends nothing.
// Behind a proxy it reaches for the proxy.
func (c *Client) Reach(ctx context.Context, u *url.URL) error {
	secure := strings.EqualFold(u.Scheme, "https")
	if c.transport.Proxy != nil {
		proxy, err := c.transport.Proxy(&http.Request{URL: u})
		if err != nil {
			return fmt.Errorf("find the proxy for %s: %w", secret.URL(u.String()), err)
		}
		if proxy != nil {
			u, secure = proxy, strings.EqualFold(proxy.Scheme, "https")
		}
	}
	address := net.JoinHostPort(u.Hostname(), portOf(u))
	conn, err := c.transport.DialContext(ctx, "tcp", address)
	if err == nil && secure {
		conf := c.transport.TLSClientConfig.Clone()
		if conf == nil {
			conf = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if conf.ServerName == "" {
			conf.ServerName = u.Hostname()
		}
		over := tls.Client(conn, conf)
		if err = over.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
		}
		conn = over
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn.Close()
}

// Whole reports whether raw is a whole http or https URL.
func Whole(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && (strings.EqualFold(u.Scheme, "http") || strings.EqualFold(u.Scheme, "https")) && u.Host != ""
}
