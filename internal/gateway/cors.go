package gateway

import "net/http"

// Pages of any origin may use the gateway: every origin, every header, and GET, POST and HEAD
// are allowed; an answer to a preflight request may be kept for 900 seconds.
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

// CORS sets the headers that let pages of any origin use the gateway, and answers preflight
// requests, which it reports.
func (g *Gateway) CORS(w http.ResponseWriter, r *http.Request) (preflight bool) {
	origin := r.Header["Origin"]
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

// AppendCORS appends the header lines of the answer to a POST, whose origin is nil when it has
// none. The values must hold no line breaks.
func AppendCORS(out, origin []byte) []byte {
	out = append(out, "Vary: Origin\r\n"...)
	if origin == nil {
		return out
	}
	out = append(append(out, "Access-Control-Allow-Origin: "...), origin...)
	return append(out, "\r\nAccess-Control-Allow-Credentials: true\r\n"...)
}

// AppendPreflight appends the header lines of Preflight; headers is nil when it asks for none.
func AppendPreflight(out, origin, method, headers []byte) []byte {
	out = append(out, "Vary: "+varyPreflight+"\r\n"...)
	if !corsMethods[string(method)] {
		return out
	}
	out = append(append(out, "Access-Control-Allow-Origin: "...), origin...)
	out = append(append(out, "\r\nAccess-Control-Allow-Methods: "...), method...)
	if headers != nil {
		out = append(append(out, "\r\nAccess-Control-Allow-Headers: "...), headers...)
	}
	return append(out, "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Max-Age: "+maxAge+"\r\n"...)
}
