package config

import (
	"cmp"
	"slices"

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
	//
	// A failure target that takes no messages of any size, as Kafka or an HTTP server, gets a
	// failed message that is too large for it cut. It is kept whole, beside that, in the queue
	// "failures/NAME/overflow" of the store, for weir failures: with spill = true; where the
	// config has a store; and for pipelines in a pipeline block in any case, with a store that is
	// opened for it. Write false here to have such messages cut and kept nowhere, as for the
	// pipeline of the top level without a store: each is an error in the log, and counted.
	Spill bool `hcl:"spill,optional"`
	// Leave failed messages in the queue that the pipeline reads from, instead of sending them
	// anywhere. That is the default where the source is a queue and no failure target is
	// written, and false otherwise. They are dead there, whole as they were read and with the
	// reason, until somebody decides: see weir queue show NAME --dead, and weir queue retry. A
	// message that became several is kept if one of them fails. Where the source comes to its
	// end and some were kept, the pipeline ends with an error that says how many. For pipelines
	// whose source is a queue; there is no use block then.
	Keep bool `hcl:"keep,optional"`
}

// FailureQueue is the name of the queue that the failed messages of a pipeline wait in when
// its failure target spills, and of the pipeline that reads it. Neither a queue nor a
// pipeline of a config can have such a name.
func FailureQueue(pipeline string) string { return "failures/" + pipeline }

// Bounds of the pipeline that takes failed messages to the failure target.
const (
	spillMessages    = 2000
	spillBytes       = 32 << 20
	spillDrainMillis = 10_000
	spillDelayMillis = 60_000 // longest wait between two tries
)

// spilled is what a pipeline whose failure target spills stands for:
//
//	source ─▶ transforms ─▶ target
//	               └─ failures ─▶ queue "failures/NAME" ─▶ failure target
//
// The first pipeline has the queue as its failure target: a failure is durable before its
// message is settled. The second is fed by the queue and ends with what feeds it. It never
// gives up, and keeps in the queue what the failure target refuses.
func (p *Pipeline) spilled() []*Pipeline {
	name, f := FailureQueue(p.Name), p.FailureTarget.Use
	first := *p
	first.FailureTarget = &FailureTarget{Use: f.queue(KindTarget, map[string]cty.Value{"name": cty.StringVal(name)})}

	second := &Pipeline{}
	second.SetDefaults()
	second.Name, second.named, second.dir, second.failuresOf = name, p.named, p.dir, p
	second.doc, second.body, second.header = p.doc, p.body, p.header
	second.Source = &Source{Use: f.queue(KindSource, map[string]cty.Value{"name": cty.StringVal(name), "stop_when_empty": cty.True})}
	second.Targets = []*Route{{Use: f, Name: f.Name}}
	second.FailureTarget.Keep = true
	second.Retry = &Retry{Transient: p.Retry.Transient.patient(), Setup: p.Retry.Setup.patient(), Throttle: p.Retry.Throttle.patient()}
	second.FinishTimeoutMillis = p.DrainTimeoutMillis
	second.DrainTimeoutMillis = min(p.DrainTimeoutMillis, spillDrainMillis)
	second.InFlight = &InFlight{Messages: min(p.InFlight.Messages, spillMessages), Bytes: min(p.InFlight.Bytes, spillBytes)}
	return []*Pipeline{&first, second}
}

// keepByDefault has a pipeline that reads a queue keep its failed messages there, where its
// blocks name no place for them: they are at rest already, and standard output is none.
func (p *Pipeline) keepByDefault(b *hclsyntax.Body, header hcl.Range) {
	f := p.FailureTarget
	if _, queue := p.Source.Use.document().known.ReadQueue[p.Source.Use.Name]; !queue || f.Spill || f.Use.written() {
		return
	}
	if _, decided := locate(b, header, "failure_target.keep"); decided == nil {
		f.Keep = true
	}
}

// OverflowQueue is the name of the queue that keeps failed messages of a pipeline whole which its
// failure target does not.
func OverflowQueue(pipeline string) string { return FailureQueue(pipeline) + "/overflow" }

// Overflow is the target that keeps failed messages whole which the failure target of p does
// not; nil when there is none.
func (p *Pipeline) Overflow() *Use { return p.overflow }

