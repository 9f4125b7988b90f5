// Package app turns a config into running pipelines: it builds every connector, opens,
// runs and drains the pipelines, and replaces them on reload.
//
// Building knows everything that can be known without the network, so that a config
// that check accepts starts (invariant 6): every finding is a diagnostic with a place.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/controlplane"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
	"github.com/weirdata/weir/internal/tap"
	"github.com/weirdata/weir/internal/throttle"
	"github.com/weirdata/weir/internal/trace"
	"github.com/weirdata/weir/internal/workspace"
)

// Builder makes pipelines from configs.
type Builder struct {
	Set     connector.Set
	Log     *slog.Logger
	Version string
	// Paths are the files and directories of the config, as they were named, for commands that
	// the log tells of.
	Paths []string
	// Store is the durable store, once it is open; see [App.Run].
	Store queue.Store
	// Taps, if set, is where the pipelines can be listened to.
	Taps *tap.Hub
	// Stdout, if set, is what events are printed to in place of standard output.
	Stdout io.Writer
	// Wrap, if set, may replace the parts of a pipeline before it is made; tests of
	// configs put their own source and targets in.
	Wrap func(*pipeline.Parts)

	budget *pipeline.Budget                // of all pipelines of the process
	tracer *trace.Tracer                   // nil: nothing is traced; see Trace
	kept   map[string]any                  // what connectors keep over reloads
	planes map[string]*controlplane.Poller // that run; see [Builder.plane]
}

// keep is connector.Deps.Kept.
func (b *Builder) keep(name string, made func() any) any {
	if b.kept == nil {
		b.kept = map[string]any{}
	}
	if _, ok := b.kept[name]; !ok {
		b.kept[name] = made()
	}
	return b.kept[name]
}

// inFlight is what all pipelines of the process may have in flight together.
func (b *Builder) inFlight() *pipeline.Budget {
	if b.budget == nil {
		b.budget = &pipeline.Budget{}
	}
	return b.budget
}

// Options is how a config for this builder is read: environment variables come from env.
func (b *Builder) Options(env func(string) (string, bool)) config.Options {
	known := config.Known{
		Sources: connector.Names(b.Set.Sources), Transforms: connector.Names(b.Set.Transforms),
		Targets: connector.Names(b.Set.Targets), Stores: connector.Names(b.Set.Stores),
		ReadQueue: connector.Queues(b.Set.Sources), WriteQueue: connector.Queues(b.Set.Targets),
		StartMachine: connector.Machines(b.Set.Targets), Whole: connector.Wholes(b.Set.Targets),
	}
	return config.Options{Env: env, Known: known, Older: snowbridge.Older, Decode: func(u *config.Use) error {
		switch u.Kind {
		case config.KindSource:
			u.Other = connector.ConfigOf(b.Set.Targets, u.Name)
			return decode(b.Set.Sources, u)
		case config.KindTransform:
			return decode(b.Set.Transforms, u)
		case config.KindTarget:
			u.Other = connector.ConfigOf(b.Set.Sources, u.Name)
			return decode(b.Set.Targets, u)
		case config.KindStore:
			return decode(b.Set.Stores, u)
		}
		return nil
	}}
}

func decode[T any](entries []connector.Entry[T], u *config.Use) error {
	if e, ok := connector.Find(entries, u.Name); ok {
		return u.Decode(e.Default())
	}
	return nil
}

// Built is a config's pipelines, ready to be opened.
type Built struct {
	Plan      *config.Plan
	Pipelines []Runner
	// Store opens the durable store; nil when nothing needs it.
	Store connector.StoreOpener
	// Spare says that what runs does without the store, where it cannot be opened.
	Spare bool
	// Checkers are the connectors that can say whether their other side is reachable.
	Checkers []Checker
	// Planes are the control planes that workspace configurations come from.
	Planes []*Plane

	lakes     []Lake
	gateways  []Gateway
	inspected []inspected
	listening []listening
	limit     int64 // of payload bytes in flight
}

// Checker is a connector that can be checked, and where it is in the config.
type Checker struct {
	Use *config.Use
	connector.Checker
}

// examine has what was made for u looked at and checked, where it can be; tried is whether it
// is opened whatever that says.
func (b *Built) examine(u *config.Use, made any, tried func() bool) {
	if i, can := made.(connector.Inspector); can {
		b.inspected = append(b.inspected, inspected{i, func(err error) config.Diagnostics { return u.Diagnose(err) }, tried})
	}
	if c, can := made.(connector.Checker); can && u.Kind != config.KindTransform {
		b.Checkers = append(b.Checkers, Checker{u, c})
	}
}

