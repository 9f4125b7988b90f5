package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/connector"
)

// Plan is what a config comes to, with everything in it resolved: what one block stands for
// is written out, what depends on other blocks is decided. It is what runs, and all that the
// assembly of a process asks of a config beside its connectors' own blocks.
type Plan struct {
	Process Process
	// Pipelines are those of the config. One whose failure target spills is followed by the
	// pipeline that takes its failed messages there.
	Pipelines []*Pipeline
	// Store is the store that queues, machines and failed messages are kept in; nil when
	// nothing needs one.
	Store *Use
	// Records is the same, or the store that is opened when only a source needs one.
	Records *Use
	// Queues are all queues of the store, by name: those that are declared, those of machines,
	// and those that failed messages wait in.
	Queues []connector.Queue
	// Declared are the queues that connectors may name; Implied those that only what a block
	// stands for does.
	Declared, Implied map[string]connector.Queue
	// Spare says that the store is there only to keep failed messages whole which failure targets
	// do not: what runs without it loses nothing else.
	Spare bool
	// Empty says that no pipeline is written: there is only the built-in one.
	Empty bool
	// Lone says that the pipeline of the top level is the only one of the config.
	Lone bool
}

// Plan is what c comes to.
func (c *Config) Plan() *Plan {
	p := &Plan{Process: c.Process, Empty: c.Empty, Lone: c.Lone(), Pipelines: make([]*Pipeline, 0, len(c.Pipelines)),
		Declared: make(map[string]connector.Queue, len(c.Queues)), Implied: map[string]connector.Queue{}}
	for _, one := range c.Pipelines {
		if one.OnFailure == "" && c.Lone() {
			exits := *one
			exits.OnFailure = FailureExit
			one = &exits
		}
		if one.overflow != nil {
			p.Spare = !c.stores()
			p.Implied[OverflowQueue(one.Name)] = connector.Queue{Name: OverflowQueue(one.Name)}
		}
		if !one.FailureTarget.Spill {
			p.Pipelines = append(p.Pipelines, one)
			continue
		}
		p.Pipelines = append(p.Pipelines, one.spilled()...)
		name := FailureQueue(one.Name)
		p.Implied[name] = connector.Queue{Name: name}
	}
	p.queues()
	p.Records = c.Store.Use
	if len(p.Queues) > 0 {
		p.Store = c.Store.Use
	}
	return p
}

// queues finds the queues there are. A queue keeps order when its block says so, or a source reads
// it in order.
func (p *Plan) queues() {
	for _, q := range p.Process.Queues {
		p.Declared[q.Name] = connector.Queue{Name: q.Name, Ordered: q.Ordered, JobStatus: q.JobStatus}
	}
	for _, one := range p.Pipelines {
		q, known := p.Declared[one.Source.Use.Queue()]
		if ordered, _ := one.Source.Use.Attribute("ordered"); known && ordered == "true" {
			q.Ordered = true
			p.Declared[q.Name] = q
		}
	}
	for _, of := range []map[string]connector.Queue{p.Declared, p.Implied} {
		for _, q := range of {
			p.Queues = append(p.Queues, q)
		}
	}
	for _, m := range p.Process.Machines {
		p.Queues = append(p.Queues, connector.Queue{Name: connector.StartQueue(m.Name)}, connector.Queue{Name: connector.StepQueue(m.Name)})
	}
	slices.SortFunc(p.Queues, func(a, b connector.Queue) int { return cmp.Compare(a.Name, b.Name) })
}

// Reads is the queues that pipelines and machines take work from.
func (p *Plan) Reads() map[string]bool {
	reads := map[string]bool{}
	for _, one := range p.Pipelines {
		for _, q := range one.Upstream() {
			reads[q] = true
		}
	}
	for _, m := range p.Process.Machines {
		reads[connector.StartQueue(m.Name)], reads[connector.StepQueue(m.Name)] = true, true
	}
	return reads
}

// Upstream is the queues that a pipeline takes work from.
func (p *Pipeline) Upstream() []string { return queuesOf(p.Source.Use) }

// Downstream is the queues that a pipeline puts work into.
func (p *Pipeline) Downstream() []string {
	return queuesOf(slices.DeleteFunc(p.Uses(), func(u *Use) bool { return u.Kind != KindTarget })...)
}

