// Package httptarget is the target "http": it sends batches of messages as HTTP requests.
//
// # Request
//
// Without a template the body is a JSON array of the messages, without insignificant white
// space and with <, >, &, U+2028 and U+2029 escaped inside strings, as encoding/json
// writes raw messages. With a template it is what the template makes of the list of decoded
// messages. A message that is not JSON is invalid by itself and does not hold up the rest. In
// the raw format a body is one message, byte for byte, and need not be JSON.
//
// # Response
//
// A 2xx response means delivered, unless a rule names its code and its body text. Any other
// response, or none (status 0), is judged by the first rule that matches, and is transient
// when none does. A Retry-After header (seconds or a date, at most an hour) is passed on
// with every outcome that is tried again, whatever its kind; it does not change the kind.
// Redirects that keep method and body (307, 308) are followed, but never to another server with
// credentials (package httpclient); 301, 302 and 303 would drop the body. A redirect that is
// not followed is judged as a response.
//
// Without a matching rule, some outcomes have a better meaning than transient: a server
// certificate that cannot be verified, a token endpoint that rejects the client and a redirect
// that would carry credentials elsewhere are setup faults, and 413 is invalid while bisecting
// is on. An answer that refuses what was sent (400, 406, 411, 414, 415, 422, 431, and 413) is
// invalid in a pipeline block; in the blocks of a config of Snowbridge it is transient, as there.
// Either way the log says which rule would have it otherwise.
//
// # Bisecting
//
// A batch of n events that is refused (rule type invalid, or 413) may hold one event at
// fault. It is sent again in halves, in order, until the events at fault stand alone. One
// write makes at most 1+8*ceil(log2 n) requests for it, which always finds four such events,
// and all of them in batches of up to 16; what is still refused then is invalid as a whole.
// Responses with a 2xx code are not bisected, since the other side may have kept the events.
//
// # Secrets
//
// Errors show of URLs the host only, and no credential of the config or of the request that
// was sent, also where the other side repeats it.
package httptarget

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sort"
	"text/template"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/tlsconfig"
)

// Entry is the target's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name:      "http",
	Summary:   "Sends batches of JSON messages as HTTP requests.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(ctx context.Context, d connector.Deps, c Config) (connector.Target, error) {
		t, err := New(ctx, d, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
})

func defaults() Config {
	return Config{
		Batching: &connector.Batching{
			MaxBatchMessages:     50,
			MaxBatchBytes:        1048576,
			MaxMessageBytes:      1048576,
			MaxConcurrentBatches: 5,
			FlushPeriodMillis:    200,
		},
		Method:                     http.MethodPost,
		BodyFormat:                 jsonArray,
		RequestTimeoutInMillis:     5000,
		ContentType:                "application/json",
		Compression:                "none",
		MetadataSafeMode:           true,
		Bisect:                     true,
		RejectionThresholdInMillis: 150,
	}
}

// Target sends batches to one URL. Write may be called by several goroutines at once.
type Target struct {
	c        Config
	limits   connector.Limits
	url      *url.URL
	header   http.Header
	dynURL   string // canonical name of the header that holds a message's URL, or ""
	timeout  time.Duration
	tls      *tls.Config // nil without TLS
	tmpl     *template.Template
	rules    []Rule
	named    bool      // in a pipeline block: see the package comment
	rules2xx [100]bool // which 2xx codes a rule names: their bodies must be read
	client   *httpclient.Client
	auth     httpclient.Auth // nil without one that changes
	hidden   secret.Values
	maxBody  int // most bytes a template may make
}

var (
	_ connector.Target  = (*Target)(nil)
	_ connector.Limiter = (*Target)(nil)
	_ connector.Checker = (*Target)(nil)
)

// New builds the target. It reads the template and TLS files and touches nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Target, error) {
	if c.Batching == nil {
		c.Batching = defaults().Batching
	}
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("target error: %s: %s", ps[0].What, ps[0].Fix))
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fault.New(fault.Setup, errors.New("target error: url cannot be parsed"))
	}
	t := &Target{c: c, url: u, timeout: time.Duration(c.RequestTimeoutInMillis) * time.Millisecond, named: d.Named}
	if c.DynamicURL != "" {
		t.dynURL = http.CanonicalHeaderKey(c.DynamicURL)
	}
	if c.ResponseRules != nil {
		t.rules = c.ResponseRules.Rules
	}
	t.warn(d.Log)
	if err := t.loadTemplate(d.Dir); err != nil {
		return nil, err
	}
	if err := t.setClient(d.Dir); err != nil {
		return nil, err
	}
	if t.auth, err = t.newAuth(d.Dir); err != nil {
		return nil, err
	}
	t.setHeader()
	t.hidden = secrets(c)
	return t, nil
}

// warn names settings that have no effect, and marks the 2xx codes that rules name.
func (t *Target) warn(log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, r := range t.rules {
		if len(r.HTTPCodes) == 0 {
			log.Warn("a response rule without http_codes never matches", "type", r.Type, "body", r.Body)
		}
		for _, code := range r.HTTPCodes {
			if code >= 200 && code < 300 {
				t.rules2xx[code-200] = true
			}
		}
	}
	c := t.c
	if !c.EnableTLS && (c.CertFile != "" || c.KeyFile != "" || c.CAFile != "" || c.SkipVerifyTLS) {
		log.Warn("TLS settings have no effect without enable_tls = true")
	}
	for name := range c.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			log.Warn("a Host header has no effect: requests carry the host of url")
		}
	}
}

