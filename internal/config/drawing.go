package config

import (
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/layout"
)

// Ids of the nodes of a drawing begin with what the node stands for.
const (
	drawnPipeline = "pipeline/"
	drawnQueue    = "queue/"
	drawnMachine  = "machine/"
	drawnFunction = "function/"
)

// The roles of edges of a drawing: those of targets, and what a source gives.
const (
	roleSource  = "source"
	roleTarget  = "target"
	roleFilter  = "filter_target"
	roleBackup  = "backup_target"
	roleFailure = "failure_target"
)

// drops is the target that keeps nothing.
const drops = "silent"

// Drawing is what the plan looks like: pipelines, what they read and write, and the queues that join
// them. The id of a pipeline's node is "pipeline/NAME", that of a queue "queue/NAME" and that of a
// machine "machine/NAME"; what is outside is "source/PIPELINE" or the role and the pipeline, with
// the name of the target where there are several. The role of an edge is "source", "target",
// "target.NAME", "filter_target", "backup_target" or "failure_target", as in the metrics. Targets that nobody wrote,
// and those that drop what they get, are left out. It is not placed.
func (p *Plan) Drawing() *layout.Graph {
	d := &drawing{Graph: &layout.Graph{}, has: map[string]bool{}}
	for _, one := range p.Pipelines {
		d.pipeline(one)
	}
	for _, m := range p.Process.Machines {
		d.node(layout.Node{ID: drawnMachine + m.Name, Kind: layout.Machine, Label: m.Name, Detail: "machine"})
	}
	for _, f := range p.Process.Functions {
		if f.Target == nil || f.Target.Use == nil {
			continue
		}
		id := drawnFunction + f.Name
		d.node(layout.Node{ID: id, Kind: layout.Machine, Label: f.Name, Detail: "function"})
		d.target(id, f.Name, roleTarget, f.Target.Use)
		if len(p.Process.Machines) == 1 {
			d.edge(drawnMachine+p.Process.Machines[0].Name, id, roleTarget)
		}
	}
	for _, q := range p.Queues {
		if _, declared := p.Declared[q.Name]; declared {
			d.queue(q.Name)
		}
	}
	return d.Graph
}

// drawing is a graph while it grows.
type drawing struct {
	*layout.Graph
	has map[string]bool
}

func (d *drawing) pipeline(p *Pipeline) {
	id := drawnPipeline + p.Name
	if q := p.Source.Use.Queue(); q != "" {
		d.edge(d.queue(q), id, roleSource)
	} else {
		from := roleSource + "/" + p.Name
		d.node(layout.Node{ID: from, Kind: layout.Source, Label: p.Source.Use.Name})
		d.edge(from, id, roleSource)
	}
	d.node(layout.Node{ID: id, Kind: layout.Pipeline, Label: p.Name, Detail: strings.Join(p.Steps(), " · ")})
	for _, r := range p.Targets {
		role := roleTarget
		if len(p.Targets) > 1 {
			role += "." + r.Name
		}
		d.target(id, p.Name, role, r.Use)
	}
	if p.FilterTarget.Use.written() && p.FilterTarget.Use.Name != drops {
		d.target(id, p.Name, roleFilter, p.FilterTarget.Use)
	}
	if b := p.BackupTarget; b != nil {
		d.target(id, p.Name, roleBackup, b.Use)
	}
	if f := p.FailureTarget; !f.Keep && f.Use.written() && f.Use.Name != drops {
		d.target(id, p.Name, roleFailure, f.Use)
	}
}

// target draws where a use leads.
func (d *drawing) target(from, owner, role string, u *Use) {
	if q := u.Queue(); q != "" {
		d.edge(from, d.queue(q), role)
		return
	}
	if m := u.Machine(); m != "" {
		d.edge(from, drawnMachine+m, role)
		return
	}
	n := layout.Node{ID: role + "/" + owner, Kind: layout.Target, Label: u.Name}
	if name, several := strings.CutPrefix(role, roleTarget+"."); several && name != u.Name {
		n.Label, n.Detail = name, u.Name
	}
	d.node(n)
	d.edge(from, n.ID, role)
}

// queue draws a queue, once, and returns its id. That of a machine's is the machine.
func (d *drawing) queue(name string) string {
	if m, ok := strings.CutPrefix(name, connector.StartQueue("")); ok {
		return drawnMachine + m
	}
	id := drawnQueue + name
	d.node(layout.Node{ID: id, Kind: layout.Queue, Label: name, Detail: "queue"})
	return id
}

func (d *drawing) node(n layout.Node) {
	if !d.has[n.ID] {
		d.has[n.ID] = true
		d.Nodes = append(d.Nodes, n)
	}
}

func (d *drawing) edge(from, to, role string) {
	d.Edges = append(d.Edges, layout.Edge{From: from, To: to, Role: role})
}