// Steps are the names of a pipeline's transforms.
func (p *Pipeline) Steps() []string {
	names := make([]string, len(p.Transform.Use))
	for i, u := range p.Transform.Use {
		names[i] = u.Name
	}
	return names
}

// Shape is the pipeline in a line: from where, through which transforms, to where. A queue or
// a machine is called by its name.
func (p *Pipeline) Shape() string {
	steps := append([]string{p.Source.Use.called()}, p.Steps()...)
	targets := make([]string, len(p.Targets))
	for i, r := range p.Targets {
		if targets[i] = r.Name; r.Name == r.Use.Name {
			targets[i] = r.Use.called()
		}
	}
	return strings.Join(append(steps, strings.Join(targets, " + ")), " -> ")
}

// called is the connector, with the queue or machine it stands on.
func (u *Use) called() string {
	if name := cmp.Or(u.Queue(), u.Machine()); name != "" && name != u.Name {
		return u.Name + " " + name
	}
	return u.Name
}

// FunctionsFill is the queues that the functions of machines put work into.
func (p *Plan) FunctionsFill() []string {
	var us []*Use
	for _, f := range p.Process.Functions {
		if f.Target != nil {
			us = append(us, f.Target.Use)
		}
	}
	return queuesOf(us...)
}

// queuesOf is the queues that uses stand on: those that a source reads, or a target writes, and
// those in which the executions that a target starts wait.
func queuesOf(us ...*Use) []string {
	var names []string
	for _, u := range us {
		name := u.Queue()
		if m := u.Machine(); m != "" {
			name = connector.StartQueue(m)
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// holdsFailures reports whether nothing but failure targets put messages into a queue: those wait for
// whoever looks at failures.
func (p *Plan) holdsFailures(queue string) bool {
	holds := false
	for _, one := range p.Pipelines {
		for _, u := range one.Uses() {
			if u.Kind != KindTarget || u.Queue() != queue {
				continue
			}
			if one.FailureTarget == nil || one.FailureTarget.Use != u {
				return false
			}
			holds = true
		}
	}
	return holds
}

// Doubts is what a plan does that nobody can have meant: errors for what could never work,
// warnings for what waits for something else.
func (p *Plan) Doubts() Diagnostics {
	var ds Diagnostics
	read := map[string]bool{}
	for _, one := range p.Pipelines {
		from := one.Source.Use.Queue()
		read[from] = true
		if from == "" {
			continue
		}
		for _, u := range one.Uses() {
			if u.Kind == KindTarget && u.Queue() == from && !one.conditional(u) {
				ds = append(ds, u.Diagnose(connector.Blame("name", "name another queue, or put a condition before it: when = ...",
					fmt.Errorf("the %s puts everything back into the queue %q that the pipeline reads, for ever", u.Block, from)))...)
			}
		}
	}
	for _, q := range p.Process.Queues {
		if !read[q.Name] && !p.shared() && !p.holdsFailures(q.Name) {
			ds = append(ds, q.warn(fmt.Sprintf("no pipeline reads the queue %q: what is put into it waits there", q.Name),
				fmt.Sprintf("read it in a pipeline: use \"queue\" { name = %q }", q.Name)))
		}
	}
	return ds
}

// Elsewhere are the declared queues that no pipeline or machine of p reads, where other processes may:
// those of a store that is shared, whose roles are in configs of their own. Whether one does, and
// whether anything waits there, only the store knows.
func (p *Plan) Elsewhere() (names []string) {
	reads := p.Reads()
	for _, q := range p.Process.Queues {
		if p.shared() && !reads[q.Name] && !p.holdsFailures(q.Name) {
			names = append(names, q.Name)
		}
	}
	return names
}

// shared reports whether other processes may have the store open: the default one is for one.
func (p *Plan) shared() bool { return p.Store != nil && p.Store.Name != defaultStore }

// conditional reports whether a target gets only what a condition chooses.
func (p *Pipeline) conditional(u *Use) bool {
	return slices.ContainsFunc(p.Targets, func(r *Route) bool { return r.Use == u && r.When != "" })
}
