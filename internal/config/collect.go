package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/weirdata/weir/internal/spelling"
)

// Collect collects customer events and routes them to the destinations of their sources. It
// stands for three pipelines and the two queues between them, which weir explain prints:
//
//	NAME-gateway:   source gateway -> queue NAME-gateway; with webhook blocks, what they refuse
//	                -> queue NAME-refused
//	NAME-processor: queue NAME-gateway -> processor's transforms -> fanout -> queue NAME-router
//	NAME-router:    queue NAME-router -> router's targets, or the target webhook
//	NAME-archive:   with an archive block, queue NAME-archive -> archive's target
//
// A pipeline or queue of such a name that the config has itself takes the place of the one that
// the block stands for.
type Collect struct {
	// Name of what is collected, which the names of its pipelines and queues begin with. Letters,
	// digits, "_", "-" and "."; at most 54 characters.
	Name string `hcl:"name,label"`
	// Where events come in: the options of the source "gateway", but workspace_config. It may
	// have a failure_target, as a pipeline.
	Gateway *CollectGateway `hcl:"gateway,block"`
	// Who sends events, and where to.
	Workspace CollectWorkspace `hcl:"workspace,block"`
	// What is done to events before each destination of their source gets its own.
	Processor *CollectProcessor `hcl:"processor,block"`
	// How events reach their destinations.
	Router *CollectRouter `hcl:"router,block"`
	// Where every event is kept that was taken. Default: events are kept until they are delivered.
	Archive *CollectArchive `hcl:"archive,block"`
}

// CollectGateway is where events come in.
type CollectGateway struct {
	// Where events go that cannot be kept, and requests to webhook sources of which no events can be
	// made. Default: the target "stdout"; with a webhook block the queue NAME-refused, whose messages
	// weir failures shows and sends again.
	FailureTarget *FailureTarget `hcl:"failure_target,block"`
	Options       hcl.Body       `hcl:",remain"`
}

// CollectWorkspace is who sends events, and where to: what a workspace block of the top level says,
// or the name of one.
type CollectWorkspace struct {
	// Name of the workspace block of the top level that is used. Several collect blocks may use one.
	Name string `hcl:"name,optional"`

	WorkspaceParts `hcl:",remain"`
}

// CollectRouter is how events reach their destinations.
type CollectRouter struct {
	// What is worked on by itself: "none", "workspace" or "destination", so that a destination
	// that is down does not hold up others. Default: "destination".
	Isolation string `hcl:"isolation,optional"`
	// Whether the events of a user reach a destination in order. Default: true.
	Ordered bool `hcl:"ordered,optional"`
	// Most events that are taken, and settled, together: the fewer, the less is delivered again
	// after a crash. Default: 100.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// What is done to each event on its way to a destination.
	Transform *Transform `hcl:"transform,block"`
	// How destinations are reached. Several targets share the events by their conditions, as in a
	// pipeline. A target "webhook" reads the workspace's config. Default: a target "webhook".
	Targets []*Route `hcl:"target,block"`
	// What the conditions of several targets mean: "all" sends an event to each target whose
	// condition holds, "first" only to the first. Default: "first".
	Routing string `hcl:"routing,optional"`
	// Where events go that cannot be delivered. Default: they stay in the queue as failed, where
	// weir failures shows them and sends them again.
	FailureTarget *FailureTarget `hcl:"failure_target,block"`
	// How often, and how long apart, a failed delivery is tried again.
	Retry *Retry `hcl:"retry,block"`
	// How fast each destination is sent to. Default: as fast as it takes it.
	Throttle *Throttle `hcl:"throttle,block"`
	// Bounds of what is held in memory.
	InFlight *InFlight `hcl:"in_flight,block"`
}

// expansion is what one collect block stands for, while it is written out.
type expansion struct {
	block *hclsyntax.Block
	at    hcl.Range // what nobody wrote is at the block's header
	taken map[string]bool
	out   []*hclsyntax.Block
}

