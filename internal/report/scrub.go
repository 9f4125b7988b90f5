package report

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

const hidden = "(hidden)"

var (
	urls = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>` + "`" + `]+`)
	// sensitive matches the names of attributes whose values are not for others.
	sensitive = regexp.MustCompile(`(?i)authorization|cookie|passw|secret|token|credential|signature|(api|access|private)_?key|dsn`)
)

// Scrub takes out of a text what URLs in it may carry in secret: user information, query
// and fragment.
func Scrub(text string) string {
	return urls.ReplaceAllStringFunc(text, scrubURL)
}

func scrubURL(raw string) string {
	// What ends a clause is not part of the URL.
	clause := len(strings.TrimRight(raw, ".,:;)]}"))
	raw, end := raw[:clause], raw[clause:]
	u, err := url.Parse(raw)
	if err != nil {
		return hidden + end
	}
	u.User, u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = nil, "", "", "", false
	return u.String() + end
}

// shorten cuts s to at most n bytes, at a character boundary.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "..."
	cut := n - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}
