// Package trackingplan validates events by tracking plans: JSON Schemas for the events of a source, as
// RudderStack's control plane has them.
//
// # Plans
//
// A plan has an id and a version, and what is at a version never changes. Plans come from a directory, as
// ID-VERSION.json, or from a control plane, in either of the two shapes that RudderStack has had. Schemas
// are of the drafts 4 to 2019-09; what one refers to is in itself, and nothing is read for it. They are
// compiled once.
//
// # What is validated
//
// Events of the types track, identify, group, page and screen of a source whose plan has options: the
// whole event, by the rule for its type and, of track, its name. What is wrong is a list of
// [Violation], in RudderStack's types, messages and paths. The options say whether such an event goes on;
// unless they say otherwise, the list is written into the event's context, even when it is empty, and
// with it the id and version of the plan.
//
// # Invariants
//
//   - An event is as it was but for those three members of its context.
//   - No event passes unvalidated because its plan is not there yet: it waits, or, where there is no such
//     plan, it is an error of the event. A rule that cannot be compiled is told of when the plan is
//     loaded, and validates nothing.
package trackingplan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/versioned"
	"github.com/weirdata/weir/internal/workspace"
)

const (
	// maxPlans is the most plans that are kept ready.
	maxPlans = 2048
	// fresh is how long a plan of a directory counts as unchanged.
	fresh = 5 * time.Second
	// again is how long a plan that could not be loaded is not tried again.
	again = 2 * time.Second
	// loadTimeout bounds a try to load a plan.
	loadTimeout = 30 * time.Second
)

// Config says where tracking plans are.
type Config struct {
	// Directory with the plans: ID-VERSION.json for a version, or ID.json for all versions that have no
	// file. A relative path means from the directory of the config file. One of directory and url is
	// needed.
	Directory string `hcl:"directory,optional"`
	// URL of a control plane that is asked for plans.
	URL string `hcl:"url,optional"`
	// What the control plane asks for, as the user name of basic authentication.
	Secret string `hcl:"secret,optional"`
	// Directory that keeps the plans that were fetched, so that a start needs no control plane. A version
	// that is in it is not asked for again. Default: they are kept in memory.
	CacheDirectory string `hcl:"cache_directory,optional"`
	// Longest time, in milliseconds, that events for others wait for a plan that is being fetched; 1000
	// by default. An event that would wait longer goes back to its queue for a while.
	PatienceMillis int `hcl:"patience_millis,optional"`
}

// SetDefaults sets what a block need not say.
func (c *Config) SetDefaults() { c.PatienceMillis = 1000 }

// Validate names what could never work.
func (c *Config) Validate() (ps []connector.Problem) {
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if (c.Directory == "") == (c.URL == "") {
		refuse("", "it is not said where tracking plans are, or said twice", "write one of directory and url")
	}
	if c.URL != "" && !httpclient.Whole(c.URL) {
		refuse("url", "url is not a whole http or https URL", "write it like https://api.rudderstack.com")
	}
	if c.CacheDirectory != "" && c.URL == "" {
		refuse("cache_directory", "cache_directory keeps what comes from a url, and there is none", "leave it out")
	}
	if c.Secret != "" && c.URL == "" {
		refuse("secret", "secret is for a url, and there is none", "leave it out")
	}
	if c.PatienceMillis < 1 {
		refuse("patience_millis", fmt.Sprintf("patience_millis must be at least 1, not %d", c.PatienceMillis), "leave it out to use 1000")
	}
	return ps
}

// Plans are the plans of a directory or a control plane. Many goroutines may use them at once.
type Plans struct {
	c         Config
	log       *slog.Logger
	directory versioned.Directory
	plane     *versioned.ControlPlane // nil for a directory

	mu    sync.Mutex
	plans map[id]*loaded
}

// id names a version of a plan.
type id struct {
	workspace, plan string
	version         int
}

