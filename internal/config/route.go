package config

import (
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/connector"
)

// Route is one of a pipeline's targets, and which messages it gets.
type Route struct {
	// The target and its options.
	Use *Use `hcl:"use,block"`
	// Name of the target, for logs and metrics. Letters, digits, "_", "-" and "."; at most
	// 64 characters. When left out it is the name of the use, with a number after it where
	// an earlier target of the pipeline has that name.
	Name string `hcl:"name,optional"`
	// Which messages the target gets: a condition over the message such as
	// "event.type == 'order' and (event.total ?? 0) > 100", in the language of expr
	// (https://expr-lang.org). It may use event (the fields of a JSON payload or of a
	// Snowplow event), headers, key, id, workspace, source, destination, size (bytes) and
	// data (the payload as text). A message for which it cannot be decided goes to the
	// failure target; one that no target gets is filtered. Default: all messages.
	When string `hcl:"when,optional"`

	condition *condition.Condition
}

// Condition is When compiled; nil when every message goes to the target.
func (r *Route) Condition() *condition.Condition { return r.condition }

// The values of a pipeline's routing.
const (
	RouteAll   = "all"
	RouteFirst = "first"
)

// onFailures are the values of on_failure.
var onFailures = []string{FailureRestart, FailureEnd, FailureExit}

var routings = []string{RouteAll, RouteFirst}

// routes completes the targets of p, and finds what is wrong with them.
func (d *document) routes(p *Pipeline, b *hclsyntax.Body, header hcl.Range) Diagnostics {
	blocks := BlocksOf(b, "target")
	var ds Diagnostics
	seen := map[string]hcl.Range{}
	for i, r := range p.Targets {
		r.Use.bind(d, KindTarget, "target", p.Name, i, header)
		if i >= len(blocks) { // the default, which no file wrote
			r.Name = r.Use.Name
			return ds
		}
		body, at := blocks[i].Body, HeaderOf(blocks[i])
		wrong := func(field, what, fix string) {
			ds = append(ds, d.problem(body, at, connector.Problem{Field: field, What: what, Fix: fix}, d.hiddenValues(body)))
		}
		if r.When != "" || body.Attributes["when"] != nil {
			var err error
			if r.condition, err = condition.Compile(r.When); err != nil {
				wrong("when", err.Error(), "write a condition such as event.type == 'order'; it may use event, headers, key, id, workspace, source, destination, size and data")
			}
		}
		if p.Routing == RouteFirst && r.condition == nil && i < len(blocks)-1 && body.Attributes["when"] == nil {
			wrong("", "the targets after this one get nothing: it takes every message, and routing is \"first\"",
				"give it a condition: when = \"...\", or move it to the end")
		}
		r.name(wrong, seen, at)
	}
	return ds
}

// name gives r its name, which no other target of the pipeline has.
func (r *Route) name(wrong func(field, what, fix string), seen map[string]hcl.Range, at hcl.Range) {
	if r.Name == "" {
		r.Name = r.Use.Name
		for n := 2; ; n++ {
			if _, taken := seen[r.Name]; !taken {
				break
			}
			r.Name = r.Use.Name + "_" + strconv.Itoa(n)
		}
	} else if !pipelineName.MatchString(r.Name) {
		wrong("name", "this is not a name for a target", `use letters, digits, "_", "-" and ".", starting with a letter or digit; at most 64 characters`)
	}
	if other, taken := seen[r.Name]; taken {
		wrong("name", fmt.Sprintf("there is another target %q in the pipeline, at %s", r.Name, position(other)), "give one of the two another name")
	}
	seen[r.Name] = at
}
