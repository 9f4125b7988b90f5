package httptarget

import (
	"net/http"
	"net/url"

	"github.com/weirdata/weir/internal/secret"
)

// scrub makes the text of an error safe to show: URLs in it lose what may be secret, and
// credentials are replaced.
func (t *Target) scrub(text string, sent *http.Request) string {
	return t.hide(secret.Text(text), sent)
}

// hide replaces credentials in a text: those of the config, those of the request that was
// sent, which is nil when there was none, and those in use now.
func (t *Target) hide(text string, sent *http.Request) string {
	var now secret.Values
	if sent != nil {
		now.AddHeader(sent.Header)
		now.AddURL(sent.URL)
	}
	if t.auth != nil {
		now.Add(t.auth.Secrets()...)
	}
	return now.Hide(t.hidden.Hide(text))
}

// secrets are the values of c that no error may show.
func secrets(c Config) secret.Values {
	var all secret.Values
	all.AddBasic(c.BasicAuthUsername, c.BasicAuthPassword)
	for name, value := range c.Headers {
		all.AddNamed(name, value)
	}
	for _, raw := range []string{c.URL, c.OAuth2TokenURL} {
		if u, err := url.Parse(raw); err == nil {
			all.AddURL(u)
		}
	}
	return all
}