func (t *Target) loadTemplate(dir string) error {
	b := t.c.Batching
	size := -1
	if t.c.TemplateFile != "" {
		text, err := connector.ReadFile(dir, "template_file", t.c.TemplateFile)
		if err != nil {
			return connector.Blame("template_file", "name a file that can be read; a relative path means from the directory of the config file", fmt.Errorf("read template_file: %w", err))
		}
		if t.tmpl, err = parseTemplate(string(text)); err != nil {
			return connector.Blame("template_file", "correct the template at the line it names", fmt.Errorf("parse template_file %s: %w", t.c.TemplateFile, err))
		}
		size = len(text)
	}
	t.limits = b.Limits()
	if t.c.BodyFormat == raw {
		t.limits.MaxBatchMessages = 1
	} else {
		t.limits.MaxBatchBytes -= overhead(b.MaxBatchMessages, size)
	}
	if size >= b.MaxBatchBytes || t.limits.MaxBatchBytes <= 0 {
		return connector.Blame("batching.max_batch_bytes", "raise max_batch_bytes above the size of the template", fmt.Errorf("target error: Template must be smaller than batching Byte limit. MaxBatchBytes: %d, template: %d bytes", b.MaxBatchBytes, size))
	}
	t.limits.MaxMessageBytes = min(t.limits.MaxMessageBytes, t.limits.MaxBatchBytes)
	if t.c.DynamicHeaders || t.dynURL != "" {
		t.limits.Alone = t.alone
	}
	t.maxBody = max(minTemplateOutput, 4*b.MaxBatchBytes)
	return nil
}

// Measure implements meter.Measured.
func (t *Target) Measure(emit meter.Emit) { meter.Certificate(t.tls, emit) }

func (t *Target) setClient(dir string) error {
	o := httpclient.Options{Timeout: t.timeout, IdlePerHost: t.c.Batching.MaxConcurrentBatches,
		WriteBuffer: 64 << 10} // most requests fit one buffer, and leave in one write
	if t.c.EnableTLS {
		var err error
		if o.TLS, err = (tlsconfig.Settings{CertFile: t.c.CertFile, KeyFile: t.c.KeyFile, CAFile: t.c.CAFile, SkipVerify: t.c.SkipVerifyTLS, Dir: dir}).Client(); err != nil {
			return err
		}
	}
	t.client, t.tls = httpclient.New(o), o.TLS
	return nil
}

// newAuth is what authorizes requests as they are sent; nil when the config has no such thing.
// Its own requests go the way of the target's, and hold secrets.
func (t *Target) newAuth(dir string) (httpclient.Auth, error) {
	c := t.c
	o := c.OAuthClient
	if c.OAuth2ClientID != "" {
		o = &httpclient.OAuthClient{ClientID: c.OAuth2ClientID, ClientSecret: c.OAuth2ClientSecret, RefreshToken: c.OAuth2RefreshToken, TokenURL: c.OAuth2TokenURL}
	}
	secret := httpclient.New(httpclient.Options{Transport: t.client.Transport(), Timeout: t.timeout, Secret: true})
	switch j := c.OAuthJWT; {
	case j != nil:
		key := []byte(j.PrivateKey)
		if j.PrivateKeyFile != "" {
			var err error
			if key, err = connector.ReadFile(dir, "oauth_jwt.private_key_file", j.PrivateKeyFile); err != nil {
				return nil, connector.Blame("oauth_jwt.private_key_file", "name a file that can be read; a relative path means from the directory of the config file", fmt.Errorf("read oauth_jwt.private_key_file: %w", err))
			}
		}
		return httpclient.NewOAuthJWT(*j, key, secret)
	case o != nil:
		return httpclient.NewOAuthClient(*o, secret), nil
	case c.SigV4 != nil:
		v := c.SigV4
		return httpclient.NewSigV4(v.Region, v.Service, httpclient.Keys{AccessKeyID: v.AccessKeyID, SecretAccessKey: v.SecretAccessKey, SessionToken: v.SessionToken}), nil
	}
	return nil, nil
}

// setHeader makes the headers that every request carries.
func (t *Target) setHeader() {
	c := t.c
	t.header = http.Header{"Content-Type": {c.ContentType}}
	names := make([]string, 0, len(c.Headers))
	for name := range c.Headers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.header.Add(name, c.Headers[name])
	}
	if c.Compression == "gzip" {
		t.header.Set("Content-Encoding", "gzip")
	}
	if c.BasicAuthUsername != "" || c.BasicAuthPassword != "" {
		r := http.Request{Header: t.header}
		r.SetBasicAuth(c.BasicAuthUsername, c.BasicAuthPassword) // a message's own header may stand beside it
	}
}

// alone reports whether m needs a request of its own.
func (t *Target) alone(m *event.Message) bool {
	if len(m.Meta.Headers) == 0 {
		return false
	}
	if t.c.DynamicHeaders {
		return true
	}
	return m.Meta.Headers.Fold(t.dynURL) != nil
}

// Limits is how messages should be grouped, less what the body adds to them.
func (t *Target) Limits() connector.Limits { return t.limits }

// Open does nothing: connections are opened by the first requests.
func (t *Target) Open(context.Context) error { return nil }

// Close closes idle connections.
func (t *Target) Close(context.Context) error {
	t.client.Close()
	return nil
}

// Check opens a connection, over TLS for an https URL, and sends nothing. Behind a proxy
// it reaches for the proxy. It asks for no OAuth token, because that may use up a refresh token.
func (t *Target) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if err := t.client.Reach(ctx, t.url); err != nil {
		return fault.New(clientFaultKind(err), err) // it shows the host only
	}
	return nil
}
