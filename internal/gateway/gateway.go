// Package gateway is the event API that RudderStack SDKs speak, without the network: which
// requests there are, what each answers, and what becomes of the events they carry.
//
// # Requests
//
//	POST /v1/{identify,track,page,screen,group,alias,merge,audiencelist}
//	                                                         one event, whose type is the path's
//	POST /v1/batch                                           {"batch":[event, ...]}
//	POST /v1/import                                          as batch, but each user's events by themselves
//	POST /beacon/v1/batch?writeKey=                          as batch
//	POST /v1/{i,t,p,s,g,a,b}                                 what Segment's browser SDK calls them: identify,
//	                                                         track, page, screen, group, alias, batch
//	GET  /v1/projects/KEY/settings                           what that SDK asks for first
//	POST, GET /v1/webhook?writeKey=                          what a webhook source is sent, in its own form
//	GET  /pixel/v1/{track,page}?writeKey=&...                one event made of the query; a GIF in any case
//	GET  /sourceConfig                                       what the browser SDK asks for first
//	GET  /health, /, /version, /robots.txt, /docs
//
// and for those inside of the network, where that is switched on:
//
//	POST /internal/v1/{extract,audiencelist}                 one event
//	POST /internal/v1/retl                                   as batch, of the source that a header names, to
//	                                                         all of its destinations or the one that a header names
//	POST /internal/v1/replay                                 as batch, of a source that repeats another's events
//	POST /internal/v1/batch                                  [{"properties":{...},"payload":event}, ...]
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
// the variables of type *Answer. A request is taken whole or not at all, but for an import: of that,
// the events without an id are refused together, and all others are kept. Which event of a list is
// why it is refused, the header X-Weir-Event says.
//
// An event of a suppressed user is taken, and nothing is kept of it.
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
//	receivedAt         the client's, or now
//	originalTimestamp  the client's, or now
//	sentAt             the client's, or now
//	timestamp          the client's, or now - (sentAt - originalTimestamp)
//
// Now is when the request was there as a whole; of a replay it is the receivedAt of each event.
//
// Clients of Segment say sentAt once for a batch: where a request came by one of their paths, or
// its body has a writeKey or _metadata beside the batch, that is the sentAt of events without one.
//
// Times are RFC 3339 with milliseconds, or as many more digits as the client sent. Numbers keep every digit. The message's key, by
// which order is kept, is the userId, or the anonymousId of an event without one: a
// user has one key whatever SDK an event comes from. Server SDKs make up an anonymousId for
// each event, so it cannot be the key of a known user. It follows that what a visitor did
// before becoming known, and after, are ordered each by itself.
//
// # Invariants
//
//   - Events are accepted from valid JSON only, and what is written is valid JSON in UTF-8.
//   - No answer holds what the request held, but the host name in the settings for Segment's SDK,
//     and what the script of a webhook source says.
package gateway

import (
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/event"
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
	// Origins are the pages that may use the gateway, as [CheckOrigin] takes them; none stands for all.
	Origins []string
	// Internal serves the paths below /internal, most of which ask for no key.
	Internal bool
	// RequireDestination refuses a reverse-ETL request that does not say which destination it is for.
	RequireDestination bool
	// Hooks are the scripts of webhook sources.
	Hooks *Hooks
	// Suppressed reports whether nothing may be kept of a user in a source. Nil: of nobody is it so.
	Suppressed func(workspace, source, user string) (bool, error)
	// Tally counts what becomes of requests; nil: nobody counts.
	Tally *Tally
}

// Gateway decides about requests. Its methods may be called by many goroutines.
type Gateway struct {
	o       Options
	file    workspace.Live
	version []byte
	origins origins
	// description is of the interface.
	description []byte
}

// New makes a gateway for the sources of a workspace.
func New(file workspace.Live, o Options) *Gateway {
	return &Gateway{o: o, file: file, version: versionBody(o.Version), origins: originsOf(o.Origins), description: describe(o.Version, o.Internal)}
}

// Call is a request that may carry events.
type Call struct {
	now    time.Time
	source *workspace.Source // nil: the body says it
	scope  *event.Scope      // nil: the source's
	kind   kind
	event  string
	ip     string
	query  string // pixel only
	// request is that of a webhook.
	request *http.Request
	// segment: a client of Segment sent it.
	segment           bool
	unnamed, replayed bool // as the route's
	large             bool
	jobRun, taskRun   string
	leftOut           int     // events of suppressed users
	partly            *Answer // the answer once all is kept: why a part of it are no events, or a script's
}

