package frontdoor

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/jsontext"
)

// Guard keeps pages of other sites from using a door that trusts whoever reaches it, through
// the browser of somebody who does:
//
//   - A request that a browser makes for a page of another site is refused, also one that only
//     reads; following a link is not such a request.
//   - So is one whose Host is a name that is not this machine's: a site may have its own name
//     resolve to any address, and a browser then takes what answers there for the site.
//     Addresses, localhost and what is below it, and names, are let in. Where the door is open
//     to other machines and there are no names, so are names that no site can have: those of one
//     word, and below the domains of private networks.
func Guard(names []string, next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		inside := len(names) == 0 && (at == nil || !at.IP.IsLoopback()) // without an address nobody came by the network
		switch {
		case !ownName(r.Host, names) && !(inside && (at == nil || privateName(r.Host))):
			forbid(w, fmt.Sprintf("the host name %.100q is not one of this server: add it to host_names of its block, or ask by address", r.Host))
		case ofOtherSite(r):
			forbid(w, "a page of another site asks")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func forbid(w http.ResponseWriter, why string) { refuse(w, http.StatusForbidden, why) }

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "{\"error\":%s}\n", jsontext.AppendString(nil, why))
}

// ofOtherSite reports whether a browser says that a page of another site makes the request.
func ofOtherSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// SessionCookie is the name of the cookie that stands for a token.
const SessionCookie = "weir_session"

// Session is what a browser shows in the place of a token, which it need not keep: it stands for
// the token as long as that is the door's, and tells nobody what it is.
func Session(token string) string {
	m := hmac.New(sha256.New, []byte(token))
	_, _ = m.Write([]byte("weir session")) // a hash takes everything
	return hex.EncodeToString(m.Sum(nil))
}

// Bearer lets in who has the token as it is now, or the cookie that stands for it, and everybody
// where there is none. Paths that are open need none; one that ends in a slash stands for all below
// it.
func Bearer(token func() string, open []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := token()
		if now == "" || opened(open, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		scheme, said, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		known := strings.EqualFold(scheme, "Bearer") && same(strings.TrimSpace(said), now)
		if c, err := r.Cookie(SessionCookie); err == nil && !known {
			known = same(c.Value, Session(now))
		}
		if known {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "the token of the server's block is missing or wrong")
	})
}

// same compares secrets in a time that does not tell how much of them is equal, or how long they are.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func opened(open []string, path string) bool {
	return slices.ContainsFunc(open, func(o string) bool {
		return path == o || len(o) > 1 && strings.HasSuffix(o, "/") && strings.HasPrefix(path, o)
	})
}

// nameOf is the name or address of a Host header.
func nameOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// ownName reports whether a Host header names this machine, or is one of names. Without one a
// request comes from no browser.
func ownName(host string, names []string) bool {
	if host == "" {
		return true
	}
	host = nameOf(host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(names, host)
}

// privateName reports whether no site of the internet can have the name: one of one word, or below
// a domain that is set apart for private networks.
func privateName(host string) bool {
	host = nameOf(host)
	if !strings.Contains(host, ".") {
		return true
	}
	for _, domain := range []string{".local", ".internal", ".home.arpa", ".svc", ".lan"} {
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}
