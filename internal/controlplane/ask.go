package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
)

// answer is what the plane said.
type answer struct {
	body      []byte
	etag      string
	unchanged bool
	wait      time.Duration // that it asks for, with an error
}

// url is where the configuration is, and of a namespace what has changed after a time.
func (p *Poller) url(after string) string {
	base := strings.TrimRight(p.o.URL, "/")
	if p.o.Namespace == "" {
		return base + "/workspaceConfig?fetchAll=true"
	}
	at := base + "/data-plane/v1/namespaces/" + url.PathEscape(p.o.Namespace) + "/config"
	if after != "" {
		at += "?updatedAfter=" + url.QueryEscape(after)
	}
	return at
}

// ask sends one request. An error is of kind Setup where the plane refuses, so that asking again is
// of no use until somebody has changed something.
func (p *Poller) ask(ctx context.Context, after, etag string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url(after), http.NoBody)
	if err != nil {
		return answer{}, fault.New(fault.Setup, fmt.Errorf("ask the control plane: %w", p.plain(err)))
	}
	req.Header.Set("Content-Type", "application/json")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := p.client.Do(req, httpclient.Basic{User: p.o.Token})
	if err != nil {
		return answer{}, fault.New(fault.Transient, fmt.Errorf("ask the control plane: %w", p.plain(err)))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotModified && etag != "" {
		httpclient.Drain(resp)
		return answer{unchanged: true}, nil
	}
	if resp.StatusCode != http.StatusOK {
		httpclient.Drain(resp)
		return answer{wait: httpclient.RetryAfter(resp.Header, time.Now(), longestWait)}, p.refused(resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, p.o.MaxBytes+1))
	switch {
	case err != nil:
		return answer{}, fault.New(fault.Transient, fmt.Errorf("read the control plane's answer: %w", p.plain(err)))
	case int64(len(body)) > p.o.MaxBytes:
		return answer{}, fault.New(fault.Setup, fmt.Errorf("the control plane's answer has more than %d bytes: raise max_bytes of the control_plane block", p.o.MaxBytes))
	case len(strings.TrimSpace(string(body[:min(len(body), 64)]))) == 0:
		return answer{}, fault.New(fault.Transient, errors.New("the control plane's answer is empty: look whether the URL is that of a control plane"))
	}
	return answer{body: body, etag: resp.Header.Get("ETag")}, nil
}

func (p *Poller) refused(code int) error {
	what := fmt.Sprintf("the control plane answers %d %s", code, http.StatusText(code))
	switch {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		is := "token of the workspace (WORKSPACE_TOKEN of RudderStack)"
		if p.o.Namespace != "" {
			is = "secret of the namespace (HOSTED_SERVICE_SECRET of RudderStack)"
		}
		return fault.New(fault.Setup, fmt.Errorf("%s: token of the control_plane block is not the %s; write the right one, and reload", what, is))
	case code == http.StatusNotFound:
		return fault.New(fault.Setup, fmt.Errorf("%s: look whether url and namespace of the control_plane block are right", what))
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return fault.New(fault.Transient, errors.New(what))
	}
	return fault.New(fault.Setup, fmt.Errorf("%s, which is no configuration: look whether url of the control_plane block is that of a control plane", what))
}

// plain is err without what must not be shown.
func (p *Poller) plain(err error) error {
	if text := p.hidden.Hide(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}
