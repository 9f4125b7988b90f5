package frontdoor

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Guard keeps pages of other sites from using a door that trusts whoever reaches it, through
// the browser of somebody who does:
//
//   - A request that a browser makes for another site is refused, unless it only reads.
//   - On a loopback address, so is one whose Host is a name that is not this machine's: a site
//     may have its own name resolve to 127.0.0.1, and a browser then takes what answers there
//     for the site. Addresses, localhost and what is below it, and names, are let in; once there
//     are names, the same holds on every address.
func Guard(names []string, next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (len(names) > 0 || onLoopback(r)) && !ownName(r.Host, names) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf("the host name %.100q is not one of this server: add it to host_names of its block, or ask by address", r.Host)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func onLoopback(r *http.Request) bool {
	at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return at != nil && at.IP.IsLoopback()
}

// ownName reports whether a Host header names this machine, or is one of names. Without one a
// request comes from no browser.
func ownName(host string, names []string) bool {
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(names, host)
}