// New finds nothing yet; it touches no network.
func New(d connector.Deps, c Config) (*Plans, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("tracking_plans: %s: %s", ps[0].What, ps[0].Fix))
	}
	p := &Plans{c: c, log: d.Log, plans: map[id]*loaded{}}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if c.Directory != "" {
		path, err := d.File("directory", c.Directory)
		p.directory = versioned.Directory(path)
		return p, err
	}
	cache := c.CacheDirectory
	if cache != "" {
		cache = d.Path(cache)
	}
	p.plane = &versioned.ControlPlane{Base: c.URL, Secret: c.Secret, Client: httpclient.New(httpclient.Options{Timeout: loadTimeout}), Cache: cache}
	return p, nil
}

// Verdict is what a plan says of an event.
type Verdict struct {
	// Data is the event with what is written into it; nil when nothing is.
	Data []byte
	// Violations are what is wrong with it.
	Violations []Violation
	// Drops is the type of the violations that it is dropped for; empty when it goes on.
	Drops string
}

// Check validates an event of a type and a name by the plan of its source. An error of [fault.Pace] is of
// a plan that is not there yet.
func (p *Plans) Check(ctx context.Context, s *workspace.Source, kind, name string, data []byte) (Verdict, error) {
	var v Verdict
	options := s.TrackingPlan.Options(kind)
	if len(options) == 0 {
		return v, nil
	}
	plan, err := p.plan(ctx, id{s.Workspace, s.TrackingPlan.ID, s.TrackingPlan.Version})
	if err != nil {
		return v, err
	}
	k := key{kind, ""}
	if kind == track {
		k.name = name
	}
	switch r := plan.rules[k]; {
	case r == nil && kind == track:
		v.Violations = []Violation{{Type: Unplanned, Message: "no schema for event: " + name}}
	case r == nil:
	case r.broken():
		return v, nil // which was told
	default:
		value, err := decode(data)
		if err == nil {
			v.Violations, err = r.violations(value)
		}
		if err != nil {
			return v, fault.Describe(fault.Invalid, fmt.Errorf("validate by the tracking plan %s: %w", s.TrackingPlan.ID, err),
				fault.Detail{Type: "transformation", Code: "400", Safe: "the event cannot be validated by the tracking plan"})
		}
	}
	err = v.judge(s.TrackingPlan, options, data)
	return v, err
}

// loaded is a plan that is loaded, or will be.
type loaded struct {
	done chan struct{} // closed once the rest is there
	plan *plan
	text string
	err  error
	why  string // why it could not be read, when it was read last
	at   time.Time
	used time.Time
}

// plan is a plan, ready to use. It is loaded once for all who ask at once.
func (p *Plans) plan(ctx context.Context, key id) (*plan, error) {
	now := time.Now()
	p.mu.Lock()
	l := p.plans[key]
	if l == nil || l.stale(p.plane == nil, now) {
		before := l
		l = &loaded{done: make(chan struct{})}
		p.plans[key] = l
		p.evict()
		go p.load(context.WithoutCancel(ctx), l, before, key)
	}
	l.used = now
	p.mu.Unlock()
	select {
	case <-l.done:
		return l.plan, l.err
	default:
	}
	patience := time.Duration(p.c.PatienceMillis) * time.Millisecond
	if p.plane == nil {
		patience = loadTimeout // a disk does not keep others waiting
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.plan, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, fault.Pace(fmt.Errorf("the tracking plan %s is not there yet", key.plan), again)
	}
}

// stale reports whether it is to be loaded again.
func (l *loaded) stale(changes bool, now time.Time) bool {
	select {
	case <-l.done:
	default:
		return false
	}
	if l.err != nil {
		return now.Sub(l.at) > again
	}
	return changes && now.Sub(l.at) > fresh
}

// evict lets go of what was not used for longest. p.mu is held.
func (p *Plans) evict() {
	for len(p.plans) > maxPlans {
		var oldest id
		var at time.Time
		for key, l := range p.plans {
			if at.IsZero() || l.used.Before(at) {
				oldest, at = key, l.used
			}
		}
		delete(p.plans, oldest)
	}
}

