package config

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/spelling"
)

// componentKinds are the blocks that choose a component.
var componentKinds = map[string]Kind{
	"source": KindSource, "transform": KindTransform,
	"target": KindTarget, "failure_target": KindTarget, "filter_target": KindTarget, "backup_target": KindTarget,
	"store": KindStore,
}

// uses checks every component that the pipelines in b choose: that there is one of that
// name, and that it takes what its block says. It works on the syntax tree, so it does
// so whatever else is wrong with the config.
func (d *document) uses(b *hclsyntax.Body, pipeline string) Diagnostics {
	var ds Diagnostics
	for _, block := range b.Blocks {
		if block.Type == "pipeline" && len(block.Labels) == 1 && pipeline == DefaultPipeline {
			ds = append(ds, d.uses(block.Body, block.Labels[0])...)
		}
		kind, ok := componentKinds[block.Type]
		if !ok {
			continue
		}
		for i, use := range BlocksOf(block.Body, "use") {
			if len(use.Labels) == 1 {
				ds = append(ds, d.use(use, kind, block.Type, pipeline, i)...)
			}
		}
	}
	return ds
}

func (d *document) use(b *hclsyntax.Block, kind Kind, block, pipeline string, index int) Diagnostics {
	u := &Use{Name: b.Labels[0], Body: b.Body, DefRange: HeaderOf(b), NameRange: b.LabelRanges[0]}
	u.bind(d, kind, block, pipeline, index, u.DefRange)
	known, unknown := d.connectors(kind)
	if len(known) > 0 && !slices.Contains(known, u.Name) {
		fix := "the names are " + spelling.Or(known)
		if n := spelling.Nearest(u.Name, known); n != "" {
			fix = fmt.Sprintf("write use %q { ... }", n)
		}
		return Diagnostics{d.errorAt(u.NameRange, fmt.Sprintf(unknown, u.Name), fix)}
	}
	if d.decodeWith == nil {
		return nil
	}
	return u.Diagnose(d.decodeWith(u))
}

// connectors is the connectors there are of a kind, and how an unknown one is reported.
func (d *document) connectors(kind Kind) (known []string, unknown string) {
	switch kind {
	case KindSource:
		return d.known.Sources, "unknown source: %s"
	case KindTransform:
		return d.known.Transforms, "could not interpret transformation configuration for %q"
	case KindStore:
		return d.known.Stores, "unknown store: %s"
	}
	return d.known.Targets, "unknown target: %s"
}