// Build makes everything of a plan. When the diagnostics have errors, nothing was made.
func (b *Builder) Build(ctx context.Context, plan *config.Plan) (*Built, config.Diagnostics) {
	built := &Built{Plan: plan, Spare: plan.Spare, limit: inFlightBytes(plan.Process.MaxInFlightBytes)}
	var ds config.Diagnostics
	built.Store, ds = b.OpenerOf(ctx, plan)
	built.examine(plan.Store, built.Store, nil)
	ds = append(ds, checkExports(&plan.Process)...)
	spaces, found := b.workspaces(plan, built)
	ds = append(ds, found...)
	machines, found := b.machines(ctx, plan, built)
	ds = append(ds, found...)
	made := make([]*assembly, len(plan.Pipelines))
	for i, pc := range plan.Pipelines {
		a := &assembly{b: b, built: built, config: pc, log: b.Log.With(meter.KeyPipeline, pc.Name), plan: plan, machines: machines, spaces: spaces}
		a.parts = a.make(ctx)
		made[i], ds = a, append(ds, a.found...)
	}
	built.Spare = built.Spare && !slices.ContainsFunc(made, (*assembly).records)
	if built.Store == nil && slices.ContainsFunc(made, (*assembly).records) {
		built.Store, found = b.opener(ctx, plan, plan.Records)
		ds = append(ds, found...)
		built.examine(plan.Records, built.Store, nil)
	}
	ds = append(ds, plan.Doubts()...)
	ds = append(ds, collisions(plan.Process.Admin, built.listening)...)
	if ds = once(ds); ds.HasErrors() {
		return nil, ds
	}
	fit(made)
	for _, a := range made {
		built.Pipelines = append(built.Pipelines, a.runner())
	}
	return built, ds
}

// OpenerOf is what opens the store of a plan; nil when nothing needs one.
func (b *Builder) OpenerOf(ctx context.Context, plan *config.Plan) (connector.StoreOpener, config.Diagnostics) {
	if plan.Store == nil {
		return nil, nil
	}
	return b.opener(ctx, plan, plan.Store)
}

func (b *Builder) opener(ctx context.Context, plan *config.Plan, of *config.Use) (connector.StoreOpener, config.Diagnostics) {
	a := assembly{b: b, built: &Built{}, log: b.Log, plan: plan}
	opener, _ := build(ctx, &a, b.Set.Stores, of)
	return opener, a.found
}

// records reports whether the source of a pipeline keeps records in the store.
func (a *assembly) records() bool {
	r, can := a.parts.Source.(connector.Recorder)
	return can && r.Records()
}

// assembly is one pipeline being built.
type assembly struct {
	b      *Builder
	built  *Built
	config *config.Pipeline // nil while the store is built
	log    *slog.Logger
	plan   *config.Plan
	found  config.Diagnostics

	parts    pipeline.Parts // once they are made
	machines map[string]connector.Machine
	spaces   map[string]workspace.Live
	located  []located
	measured []measured
}

// runner makes the pipeline of its parts.
func (a *assembly) runner() Runner {
	parts := a.parts
	if a.b.Wrap != nil {
		a.b.Wrap(&parts)
	}
	ofFailures := a.config.FailuresOf() != nil
	a.measure(parts.Meter)
	r := newPipelineRunner(parts, a.config.Upstream(), a.config.Downstream(), Terms{Ordered: parts.Ordered, Fail: a.failing(parts), Finishes: ofFailures})
	r.finish = finish{store: func() queue.Store { return a.b.Store }, patience: a.config.FinishTimeout(), ofFailures: ofFailures, log: a.log}
	return r
}

// failing is what the failure of the pipeline means. Where the plan leaves that open, one
// whose source comes to an end ends with it.
func (a *assembly) failing(parts pipeline.Parts) Failing {
	switch {
	case a.config.OnFailure == config.FailureRestart:
		return Restart
	case a.config.OnFailure == config.FailureExit:
		return Exit
	case a.config.OnFailure == config.FailureEnd:
		return End
	case ends(parts.Source):
		return End
	}
	return Restart
}

