// Package controlplane fetches workspace configurations from a control plane that speaks
// RudderStack's protocol, and keeps a state of them that everybody shares.
//
// # Protocol
//
// Every request has Basic authorization with the token as the user name and no password.
//
//	GET {url}/workspaceConfig?fetchAll=true
//
// is answered by the workspaceConfig.json of the token's workspace. With a namespace,
//
//	GET {url}/data-plane/v1/namespaces/{namespace}/config[?updatedAfter=2006-01-02T15:04:05.000Z]
//
// is answered by an object of one for each workspace. null stands for one that has not changed since
// updatedAfter, which is the latest updatedAt of those that are known; one that is not there is
// removed. An answer with an ETag is asked for again with If-None-Match, and 304 changes nothing:
// RudderStack's own plane sends none, and does without.
//
// # Invariants
//
//   - A state is applied whole, or not at all: an answer that is cut, empty, no JSON or without any
//     source changes nothing, and neither does one that is refused or does not come.
//   - With a namespace, a workspace that cannot be read stays as it was, and the others change.
//   - An answer that is older than what is in force, by its updatedAt, as a replica gives it that
//     is behind, changes nothing until it has been the only one for a while ([staleFor]).
//   - Trouble is told once for each cause, and once when it has ended. No line holds the token.
//   - The cache is replaced whole, by a rename of a synced file, and read only when the first fetch
//     fails; one that is of another plane, namespace or token is none.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/workspace"
)

// Options are what a Poller can be told.
type Options struct {
	// Name of the workspace block, for the log.
	Name string
	URL  string
	// Token of the workspace, or secret of the namespace.
	Token string
	// Namespace is empty for the one workspace of the token.
	Namespace string
	// Cache is the path of the file for a start without the plane; empty for none.
	Cache string
	// Poll is how often the plane is asked; Timeout how long it may take to answer.
	Poll, Timeout time.Duration
	// StartWait is how long [Poller.Start] tries without a cache.
	StartWait time.Duration
	// MaxBytes is the largest answer that is read.
	MaxBytes int64
	// Transport sends the requests in place of a client's own; nil for that.
	Transport http.RoundTripper
	// Log hears of changes and trouble; nil for nobody.
	Log *slog.Logger
}

// How long a state that the plane has left for an older one stays in force, and the longest wait
// between two requests after failures.
const (
	staleFor    = 10 * time.Minute
	longestWait = 5 * time.Minute
)

// Poller fetches the configuration again and again. Many goroutines may use its state.
type Poller struct {
	o      Options
	client *httpclient.Client
	hidden secret.Values
	state  workspace.State

	mu    sync.Mutex // held while something is fetched and applied
	known documents
	etag  map[string]string // by URL; one at most
	older time.Time         // since when the plane has given older states; zero: it does not

	answered atomic.Int64 // when the plane last gave something, in Unix nanoseconds; 0: never
	failures atomic.Int64 // of requests

	telling sync.Mutex
	trouble string    // told and not ended
	since   time.Time // when the trouble began
	cache   string    // the same of the cache
}

// New makes a Poller; it touches neither network nor disk.
func New(o Options) *Poller {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Poller{o: o, client: httpclient.New(httpclient.Options{Timeout: o.Timeout, Transport: o.Transport}), etag: map[string]string{}}
	p.hidden.AddBasic(o.Token, "")
	p.known.parts = map[string]*part{}
	return p
}

// State is what is in force. It has no sources before [Poller.Start].
func (p *Poller) State() workspace.Live { return &p.state }

// Check fetches the configuration and applies nothing.
func (p *Poller) Check(ctx context.Context) error {
	a, err := p.ask(ctx, "", "")
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.read(a.body, false, time.Now())
	return err
}

// Start fetches the first configuration, or takes it from the cache when the plane does not give
// it. Without a cache it tries for a while, unless the plane refuses.
func (p *Poller) Start(ctx context.Context) error {
	if p.state.Current().Loaded != (time.Time{}) {
		return nil // it goes on over a reload
	}
	until := time.Now().Add(p.o.StartWait)
	for n := 0; ; n++ {
		wait, err := p.fetch(ctx)
		if err == nil {
			return nil
		}
		if partly(err) {
			p.tell(err)
			return nil
		}
		if n == 0 {
			at, cached := p.fromCache(time.Now())
			if cached == nil {
				p.tell(fmt.Errorf("%w; the configuration of %s from the cache %s is in force", err, at.UTC().Format(time.RFC3339), p.o.Cache))
				return nil
			}
			if p.o.Cache != "" {
				p.o.Log.Warn("there is no configuration in the cache", "workspace", p.o.Name, "error", cached)
			}
		}
		wait = max(wait, p.backOff(n+1))
		if fault.Of(err) == fault.Setup || time.Now().Add(wait).After(until) || ctx.Err() != nil {
			return fmt.Errorf("fetch the first configuration of workspace %q: %w", p.o.Name, err)
		}
		p.tell(fmt.Errorf("%w; the start waits for it", err))
		if !sleep(ctx, wait) {
			return fmt.Errorf("fetch the first configuration of workspace %q: %w", p.o.Name, context.Cause(ctx))
		}
	}
}

