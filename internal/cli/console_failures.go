package cli

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/console"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/pipetest"
	"github.com/weirdata/weir/internal/tap"
)

// failed is what has failed, for the console: what weir failures reads, through the store that is open
// in this process.
type failed struct{ r *runner }

var _ console.Failures = failed{}

// Each implements console.Failures.
func (f failed) Each(ctx context.Context, sel failures.Selection, after console.Ref, only bool, fn func(*console.Found) error) error {
	r, err := f.reader(sel)
	if err != nil {
		return err
	}
	if after != (console.Ref{}) {
		r.from = &start{after.Place, after.ID, only}
	}
	var stopped error
	err = r.scan(ctx, func(p *failurePlace, x *failures.Failure, replayed bool) error {
		stopped = fn(&console.Found{Failure: x, Ref: console.Ref{Place: p.key(x.Dead), ID: x.ID}, Where: p.String(), Queue: p.queue,
			Pipelines: p.pipelines, Machine: p.machine, Dead: p.dead, Replayed: replayed})
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	return err
}

// reader reads the failures of the config that runs.
func (f failed) reader(sel failures.Selection) (*failureReader, error) {
	cfg := f.r.config.Load()
	if cfg == nil {
		return nil, fmt.Errorf("the config is being read")
	}
	r := &failureReader{s: Streams{Err: discard{}, Out: discard{}, Env: f.r.s.Env}, flags: &failureFlags{pipeline: sel.Pipeline}, sel: sel, builder: f.r.builder, cfg: cfg}
	if sel.Pipeline != "" {
		if _, known := cfg.Pipeline(sel.Pipeline); !known {
			return r, nil // of one that is not there nothing has failed
		}
	}
	_ = r.find() // it fails where there is no place to look at
	store, identity, queues := f.r.app.Store()
	if r.store = store != nil; r.store {
		r.open = admin.Local{Store: store, Name: identity, Config: queues, Who: "console", Log: f.r.log}
	}
	return r, nil
}

// Command implements console.Failures.
func (f failed) Command(at console.Ref, s failures.Selection) string {
	words := []string{"weir failures replay"}
	for _, p := range f.r.paths {
		words = append(words, outage.Quote(p))
	}
	if text, plain := s.Cause.Text(); plain && text != "" {
		words = append(words, "--cause", outage.Quote(text))
	}
	if s.Pipeline != "" {
		words = append(words, "--pipeline", outage.Quote(s.Pipeline))
	}
	if file, ok := strings.CutPrefix(at.Place, "file "); ok {
		return strings.Join(append(words, "--failed-to again.jsonl"), " ") + "  # beside this process; rows of " + file
	}
	return strings.Join(words, " ") + "  # while no process has the store open"
}

// Rehearse implements console.Failures.
func (f failed) Rehearse(ctx context.Context, x *console.Found, name string, m *event.Message, calls bool) (*console.Rehearsal, error) {
	if x != nil && x.Machine != "" {
		return nil, fmt.Errorf("it is an execution of the machine %q: only a pipeline can be tried without writing", x.Machine)
	}
	b := builder()
	b.Log = slog.New(slog.DiscardHandler)
	cfg, found := config.Load(f.r.paths, b.Options(f.r.s.Env))
	if found.HasErrors() {
		return nil, fmt.Errorf("the config, as its files are now, has errors: %s", found.Text())
	}
	if x != nil {
		name = x.Pipeline()
	}
	p, known := cfg.Pipeline(name)
	if !known {
		return nil, fmt.Errorf("the config, as its files are now, has no pipeline %q", name)
	}
	if x != nil {
		var err error
		if m, err = f.message(x, cfg, p); err != nil {
			return nil, err
		}
	}
	got, err := pipetest.Rehearse(ctx, b, cfg, name, f.r.paths, m, calls)
	if err != nil {
		return nil, err
	}
	out := &console.Rehearsal{Pipeline: name, Steps: append([]tap.Record{}, got.Steps...), Outputs: append([]tap.Record{}, got.Outputs...),
		Difference: got.Difference, Case: string(got.Case)}
	out.Outcome, out.Why = outcomeOf(got)
	return out, nil
}

// points are the pipelines that run, and where they can be listened to.
func (r *runner) points() []console.PipelinePoints {
	out := []console.PipelinePoints{}
	plan := r.app.Plan()
	if plan == nil {
		return out
	}
	for _, p := range plan.Pipelines {
		one := console.PipelinePoints{Name: p.Name, Points: []console.Point{{Point: "source", Label: "source " + p.Source.Use.Name}}}
		for i, step := range p.Steps() {
			one.Points = append(one.Points, console.Point{Point: fmt.Sprintf("transform.%d", i), Label: fmt.Sprintf("transform %d, %s", i+1, step)})
		}
		for _, t := range p.Targets {
			point := console.Point{Point: "target." + t.Name, Label: "target " + t.Name}
			if len(p.Targets) == 1 {
				point.Point = meter.RoleTarget
			}
			one.Points = append(one.Points, point)
		}
		one.Points = append(one.Points, console.Point{Point: meter.RoleFilter, Label: "filter target"}, console.Point{Point: meter.RoleFailure, Label: "failure target"})
		out = append(out, one)
	}
	return out
}

// outcomeOf is what became of a message in a word, and why.
func outcomeOf(r *pipetest.Rehearsal) (outcome, why string) {
	delivered := false
	for i := range r.Outputs {
		switch r.Outputs[i].Point {
		case meter.RoleFailure:
			outcome = tap.Failed
		case meter.RoleFilter:
		default:
			delivered = true
		}
	}
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Outcome == tap.Failed {
			return tap.Failed, s.Step + ": " + s.Why
		} else if s.Outcome == tap.Filtered {
			why = s.Step + ": " + s.Why
		}
	}
	switch {
	case outcome == tap.Failed:
		return outcome, "it is refused: see what came to the failure target"
	case r.Stopped != "":
		return "stopped", "the transform " + r.Stopped + " asks others, and was not run, nor what comes after it"
	case delivered:
		return tap.Delivered, ""
	}
	return tap.Filtered, why
}

// message is what is sent through p again.
func (f failed) message(x *console.Found, cfg *config.Config, p *config.Pipeline) (*event.Message, error) {
	which := failures.Latest // what was in the queue is what p reads
	if !x.Dead {
		var err error
		if which, err = (&failureReader{flags: &failureFlags{}, cfg: cfg}).start(p); err != nil {
			return nil, err
		}
	}
	m, err := x.Again(which)
	if err != nil {
		return nil, err
	}
	m.Meta.Headers = slices.Clone(m.Meta.Headers)
	return m, nil
}