// expand writes out the collect blocks of the files: what they stand for comes after them.
func (d *document) expand() Diagnostics {
	var ds Diagnostics
	taken := map[string]bool{}
	for _, f := range d.files {
		for _, b := range f.Body.Blocks {
			if len(b.Labels) == 1 {
				taken[b.Type+" "+b.Labels[0]] = true
			}
		}
	}
	for _, f := range d.files {
		var blocks []*hclsyntax.Block
		for _, b := range f.Body.Blocks {
			blocks = append(blocks, b)
			if b.Type != "collect" || len(b.Labels) != 1 { // which the checker says
				continue
			}
			found, whole := d.collect(b)
			if ds = append(ds, found...); whole {
				made := expanded(b, taken)
				f.made = append(f.made, made...)
				blocks = append(blocks, made...)
			}
		}
		f.Body.Blocks = blocks
	}
	return ds
}

// collect checks of a collect block what its expansion changes or stands on; without the latter
// it is not whole.
func (d *document) collect(b *hclsyntax.Block) (ds Diagnostics, whole bool) {
	const longest = 64 - len("-processor")
	if name := b.Labels[0]; !pipelineName.MatchString(name) || len(name) > longest {
		ds = append(ds, d.errorAt(b.LabelRanges[0], "this is not a name for a collect block",
			fmt.Sprintf(`use letters, digits, "_", "-" and ".", starting with a letter or digit; at most %d characters`, longest)))
		return ds, false
	}
	for _, of := range BlocksOf(b.Body, "gateway") {
		for _, name := range []string{"workspace_config", "workspace"} {
			if a := of.Body.Attributes[name]; a != nil {
				ds = append(ds, d.errorAt(a.NameRange, name+" is said once, for the gateway, the processor and the router", "write it in the workspace block: config = ..."))
			}
		}
	}
	ds = append(ds, d.isolations(b, "processor", "none", "workspace", "source")...)
	ds = append(ds, d.isolations(b, "router", "none", "workspace", "destination")...)
	if len(BlocksOf(b.Body, "workspace")) == 0 {
		// The checker says that it is required.
		return ds, false
	}
	return append(ds, d.oneWorkspace(BlocksOf(b.Body, "workspace")[0])...), true
}

// oneWorkspace checks that a workspace block of a collect block says one thing; what is in it, the block
// of the top level that it becomes is checked for.
func (d *document) oneWorkspace(b *hclsyntax.Block) Diagnostics {
	name := b.Body.Attributes["name"]
	config := b.Body.Attributes["config"]
	others := len(b.Body.Blocks)
	if b.Body.Attributes["blocked_events"] != nil {
		others++
	}
	const ways = "write one of config, name, a control_plane block, or blocks source, destination and connection"
	switch {
	case name == nil && config == nil && others == 0:
		return Diagnostics{d.errorAt(HeaderOf(b), "nothing says where the workspace configuration comes from", ways)}
	case name != nil && config != nil, name != nil && others > 0, config != nil && others > 0:
		return Diagnostics{d.errorAt(HeaderOf(b), "the workspace configuration comes from several places", ways)}
	}
	return nil
}

// isolations checks what a stage of a collect block is isolated by.
func (d *document) isolations(b *hclsyntax.Block, stage string, kinds ...string) (ds Diagnostics) {
	for _, of := range BlocksOf(b.Body, stage) {
		a := of.Body.Attributes["isolation"]
		if a == nil {
			continue
		}
		if v, more := d.value(a.Expr); len(more) == 0 && v.Type() == cty.String && !v.IsNull() && !slices.Contains(kinds, v.AsString()) {
			ds = append(ds, d.errorAt(a.Expr.Range(), fmt.Sprintf("isolation of a %s is %s, not %q", stage, spelling.Or(kinds), v.AsString()), "write one of these"))
		}
	}
	return ds
}

// expanded is the blocks that a collect block stands for, but those that the config has itself.
func expanded(b *hclsyntax.Block, taken map[string]bool) []*hclsyntax.Block {
	x := &expansion{block: b, at: HeaderOf(b), taken: taken}
	incoming, outgoing := b.Labels[0]+"-gateway", b.Labels[0]+"-router"
	x.counted(incoming, "sources")
	x.counted(outgoing, "destinations")
	x.ownWorkspace()
	x.gateway(incoming)
	x.processor(b.Labels[0]+"-processor", incoming, outgoing)
	x.router(outgoing)
	x.archive()
	return x.out
}

