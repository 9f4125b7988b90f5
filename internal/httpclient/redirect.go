package httpclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const maxRedirects = 10

// harmless are the headers that hold no credentials: those that say what a body is, who sends
// it and for which trace.
var harmless = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true,
	"User-Agent": true, "Traceparent": true, "Tracestate": true, "Rejection-Timestamp": true,
}

// follow decides about a redirect; via are the requests so far.
func (c *Client) follow(req *http.Request, via []*http.Request) error {
	switch {
	case c.o.NoRedirects, req.Method != via[0].Method:
		return http.ErrUseLastResponse
	case len(via) >= maxRedirects:
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	home := sameServer(via[0].URL, req.URL)
	if !home && c.credentials(via) {
		return http.ErrUseLastResponse
	}
	req.Header.Del("Referer")
	if auth, _ := req.Context().Value(authKey{}).(Auth); auth != nil {
		return auth.Authorize(req.Context(), req) // what it proves may be this very request
	}
	return nil
}

// credentials reports whether requests that follow one another carry any.
func (c *Client) credentials(via []*http.Request) bool {
	if c.o.Secret || c.o.TLS != nil && (c.o.TLS.GetClientCertificate != nil || len(c.o.TLS.Certificates) > 0) {
		return true
	}
	if via[0].Context().Value(authKey{}) != nil || via[0].URL.RawQuery != "" {
		return true
	}
	for name := range via[0].Header { // net/http copies them from the first
		if !harmless[http.CanonicalHeaderKey(name)] {
			return true
		}
	}
	for _, r := range via {
		if r.URL.User != nil {
			return true
		}
	}
	return false
}

// sameServer reports whether what may be sent to a may be sent to b.
func sameServer(a, b *url.URL) bool {
	if !strings.EqualFold(hostOf(a), hostOf(b)) {
		return false
	}
	from, to := strings.ToLower(a.Scheme), strings.ToLower(b.Scheme)
	if from == to {
		return portOf(a) == portOf(b)
	}
	return from == "http" && to == "https" && portOf(a) == "80" && portOf(b) == "443"
}

func hostOf(u *url.URL) string { return strings.TrimSuffix(u.Hostname(), ".") }

func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return "80"
}

// errElsewhere says why a redirect was not followed.
var errElsewhere = errors.New("the redirect is not followed, because the request carries credentials: set the URL to where it leads, if that is right")

// Stayed is the reason when resp is a redirect that was not followed because it leads the
// credentials of its request elsewhere; empty otherwise. It names the other server only.
func (c *Client) Stayed(resp *http.Response) string {
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if resp.Request.Method != http.MethodGet && resp.Request.Method != http.MethodHead {
			return "" // it would be another request
		}
	default:
		return ""
	}
	to, err := resp.Location()
	if err != nil || c.o.NoRedirects || sameServer(resp.Request.URL, to) || !c.credentials([]*http.Request{resp.Request}) {
		return ""
	}
	return fmt.Sprintf("it redirects to %s://%s: %s", to.Scheme, to.Host, errElsewhere)
}
