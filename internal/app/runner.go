package app

import (
	"context"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
)

// Runner is one thing of a config that runs: a pipeline, or a machine. What it is made of
// was built once; it may be opened and run again and again, which reads no file of the config.
type Runner interface {
	Name() string
	// Open opens what Run needs. When it fails, everything is closed again.
	Open(ctx context.Context) error
	// Run works until there is nothing left to do or ctx ends, drains, and closes. It
	// returns nil only when everything it took was settled. It opens what Open has not.
	Run(ctx context.Context) error
	// Close closes what Open opened, when Run is not to be called.
	Close(ctx context.Context) error
	// Leave gives up what is kept from one run to the next, once there will be no other.
	Leave(ctx context.Context) error
	// Full is why there is no room for what the runner writes; refusing says that those who call
	// it are turned away for it.
	Full() (err error, refusing bool)
	// FeedUntil tells, before the first Open, when everything upstream has ended for good.
	FeedUntil(end <-chan struct{})
	State() pipeline.State
	Meter() *meter.Pipeline
	// Upstream are the queues that the runner takes work from, and Downstream those that it
	// puts work into.
	Upstream() []string
	Downstream() []string
	// Terms says how the runner lives among the others.
	Terms() Terms
}

// Terms is how a runner lives among the others of its config.
type Terms struct {
	// Fail is what its failure means.
	Fail Failing
	// Ordered runners start after the one of the same name that they replace has ended.
	Ordered bool
	// Exclusive are what nobody else may hold while the runner is open, such as a file of
	// positions, by an identity that is the same in every config.
	Exclusive []string
	// Ends is set when the source comes to an end: the process has then done its work only if
	// all of it was settled, whenever it is stopped.
	Ends bool
	// Fed runners end when everything upstream has ended and nothing is left to do.
	Fed bool
	// Finishes has a reload that leaves nothing of its name let it work until what feeds it
	// has ended and nothing is left to do.
	Finishes bool
}

// Failing is what the failure of a runner means.
type Failing uint8

// What a failure may mean.
const (
	Restart Failing = iota // it is started again, for as long as it takes
	End                    // it has ended; the others go on, and the process ends with its error
	Exit                   // the others are stopped, and the process ends with its error
)

// pipelineRunner is a pipeline of the config. Each run is a pipeline.Pipeline of its own,
// made of the same connectors.
type pipelineRunner struct {
	parts      pipeline.Parts
	upstream   []string
	downstream []string
	terms      Terms
	finish     finish
	end        <-chan struct{} // of everything upstream

	mu      sync.Mutex
	now     *pipeline.Pipeline
	listens string // the address that was told of last
}

func newPipelineRunner(parts pipeline.Parts, upstream, downstream []string, terms Terms) *pipelineRunner {
	r := &pipelineRunner{parts: parts, upstream: upstream, downstream: downstream, terms: terms, now: pipeline.New(parts)}
	r.terms.Fed, r.terms.Ends = fed(parts.Source), ends(parts.Source)
	if x, ok := parts.Source.(connector.Exclusive); ok {
		r.terms.Exclusive = x.Exclusive()
	}
	return r
}

// ends reports whether a source comes to an end by itself.
func ends(s connector.Source) bool {
	e, ok := s.(connector.Ender)
	return ok && e.Ends()
}

// fed reports whether a source ends with what feeds it.
func fed(s connector.Source) bool {
	_, is := s.(connector.Fed)
	return is && ends(s)
}

func (r *pipelineRunner) Name() string           { return r.parts.Name }
func (r *pipelineRunner) Meter() *meter.Pipeline { return r.current().Meter() }
func (r *pipelineRunner) Upstream() []string     { return r.upstream }
func (r *pipelineRunner) Downstream() []string   { return r.downstream }
func (r *pipelineRunner) Terms() Terms           { return r.terms }
func (r *pipelineRunner) State() pipeline.State  { return r.current().State() }

func (r *pipelineRunner) Full() (error, bool) { return r.current().Full() } //nolint:revive // as in Runner

