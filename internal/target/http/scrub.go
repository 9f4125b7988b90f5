package httptarget

import (
	"net/url"
	"regexp"
	"sort"
	"strings"

	"github.com/weirdata/weir/internal/httpclient"
)

// hiddenMark stands where a secret stood.
const hiddenMark = "[hidden]"

var (
	urls          = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+`)
	sensitiveName = regexp.MustCompile(`(?i)authorization|cookie|key|token|secret|password|signature`)
)

// scrub makes the text of an error safe to show: URLs in it lose what may be secret, and
// credentials are replaced.
func (t *Target) scrub(text string) string {
	return t.hide(urls.ReplaceAllStringFunc(text, httpclient.PlainURL))
}

// hide replaces credentials of the config, and those in use now, in a text.
func (t *Target) hide(text string) string {
	for _, s := range t.hidden {
		text = strings.ReplaceAll(text, s, hiddenMark)
	}
	if t.auth != nil {
		for _, s := range t.auth.Secrets() {
			text = strings.ReplaceAll(text, s, hiddenMark)
		}
	}
	return text
}

// secrets lists the values of c that no error may show, longest first, so that one that
// contains another is replaced whole. Very short values are left: replacing them would
// only show where they are.
func secrets(c Config) []string {
	all := httpclient.Basic{User: c.BasicAuthUsername, Password: c.BasicAuthPassword}.Secrets()
	for name, value := range c.Headers {
		if sensitiveName.MatchString(name) {
			all = append(all, value)
		}
	}
	if u, err := url.Parse(c.URL); err == nil {
		if p, ok := u.User.Password(); ok {
			all = append(all, p)
		}
		all = append(all, u.RawQuery)
		for _, vs := range u.Query() {
			all = append(all, vs...)
		}
	}
	var long []string
	for _, s := range all {
		if len(s) >= 4 {
			long = append(long, s)
		}
	}
	sort.Slice(long, func(i, j int) bool { return len(long[i]) > len(long[j]) })
	return long
}