// HasBody reports whether the events of c come in the body of the request.
func (c *Call) HasBody() bool {
	return c.kind != pixel && (c.request == nil || c.request.Method != http.MethodGet)
}

// Large reports whether the body of c may be larger than those of others.
func (c *Call) Large() bool { return c.large }

// Stream reports whether the events of c may be of several workspaces, as those of an ingestion
// service.
func (c *Call) Stream() bool { return c.kind == stream }

// Keyed reports whether the body of c has to say whose events it holds.
func (c *Call) Keyed() bool { return c.source == nil && c.kind != stream }

// Workspace is the one whose events c holds; empty where that is not known or they are of several.
func (c *Call) Workspace() string {
	if c.source == nil {
		return ""
	}
	return c.source.Workspace
}

// Run reports whether c comes from a run of a reverse-ETL job, as far as is known: a header says
// so before there are events, and the first event may say so with them.
func (c *Call) Run() bool { return c.jobRun != "" || c.taskRun != "" }

// LeftOut is how many events of c were left out, because nothing may be kept of their users. They
// were sent all the same.
func (c *Call) LeftOut() int { return c.leftOut }

// Time is when the events of c are received.
func (c *Call) Time() time.Time { return c.now }

// Arrived sets the time at which the request was there as a whole, which is when its
// events are received.
func (c *Call) Arrived(now time.Time) { c.now = now }

// Done is the answer once what was asked of a is done: the pixel in the place of any other
// answer to a request for one, and why events of an import were left out, where the others are
// kept.
func (c *Call) Done(a *Answer) *Answer {
	switch {
	case c.kind == pixel:
		return Pixel
	case c.partly != nil && a == OK:
		return c.partly
	}
	return a
}

// Begin decides what can be decided without the body of a request. It returns an answer
// when there is nothing more to do, and otherwise fills in c.
func (g *Gateway) Begin(c *Call, r *http.Request, now time.Time) *Answer {
	to, ok := g.routeOf(r.URL.Path)
	if !ok {
		return NotFound
	}
	switch to.kind {
	case document, pixel:
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return onlyGet
		}
		if to.kind == document {
			return to.serve(g, r, now)
		}
	case webhook:
		if r.Method != http.MethodPost && r.Method != http.MethodGet {
			g.Tally(&Call{now: now}, getOrPost, 0)
			return getOrPost
		}
	default:
		if r.Method != http.MethodPost {
			g.Tally(&Call{now: now}, onlyPost, 0)
			return onlyPost
		}
	}
	*c = Call{now: now, kind: to.kind, event: to.event, segment: to.segment, unnamed: to.unnamed, replayed: to.replayed, large: to.large}
	if no := g.admit(c, &to, r); no != nil {
		g.Tally(c, no, 0)
		return c.Done(no)
	}
	if c.kind == webhook {
		if r.Method == http.MethodGet && !g.forwarded(c.source) {
			return nothing
		}
		c.request = r
	}
	if r.Body == nil && c.HasBody() {
		no := NilBody
		if c.Keyed() {
			no = NoWriteKey
		}
		g.Tally(c, no, 0)
		return no
	}
	if c.kind == pixel {
		c.query = r.URL.RawQuery
	}
	c.jobRun, c.taskRun = r.Header.Get(headerJobRun), r.Header.Get(headerTaskRun)
	if len(c.jobRun)+len(c.taskRun) > maxRun {
		g.Tally(c, NotAnEvent, 0)
		return NotAnEvent
	}
	c.ip = clientIP(r)
	return nil
}

// maxRun is the most bytes of the names of a run and its task that are kept.
const maxRun = 8 << 10

// Quick is Begin for a POST to a path that is Simple, with the value of its Authorization
// header and the client's address. It only reports success: any answer but that of the
// request's events is for Begin to give.
func (g *Gateway) Quick(c *Call, path, authorization []byte, ip string, now time.Time) bool {
	to := routes[string(path)]
	s := g.file.Current().ByAuthorization(string(authorization))
	if s == nil || !s.Enabled {
		return false
	}
	*c = Call{now: now, source: s, kind: to.kind, event: to.event, ip: ip, segment: to.segment, large: to.large}
	return true
}
