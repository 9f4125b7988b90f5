// Package usertransform runs the user transformations of destinations: code that people have
// written for RudderStack, which changes, drops or multiplies the events for a destination.
//
// # Code
//
// A transformation names a version of code, and a version never changes. Code comes from a
// directory, or from a control plane as RudderStack's answers it. Of code version 1, a module
// exports transformEvent(event, metadata) or transformBatch(events, metadata), and may import
// the libraries of its workspace by their names in camel case, and RudderStack's own by
// "@rs/NAME/vN"; of code version 0, a script has a function transform(events). Each may be async.
// Code finds metadata, log, fetch, fetchV2, geolocation and getCredential. Code in Python is
// refused by name.
//
// # Invariants
//
//   - Only what a run that succeeded has returned goes on. Everything else is an error of the
//     event, which is kept as it was.
//   - A call sees nothing that another has left. The calls of one [Engine.Run] may, where the
//     code is such that a VM cannot be shared between events; with transformEvent each event is
//     a call, and one that fails changes no other.
//   - Programs, runtimes, what is waited for and what is read from the network are bounded.
//   - Code reaches public networks only, and those that the config allows.
package usertransform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/versioned"
	"github.com/weirdata/weir/internal/workspace"
)

const (
	// maxPrograms is the most transformations whose code is kept ready.
	maxPrograms = 256
	// fresh is how long code of a directory counts as unchanged.
	fresh = 5 * time.Second
	// again is how long code that could not be loaded is not tried again.
	again = 2 * time.Second
	// loadTimeout bounds a try to load code.
	loadTimeout = 30 * time.Second
	// Slow is how long code that had to wait longer than its caller's patience is not called again
	// by callers that have little.
	Slow = 10 * time.Second
	// MaxCall is the most events of one call.
	MaxCall = 200
)

// Engine runs transformations. Many goroutines may use it at once.
type Engine struct {
	c       Config
	log     *slog.Logger
	code    library
	remote  *remote // nil where code runs here
	fetcher *httpclient.Client
	places  *geolocator // nil without a database

	mu       sync.Mutex
	programs map[string]*loaded
}