// counted adds a queue of which the status of job runs counts the messages.
func (x *expansion) counted(queue, as string) {
	if q := x.add("queue", queue, nil); q != nil {
		x.set(q, "job_status", cty.StringVal(as))
	}
}

func (x *expansion) gateway(queue string) {
	gateway := x.enter("gateway")
	options := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: gateway.SrcRange, EndRange: gateway.EndRange}
	maps.Copy(options.Attributes, gateway.Attributes)
	for _, o := range gateway.Blocks {
		if o.Type != "failure_target" {
			options.Blocks = append(options.Blocks, o)
		}
	}
	x.workspace(options)
	made := []*hclsyntax.Block{x.of("source", x.use("gateway", options))}
	failures := BlocksOf(gateway, "failure_target")
	if hooks := BlocksOf(gateway, "webhook"); len(hooks) > 0 {
		again := x.empty()
		again.Blocks = hooks
		if a := gateway.Attributes["allow_events_without_ids"]; a != nil {
			again.Attributes[a.Name] = a
		}
		x.workspace(again)
		made = append(made, x.of("transform", x.use("webhook", again)))
		if refused := x.block.Labels[0] + "-refused"; len(failures) == 0 {
			x.add("queue", refused, nil)
			failures = []*hclsyntax.Block{x.of("failure_target", x.queue(refused, nil))}
		}
	}
	made = append(made, x.of("target", x.queue(queue, x.deduplicated())))
	made = append(made, x.archived()...)
	x.add("pipeline", queue, append(made, failures...))
}

func (x *expansion) processor(name, from, to string) {
	processor := x.enter("processor")
	x.add("pipeline", name, append([]*hclsyntax.Block{
		x.of("source", x.reads(from, processor, "source", 0)),
		x.fanout(processor),
		x.of("target", x.queue(to, nil)),
	}, x.rest(processor, "transform")...))
}

func (x *expansion) router(queue string) {
	router := x.enter("router")
	var targets []*hclsyntax.Block
	for _, t := range BlocksOf(router, "target") {
		targets = append(targets, x.reached(t))
	}
	if len(targets) == 0 {
		webhook := x.empty()
		x.workspace(webhook)
		x.transformations(webhook)
		targets = []*hclsyntax.Block{x.of("target", x.use("webhook", webhook))}
	}
	p := x.add("pipeline", queue, append(append([]*hclsyntax.Block{
		x.of("source", x.reads(queue, router, "destination", 100)),
	}, targets...), x.rest(router, "target")...))
	if a := router.Attributes["routing"]; p != nil && a != nil {
		p.Attributes["routing"] = a
	} else if p != nil && len(targets) > 1 {
		x.set(p, "routing", cty.StringVal(RouteFirst))
	}
}

// enter is the body of a block of the collect block, at which things are now that nobody wrote;
// where it is not written it is empty, and they are at the collect block.
func (x *expansion) enter(name string) *hclsyntax.Body {
	x.at = HeaderOf(x.block)
	if bs := BlocksOf(x.block.Body, name); len(bs) > 0 {
		x.at = HeaderOf(bs[0])
		return bs[0].Body
	}
	return x.empty()
}

// rest is the blocks of a part that are a pipeline's own, but those of one type.
func (x *expansion) rest(b *hclsyntax.Body, but string) []*hclsyntax.Block {
	return slices.DeleteFunc(slices.Clone(b.Blocks), func(of *hclsyntax.Block) bool { return of.Type == but || !schemaOf(pipelineType).knows(of.Type) })
}

func (x *expansion) empty() *hclsyntax.Body {
	return &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: x.at, EndRange: x.at}
}

// add adds a block of the config, unless it has one of that name; nil then.
func (x *expansion) add(kind, name string, of []*hclsyntax.Block) *hclsyntax.Body {
	if x.taken[kind+" "+name] {
		return nil
	}
	b := x.of(kind, of...)
	b.Labels, b.LabelRanges = []string{name}, []hcl.Range{x.block.LabelRanges[0]}
	x.out = append(x.out, b)
	return b.Body
}

// of is a block with blocks in it.
func (x *expansion) of(kind string, blocks ...*hclsyntax.Block) *hclsyntax.Block {
	body := x.empty()
	body.Blocks = blocks
	return &hclsyntax.Block{Type: kind, Body: body, TypeRange: x.at, OpenBraceRange: x.at, CloseBraceRange: x.at}
}

