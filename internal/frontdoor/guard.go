package frontdoor

import (
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