// New makes an engine; it touches no network.
func New(d connector.Deps, c Config) (*Engine, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("transformations: %s: %s", ps[0].What, ps[0].Fix))
	}
	e := &Engine{c: c, log: d.Log, programs: map[string]*loaded{}}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Directory != "":
		path, err := d.File("directory", c.Directory)
		if err != nil {
			return nil, err
		}
		e.code = directory{versioned.Directory(path)}
	case c.URL != "":
		cache := c.CacheDirectory
		if cache != "" {
			cache = d.Path(cache)
		}
		e.code = newControlPlane(c.URL, c.Secret, cache)
	default:
		e.remote = newRemote(c.TransformerURL)
	}
	allowed, err := networks(c.AllowNetworks)
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	e.fetcher = httpclient.New(httpclient.Options{Timeout: fetchTimeout, Public: true, Except: allowed, IdlePerHost: 8})
	if c.GeolocationDatabase != "" {
		if e.places, err = openGeolocator(d, c.GeolocationDatabase); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Close lets go of connections.
func (e *Engine) Close() {
	e.fetcher.Close()
	if c, ok := e.code.(*controlPlane); ok {
		c.client.Close()
	}
	if e.remote != nil {
		e.remote.client.Close()
	}
}

// Result is what one event became: with an error nothing, otherwise the payloads of Out, which
// are none when the code has dropped it.
type Result struct {
	Out [][]byte
	Err error
}

// Refused is why a transformation can never run; empty when it can. A nil engine runs none.
func (e *Engine) Refused(t *workspace.Transformation) string {
	switch {
	case e == nil:
		return fmt.Sprintf("it has the transformation %q, and it is not said where transformations are: without it no event may go there; write a block transformations", t.ID)
	case t.Version == "":
		return fmt.Sprintf("its transformation %q has no versionId: Transformation VersionID not found", t.ID)
	case e.remote == nil && t.Language != workspace.JavaScript:
		return fmt.Sprintf("its transformation %q is written in %s, which is not run here: write it in JavaScript, or name a rudder-transformer with transformer_url", t.ID, t.Language)
	}
	return ""
}

// How is how a run treats others.
type How bool

// Brief waits no longer than the config allows for what is outside of the process, since events
// for others are behind it, and leaves code alone that had to wait for longer lately. Whole waits
// as long as RudderStack does. Where a wait ends, the events left have an error of another kind
// than invalid.
const (
	Brief How = false
	Whole How = true
)

// wholePatience bounds a run for which nobody else waits.
const wholePatience = 10 * time.Minute

// remotePatience is the least time for an answer of a rudder-transformer.
const remotePatience = 10 * time.Second

func (e *Engine) patience(o How) time.Duration {
	switch d := time.Duration(e.c.PatienceMillis) * time.Millisecond; {
	case o == Whole:
		return wholePatience
	case e.remote != nil:
		return max(d, remotePatience)
	default:
		return d
	}
}

// Run takes events of one source through the transformation of a destination: there is a result
// for each. The payloads of b are not changed.
func (e *Engine) Run(ctx context.Context, w *workspace.Workspace, s *workspace.Source, c *workspace.Connection, b event.Batch, o How) []Result {
	results := make([]Result, len(b))
	t, may := c.Destination.Transformation(), w.Code(c.Destination.Workspace)
	if why := e.Refused(t); why != "" {
		fail(results, invalid(errors.New(why)))
		return results
	}
	patient, cancel := context.WithTimeout(ctx, e.patience(o))
	defer cancel()
	if e.remote != nil {
		for len(b) > 0 {
			n := min(len(b), MaxCall)
			e.remote.run(patient, may, s, c, b[:n], results[len(results)-len(b):][:n], o)
			b = b[n:]
		}
		return results
	}
	p, err := e.program(ctx, patient, t, may)
	if err != nil {
		fail(results, err)
		return results
	}
	if o == Brief && time.Now().UnixNano() < p.slow.Load() {
		fail(results, errSlow)
		return results
	}
	for from := 0; from < len(b); from += MaxCall {
		to := min(from+MaxCall, len(b))
		p.run(ctx, patient, &call{engine: e, may: may, source: s, connection: c, events: b[from:to]}, results[from:to])
	}
	return results
}

var errSlow = fault.New(fault.Transient, errors.New("the transformation waits for others lately, and holds up no event of other destinations for it"))

func fail(results []Result, err error) {
	for i := range results {
		results[i] = Result{Err: err}
	}
}

// invalid is the error of an event whose transformation has failed.
func invalid(err error) error {
	return fault.Describe(fault.Invalid, fmt.Errorf("user transformation: %w", err), fault.Detail{Type: "transformation", Code: "400", Safe: "the user transformation failed"})
}

// loaded is code that is loaded, or will be.
type loaded struct {
	done    chan struct{} // closed once the rest is there
	program *program
	err     error
	text    string // of all of it
	at      time.Time
	used    time.Time
}

// program is the code of t, ready to run. It is loaded once for all who ask at once, and waited
// for as long as patient allows.
func (e *Engine) program(ctx, patient context.Context, t *workspace.Transformation, may *workspace.Code) (*program, error) {
	key := strings.Join(append([]string{t.Version}, may.Libraries...), "\x00")
	e.mu.Lock()
	l := e.programs[key]
	if l == nil || l.stale(e.code) {
		before := l
		l = &loaded{done: make(chan struct{})}
		e.programs[key] = l
		e.evict()
		go e.load(context.WithoutCancel(ctx), l, before, t, may)
	}
	l.used = time.Now()
	e.mu.Unlock()
	if _, near := e.code.(directory); near {
		patient = ctx // a disk does not keep others waiting
	}
	select {
	case <-l.done:
		return l.program, l.err
	default:
	}
	select {
	case <-l.done:
		return l.program, l.err
	case <-patient.Done():
		return nil, fault.Pace(errors.New("the code of the transformation is not there yet"), again)
	}
}

// stale reports whether it is to be loaded again.
func (l *loaded) stale(from library) bool {
	select {
	case <-l.done:
	default:
		return false
	}
	_, changes := from.(directory)
	switch age := time.Since(l.at); {
	case l.err != nil:
		return age > again
	default:
		return changes && age > fresh
	}
}

// evict lets go of what was not used for longest. e.mu is held.
func (e *Engine) evict() {
	for len(e.programs) > maxPrograms {
		oldest := ""
		for key, l := range e.programs {
			if oldest == "" || l.used.Before(e.programs[oldest].used) {
				oldest = key
			}
		}
		delete(e.programs, oldest)
	}
}

// load fills in l.
func (e *Engine) load(ctx context.Context, l, before *loaded, t *workspace.Transformation, may *workspace.Code) {
	defer close(l.done)
	defer func() {
		if r := recover(); r != nil {
			l.err = invalid(fmt.Errorf("the code cannot be compiled: %v", r))
		}
		l.at = time.Now()
		if l.err != nil && (before == nil || before.err == nil || before.err.Error() != l.err.Error()) {
			e.log.Error("a user transformation cannot be used, and its events are not delivered", "transformation", t.ID, "version", t.Version, "error", l.err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	v, err := e.code.transformation(ctx, t.Version)
	var libraries map[string]string
	if err == nil && v.CodeVersion != "0" {
		libraries, err = e.libraries(ctx, v.Code, may.Libraries)
	}
	if err != nil {
		if l.err = fault.Pace(fmt.Errorf("user transformation: %w", err), again); fault.Of(err) == fault.Invalid {
			l.err = invalid(err)
		} else if before != nil && before.program != nil {
			l.program, l.err, l.text = before.program, nil, before.text // the last good one stays
		}
		return
	}
	whole, err := json.Marshal(struct {
		Version   version           `json:"version"`
		Libraries map[string]string `json:"libraries"`
	}{v, libraries})
	if err != nil {
		l.err = invalid(err)
		return
	}
	if l.text = string(whole); before != nil && before.err == nil && before.text == l.text {
		l.program = before.program
		return
	}
	if l.program, err = e.compile(v, libraries); err != nil {
		l.err = invalid(err)
	}
}

// libraries are what code may import, by name: none for code that imports nothing.
func (e *Engine) libraries(ctx context.Context, code string, versions []string) (map[string]string, error) {
	if !imports.MatchString(code) {
		return nil, nil
	}
	found := map[string]string{}
	for _, id := range versions {
		v, err := e.code.library(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("library %s: %w", id, err)
		}
		found[camelCase(v.Name)] = v.Code
		if _, taken := found[v.Name]; !taken {
			found[v.Name] = v.Code
		}
	}
	for _, m := range shared.FindAllStringSubmatch(code, -1) {
		v, err := e.code.shared(ctx, m[2], m[3])
		if err != nil {
			if fault.Of(err) == fault.Invalid {
				continue // the import fails by its name
			}
			return nil, fmt.Errorf("library %s: %w", m[1], err)
		}
		found[m[1]] = v.Code
	}
	return found, nil
}