func (x *expansion) use(name string, body *hclsyntax.Body) *hclsyntax.Block {
	b := x.of("use")
	b.Labels, b.LabelRanges, b.Body = []string{name}, []hcl.Range{x.at}, body
	return b
}

func (x *expansion) set(b *hclsyntax.Body, name string, v cty.Value) {
	b.Attributes[name] = &hclsyntax.Attribute{Name: name, Expr: &hclsyntax.LiteralValueExpr{Val: v, SrcRange: x.at}, SrcRange: x.at, NameRange: x.at, EqualsRange: x.at}
}

// workspace has a component use the workspace.
func (x *expansion) workspace(b *hclsyntax.Body) {
	if b.Attributes["workspace_config"] != nil || b.Attributes["workspace"] != nil {
		return
	}
	of := BlocksOf(x.block.Body, "workspace")[0].Body
	for from, to := range map[string]string{"config": "workspace_config", "name": "workspace"} {
		if a := of.Attributes[from]; a != nil {
			named := *a
			named.Name = to
			b.Attributes[to] = &named
			return
		}
	}
	x.set(b, "workspace", cty.StringVal(x.block.Labels[0]))
}

// ownWorkspace makes a workspace block of what the collect block says of its workspace.
func (x *expansion) ownWorkspace() {
	b := BlocksOf(x.block.Body, "workspace")[0]
	if b.Body.Attributes["config"] != nil || b.Body.Attributes["name"] != nil || x.taken["workspace "+x.block.Labels[0]] {
		return
	}
	x.at = HeaderOf(b)
	made := x.of("workspace")
	made.Labels, made.LabelRanges, made.Body = []string{x.block.Labels[0]}, []hcl.Range{x.block.LabelRanges[0]}, b.Body
	x.out = append(x.out, made)
}

func (x *expansion) queue(name string, b *hclsyntax.Body) *hclsyntax.Block {
	if b == nil {
		b = x.empty()
	}
	x.set(b, "name", cty.StringVal(name))
	return x.use("queue", b)
}

// reads is the source of a stage: what the stage says of it, or what holds otherwise.
func (x *expansion) reads(name string, stage *hclsyntax.Body, isolation string, batch int64) *hclsyntax.Block {
	b := x.empty()
	x.set(b, "isolation", cty.StringVal(isolation))
	x.set(b, "ordered", cty.True)
	if batch > 0 {
		x.set(b, "max_batch_messages", cty.NumberIntVal(batch))
	}
	for _, option := range []string{"isolation", "ordered", "max_batch_messages"} {
		if a := stage.Attributes[option]; a != nil {
			b.Attributes[option] = a
		}
	}
	return x.queue(name, b)
}

// reached is a target of the router, whose webhook reads the workspace's config.
func (x *expansion) reached(target *hclsyntax.Block) *hclsyntax.Block {
	t, inner := *target, *target.Body
	t.Body, t.CloseBraceRange, inner.Blocks = &inner, t.TypeRange, slices.Clone(inner.Blocks)
	for i, u := range inner.Blocks {
		if u.Type != "use" || !slices.Contains(u.Labels, "webhook") || u.Body.Attributes["workspace_config"] != nil || u.Body.Attributes["workspace"] != nil {
			continue
		}
		use, body := *u, *u.Body
		use.Body, use.CloseBraceRange, body.Attributes, body.Blocks = &body, use.TypeRange, maps.Clone(body.Attributes), slices.Clone(body.Blocks)
		x.workspace(&body)
		x.transformations(&body)
		inner.Blocks[i] = &use
		return &t
	}
	return target
}

// SetDefaults sets what a processor block need not say.
func (c *CollectProcessor) SetDefaults() {
	var p Pipeline
	p.SetDefaults()
	c.Isolation, c.Ordered = "source", true
	c.Retry, c.InFlight = p.Retry, p.InFlight
}

// SetDefaults sets what a router block need not say.
func (c *CollectRouter) SetDefaults() {
	var p Pipeline
	p.SetDefaults()
	c.Isolation, c.Ordered, c.MaxBatchMessages, c.Routing = "destination", true, 100, RouteFirst
	c.Retry, c.InFlight = p.Retry, p.InFlight
}
