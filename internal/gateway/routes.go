package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// kind is what a request is for.
type kind uint8

const (
	unknown  kind = iota
	single        // one event of the type that the path names
	batch         // a list of events, taken whole or not at all
	imported      // a list of events, those of each user taken or not
	webhook       // anything, of which a script makes events
	stream        // a list of events that are stamped already, each with its properties
	pixel         // one event, made of the query
	document      // a document of our own
)

// access is how a request says whose events it carries.
type access uint8

const (
	byNobody  access = iota
	byBasic          // the write key as the user name of Basic authorization, or in the body
	byQueryed        // the write key in the query
	byEither         // the write key in the query, or as byBasic but not in the body
	bySource         // the id of the source in a header
)

// route is a path that is served.
type route struct {
	kind   kind
	access access
	event  string // single, pixel: the type of the event
	// segment: clients of Segment alone use the path.
	segment bool
	// internal: the path is for those who are inside of the network, and served where Options say so.
	internal bool
	// unnamed: the event needs no user.
	unnamed bool
	// large: the body may be larger than those of others.
	large bool
	// destined: a header may say which of the source's destinations the events are for.
	destined bool
	// replayed: only sources take part that repeat another one's events, and the time at which
	// an event was received then counts.
	replayed bool
	about    string // for the description of the interface
	serve    func(*Gateway, *http.Request, time.Time) *Answer
}

var routes = map[string]route{
	"/v1/identify":     {kind: single, access: byBasic, event: "identify", about: "Says who a user is."},
	"/v1/track":        {kind: single, access: byBasic, event: "track", about: "Says what a user has done."},
	"/v1/page":         {kind: single, access: byBasic, event: "page", about: "Says which page a user has seen."},
	"/v1/screen":       {kind: single, access: byBasic, event: "screen", about: "Says which screen a user has seen."},
	"/v1/group":        {kind: single, access: byBasic, event: "group", about: "Says which group a user belongs to."},
	"/v1/alias":        {kind: single, access: byBasic, event: "alias", about: "Gives a user another id."},
	"/v1/merge":        {kind: single, access: byBasic, event: "merge", about: "Says that two ids are one user."},
	"/v1/audiencelist": {kind: single, access: byBasic, event: "audiencelist", large: true, about: "Changes who belongs to an audience."},
	"/v1/i":            {kind: single, access: byBasic, event: "identify", segment: true, about: "Segment's name of /v1/identify."},
	"/v1/t":            {kind: single, access: byBasic, event: "track", segment: true, about: "Segment's name of /v1/track."},
	"/v1/p":            {kind: single, access: byBasic, event: "page", segment: true, about: "Segment's name of /v1/page."},
	"/v1/s":            {kind: single, access: byBasic, event: "screen", segment: true, about: "Segment's name of /v1/screen."},
	"/v1/g":            {kind: single, access: byBasic, event: "group", segment: true, about: "Segment's name of /v1/group."},
	"/v1/a":            {kind: single, access: byBasic, event: "alias", segment: true, about: "Segment's name of /v1/alias."},
	"/v1/b":            {kind: batch, access: byBasic, segment: true, about: "Segment's name of /v1/batch."},
	"/v1/batch":        {kind: batch, access: byBasic, about: "Takes a list of events, all or none."},
	"/v1/import":       {kind: imported, access: byBasic, about: "Takes a list of events, those of each user all or none."},
	"/beacon/v1/batch": {kind: batch, access: byQueryed, about: "As /v1/batch, for pages that are being left."},
	"/v1/webhook":      {kind: webhook, access: byEither, about: "Takes what another system says in its own form, for a webhook source, whose script makes events of it."},
	"/pixel/v1/track":  {kind: pixel, access: byQueryed, event: "track", about: "Takes an event that is made of the query, and answers with a picture in any case."},
	"/pixel/v1/page":   {kind: pixel, access: byQueryed, event: "page", about: "Takes an event that is made of the query, and answers with a picture in any case."},

	"/internal/v1/extract":      {kind: single, access: byBasic, event: "extract", internal: true, unnamed: true, about: "Takes what was extracted from another system; it needs no user."},
	"/internal/v1/audiencelist": {kind: single, access: byBasic, event: "audiencelist", internal: true, large: true, about: "As /v1/audiencelist."},
	"/internal/v1/retl":         {kind: batch, access: bySource, internal: true, destined: true, about: "Takes a list of events of a reverse-ETL run, for one of the source's destinations or all."},
	"/internal/v1/replay":       {kind: batch, access: bySource, internal: true, replayed: true, about: "Takes a list of events once more, for a source that repeats another's; each keeps its receivedAt."},
	"/internal/v1/batch":        {kind: stream, internal: true, about: "Takes a list of events that are stamped already, each with the properties that say whose it is."},

	"/":             {kind: document, serve: (*Gateway).health, about: "As /health."},
	"/health":       {kind: document, serve: (*Gateway).health, about: "Says whether events are taken."},
	"/version":      {kind: document, serve: (*Gateway).versions, about: "Says which version this is."},
	"/robots.txt":   {kind: document, serve: (*Gateway).robots, about: "Tells crawlers to go away."},
	"/docs":         {kind: document, serve: (*Gateway).docs, about: "This description, as an OpenAPI document."},
	"/sourceConfig": {kind: document, access: byBasic, serve: (*Gateway).sourceConfig, about: "What the browser SDK starts with."},
}

// Paths are the patterns of http.ServeMux that are the gateway's where others share its address:
// the documents, and everything below the first step of a path that takes events.
func Paths(internal bool) []string {
	seen := map[string]bool{}
	for path, to := range routes {
		if to.internal && !internal {
			continue
		}
		first, rest, below := strings.Cut(path[1:], "/")
		switch {
		case first == "":
			seen["/{$}"] = true
		case below && rest != "":
			seen["/"+first+"/"] = true
		default:
			seen["/"+first] = true
			seen["/"+first+"/{$}"] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// routeOf finds what a path is for.
func (g *Gateway) routeOf(path string) (to route, ok bool) {
	if len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	if key, found := settingsOf(path); found {
		return route{kind: document, serve: func(g *Gateway, r *http.Request, _ time.Time) *Answer { return g.settings(r, key) }}, true
	}
	to, ok = routes[path]
	return to, ok && (g.o.Internal || !to.internal)
}

// Simple reports whether path, with neither a query nor an escape, takes events from a body
// by Basic authorization.
func Simple(path []byte) bool {
	to, ok := routes[string(path)]
	return ok && to.access == byBasic && !to.internal && to.kind != document
}
