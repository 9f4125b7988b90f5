// Package api is the HTTP API of operators: who may do what, how an error is told, and how all of
// it is described.
//
// # Rights
//
//	see       states, counts, causes, config: nothing that an event holds
//	payloads  see, and payloads, keys and headers of events
//	operate   payloads, and everything that changes something
//
// Who asks is known by a bearer token, of which the config may hold the hash only; by the cookie
// that stands for a token; or by a header that a proxy of a named network sets. Where there are no
// means to know anybody, everybody of this machine may do everything, and others nothing.
//
// # Errors
//
// An error is a problem document (RFC 9457) of type about:blank, with the member "error" beside it,
// the same text as "detail".
//
// # Invariants
//
//   - A route is served as it is described: both come from its [Route].
//   - What needs a right is asked of by who has it, and of nobody else, whatever the handler does.
package api

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Right is what somebody may do. Each includes those before it.
type Right int

// The rights.
const (
	// Open needs no right: it holds nothing of what runs.
	Open Right = iota
	// Figures are metrics, which everybody may see where nobody can be known.
	Figures
	See
	Payloads
	Operate
)

// rights are their names in configs and descriptions.
var rights = map[Right]string{Open: "", Figures: "", See: "see", Payloads: "payloads", Operate: "operate"}

func (r Right) String() string { return rights[r] }

// RightOf is the right with a name.
func RightOf(name string) (Right, bool) {
	for r, n := range rights {
		if n == name && n != "" {
			return r, true
		}
	}
	return Open, false
}

// Route is one thing that can be asked for.
type Route struct {
	Method, Path string // as in a pattern of http.ServeMux
	Right        Right
	// Summary says what it does, in a line; without one it is not described, as a page.
	Summary string
	// Query are the parameters it takes, by name, and what they mean.
	Query []Parameter
	// Body and Answer are values of the types that JSON is read into and made of; nil: none.
	Body, Answer any
	// Kind is the media type of the answer where that is no JSON.
	Kind string
	Do   http.HandlerFunc
}

// Parameter is a parameter in the query of a request.
type Parameter struct{ Name, Doc string }

// Handler answers routes, to those who may; access is who may what at any time. Who may ask for
// nothing learns not even what there is.
func Handler(access func() *Access, routes []Route) http.Handler {
	mux := http.NewServeMux()
	for i := range routes {
		r := &routes[i]
		mux.HandleFunc(r.Method+" "+r.Path, func(w http.ResponseWriter, q *http.Request) {
			if who, may := admit(w, q, access(), r.Right); may {
				r.Do(w, q.WithContext(with(q.Context(), who)))
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if _, pattern := mux.Handler(q); pattern == "" {
			if _, may := admit(w, q, access(), See); !may {
				return
			}
		}
		mux.ServeHTTP(w, q)
	})
}

// admit is who asks, and whether he may; where he may not, he has been told.
func admit(w http.ResponseWriter, q *http.Request, a *Access, needed Right) (who Who, may bool) {
	who, known := a.Who(q)
	switch {
	case needed == Open, known && who.Right >= needed, !a.Asks() && needed == Figures:
		return who, true
	case known:
		Refuse(w, http.StatusForbidden, fmt.Sprintf("this needs the right %q, and %s has %q", needed, who.Name, who.Right))
	case !a.Asks():
		Refuse(w, http.StatusForbidden, "other machines reach this address, and there is nothing to know anybody by: give the admin block a token or an auth block, or an address of this machine")
	default:
		w.Header().Set("WWW-Authenticate", "Bearer")
		Refuse(w, http.StatusUnauthorized, "the token of the server's block is missing or wrong")
	}
	return who, false
}

// Problem is an error as it is answered.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Error  string `json:"error"`
	// Jobs is how many messages were done before it.
	Jobs int `json:"jobs,omitempty"`
}

// Refuse answers with an error.
func Refuse(w http.ResponseWriter, status int, why string) { RefusePartly(w, status, why, 0) }

// RefusePartly answers with an error of something that was done in part.
func RefusePartly(w http.ResponseWriter, status int, why string, jobs int) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(Problem{"about:blank", http.StatusText(status), status, why, why, jobs}) //nolint:errchkjson // who asked has gone
}

// Answer answers with v.
func Answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) //nolint:errchkjson // who asked has gone
}
