// Package webhook is the target "webhook": it delivers events to destinations of
// RudderStack's type WEBHOOK, each event as an HTTP request of its own. Which destination
// is said by the message's scope; its settings are in the workspace config.
//
// # Request
//
// The destination's config says where to and how: webhookUrl, webhookMethod (POST, PUT,
// PATCH, GET or DELETE; POST by default) and headers, a list of {"from": name, "to": value}.
// An event may add to it: "header" with further headers, "fullPath" in the place of the URL
// and "appendPath" behind it, the last two also in its integrations under webhook.
//
// The body of POST, PUT and PATCH is the event without these three members and without
// members that are null, and with context.ip filled from request_ip. GET and DELETE have no
// body: the event's properties, or traits of an identify, become query parameters, nested
// ones as a.b and a[0].
//
// A header of the destination that holds credentials is not sent to another host than that
// of webhookUrl.
//
// An event that could not pass its user transformation passes it here, where it holds up none for
// another destination, and what it becomes is sent.
//
// # Response
//
//	2xx                          delivered
//	408, 429                     throttled
//	1xx, 5xx, no response        transient
//	other 3xx and 4xx            invalid: the event is aborted
//	no such destination          invalid, code 410
//	a destination that is off    its events are held, or are invalid, code 410 (disabled)
//
// Redirects are not followed. Retry-After is passed on, an hour at most. How often and how
// long to repeat is the pipeline's policy; that of RudderStack, after 10 seconds, twice as
// long each time up to 300, given up with at least 3 attempts and 180 minutes after a 5xx and
// never after a 408 or 429, is in examples_full.hcl.
//
// # Concurrency
//
// A destination has places for so many requests at once, which no other can take: however many
// destinations hang, one that answers is not slower for it. The requests of all destinations
// together are as many as the pipeline writes at once (batching).
//
// # Order
//
// Of the messages of one write, those with one destination and key are sent one after
// the other, and when one fails and is to be repeated, those behind it are not sent.
package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/usertransform"
	"github.com/weirdata/weir/internal/workspace"
)

// Entry is the target's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name:      "webhook",
	Summary:   "Delivers events to RudderStack's webhook destinations, one request for each.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(ctx context.Context, d connector.Deps, c Config) (connector.Target, error) {
		t, err := New(ctx, d, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
})

// Target delivers to every webhook destination of a workspace.
type Target struct {
	c         Config
	file      workspace.Live
	log       *slog.Logger
	timeout   time.Duration
	client    *httpclient.Client
	engine    *usertransform.Engine // nil where no transformation is run
	places    *places
	endpoints endpoints
}

var (
	_ connector.Target  = (*Target)(nil)
	_ connector.Limiter = (*Target)(nil)
	_ connector.Resting = (*Target)(nil)
	_ connector.Judge   = (*Target)(nil)
)

// New builds the target. It reads the workspace config and touches nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Target, error) {
	if c.Batching == nil {
		c.Batching = defaults().Batching
	}
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("webhook target: %s: %s", ps[0].What, ps[0].Fix))
	}
	file, err := d.Workspace(c.WorkspaceConfig, c.Workspace)
	if err != nil {
		return nil, err
	}
	t := &Target{
		c: c, file: file, log: d.Log, timeout: time.Duration(c.RequestTimeoutMillis) * time.Millisecond,
		places: newPlaces(c.MaxConcurrentRequests),
	}
	t.client = client(c)
	if c.Transformations != nil {
		if t.engine, err = usertransform.New(d, *c.Transformations); err != nil {
			return nil, err
		}
	}
	if !d.Partly {
		t.warn(d.Log)
	}
	return t, nil
}

// warn names the destinations that events go to and whose settings do not let them be
// delivered here. Where there are other targets, those are the ones that may deliver them.
func (t *Target) warn(log *slog.Logger) {
	if log == nil {
		return
	}
	seen := map[string]bool{}
	for _, s := range t.file.Current().Sources {
		for _, c := range s.Connections {
			d := c.Destination
			if seen[d.ID] || !d.Enabled || !d.Processed {
				continue
			}
			seen[d.ID] = true
			if e := newEndpoint(d, t.c.UserAgent); e.err != nil {
				log.Warn("a destination cannot be delivered to by the webhook target, and its events fail", "destination", d.ID, "error", e.err)
			}
		}
	}
}