// make makes the parts of the pipeline.
func (a *assembly) make(ctx context.Context) pipeline.Parts {
	pc := a.config
	p := pipeline.Parts{
		Name:             pc.Name,
		Ordered:          pc.Ordered,
		InFlightMessages: inFlightMessages(pc.InFlight.Messages),
		InFlightBytes:    inFlightShare(pc.InFlight.Bytes),
		Process:          a.b.inFlight(),
		Drain:            pc.DrainTimeout(),
		Retry:            policy(pc),
		Throttle:         limit(pc.Throttle),
		Look:             a.b.look("--pipeline", ownerOf(pc)),
		Meter:            meter.NewPipeline(pc.Name),
		Trace:            a.b.tracer,
		Tap:              a.b.Taps.Pipeline(pc.Name),
		Steps:            pc.Steps(),
		Log:              a.log,
		Format:           Failures(pc.FailureParser.Format, a.b.Version, a.named()),
	}
	p.Source, _ = build(ctx, a, a.b.Set.Sources, pc.Source.Use)
	a.listens(p.Source, pc.Source.Use)
	a.visited(p.Source)
	p.Transforms, p.Workers = a.transforms(ctx, pc.Transform), workers(pc.Transform)
	p.First = pc.Routing == config.RouteFirst
	for _, r := range pc.Targets {
		s := a.sink(ctx, r.Use)
		if pc.FailuresOf() != nil && pc.HoldsFailures() {
			s.Limits.MaxMessageBytes = 0
		}
		p.Routes = append(p.Routes, pipeline.Route{Name: r.Name, When: r.Condition(), Sink: s})
	}
	if len(p.Routes) == 1 && p.Routes[0].When == nil {
		p.Target, p.Routes = p.Routes[0].Sink, nil
	}
	p.Filter = a.sink(ctx, pc.FilterTarget.Use)
	if p.Keep = pc.FailureTarget.Keep; !p.Keep {
		p.Failure = a.failureSink(ctx, pc)
	}
	if u := pc.Overflow(); u != nil {
		p.Overflow = a.sink(ctx, u)
	}
	a.suits(p.Source)
	a.transacts(&p)
	return p
}

// suits finds options that the source is not made for.
func (a *assembly) suits(s connector.Source) {
	if s == nil {
		return
	}
	if r, ok := s.(connector.Redeliverer); a.config.FailureTarget.Keep && (!ok || !r.Redelivers()) {
		a.found = append(a.found, a.config.Diagnose("failure_target.keep", fmt.Sprintf("the source %q is no queue, where failed messages could be kept", a.config.Source.Use.Name),
			"take keep out, and name a target with a use block"))
	}
	if a.config.FinishTimeoutMillis > 0 && !fed(s) {
		a.found = append(a.found, a.config.Diagnose("finish_timeout_ms", fmt.Sprintf("the source %q does not end with what feeds it", a.config.Source.Use.Name),
			"take it out, or set stop_when_empty where the source is a queue"))
	}
}

// transacts has the targets of p that write in transactions of its source do so, and finds
// those that cannot.
func (a *assembly) transacts(p *pipeline.Parts) {
	join := func(t connector.Target, u *config.Use) {
		to, ok := t.(connector.TransactionTarget)
		if !ok || !to.Transactional() || p.Source == nil {
			return
		}
		err := fmt.Errorf("the source %q has no transactions that a target could write in", a.config.Source.Use.Name)
		if from, can := p.Source.(connector.TransactionSource); can {
			err = from.JoinTransactions(to)
		}
		if err != nil {
			a.found = append(a.found, u.Diagnose(connector.Blame("transactional", "remove transactional, or read and write the same cluster of Kafka", err))...)
		}
	}
	sinks := []pipeline.Sink{p.Target}
	for _, r := range p.Routes {
		sinks = append(sinks, r.Sink)
	}
	if len(p.Routes) > 0 {
		sinks = sinks[1:]
	}
	for i, s := range sinks {
		join(s.Target, a.config.Targets[i].Use)
	}
	join(p.Filter.Target, a.config.FilterTarget.Use)
	if !p.Keep {
		join(p.Failure.Target, a.config.FailureTarget.Use)
	}
}

// fit has failures that spill made to fit the failure target that they come to in the end.
func fit(made []*assembly) {
	takers := map[string]connector.Limits{}
	for _, a := range made {
		if a.config.FailuresOf() != nil && len(a.parts.Transforms)+len(a.parts.Routes) == 0 {
			for _, q := range a.config.Upstream() {
				if l := a.parts.Target.Limits; tighter(l, takers[q]) {
					takers[q] = l
				}
			}
		}
	}
	for _, a := range made {
		if a.parts.Keep {
			continue
		}
		own := &a.parts.Failure.Limits
		if to := takers[a.config.FailureTarget.Use.Queue()]; tighter(to, *own) {
			own.MaxMessageBytes, own.Size = to.MaxMessageBytes, to.Size
		}
	}
}

// tighter reports whether a takes smaller messages only than b.
func tighter(a, b connector.Limits) bool {
	return a.MaxMessageBytes > 0 && (b.MaxMessageBytes == 0 || a.MaxMessageBytes < b.MaxMessageBytes)
}

// transforms compiles the transforms of a pipeline, once for all of its workers.
func (a *assembly) transforms(ctx context.Context, t *config.Transform) []connector.Transform {
	steps := make([]connector.Transform, 0, len(t.Use))
	for _, u := range t.Use {
		if tr, ok := build(ctx, a, a.b.Set.Transforms, u); ok {
			steps = append(steps, tr)
		}
	}
	return steps
}

