package app

import (
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/firehose/prefix"
	"github.com/weirdata/weir/internal/pipeline"
)

// partitions warns of partition keys that a prefix names and no transform notes, and of those that are
// noted and that no prefix names: Amazon Data Firehose refuses both. What comes from a queue or goes
// elsewhere than to objects may bring keys along, or carry them on.
func (a *assembly) partitions(p *pipeline.Parts) {
	noted := make(map[firehose.KeySource][]string, len(p.Transforms)) // with no names: any
	for _, t := range p.Transforms {
		if n, can := t.(firehose.Noter); can {
			source, names := n.Notes()
			noted[source] = names
		}
	}
	if a.config.Source.Use.Queue() == "" && a.config.FailuresOf() == nil {
		a.unnoted(p, noted)
	}
	a.unnamed(p)
}

// keyed is a target whose prefix may name partition keys; false says that it has none.
type keyed interface {
	PartitionKeys() (keys []prefix.Key, prefixed bool)
}

// ends are the targets of a pipeline, with where they are written. One that could not be made is nil.
func (a *assembly) ends(p *pipeline.Parts, do func(u *config.Use, t connector.Target)) {
	if len(p.Routes) == 0 && len(a.config.Targets) > 0 {
		do(a.config.Targets[0].Use, p.Target.Target)
	}
	for i, r := range p.Routes {
		do(a.config.Targets[i].Use, r.Target)
	}
}

func (a *assembly) unnoted(p *pipeline.Parts, noted map[firehose.KeySource][]string) {
	by := map[firehose.KeySource]string{firehose.FromQuery: "jqPartitionKeys", firehose.FromLambda: "lambda"}
	a.ends(p, func(u *config.Use, t connector.Target) {
		k, can := t.(keyed)
		if !can {
			return
		}
		keys, _ := k.PartitionKeys()
		for _, key := range keys {
			names, noting := noted[key.Source]
			switch {
			case !noting:
				a.found = append(a.found, u.Doubt(connector.Problem{Field: "prefix",
					What: fmt.Sprintf("prefix has %s, and the pipeline has no transform %s to note it: every message fails that does not bring it along", key.Expression(), by[key.Source]),
					Fix:  fmt.Sprintf("add use %q, or take the expression out", by[key.Source])}))
			case len(names) > 0 && !slices.Contains(names, key.Name):
				a.found = append(a.found, u.Doubt(connector.Problem{Field: "prefix",
					What: fmt.Sprintf("prefix has %s, and the transform %s notes only %q: every message fails", key.Expression(), by[key.Source], names),
					Fix:  "correct one of the two"}))
			}
		}
	})
}

func (a *assembly) unnamed(p *pipeline.Parts) {
	var named []prefix.Key
	here := true // all that is noted comes to prefixes
	a.ends(p, func(_ *config.Use, t connector.Target) {
		k, can := t.(keyed)
		keys, prefixed := []prefix.Key(nil), false
		if can {
			keys, prefixed = k.PartitionKeys()
		}
		here = here && prefixed
		named = append(named, keys...)
	})
	if !here {
		return
	}
	for i, t := range p.Transforms {
		n, can := t.(firehose.Noter)
		if !can || len(p.Transforms) != len(a.config.Transform.Use) {
			continue
		}
		source, names := n.Notes()
		for _, name := range names {
			if key := (prefix.Key{Source: source, Name: name}); !slices.Contains(named, key) {
				a.found = append(a.found, a.config.Transform.Use[i].Doubt(connector.Problem{
					What: fmt.Sprintf("the partition key %q is noted, and no prefix has %s", name, key.Expression()),
					Fix:  "use it in the prefix, or leave it out"}))
			}
		}
	}
}
