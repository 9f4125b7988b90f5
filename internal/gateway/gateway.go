// Package gateway is the event API that RudderStack SDKs speak, without the network: which
// requests there are, what each answers, and what becomes of the events they carry.
//
// # Requests
//
//	POST /v1/{identify,track,page,screen,group,alias,merge,audiencelist}
//	                                                         one event, whose type is the path's
//	POST /v1/batch, /v1/import                               {"batch":[event, ...]}
//	POST /beacon/v1/batch?writeKey=                          as batch
//	POST /v1/{i,t,p,s,g,a,b}                                 what Segment's browser SDK calls them: identify,
//	                                                         track, page, screen, group, alias, batch
//	GET  /v1/projects/KEY/settings                           what that SDK asks for first
//	GET  /pixel/v1/{track,page}?writeKey=&...                one event made of the query; a GIF in any case
//	GET  /sourceConfig                                       what the browser SDK asks for first
//	GET  /health, /, /version, /robots.txt
//
// Events are authorised by the write key of their source: the user name of Basic
// authorization, or the query parameter writeKey where the path says so. Where a request has no
// Basic authorization it is the member writeKey of the body, as clients of Segment may send it,
// which no event keeps. The content type of a body does not matter.
//
// # Answers
//
// 200 "ok" once every event of the request is settled. Any other answer to a POST means that
// the client must not count on any of the request's events, and is one line of text: see
// the variables of type *Answer. A request is taken whole or not at all.
//
// # Events
//
// The text of an event is written once, without white space between tokens: what the
// client sent, in its order, less the members that are stamped, and then these:
//
//	type               the path's name; a batch keeps each event's own
//	messageId          the client's without spaces around it and invisible characters, or a UUID
//	rudderId           a UUID made of userId and anonymousId
//	request_ip         the client's, or the first of X-Forwarded-For, or the peer's address
//	receivedAt         now
//	originalTimestamp  the client's, or now
//	sentAt             the client's, or now
//	timestamp          the client's, or now - (sentAt - originalTimestamp)
//
// Clients of Segment say sentAt once for a batch: where a request came by one of their paths, or
// its body has a writeKey or _metadata beside the batch, that is the sentAt of events without one.
//
// Times are RFC 3339 with milliseconds. Numbers keep every digit. The message's key, by
// which order is kept, is the userId, or the anonymousId of an event without one: a
// user has one key whatever SDK an event comes from. Server SDKs make up an anonymousId for
// each event, so it cannot be the key of a known user. It follows that what a visitor did
// before becoming known, and after, are ordered each by itself.
//
// # Invariants
//
//   - Events are accepted from valid JSON only, and what is written is valid JSON in UTF-8.
//   - No answer holds what the request held, but the host name in the settings for Segment's SDK.
package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/workspace"
)

// Options are what a Gateway can be told.
type Options struct {
	// Version is the product's version, for /version.
	Version string
	// MaxEvents is the most events a request may hold; zero means no limit.
	MaxEvents int
	// AnyID accepts events with neither userId nor anonymousId.
	AnyID bool
}

// Gateway decides about requests. Its methods may be called by many goroutines.
type Gateway struct {
	o       Options
	file    workspace.Live
	version []byte
}

// New makes a gateway for the sources of a workspace.
func New(file workspace.Live, o Options) *Gateway {
	return &Gateway{o: o, file: file, version: versionBody(o.Version)}
}

// kind is what a request is for.
type kind uint8

const (
	unknown  kind = iota
	single        // one event of the type that the path names
	batch         // a list of events
	beacon        // as batch, with the write key in the query
	pixel         // one event, made of the query
	document      // a document of our own
)

// route is a path that is served.
type route struct {
	kind  kind
	event string // single, pixel: the type of the event
	// segment: clients of Segment alone use the path.
	segment bool
	serve   func(*Gateway, *http.Request, time.Time) *Answer
}

var routes = map[string]route{
	"/v1/identify":     {kind: single, event: "identify"},
	"/v1/track":        {kind: single, event: "track"},
	"/v1/page":         {kind: single, event: "page"},
	"/v1/screen":       {kind: single, event: "screen"},
	"/v1/group":        {kind: single, event: "group"},
	"/v1/alias":        {kind: single, event: "alias"},
	"/v1/merge":        {kind: single, event: "merge"},
	"/v1/audiencelist": {kind: single, event: "audiencelist"},
	"/v1/i":            {kind: single, event: "identify", segment: true},
	"/v1/t":            {kind: single, event: "track", segment: true},
	"/v1/p":            {kind: single, event: "page", segment: true},
	"/v1/s":            {kind: single, event: "screen", segment: true},
	"/v1/g":            {kind: single, event: "group", segment: true},
	"/v1/a":            {kind: single, event: "alias", segment: true},
	"/v1/b":            {kind: batch, segment: true},
	"/v1/batch":        {kind: batch},
	"/v1/import":       {kind: batch},
	"/beacon/v1/batch": {kind: beacon},
	"/pixel/v1/track":  {kind: pixel, event: "track"},
	"/pixel/v1/page":   {kind: pixel, event: "page"},
	"/":                {kind: document, serve: (*Gateway).health},
	"/health":          {kind: document, serve: (*Gateway).health},
	"/version":         {kind: document, serve: (*Gateway).versions},
	"/robots.txt":      {kind: document, serve: (*Gateway).robots},
	"/sourceConfig":    {kind: document, serve: (*Gateway).sourceConfig},
}

