package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/lambda"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// handle is a machine as connectors see it, which are made before it is, and outlive it
// where it is started again.
type handle struct {
	current atomic.Pointer[executor.Machine] // nil while the machine has a mistake
}

var _ connector.Machine = (*handle)(nil)

func (h *handle) Store() queue.Store             { return h.current.Load().Store() }
func (h *handle) Accepts(m *event.Message) error { return h.current.Load().Accepts(m) }
func (h *handle) StartIn(tx queue.Tx, b event.Batch) error {
	return h.current.Load().StartIn(tx, b)
}

func (h *handle) StartOnceIn(tx queue.Tx, b event.Batch) error {
	return h.current.Load().StartOnceIn(tx, b)
}

func (h *handle) Execute(ctx context.Context, b event.Batch) error {
	return h.current.Load().Execute(ctx, b)
}

// machines makes the machines of a plan and their functions, and what connectors see of them.
func (b *Builder) machines(ctx context.Context, plan *config.Plan, built *Built) (map[string]connector.Machine, config.Diagnostics) {
	cfg := &plan.Process
	seen := make(map[string]connector.Machine, len(cfg.Machines))
	handles := make([]*handle, len(cfg.Machines))
	for i, mc := range cfg.Machines {
		handles[i] = &handle{}
		seen[mc.Name] = handles[i]
	}
	a := assembly{b: b, built: built, log: b.Log, plan: plan, machines: seen}
	functions := map[string]executor.Function{}
	for _, fc := range cfg.Functions {
		if f := a.function(ctx, fc); f != nil {
			functions[fc.Name] = &shared{Function: f}
		}
	}
	declared := make([]string, len(cfg.Functions))
	for i, fc := range cfg.Functions {
		declared[i] = fc.Name
	}
	for i, mc := range cfg.Machines {
		def := a.definition(mc, declared)
		if def == nil {
			continue
		}
		counters := meter.NewPipeline(executor.StartQueue(mc.Name))
		counters.Machine = &meter.Machine{Name: mc.Name}
		counters.Join([]string{executor.StartQueue(mc.Name)}, plan.FunctionsFill())
		r := &machineRunner{handle: handles[i], stopWhenEmpty: mc.StopWhenEmpty, downstream: plan.FunctionsFill()}
		r.make = func() *executor.Machine {
			return executor.New(executor.Options{
				Name: mc.Name, Definition: def, MaxPayload: mc.MaxPayloadBytes, Functions: maps.Clone(functions),
				Store: func() queue.Store { return b.Store }, Log: b.Log.With("machine", mc.Name), Look: b.look("--machine", mc.Name), Meter: counters,
				Workers: mc.Workers, InFlight: mc.InFlight, Lease: mc.Lease(), Drain: mc.DrainTimeout(), Keep: mc.KeepEnded(),
			})
		}
		r.handle.current.Store(r.make())
		built.Pipelines = append(built.Pipelines, r)
	}
	return seen, a.found
}

// definition reads a machine's definition; nil when something is wrong with it.
func (a *assembly) definition(mc *config.Machine, functions []string) *machine.Definition {
	path := connector.Path(mc.Dir(), mc.Definition)
	text, err := connector.ReadFile(mc.Dir(), "definition", mc.Definition)
	if err != nil {
		a.found = append(a.found, mc.Diagnose("definition", fmt.Sprintf("read the definition: %v", err), connector.Remedy(err, "check the path and its permissions")))
		return nil
	}
	def, err := machine.Parse(text, machine.Limits{Payload: mc.MaxPayloadBytes, Events: uint64(mc.MaxEvents)})
	var ps machine.Problems
	switch {
	case errors.As(err, &ps):
	case err != nil:
		a.found = append(a.found, mc.Diagnose("definition", err.Error(), ""))
		return nil
	default:
		ps = executor.CheckResources(def, functions)
		a.report(path, config.Warning, executor.Doubts(def))
	}
	a.report(path, config.Error, ps)
	if len(ps) > 0 {
		return nil
	}
	return def
}

