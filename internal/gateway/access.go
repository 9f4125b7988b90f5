package gateway

import (
	"net/http"
	"strings"

	"github.com/weirdata/weir/internal/workspace"
)

// The headers that say whose events a request carries, and which run of a job sends them.
const (
	headerSource      = "X-Rudder-Source-Id"
	headerDestination = "X-Rudder-Destination-Id"
	headerJobRun      = "X-Rudder-Job-Run-Id"
	headerTaskRun     = "X-Rudder-Task-Run-Id"
)

// admit finds the source of a request, and the destination that it is for. A call whose source is
// nil afterwards has it in the body, if anywhere.
func (g *Gateway) admit(c *Call, to *route, r *http.Request) (no *Answer) {
	w := g.file.Current()
	switch to.access {
	case byNobody:
		return nil
	case byQueryed:
		c.source, no = byQuery(w, r)
	case byEither:
		if c.source, no = byQuery(w, r); no == NoQueryKey && r.Header.Get("Authorization") != "" {
			c.source, no = byHeader(w, r)
		}
	case bySource:
		c.source, no = byID(w, r.Header.Get(headerSource))
	default:
		if c.source, no = byHeader(w, r); no == NoWriteKey {
			no = nil // the body may have it
		}
	}
	switch {
	case no != nil:
		return no
	case c.source == nil:
		return nil
	case to.kind == webhook && c.source.Category != hooked:
		return NoWebhook
	case to.replayed && c.source.OriginalID == "":
		return InvalidReplay
	case !c.source.Enabled:
		return SourceDisabled
	case to.destined:
		return g.destine(c, r.Header.Get(headerDestination))
	}
	return nil
}

// destine sends the events of a call to one of its source's destinations.
func (g *Gateway) destine(c *Call, destination string) *Answer {
	if destination == "" {
		if g.o.RequireDestination {
			return NoDestination
		}
		return nil
	}
	for _, to := range c.source.Connections {
		if to.Destination.ID != destination {
			continue
		}
		if !to.Destination.Enabled {
			return DestinationDisabled
		}
		c.scope = to.Scope
		return nil
	}
	return InvalidDestination
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

func byID(w *workspace.Workspace, id string) (*workspace.Source, *Answer) {
	if id == "" {
		return nil, NoSourceID
	}
	if s := w.BySource(id); s != nil {
		return s, nil
	}
	return nil, InvalidSourceID
}

// keyed is the source whose write key a body has, and why it may not send.
func (g *Gateway) keyed(key []byte) (*workspace.Source, *Answer) {
	if len(key) == 0 {
		return nil, NoWriteKey
	}
	s, no := byKey(g.file.Current(), string(key))
	if no == nil && !s.Enabled {
		return s, SourceDisabled
	}
	return s, no
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