// load fills in l.
func (p *Plans) load(ctx context.Context, l, before *loaded, key id) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	err := p.read(ctx, key, func(text []byte) (err error) {
		l.text = string(text)
		if before != nil && before.plan != nil && before.text == l.text {
			l.plan = before.plan
			return nil
		}
		l.plan, err = read(text)
		return err
	})
	l.at = time.Now()
	if err == nil {
		if before == nil || before.plan != l.plan {
			for _, why := range l.plan.broken() {
				p.log.Error("a rule of a tracking plan cannot be used, and its events are not validated", "plan", key.plan, "version", key.version, "error", why)
			}
		}
		return
	}
	if l.why = err.Error(); before == nil || before.why != l.why {
		p.log.Error("a tracking plan cannot be read, and its events wait or fail", "plan", key.plan, "version", key.version, "error", err)
	}
	l.plan = nil
	switch {
	case before != nil && before.plan != nil && !errors.Is(err, versioned.ErrUnknown):
		l.plan, l.text = before.plan, before.text // the last good one stays
	case fault.Of(err) == fault.Invalid:
		l.err = fault.Describe(fault.Invalid, fmt.Errorf("tracking plan %s: %w", key.plan, err),
			fault.Detail{Type: "transformation", Code: "400", Safe: "there is no such tracking plan"})
	default:
		l.err = fault.Pace(fmt.Errorf("tracking plan %s: %w", key.plan, err), again)
	}
}

// read has the text of a plan read.
func (p *Plans) read(ctx context.Context, key id, take func([]byte) error) error {
	version := strconv.Itoa(key.version)
	if p.plane != nil {
		return p.plane.Get(ctx, "plan-"+key.workspace+"-"+key.plan+"-"+version,
			"/workspaces/"+url.PathEscape(key.workspace)+"/tracking-plans/"+url.PathEscape(key.plan)+"?version="+version, take)
	}
	text, _, err := p.directory.Read(key.plan+"-"+version, ".json")
	if errors.Is(err, versioned.ErrUnknown) {
		if whole, _, e := p.directory.Read(key.plan, ".json"); e == nil {
			text, err = whole, nil
		}
	}
	if err != nil {
		return err
	}
	if err := take(text); err != nil {
		return fault.New(fault.Invalid, fmt.Errorf("read the plan in %s: %w", p.directory, err))
	}
	return nil
}

// judge decides what becomes of the event, and writes what is wrong into it.
func (v *Verdict) judge(plan *workspace.TrackingPlan, options []workspace.PlanOption, data []byte) error {
	has := func(kinds ...string) (last string) {
		for _, k := range kinds {
			if slices.ContainsFunc(v.Violations, func(x Violation) bool { return x.Type == k }) {
				last = k
			}
		}
		return last
	}
	told := true
	for _, o := range options {
		kinds := []string(nil)
		switch o {
		case workspace.PlanOption{Key: workspace.PlanUnplannedEvents, Value: "false"}:
			kinds = []string{Unplanned}
		case workspace.PlanOption{Key: workspace.PlanUnplannedProperties, Value: "drop"}:
			kinds = []string{Additional}
		case workspace.PlanOption{Key: workspace.PlanOtherViolations, Value: "drop"}:
			kinds = []string{Unknown, Datatype, Missing, Advanced}
		case workspace.PlanOption{Key: workspace.PlanPropagate, Value: "false"}:
			told = false
		}
		if last := has(kinds...); last != "" {
			v.Drops = last
		}
	}
	if !told {
		return nil
	}
	list := v.Violations
	if list == nil {
		list = []Violation{}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return fault.New(fault.Invalid, err)
	}
	// A context that is no object is left alone.
	v.Data, _ = jsontext.SetIn(data, "context",
		jsontext.Setting{Name: "trackingPlanId", Value: jsontext.AppendString(nil, plan.ID)},
		jsontext.Setting{Name: "trackingPlanVersion", Value: strconv.AppendInt(nil, int64(plan.Version), 10)},
		jsontext.Setting{Name: "violationErrors", Value: text})
	return nil
}
