package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// FailureTarget is where failed messages go.
type FailureTarget struct {
	// The target and its options.
	Use *Use `hcl:"use,block"`
	// Keep failed messages in the durable store first (default false). A pipeline beside this
	// one takes them from there to the failure target and tries again for as long as it takes,
	// with the delays of retry, at most a minute apart. So a failure target that is down
	// neither stops the pipeline nor loses a failed message; while the store is full, the
	// pipeline waits. The messages are in the queue "failures/NAME", NAME being the pipeline's,
	// until the failure target has them. What it refuses for good stays there, dead, until
	// somebody decides. Before it is taken out of a config, that queue has to be empty.
	Spill bool `hcl:"spill,optional"`
}

// FailureQueue is the name of the queue that the failed messages of a pipeline wait in when
// its failure target spills, and of the pipeline that reads it. Neither a queue nor a
// pipeline of a config can have such a name.
func FailureQueue(pipeline string) string { return "failures/" + pipeline }

// SpillSource is the source of p's failed messages from the store.
func (p *Pipeline) SpillSource() *Use { return p.spillUse(KindSource) }

// SpillTarget is the target that puts p's failed messages into the store.
func (p *Pipeline) SpillTarget() *Use { return p.spillUse(KindTarget) }

// spillUse is a use "queue" of p's failure queue, that no file wrote.
func (p *Pipeline) spillUse(kind Kind) *Use {
	f := p.FailureTarget.Use
	at := f.place()
	name := &hclsyntax.LiteralValueExpr{Val: cty.StringVal(FailureQueue(p.Name)), SrcRange: at}
	body := &hclsyntax.Body{
		Attributes: hclsyntax.Attributes{"name": {Name: "name", Expr: name, SrcRange: at, NameRange: at, EqualsRange: at}},
		SrcRange:   at, EndRange: at,
	}
	return &Use{Name: "queue", Body: body, DefRange: at, NameRange: at, Kind: kind, Block: f.Block, Pipeline: p.Name, doc: f.doc, fallback: f.fallback}
}

// FileUse is a use "file" of the target that appends to path, for commands that send failed
// messages elsewhere than the config says.
func FileUse(path string) *Use {
	name := &hclsyntax.LiteralValueExpr{Val: cty.StringVal(path)}
	at := hcl.Range{Filename: "command line"}
	return &Use{Name: "file", Kind: KindTarget, Block: "failure_target", DefRange: at, Body: &hclsyntax.Body{
		Attributes: hclsyntax.Attributes{"path": {Name: "path", Expr: name}}, SrcRange: at, EndRange: at}}
}

// validate refuses to put a queue before a queue.
func (f *FailureTarget) validate(ps *problems) {
	if f.Spill && f.Use != nil && f.Use.Name == "queue" {
		ps.add("failure_target.spill", "the failure target is a queue, which is in the durable store already", "take spill out")
	}
}
