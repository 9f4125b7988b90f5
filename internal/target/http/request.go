package httptarget

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/trace"
)

// maxResponse is how much of a response is read for rules and errors.
const maxResponse = 1 << 20

// request sends p, which it takes over, and judges the answer. first is the first message of
// the request, whose headers count where messages have their own; single says that there is
// no other. divisible says that the refusal may be for one of several messages.
func (t *Target) request(ctx context.Context, p *payload, first *event.Message, single bool) (divisible bool, err error) {
	to, header, err := t.address(first)
	if err != nil {
		p.release()
		return false, err
	}
	only := first
	if !single {
		only = nil
	}
	trace.Inject(ctx, header, only)
	var watch sending
	req := (&http.Request{
		Method: t.c.Method, URL: to, Host: to.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: p.reader(), ContentLength: int64(len(p.data)),
		GetBody: func() (io.ReadCloser, error) {
			watch.odd.Store(true)
			return p.reader(), nil
		},
	}).WithContext(httptrace.WithClientTrace(ctx, watch.trace()))
	if t.c.IncludeTimingHeaders {
		limit := t.timeout.Milliseconds() - int64(t.c.RejectionThresholdInMillis)
		header.Add("Rejection-Timestamp", strconv.FormatInt(time.Now().UnixMilli()+limit, 10))
	}
	if len(p.data) == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	defer func() {
		if watch.done() {
			p.release()
		}
	}()
	resp, err := t.client.Do(req, t.auth)
	if err != nil {
		return false, t.noResponse(ctx, err)
	}
	defer resp.Body.Close()
	return t.answer(ctx, resp)
}

// answer reads and judges a response.
func (t *Target) answer(ctx context.Context, resp *http.Response) (divisible bool, err error) {
	code := resp.StatusCode
	success := code >= 200 && code < 300
	if success && !t.rules2xx[code-200] {
		httpclient.Drain(resp)
		return false, nil
	}
	body, err := httpclient.Body(resp, maxResponse)
	if err != nil {
		if ctx.Err() != nil {
			return false, t.cancelled(ctx)
		}
		return false, t.judge(reply{line: "Error reading response body", body: err.Error(), cause: err})
	}
	r := reply{code: code, line: resp.Status, body: string(body), after: httpclient.RetryAfter(resp.Header, time.Now(), httpclient.MaxWait), stayed: t.client.Stayed(resp), sent: resp.Request}
	err = t.judge(r)
	return !success && fault.Of(err) == fault.Invalid, err
}

// noResponse judges a request that got no response.
func (t *Target) noResponse(ctx context.Context, err error) error {
	// Our own stop says nothing about the other side, so no rule may match it.
	if ctx.Err() != nil {
		return t.cancelled(ctx)
	}
	return t.judge(reply{line: "Client failed to complete request", body: err.Error(), cause: err})
}

func (t *Target) cancelled(ctx context.Context) error {
	return fmt.Errorf("request to %s given up: %w", secret.URL(t.c.URL), context.Cause(ctx))
}

// address is where the messages that start with m go, and the headers they go with.
func (t *Target) address(m *event.Message) (*url.URL, http.Header, error) {
	header := t.header.Clone()
	if t.limits.Alone == nil || len(m.Meta.Headers) == 0 {
		return t.url, header, nil
	}
	to := t.url
	if path := m.Meta.Headers.Fold(t.dynURL); path != nil && t.dynURL != "" {
		u, err := t.url.Parse(string(path.Value))
		if err != nil || u.Scheme != t.url.Scheme || u.Host != t.url.Host || (u.User != nil && u.User != t.url.User) {
			return nil, nil, headerFault(fmt.Errorf("header %s of the message: only the path and query may differ from url", t.dynURL))
		}
		u.User = t.url.User
		to = u
	}
	if !t.c.DynamicHeaders {
		return to, header, nil
	}
	for i := range m.Meta.Headers {
		h := &m.Meta.Headers[i]
		if t.dynURL != "" && strings.EqualFold(h.Name, t.dynURL) {
			continue
		}
		if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(h.Text()) {
			return nil, nil, headerFault(fmt.Errorf("header %q of the message is not a valid HTTP header", h.Name))
		}
		header.Add(h.Name, string(h.Value))
	}
	return to, header, nil
}

func headerFault(err error) error {
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "api", Safe: "Invalid header"})
}