// Paths are the patterns of http.ServeMux that are the gateway's where others share its address:
// the documents, and everything below the first step of a path that takes events.
func Paths() []string {
	seen := map[string]bool{}
	for path := range routes {
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

// Call is a request that may carry events.
type Call struct {
	now    time.Time
	source *workspace.Source // nil: the body says it
	kind   kind
	event  string
	ip     string
	query  string // pixel only
	// segment: a client of Segment sent it.
	segment bool
}

// HasBody reports whether the events of c come in the body of the request.
func (c *Call) HasBody() bool { return c.kind != pixel }

// Source is the source that the events belong to; nil before there are events where the body
// says it.
func (c *Call) Source() *workspace.Source { return c.source }

// Time is when the events of c are received.
func (c *Call) Time() time.Time { return c.now }

// Arrived sets the time at which the request was there as a whole, which is when its
// events are received.
func (c *Call) Arrived(now time.Time) { c.now = now }

// Done is the answer once what was asked of a is done: the pixel in the place of any other
// answer to a request for one.
func (c *Call) Done(a *Answer) *Answer {
	if c.kind == pixel {
		return Pixel
	}
	return a
}

// Begin decides what can be decided without the body of a request. It returns an answer
// when there is nothing more to do, and otherwise fills in c.
func (g *Gateway) Begin(c *Call, r *http.Request, now time.Time) *Answer {
	path := r.URL.Path
	if len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	to, ok := routes[path]
	if key, found := settingsOf(path); found {
		to, ok = route{kind: document, serve: func(g *Gateway, r *http.Request, _ time.Time) *Answer { return g.settings(r, key) }}, true
	}
	if !ok {
		return NotFound
	}
	switch to.kind {
	case document:
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return onlyGet
		}
		return to.serve(g, r, now)
	case pixel:
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return onlyGet
		}
	default:
		if r.Method != http.MethodPost {
			return onlyPost
		}
	}
	*c = Call{now: now, kind: to.kind, event: to.event, segment: to.segment}
	var no *Answer
	switch w := g.file.Current(); to.kind {
	case beacon, pixel:
		c.source, no = byQuery(w, r)
	default:
		if c.source, no = byHeader(w, r); no == NoWriteKey {
			no = nil // the body may have it
		}
	}
	if c.source != nil && !c.source.Enabled {
		no = SourceDisabled
	}
	if no != nil {
		return c.Done(no)
	}
	if r.Body == nil && c.HasBody() {
		if c.source == nil {
			return NoWriteKey
		}
		return NilBody
	}
	if c.kind == pixel {
		c.query = r.URL.RawQuery
	}
	c.ip = clientIP(r)
	return nil
}

// byHeader finds the source by Basic authorization.
func byHeader(w *workspace.Workspace, r *http.Request) (*workspace.Source, *Answer) {
	if vs := r.Header["Authorization"]; len(vs) > 0 {
		if s := w.ByAuthorization(vs[0]); s != nil {
			return s, nil
		}
	}
	key, _, ok := r.BasicAuth()
	if !ok || key == "" {
		return nil, NoWriteKey
	}
	return byKey(w, key)
}

func byQuery(w *workspace.Workspace, r *http.Request) (*workspace.Source, *Answer) {
	key := r.URL.Query().Get("writeKey")
	if key == "" {
		return nil, NoQueryKey
	}
	return byKey(w, key)
}

func byKey(w *workspace.Workspace, key string) (*workspace.Source, *Answer) {
	if s := w.ByWriteKey(key); s != nil {
		return s, nil
	}
	return nil, InvalidWriteKey
}

// Simple reports whether path, with neither a query nor an escape, takes events from a body
// by Basic authorization.
func Simple(path []byte) bool {
	to, ok := routes[string(path)]
	return ok && (to.kind == single || to.kind == batch)
}

// Quick is Begin for a POST to a path that is Simple, with the value of its Authorization
// header and the client's address. It only reports success: any answer but that of the
// request's events is for Begin to give.
func (g *Gateway) Quick(c *Call, path, authorization []byte, ip string, now time.Time) bool {
	to := routes[string(path)]
	s := g.file.Current().ByAuthorization(string(authorization))
	if s == nil || !s.Enabled || (to.kind != single && to.kind != batch) {
		return false
	}
	*c = Call{now: now, source: s, kind: to.kind, event: to.event, ip: ip, segment: to.segment}
	return true
}

// clientIP is the first address that proxies name, or else the peer's.
func clientIP(r *http.Request) string {
	peer := HostOf(r.RemoteAddr)
	if vs := r.Header["X-Forwarded-For"]; len(vs) > 0 {
		return FirstAddress(vs[0], peer)
	}
	return peer
}

// FirstAddress is the first of the addresses in an X-Forwarded-For header, or else peer.
func FirstAddress(forwarded, peer string) string {
	first, _, _ := strings.Cut(forwarded, ",")
	if first = strings.TrimSpace(first); first != "" {
		return first
	}
	return peer
}

// HostOf is a network address without its port.
func HostOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		address = address[:i]
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
}
