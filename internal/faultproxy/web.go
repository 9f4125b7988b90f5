package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// Web is a proxy before a service of requests that are told apart by method and path, such as a
// store of objects. What is not met by a fault passes as it came, its Host included, which is
// signed.
type Web struct {
	// URL is the endpoint for clients.
	URL string

	engine *url.URL
	server *httptest.Server
	client *http.Client

	mu   sync.Mutex
	rule WebRule
	seen []string // method and path of every request
}

// WebRule decides what a request meets; nil lets it pass. It is asked for one request at a time.
type WebRule func(r *http.Request) WebFault

// WebFault is what happens to a request whose body has been read.
type WebFault func(p *Web, w http.ResponseWriter, r *http.Request, body []byte)

// NewWeb is a proxy before the engine at an endpoint.
func NewWeb(t testing.TB, engine string) *Web {
	t.Helper()
	u, err := url.Parse(engine)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	p := &Web{engine: u, client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	p.server = httptest.NewServer(p)
	p.URL = p.server.URL
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// On has a rule decide from now on; nil lets everything pass.
func (p *Web) On(rule WebRule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

// Seen is method, path and query of every request so far.
func (p *Web) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen...)
}

// ServeHTTP implements http.Handler.
func (p *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.URL.RequestURI())
	var fault WebFault
	if p.rule != nil {
		fault = p.rule(r)
	}
	p.mu.Unlock()
	if fault == nil {
		fault = pipe
	}
	fault(p, w, r, body)
}

func (p *Web) forward(ctx context.Context, r *http.Request, body []byte) (*http.Response, error) {
	to := *r.URL
	to.Scheme, to.Host = p.engine.Scheme, p.engine.Host
	req, err := http.NewRequestWithContext(ctx, r.Method, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header, req.Host = r.Header.Clone(), r.Host
	req.Header.Del("Connection")
	req.Header.Del("Expect")
	return p.client.Do(req)
}

func pipe(p *Web, w http.ResponseWriter, r *http.Request, body []byte) {
	p.answer(w, r, body, -1)
}

// answer forwards a request and gives the answer, or what it begins with.
func (p *Web) answer(w http.ResponseWriter, r *http.Request, body []byte, most int64) {
	resp, err := p.forward(r.Context(), r, body)
	if err != nil {
		cut(w)
		return
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		if name != "Connection" && name != "Transfer-Encoding" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	if most < 0 {
		if _, err := io.Copy(w, resp.Body); err != nil {
			cut(w)
		}
		return
	}
	if _, err := io.CopyN(w, resp.Body, most); err != nil && !errors.Is(err, io.EOF) {
		cut(w)
		return
	}
	_ = http.NewResponseController(w).Flush()
	cut(w)
}

// WebAnswer answers without forwarding anything.
func WebAnswer(status int, header map[string]string, body string) WebFault {
	return func(_ *Web, w http.ResponseWriter, r *http.Request, _ []byte) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, body)
		}
	}
}

// WebLost forwards a request, and cuts the connection instead of answering.
func WebLost(p *Web, w http.ResponseWriter, r *http.Request, body []byte) {
	if resp, err := p.forward(context.WithoutCancel(r.Context()), r, body); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	cut(w)
}

// WebCut ends the connection and forwards nothing.
func WebCut(_ *Web, w http.ResponseWriter, _ *http.Request, _ []byte) { cut(w) }

// WebShort forwards a request, and cuts the answer behind its first bytes.
func WebShort(most int64) WebFault {
	return func(p *Web, w http.ResponseWriter, r *http.Request, body []byte) { p.answer(w, r, body, most) }
}

// Sometimes meets one request in some with one of the faults, by a seed: the same requests in
// the same order meet the same.
func Sometimes(seed uint64, some int, faults ...WebFault) WebRule {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(*http.Request) WebFault {
		if random.IntN(some) != 0 {
			return nil
		}
		return faults[random.IntN(len(faults))]
	}
}
