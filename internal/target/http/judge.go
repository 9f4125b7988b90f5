package httptarget

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
)

// maxShown is how much of a response body an error shows, and mostAnswer how much of one that no
// rule is for the log does.
const (
	maxShown   = 8 << 10
	mostAnswer = 300
)

var ruleKinds = map[string]fault.Kind{
	"invalid":  fault.Invalid,
	"setup":    fault.Setup,
	"throttle": fault.Throttled,
	"fatal":    fault.Fatal,
}

// reply is what came of a request: a response, or with code 0 the error in its place.
type reply struct {
	code  int
	line  string // status line: "429 Too Many Requests"
	body  string // response body, or the error's full text
	cause error  // with code 0: the error
	after time.Duration
	// stayed says why a redirect was not followed, where that is for a person to mend.
	stayed string
	sent   *http.Request // what it answers; nil when there was none
}

func (r Rule) matches(p reply) bool {
	return slices.Contains(r.HTTPCodes, p.code) && strings.Contains(p.body, r.Body)
}

// judge is the error that a reply means for the messages of its request: nil for a 2xx
// response that no rule matches.
//
// An invalid message's error tells the failure target all: "HTTP Status Code: 400 Bad
// Request Body: ...". The others tell the log: "response status: '503 Service
// Unavailable' with error details: 'Transient error'".
func (t *Target) judge(p reply) error {
	kind, match := t.kind(p)
	if match == nil && p.code >= 200 && p.code < 300 {
		return nil
	}
	shown := clip(t.hide(p.body, p.sent), maxShown)
	if p.code == 0 {
		shown = clip(t.scrub(p.body, p.sent), maxShown)
	}
	safe := shown
	if t.c.MetadataSafeMode && p.code != 0 {
		safe = safeText(kind)
		if match != nil && match.Body != "" {
			safe = match.Body
		}
	}
	if p.stayed != "" && match == nil {
		safe = p.stayed
	}
	e := &fault.Error{Kind: kind, Detail: fault.Detail{Type: "api", Code: p.line, Safe: safe}}
	if match == nil && refuses(p.code) && (p.code != http.StatusRequestEntityTooLarge || !t.c.Bisect) {
		e.Detail.Answer, e.Detail.Fix = clip(shown, mostAnswer), rewrite(kind, p.code)
	}
	switch kind {
	case fault.Invalid:
		e.Err = fmt.Errorf("HTTP Status Code: %s Body: %s", p.line, shown)
	case fault.Fatal:
		e.Err = fmt.Errorf("response status: '%s' with error details: '%s'", p.line, safe)
	default:
		e.Err = fmt.Errorf("response status: '%s' with error details: '%s'", p.line, safe)
		e.After = p.after
	}
	return e
}

// kind is what p means, and the rule that says so.
func (t *Target) kind(p reply) (fault.Kind, *Rule) {
	for i := range t.rules {
		if t.rules[i].matches(p) {
			return ruleKinds[t.rules[i].Type], &t.rules[i]
		}
	}
	switch {
	case p.code == 0:
		return clientFaultKind(p.cause), nil
	case p.stayed != "":
		return fault.Setup, nil
	case p.code == http.StatusRequestEntityTooLarge && t.c.Bisect:
		return fault.Invalid, nil
	case t.named && refuses(p.code):
		return fault.Invalid, nil
	}
	return fault.Transient, nil
}

// refuses reports whether an answer says that what was sent will never be taken.
func refuses(code int) bool {
	switch code {
	case http.StatusBadRequest, http.StatusNotAcceptable, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusRequestURITooLong, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

// rewrite is the rule that has an answer mean something else than the kind it has without one.
func rewrite(kind fault.Kind, code int) string {
	to, why := "invalid", "to have such events go to the failure target at once"
	if kind == fault.Invalid {
		to, why = "throttle", "to have such events tried again"
	}
	return fmt.Sprintf("%s, write into use \"http\":\nresponse_rules {\n  rule {\n    type       = %q\n    http_codes = [%d]\n  }\n}", why, to, code)
}

// clientFaultKind is what a request without a response means when no rule says.
func clientFaultKind(err error) fault.Kind {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.Setup
	}
	if httpclient.Refused(err) {
		return fault.Setup
	}
	return fault.Transient
}

func safeText(k fault.Kind) string {
	switch k {
	case fault.Invalid:
		return "Invalid error"
	case fault.Setup:
		return "Setup error"
	case fault.Throttled:
		return "Throttle error"
	case fault.Fatal:
		return "Fatal error"
	}
	return "Transient error"
}

// clip cuts s to at most n bytes, at a character boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := n
	for cut > n-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