// Trouble is what the source waits for, while it is open.
func (r *pipelineRunner) Trouble() error {
	if t, ok := r.parts.Source.(connector.Troubled); ok {
		return t.Trouble()
	}
	return nil
}

func (r *pipelineRunner) Close(ctx context.Context) error {
	r.current().Discard(ctx)
	return r.Leave(ctx)
}

// Leave implements Runner.
func (r *pipelineRunner) Leave(ctx context.Context) error {
	if a, ok := r.parts.Source.(connector.Attendant); ok {
		return a.Dismiss(ctx)
	}
	return nil
}

func (r *pipelineRunner) FeedUntil(end <-chan struct{}) {
	r.end = end
	if f, ok := r.parts.Source.(connector.Fed); ok {
		f.FeedUntil(end)
	}
}

func (r *pipelineRunner) current() *pipeline.Pipeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// fresh is the pipeline to open or to run: another than the last, once that has ended.
func (r *pipelineRunner) fresh() *pipeline.Pipeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.State() == pipeline.Ended {
		r.now = pipeline.New(r.parts)
	}
	return r.now
}

// Open opens the pipeline. Those who call its source are answered from now on, whether it works
// or is to be started again; where it listens is told, since port 0 is known only then.
func (r *pipelineRunner) Open(ctx context.Context) error {
	if a, ok := r.parts.Source.(connector.Attendant); ok && r.terms.Fail == Restart {
		_ = a.Attend(ctx) // what keeps it from its address keeps Open from it, which tells
	}
	if err := r.fresh().Open(ctx); err != nil {
		return err
	}
	l, ok := r.parts.Source.(connector.Listener)
	if !ok || l.Addr() == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := l.Addr().String(); at != r.listens {
		r.listens = at
		r.parts.Log.Info("listens", meter.KeyAddress, at)
	}
	return nil
}

// machineRunner is a machine among the pipelines of a config.
type machineRunner struct {
	handle        *handle
	make          func() *executor.Machine
	downstream    []string
	stopWhenEmpty bool
	end           <-chan struct{} // of everything upstream
}

func (r *machineRunner) machine() *executor.Machine      { return r.handle.current.Load() }
func (r *machineRunner) Name() string                    { return executor.StartQueue(r.machine().Name()) }
func (r *machineRunner) Meter() *meter.Pipeline          { return r.machine().Meter() }
func (r *machineRunner) Upstream() []string              { return []string{executor.StartQueue(r.machine().Name())} }
func (r *machineRunner) Downstream() []string            { return r.downstream }
func (r *machineRunner) Terms() Terms                    { return Terms{Fed: r.stopWhenEmpty} }
func (r *machineRunner) Close(ctx context.Context) error { return r.machine().Close(ctx) }
func (r *machineRunner) Leave(context.Context) error     { return nil }
func (r *machineRunner) Full() (error, bool)             { return nil, false } //nolint:revive // as in Runner
func (r *machineRunner) FeedUntil(end <-chan struct{})   { r.end = end }

func (r *machineRunner) State() pipeline.State {
	return [...]pipeline.State{executor.Built: pipeline.Built, executor.Running: pipeline.Running,
		executor.Draining: pipeline.Draining, executor.Ended: pipeline.Ended}[r.machine().State()]
}

// fresh is the machine to open or to run: another than the last, once that has ended.
func (r *machineRunner) fresh() *executor.Machine {
	if r.machine().State() == executor.Ended {
		r.handle.current.Store(r.make())
	}
	return r.machine()
}

func (r *machineRunner) Open(ctx context.Context) error { return r.fresh().Open(ctx) }

// Run runs the machine until ctx ends or, where that is asked for, it has nothing left to do.
func (r *machineRunner) Run(ctx context.Context) error {
	m := r.fresh()
	if !r.stopWhenEmpty {
		return m.Run(ctx)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		m := r.machine()
		if done, _ := finished(running, r.end, m.Store, 0, executor.StepQueue(m.Name()), executor.StartQueue(m.Name())); done {
			stop()
		}
	})
	err := m.Run(running)
	stop()
	watch.Wait()
	return err
}
