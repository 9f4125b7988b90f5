package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Pages may use the gateway from every origin, or from those that its options name; every
// header, and GET, POST and HEAD are allowed; an answer to a preflight request may be kept for
// 900 seconds. A browser keeps a page of another origin from what it asks for; what it sends
// without asking, as a beacon, comes all the same.
//
// What [Gateway.CORS] sets on an answer of net/http, AppendCORS and AppendPreflight write for
// one who writes answers himself.

const (
	varyPreflight = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
	maxAge        = "900"
)

var varyOrigin = []string{"Origin"}

// corsMethods are the methods that pages of other origins may use.
var corsMethods = map[string]bool{http.MethodGet: true, http.MethodPost: true, http.MethodHead: true, http.MethodOptions: true}

// CheckOrigin says what is wrong with an origin that is to be allowed: "*" for every one, a scheme and a
// host as browsers send them ("https://shop.example", "http://localhost:3000"), or with "*." before
// the host for every one below it ("https://*.shop.example").
func CheckOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	plain := strings.Replace(origin, "://*.", "://", 1)
	u, err := url.Parse(plain)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "" || strings.Contains(plain, "*"):
		return fmt.Errorf("%q is no origin", origin)
	case u.Scheme+"://"+u.Host != plain:
		return fmt.Errorf("%q has more than a scheme and a host", origin)
	}
	return nil
}

// origins are those that are allowed; nil is every one.
type origins struct {
	exact map[string]bool
	below [][2]string // what an origin begins with, and what it ends with
}

func originsOf(list []string) (o origins) {
	for _, origin := range list {
		if origin == "*" {
			return origins{}
		}
		if o.exact == nil {
			o.exact = map[string]bool{}
		}
		origin = strings.ToLower(origin)
		if scheme, host, ok := strings.Cut(origin, "://*."); ok {
			o.below = append(o.below, [2]string{scheme + "://", "." + host})
			continue
		}
		o.exact[origin] = true
	}
	return o
}

func (o *origins) allow(origin []byte) bool {
	if o.exact == nil {
		return true
	}
	name := string(bytes.ToLower(origin))
	if o.exact[name] {
		return true
	}
	for _, b := range o.below {
		if len(name) > len(b[0])+len(b[1]) && strings.HasPrefix(name, b[0]) && strings.HasSuffix(name, b[1]) {
			return true
		}
	}
	return false
}

// CORS sets the headers that let pages of the allowed origins use the gateway, and answers
// preflight requests, which it reports.
func (g *Gateway) CORS(w http.ResponseWriter, r *http.Request) (preflight bool) {
	origin := r.Header["Origin"]
	if len(origin) > 0 && !g.origins.allow([]byte(origin[0])) {
		origin = nil
	}
	h := w.Header()
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		h["Vary"] = []string{varyPreflight}
		if method := r.Header.Get("Access-Control-Request-Method"); len(origin) > 0 && corsMethods[method] {
			h["Access-Control-Allow-Origin"] = origin[:1]
			h.Set("Access-Control-Allow-Methods", method)
			if asked := r.Header["Access-Control-Request-Headers"]; len(asked) > 0 && asked[0] != "" {
				h["Access-Control-Allow-Headers"] = asked[:1]
			}
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Max-Age", maxAge)
		}
		w.WriteHeader(Preflight.Code)
		return true
	}
	h["Vary"] = varyOrigin
	if len(origin) > 0 && corsMethods[r.Method] {
		h["Access-Control-Allow-Origin"] = origin[:1]
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	return false
}

// AppendCORS appends the header lines of the answer a to a POST, whose origin is nil when it has
// none. The values must hold no line breaks.
func (g *Gateway) AppendCORS(out, origin []byte, a *Answer) []byte {
	out = append(out, "Vary: Origin\r\n"...)
	if origin == nil || !g.origins.allow(origin) {
		return out
	}
	out = append(append(out, "Access-Control-Allow-Origin: "...), origin...)
	if a.Event != "" || a.Retry {
		out = append(out, "\r\nAccess-Control-Expose-Headers: "+exposed...)
	}
	return append(out, "\r\nAccess-Control-Allow-Credentials: true\r\n"...)
}

// AppendPreflight appends the header lines of Preflight; headers is nil when it asks for none.
func (g *Gateway) AppendPreflight(out, origin, method, headers []byte) []byte {
	out = append(out, "Vary: "+varyPreflight+"\r\n"...)
	if !corsMethods[string(method)] || !g.origins.allow(origin) {
		return out
	}
	out = append(append(out, "Access-Control-Allow-Origin: "...), origin...)
	out = append(append(out, "\r\nAccess-Control-Allow-Methods: "...), method...)
	if headers != nil {
		out = append(append(out, "\r\nAccess-Control-Allow-Headers: "...), headers...)
	}
	return append(out, "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Max-Age: "+maxAge+"\r\n"...)
}
