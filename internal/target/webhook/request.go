package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/secret"
)

// maxShown is how much of a response body, in bytes, an error shows.
const maxShown = 10 << 10

var payloads = sync.Pool{New: func() any { return new(payload) }}

// deliver sends one message, after what it did not pass before.
func (t *Target) deliver(ctx context.Context, m *event.Message) error {
	e, err := t.endpoint(m)
	if err != nil {
		return err
	}
	if e.err != nil {
		return e.err
	}
	if why, unfinished := connector.IsUnfinished(m); unfinished {
		return t.finish(ctx, e, m, why)
	}
	return t.send(ctx, e, m)
}

// send makes the request for a message and judges the answer.
func (t *Target) send(ctx context.Context, e *endpoint, m *event.Message) error {
	req, err := t.request(e, m)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	resp, err := t.client.Do(req.WithContext(limited), nil)
	if err != nil {
		return t.meanwhile(m, t.noResponse(ctx, e, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		httpclient.Drain(resp)
		return nil
	}
	shown, _ := httpclient.Body(resp, maxShown) // what arrived of it does for an error's text
	return t.meanwhile(m, e.judge(resp, shown))
}

// meanwhile is what counts of a failure: that the destination has gone while it was called, if it has.
// The message would wait for its next attempt otherwise, which nobody hastens any more.
func (t *Target) meanwhile(m *event.Message, failed error) error {
	if fault.Of(failed) != fault.Invalid && t.Standing(destinationOf(m)) == connector.StandsClosed {
		if _, gone := t.endpoint(m); gone != nil {
			return gone
		}
	}
	return failed
}

// request makes the request for a message.
func (t *Target) request(e *endpoint, m *event.Message) (*http.Request, error) {
	p := payloads.Get().(*payload)
	defer func() {
		p.data = nil
		payloads.Put(p)
	}()
	if !p.read(m.Data) {
		return nil, aborted("400", "the payload is not a JSON object")
	}
	to, err := t.address(e, p)
	if err != nil {
		return nil, err
	}
	header := e.header
	if to.Host != e.url.Host || to.Scheme != e.url.Scheme {
		header = e.foreign
	}
	header, ok := p.headers(header)
	if !ok {
		return nil, aborted("400", "a header of the event is not a valid HTTP header")
	}
	req := &http.Request{
		Method: e.method, URL: to, Host: to.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if e.hasBody() {
		body := p.body()
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
		return req, nil
	}
	if values := p.parameters(); len(values) > 0 {
		u := *to
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += values.Encode()
		req.URL = &u
	}
	return req, nil
}

// address is where an event goes.
func (t *Target) address(e *endpoint, p *payload) (*url.URL, error) {
	if t.c.Endpoints == endpointsNone || (!p.hasFull && p.appendPath == "") {
		return e.url, nil
	}
	raw := e.raw
	if p.hasFull {
		raw = p.fullPath
	}
	u, err := parseURL(raw + p.appendPath)
	if err != nil {
		return nil, aborted("400", "fullPath and appendPath of the event do not make a URL")
	}
	if t.c.Endpoints == endpointsHost && (u.Host != e.url.Host || u.Scheme != e.url.Scheme) {
		return nil, aborted("403", "fullPath or appendPath of the event lead to another host, which endpoints does not allow")
	}
	return u, nil
}

// noResponse is the error of a request that got no response. It shows neither the URL's
// path nor its query.
func (t *Target) noResponse(ctx context.Context, e *endpoint, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("request to destination %s given up: %w", e.id, context.Cause(ctx))
	}
	if errors.Is(err, httpclient.ErrPrivate) {
		return aborted("403", "the address is private, and block_private_networks is on")
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	what := e.hide(secret.Text(err.Error()), nil)
	if errors.Is(err, context.DeadlineExceeded) {
		what = fmt.Sprintf("no response within %s", t.timeout)
	}
	return &fault.Error{
		Kind:   fault.Transient,
		Err:    fmt.Errorf("destination %s did not answer: %s", e.id, what),
		Detail: fault.Detail{Type: "api", Code: "504", Safe: "the destination did not answer"},
	}
}

// judge is the error that a response means.
func (e *endpoint) judge(resp *http.Response, shown []byte) error {
	code := resp.StatusCode
	kind := fault.Invalid
	switch {
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		kind = fault.Throttled
	case code >= 500 || code < 200:
		kind = fault.Transient
	}
	status := strconv.Itoa(code)
	if name := http.StatusText(code); name != "" {
		status += " " + name
	}
	err := &fault.Error{
		Kind:   kind,
		Err:    fmt.Errorf("destination %s answered %s: %s", e.id, status, e.hide(readable(resp.Header.Get("Content-Type"), shown), resp.Request)),
		Detail: fault.Detail{Type: "api", Code: status, Safe: "the destination answered " + status},
	}
	if kind != fault.Invalid {
		err.After = httpclient.RetryAfter(resp.Header, time.Now(), httpclient.MaxWait)
	}
	return err
}

// readable is a response body for an error: text, JSON and XML as they are.
func readable(contentType string, body []byte) string {
	kind, _, err := mime.ParseMediaType(contentType)
	switch {
	case len(body) == 0:
		return "(no body)"
	case err != nil && contentType != "":
		return "(the body is not text)"
	case contentType == "", strings.HasPrefix(kind, "text/"), strings.HasSuffix(kind, "json"), strings.HasSuffix(kind, "xml"), kind == "application/x-www-form-urlencoded":
		return strings.ToValidUTF8(string(body), "\ufffd")
	}
	return "(the body is not text)"
}
