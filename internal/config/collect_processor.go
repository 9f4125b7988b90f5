package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/enrich"
	"github.com/weirdata/weir/internal/trackingplan"
	"github.com/weirdata/weir/internal/usertransform"
)

// CollectProcessor is what is done to events before each destination gets its own.
type CollectProcessor struct {
	// What is worked on by itself: "none", "workspace" or "source", so that what holds up the
	// events of one does not hold up those of others. Default: "source".
	Isolation string `hcl:"isolation,optional"`
	// Whether the events of a user stay in order. Default: true.
	Ordered bool `hcl:"ordered,optional"`
	// Most events that are taken, and settled, together. Default: that of the source "queue".
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// Leaves out an event whose messageId has come before from its source, before it is processed.
	// Default: every event counts.
	Deduplicate *CollectDeduplicate `hcl:"deduplicate,block"`
	// What is done to each event, before it is copied for each destination.
	Transform *Transform `hcl:"transform,block"`
	// Where the code of user transformations is, which the events for a destination pass that has
	// one. Default: such a destination gets no events.
	Transformations *usertransform.Config `hcl:"transformations,block"`
	// What is added to events before anything is decided about them. Default: nothing.
	Enrichment *enrich.Config `hcl:"enrichment,block"`
	// Where tracking plans are, by which the events of a source are validated that has one. Default: they
	// are not validated, with a warning.
	TrackingPlans *trackingplan.Config `hcl:"tracking_plans,block"`
	// Where events go that cannot be processed. Default: they stay in the queue as failed, where
	// weir failures shows them and sends them again.
	FailureTarget *FailureTarget `hcl:"failure_target,block"`
	// Where events go that no destination wants. Default: the target "silent", which drops them.
	FilterTarget *Target `hcl:"filter_target,block"`
	// How often, and how long apart, a failed write is tried again.
	Retry *Retry `hcl:"retry,block"`
	// Bounds of what is held in memory.
	InFlight *InFlight `hcl:"in_flight,block"`
}

// CollectDeduplicate leaves out events that have come before.
type CollectDeduplicate struct {
	// For how long, in seconds, a messageId is known. Default: 3600.
	WindowSeconds int `hcl:"window_seconds,optional"`
}

// deduplicated is the options of the queue that events come into: what has come before is not
// kept again.
func (x *expansion) deduplicated() *hclsyntax.Body {
	b := x.empty()
	for _, p := range BlocksOf(x.block.Body, "processor") {
		b.Blocks = append(b.Blocks, BlocksOf(p.Body, "deduplicate")...)
	}
	return b
}

// transformations has a component find the code of user transformations.
func (x *expansion) transformations(b *hclsyntax.Body) { x.take(b, "transformations") }

// take gives a component a block of the processor, unless it has its own.
func (x *expansion) take(b *hclsyntax.Body, name string) {
	for _, of := range BlocksOf(x.block.Body, "processor") {
		if len(BlocksOf(b, name)) == 0 {
			b.Blocks = append(b.Blocks, BlocksOf(of.Body, name)...)
		}
	}
}

// fanout is the transforms of the processor, and after them the copy for each destination.
func (x *expansion) fanout(processor *hclsyntax.Body) *hclsyntax.Block {
	body := x.empty()
	x.workspace(body)
	x.transformations(body)
	x.take(body, "enrichment")
	x.take(body, "tracking_plans")
	copies := x.use("fanout", body)
	written := BlocksOf(processor, "transform")
	if len(written) == 0 {
		return x.of("transform", copies)
	}
	if slices.ContainsFunc(BlocksOf(written[0].Body, "use"), func(u *hclsyntax.Block) bool { return slices.Contains(u.Labels, "fanout") }) {
		return written[0]
	}
	t, inner := *written[0], *written[0].Body
	inner.Blocks = append(slices.Clone(inner.Blocks), copies)
	t.Body, t.CloseBraceRange = &inner, t.TypeRange // so that it is printed as what was made
	return &t
}