// report makes diagnostics of problems of the definition in the file at path.
func (a *assembly) report(path string, severity config.Severity, ps machine.Problems) {
	for _, p := range ps {
		what := p.Message
		if p.Path != "" {
			what = p.Path + ": " + what
		}
		a.found = append(a.found, config.Diagnostic{Severity: severity, File: path, Line: p.Line, Column: p.Column, EndLine: p.Line, EndColumn: p.Column + 1, What: what, Fix: p.Fix})
	}
}

// function makes a function; nil when something is wrong with it.
func (a *assembly) function(ctx context.Context, fc *config.Function) executor.Function {
	if fc.Lambda != nil {
		return a.lambda(fc)
	}
	var f executor.Function
	if fc.Script != "" || fc.ScriptPath != "" {
		source, field := fc.Script, "script"
		if fc.ScriptPath != "" {
			field = "script_path"
			text, err := connector.ReadFile(fc.Dir(), field, fc.ScriptPath)
			if err != nil {
				a.found = append(a.found, fc.Diagnose(field, fmt.Sprintf("read the script: %v", err), connector.Remedy(err, "check the path and its permissions")))
				return nil
			}
			source = string(text)
		}
		s, err := executor.NewScript(source, executor.ScriptOptions{Name: fc.Name, Env: fc.Env, Timeout: fc.Timeout(),
			MemoryLimit: fc.MemoryLimitMB << 20, Runtimes: runtime.GOMAXPROCS(0) + 1})
		if err != nil {
			a.found = append(a.found, fc.Diagnose(field, err.Error(), "correct the script: its function main takes the input of a task and returns the output"))
			return nil
		}
		f = s
	}
	if fc.Target == nil {
		return f
	}
	t, ok := build(ctx, a, a.b.Set.Targets, fc.Target.Use)
	if !ok {
		return nil
	}
	put := executor.NewTarget(t)
	if f == nil {
		return put
	}
	return executor.Then(f, put)
}

func (a *assembly) lambda(fc *config.Function) executor.Function {
	l := fc.Lambda
	command := slices.Clone(l.Command)
	dir := fc.Dir()
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if filepath.Base(command[0]) != command[0] && !filepath.IsAbs(command[0]) {
		command[0] = filepath.Join(dir, command[0])
	}
	f := lambda.New(lambda.Options{Name: fc.Name, Command: command, Dir: dir, Env: l.Env, Concurrency: l.Concurrency,
		Timeout: l.Timeout(), Init: l.InitTimeout(), Log: a.log})
	a.built.inspected = append(a.built.inspected, inspected{f, func(err error) config.Diagnostics {
		return config.Diagnostics{fc.Diagnose("lambda.command", fmt.Sprintf("function %q: %v", fc.Name, err), "install it, or write its path: one with a slash means from the directory of the config file")}
	}, nil})
	return handler{f}
}

// handler is an AWS Lambda handler as a function.
type handler struct{ *lambda.Function }

func (h handler) Effect() executor.Effect { return executor.Elsewhere }

func (h handler) Invoke(ctx context.Context, c executor.Call) (executor.Answer, error) {
	output, err := h.InvokeAt(ctx, c.Input, c)
	var failed *lambda.Error
	switch {
	case errors.As(err, &failed):
		return executor.Answer{}, &executor.TaskError{Name: failed.Type, Cause: string(failed.Payload)}
	case err != nil:
		return executor.Answer{}, err
	}
	return executor.Answer{Output: output}, nil
}

// shared is a function that several machines call: it is opened by the first, and closed by
// the last.
type shared struct {
	executor.Function
	mu    sync.Mutex
	users int
}

func (s *shared) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		if err := s.Function.Open(ctx); err != nil {
			return err
		}
	}
	s.users++
	return nil
}

func (s *shared) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		return nil
	}
	if s.users--; s.users > 0 {
		return nil
	}
	return s.Function.Close(ctx)
}