// workers is how many workers a pipeline has.
func workers(t *config.Transform) int {
	if t.WorkerPool > 0 {
		return t.WorkerPool
	}
	return runtime.GOMAXPROCS(0) + 1
}

func (a *assembly) sink(ctx context.Context, u *config.Use) pipeline.Sink {
	t, ok := build(ctx, a, a.b.Set.Targets, u)
	if !ok {
		return pipeline.Sink{}
	}
	s := pipeline.Sink{Target: t, Use: u.Name}
	if l, ok := t.(connector.Limiter); ok {
		s.Limits = l.Limits()
	}
	return s
}

// failureSink is the sink of the failure target of pc, without a limit where it needs none.
func (a *assembly) failureSink(ctx context.Context, pc *config.Pipeline) pipeline.Sink {
	s := a.sink(ctx, pc.FailureTarget.Use)
	if pc.FailureTarget.Use.Queue() == "" && pc.HoldsFailures() {
		s.Limits.MaxMessageBytes = 0
	}
	return s
}

// build makes one connector, noting what is wrong with its config.
func build[T any](ctx context.Context, a *assembly, entries []connector.Entry[T], u *config.Use) (made T, ok bool) {
	e, known := connector.Find(entries, u.Name)
	if !known {
		a.found = append(a.found, u.Diagnose(fmt.Errorf("unknown %s: %s", u.Kind, u.Name))...)
		return made, false
	}
	component := a.component(u)
	log, warnings := noticing(a.log.With(meter.KeyComponent, component))
	deps := connector.Deps{
		Component: component,
		Log:       log,
		Dir:       u.Dir(), Version: a.b.Version, Lone: a.plan.Lone,
		Store: func() queue.Store { return a.b.Store }, Queues: a.plan.Declared, Machines: a.machines, Workspaces: a.spaces,
		Stdout: a.b.Stdout, Kept: a.b.keep,
	}
	if u.Implied() {
		deps.Queues = a.plan.Implied
	}
	if a.config != nil {
		deps.Pipeline, deps.Ordered, deps.Named = a.config.Name, a.config.Ordered, a.config.Named()
		deps.Partly = len(a.config.Targets) > 1 && u.Block == string(config.KindTarget)
	}
	made, err := e.Build(ctx, deps, u.Decode)
	for _, text := range warnings() {
		a.found = append(a.found, u.Warn(text))
	}
	if err != nil {
		var ds config.Diagnostics
		if !errors.As(err, &ds) {
			ds = u.Diagnose(err)
		}
		a.found = append(a.found, ds...)
		return made, false
	}
	a.built.examine(u, made, func() bool {
		return u.Kind == config.KindTarget || a.config != nil && a.parts.Source != nil && a.failing(a.parts) == Restart
	})
	a.locate(u, made)
	a.measured = append(a.measured, measured{component, made})
	a.lands(component, made)
	return made, true
}

// component is what logs and metrics call u: its block and name, or, where a pipeline has
// several targets, the name of the target.
func (a *assembly) component(u *config.Use) string {
	if a.config != nil && len(a.config.Targets) > 1 {
		for _, r := range a.config.Targets {
			if r.Use == u {
				return u.Block + "." + r.Name
			}
		}
	}
	return u.Block + "." + u.Name
}

// limit is the throttle of a pipeline; nil when there is none.
func limit(t *config.Throttle) *throttle.ByValue {
	if t == nil {
		return nil
	}
	burst := t.Burst
	if burst == 0 {
		burst = int(min(t.MessagesPerSecond, math.MaxInt32))
	}
	return throttle.PerValue(t.MessagesPerSecond, burst)
}

func policy(of *config.Pipeline) retry.Policy {
	r, stored := of.Retry, of.Source.Use.Queue() != ""
	class := func(p *config.RetryPolicy) retry.Class {
		c := retry.Class{Delay: p.Delay(), MaxAttempts: p.MaxAttempts, MaxDelay: p.MaxDelay(), InvalidAfterMax: p.InvalidAfterMax, GiveUpAfter: p.GiveUpAfter()}
		if stored { // the store holds what waits: it can be for hours
			c.TryFor = p.TryFor()
		}
		return c
	}
	return retry.Policy{
		Transient: class(r.Transient), Throttle: class(r.Throttle), Setup: class(r.Setup),
		Jitter: 100 * time.Millisecond,
	}
}

// Only leaves of b the pipeline called name, and the machines it may start executions of.
func (b *Built) Only(name string) {
	b.Pipelines = slices.DeleteFunc(b.Pipelines, func(r Runner) bool {
		_, machine := r.(*machineRunner)
		return !machine && r.Name() != name
	})
}