// Named reports whether p is in a block of its own.
func (p *Pipeline) Named() bool { return p.named }

// stores reports whether c has a store for something else than failed messages that are large.
func (c *Config) stores() bool {
	return c.Store.Use.written() || len(c.Queues)+len(c.Machines) > 0 ||
		slices.ContainsFunc(c.Pipelines, func(p *Pipeline) bool { return p.FailureTarget.Spill })
}

// overflow decides where failed messages of c are kept whole.
func (c *Config) overflow() {
	stored := c.stores()
	for _, p := range c.Pipelines {
		p.bare = !p.named && !stored
		if p.overflows() {
			p.overflow = p.FailureTarget.Use.queue(KindTarget, map[string]cty.Value{"name": cty.StringVal(OverflowQueue(p.Name))})
		}
	}
}

// overflows reports whether failed messages of p that its failure target does not hold are to be
// kept whole beside it.
func (p *Pipeline) overflows() bool {
	f := p.FailureTarget
	if f.Keep || p.HoldsFailures() {
		return false
	}
	_, written := locate(p.body, p.header, "failure_target.spill")
	return f.Spill || written == nil && !p.bare
}

// HoldsFailures reports whether the failure target of p takes failed messages of any size. Where
// a limit is written it does not; nor does, in a config of Snowbridge, what cuts them there.
func (p *Pipeline) HoldsFailures() bool {
	if p.failuresOf != nil {
		p = p.failuresOf
	}
	u := p.FailureTarget.Use
	if u.Queue() != "" {
		return true // it keeps what was read beside the failed message
	}
	if _, limit := locate(u.body(), u.place(), "batching.max_message_bytes"); limit != nil || p.bare && u.Name == "stdout" {
		return false
	}
	known := u.document().known.Whole
	return known == nil || slices.Contains(known, u.Name)
}

// patient is r without an end, and with a bound for the wait.
func (r *RetryPolicy) patient() *RetryPolicy {
	return &RetryPolicy{DelayMillis: r.DelayMillis, MaxDelayMillis: min(cmp.Or(r.MaxDelayMillis, spillDelayMillis), spillDelayMillis)}
}

// FailuresOf is the pipeline whose failed messages p takes to its failure target; nil when p
// is written in the config.
func (p *Pipeline) FailuresOf() *Pipeline { return p.failuresOf }

// queue is a use "queue" at the place of u, that no file wrote.
func (u *Use) queue(kind Kind, attributes map[string]cty.Value) *Use {
	at := u.place()
	body := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: at, EndRange: at}
	for name, v := range attributes {
		body.Attributes[name] = &hclsyntax.Attribute{Name: name, Expr: &hclsyntax.LiteralValueExpr{Val: v, SrcRange: at}, SrcRange: at, NameRange: at, EqualsRange: at}
	}
	return &Use{Name: "queue", Body: body, DefRange: at, NameRange: at, Kind: kind, Block: u.Block, Pipeline: u.Pipeline, doc: u.doc, fallback: u.fallback, implied: true}
}

// FileUse is a use "file" of the target that appends to path, for commands that send failed
// messages elsewhere than the config says.
func FileUse(path string) *Use {
	name := &hclsyntax.LiteralValueExpr{Val: cty.StringVal(path)}
	at := hcl.Range{Filename: "command line"}
	return &Use{Name: "file", Kind: KindTarget, Block: "failure_target", DefRange: at, Body: &hclsyntax.Body{
		Attributes: hclsyntax.Attributes{"path": {Name: "path", Expr: name}}, SrcRange: at, EndRange: at}}
}

// validate refuses to put a queue before a queue, and two places for failures.
func (f *FailureTarget) validate(ps *problems) {
	if f.Spill && f.Use != nil && f.Use.Name == "queue" {
		ps.add("failure_target.spill", "the failure target is a queue, which is in the durable store already", "take spill out")
	}
	switch {
	case !f.Keep:
	case f.Spill:
		ps.add("failure_target.keep", "failed messages cannot both stay in the queue that they are read from and be spilled", "take spill out, or keep")
	case f.Use != nil && f.Use.written():
		ps.add("failure_target.keep", "failed messages stay in the queue that they are read from, and nothing is sent to the failure target", "take its use block out, or keep")
	}
}
