package config

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// CollectArchive keeps every event that was taken, as RudderStack's archive has it: JSON lines for each
// source, but for those that are transient. It stands for the queue NAME-archive, which the gateway fills
// beside the other, and the pipeline NAME-archive behind it.
type CollectArchive struct {
	// Where the lines go. A target "object" needs a path only, for files in RudderStack's layout:
	// SOURCE/gw/DATE/HOUR/weir/FIRST_LAST_WORKSPACE_UNIQUE.json.gz.
	Target *Target `hcl:"target,block"`
	// Where events go of which there can be no line. Default: they stay in the queue as failed, where
	// weir failures shows them and sends them again.
	FailureTarget *FailureTarget `hcl:"failure_target,block"`
	// How often, and how long apart, a failed write is tried again.
	Retry *Retry `hcl:"retry,block"`
	// Bounds of what is held in memory.
	InFlight *InFlight `hcl:"in_flight,block"`
}

// SetDefaults sets what an archive block need not say.
func (c *CollectArchive) SetDefaults() {
	var p Pipeline
	p.SetDefaults()
	c.Retry, c.InFlight = p.Retry, p.InFlight
}

// archiveName is where RudderStack has an object of its archive.
const archiveName = "!{source}/gw/!{timestamp:yyyy-MM-dd}/!{timestamp:H}/weir/!{first}_!{last}_!{workspace}_!{unique}.json.gz"

// archived are the targets of the gateway beside the processor's queue.
func (x *expansion) archived() (more []*hclsyntax.Block) {
	if len(BlocksOf(x.block.Body, "archive")) > 0 {
		more = append(more, x.of("target", x.queue(x.archiveQueue(), x.deduplicated())))
	}
	return more
}

func (x *expansion) archiveQueue() string { return x.block.Labels[0] + "-archive" }

// archive is the pipeline that writes what is to be kept.
func (x *expansion) archive() {
	if len(BlocksOf(x.block.Body, "archive")) == 0 {
		return
	}
	archive := x.enter("archive")
	name := x.archiveQueue()
	x.add("queue", name, nil)
	line := x.empty()
	x.workspace(line)
	made := []*hclsyntax.Block{x.of("source", x.queue(name, nil)), x.of("transform", x.use("archive", line))}
	for _, t := range BlocksOf(archive, "target") {
		made = append(made, x.laidOut(t))
	}
	x.add("pipeline", name, append(made, x.rest(archive, "target")...))
}

// laidOut is a target whose objects lie as RudderStack's do, unless it says otherwise.
func (x *expansion) laidOut(target *hclsyntax.Block) *hclsyntax.Block {
	t, inner := *target, *target.Body
	t.Body, t.CloseBraceRange, inner.Blocks = &inner, t.TypeRange, slices.Clone(inner.Blocks)
	for i, u := range inner.Blocks {
		if u.Type != "use" || !slices.Contains(u.Labels, "object") {
			continue
		}
		use, body := *u, *u.Body
		use.Body, use.CloseBraceRange, body.Attributes = &body, use.TypeRange, maps.Clone(body.Attributes)
		for option, value := range map[string]string{"name": archiveName, "compression": "gzip"} {
			if body.Attributes[option] == nil {
				x.set(&body, option, cty.StringVal(value))
			}
		}
		inner.Blocks[i] = &use
		return &t
	}
	return target
}