// maxIdleConnections bounds the connections kept open without a request, over all destinations.
const maxIdleConnections = 1024

// connectionBuffer is what a connection holds of a request and of an answer, in bytes: there is a
// connection for each destination that is delivered to, and bodies are read past it.
const connectionBuffer = 1 << 10

// client follows no redirect: where an event goes is the destination's to say.
func client(c Config) *httpclient.Client {
	return httpclient.New(httpclient.Options{
		IdlePerHost: c.MaxConcurrentRequests, Idle: max(maxIdleConnections, c.MaxConcurrentRequests),
		ReadBuffer: connectionBuffer, WriteBuffer: connectionBuffer,
		HTTP1: c.ForceHTTP1, Verbatim: true, Public: c.BlockPrivateNetworks, NoRedirects: true,
	})
}

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits {
	l := t.c.Batching.Limits()
	l.Eager = true
	return l
}

// Open does nothing: connections are opened by the first requests.
func (t *Target) Open(context.Context) error { return nil }

// Close closes idle connections.
func (t *Target) Close(context.Context) error {
	t.client.Close()
	if t.engine != nil {
		t.engine.Close()
	}
	return nil
}

// lane is the order that messages of a write keep among themselves.
type lane struct{ destination, key string }

// Write delivers each message by a request of its own, several at once.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	switch len(b) {
	case 0:
		return nil
	case 1:
		leave, err := t.places.enter(ctx, destinationOf(b[0]))
		if err != nil {
			return err
		}
		defer leave()
		return t.deliver(ctx, b[0])
	}
	errs := make([]error, len(b))
	next, heads := lanes(b)
	var wg sync.WaitGroup
	for _, i := range heads {
		wg.Go(func() {
			// Each lane waits for itself: one whose destination hangs holds up no other.
			leave, err := t.places.enter(ctx, destinationOf(b[i]))
			if err != nil {
				for j := i; j >= 0; j = next[j] {
					errs[j] = err
				}
				return
			}
			defer leave()
			t.deliverLane(ctx, b, errs, next, i)
		})
	}
	wg.Wait()
	failed := map[int]error{}
	for i, err := range errs {
		if err != nil {
			failed[i] = err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &connector.Partial{Failed: failed}
}

// lanes links the messages of each lane: next is the index behind a message, or -1, and
// heads are the first ones.
func lanes(b event.Batch) (next, heads []int) {
	next, heads = make([]int, len(b)), make([]int, 0, len(b))
	last := make(map[lane]int, len(b))
	for i, m := range b {
		next[i] = -1
		if m.Key == "" {
			heads = append(heads, i)
			continue
		}
		l := lane{destinationOf(m), m.Key}
		if before, ok := last[l]; ok {
			next[before] = i
		} else {
			heads = append(heads, i)
		}
		last[l] = i
	}
	return next, heads
}

// deliverLane delivers the messages from i on, until one is to be repeated.
func (t *Target) deliverLane(ctx context.Context, b event.Batch, errs []error, next []int, i int) {
	for ; i >= 0; i = next[i] {
		errs[i] = t.contained(ctx, b[i])
		if errs[i] == nil || fault.Of(errs[i]) == fault.Invalid {
			continue
		}
		held := fault.Describe(fault.Of(errs[i]), fmt.Errorf("not sent, to keep the order: %w", errs[i]), fault.DetailOf(errs[i]))
		for j := next[i]; j >= 0; j = next[j] {
			errs[j] = held
		}
		return
	}
}

// contained is deliver for a goroutine of our own, where a panic would end the process: it is
// the message's error.
func (t *Target) contained(ctx context.Context, m *event.Message) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.Describe(fault.Invalid, fmt.Errorf("panic while delivering: %v", r), fault.Detail{Type: "api", Code: "Panic", Safe: "panic in target"})
		}
	}()
	return t.deliver(ctx, m)
}

func destinationOf(m *event.Message) string {
	if m.Meta.Scope == nil {
		return ""
	}
	return m.Meta.Scope.Destination
}