// Run fetches the configuration again and again, until ctx ends.
func (p *Poller) Run(ctx context.Context) {
	defer p.client.Close()
	wait := p.o.Poll
	for failures := 0; sleep(ctx, wait); {
		asked, err := p.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		wait = p.o.Poll
		if err == nil {
			failures = 0
			p.ended()
			continue
		}
		p.tell(err)
		if partly(err) {
			failures = 0
			continue
		}
		failures++
		wait = max(asked, p.backOff(failures))
	}
}

// partly reports whether an answer counts but for the workspaces that err names.
func partly(err error) bool { return fault.Of(err) == fault.Invalid }

// backOff is how long to wait after so many failures: twice as long after each, and by chance a little
// less, so that many processes do not ask together.
func (p *Poller) backOff(failures int) time.Duration {
	d := p.o.Poll << min(failures-1, 16)
	if d > longestWait || d <= 0 {
		d = max(longestWait, p.o.Poll)
	}
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell says what the trouble is, once.
func (p *Poller) tell(err error) {
	text := p.hidden.Hide(err.Error())
	p.telling.Lock()
	defer p.telling.Unlock()
	p.failures.Add(1)
	if text != p.trouble {
		if p.trouble == "" {
			p.since = time.Now()
		}
		p.trouble = text
		p.o.Log.Error("the control plane gives no configuration; what is in force stays", "workspace", p.o.Name, "error", text)
	}
}

func (p *Poller) ended() {
	p.telling.Lock()
	defer p.telling.Unlock()
	if p.trouble != "" {
		p.trouble = ""
		p.o.Log.Info("the control plane gives the configuration again", "workspace", p.o.Name)
	}
}

// fetch asks once, and applies the answer. After an error, wait is how long the plane asks to wait.
func (p *Poller) fetch(ctx context.Context) (wait time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	after := ""
	if p.o.Namespace != "" && p.known.odd == nil { // what could not be read is asked for again
		after = p.known.updatedAfter()
	}
	a, err := p.ask(ctx, after, p.etag[after])
	if err != nil {
		return a.wait, err
	}
	if a.unchanged {
		p.older = time.Time{}
		p.answered.Store(time.Now().UnixNano())
		return 0, p.known.odd
	}
	now := time.Now()
	next, err := p.read(a.body, after != "", now)
	if errors.Is(err, errForgotten) {
		if a, err = p.ask(ctx, "", ""); err != nil {
			return a.wait, err
		}
		after = ""
		next, err = p.read(a.body, false, now)
	}
	if err != nil {
		return 0, err
	}
	if p.stale(next, now) {
		return 0, fmt.Errorf("the control plane answers with a configuration that is older than the one in force: of %s, and not of %s; it counts if that is still so after %s", next.updated, p.known.updated, staleFor)
	}
	p.apply(next, now)
	p.answered.Store(now.UnixNano())
	clear(p.etag)
	if a.etag != "" && (p.o.Namespace == "" || p.known.updatedAfter() == after) {
		p.etag[after] = a.etag
	}
	return 0, next.odd
}

// stale reports whether what was read is older than what is in force, and not for long enough.
func (p *Poller) stale(next *documents, now time.Time) bool {
	if next.updated.IsZero() || !next.updated.Before(p.known.updated) {
		p.older = time.Time{}
		return false
	}
	if p.older.IsZero() {
		p.older = now
	}
	if now.Sub(p.older) < staleFor {
		return true
	}
	p.older = time.Time{}
	return false
}

// apply has what was read count, and keeps it for the next start.
func (p *Poller) apply(next *documents, now time.Time) {
	changed := !next.same(&p.known)
	first := p.state.Current().Loaded.IsZero()
	p.known = *next
	if !changed && !first {
		return
	}
	before := p.state.Current()
	w := next.state(now)
	w.Tell(p.o.Log, before)
	p.state.Set(w)
	p.o.Log.Info("the configuration of the control plane is in force", "workspace", p.o.Name, "workspaces", len(next.parts), "sources", len(w.Sources), "destinations", w.Destinations())
	p.keep(next)
}
