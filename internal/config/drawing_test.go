package config

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDrawing: what joins pipelines is one node, what is outside is one for each use, and what
// nobody wrote is not drawn.
func TestDrawing(t *testing.T) {
	known := Known{Sources: []string{"queue", "stdin", "http"}, Targets: []string{"stdout", "file", "silent", "queue", "machine"}, Transforms: []string{"js", "jq"},
		ReadQueue: map[string]string{"queue": "name"}, WriteQueue: map[string]string{"queue": "name"}, StartMachine: map[string]string{"machine": "name"}}
	const text = `
queue "events" {}
queue "spare" {}
machine "orders" {
  definition = "orders.asl.json"
}
pipeline "in" {
  source {
    use "http" {}
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    spill = true
    use "file" {}
  }
}
pipeline "out" {
  source {
    use "queue" {
      name = "events"
    }
  }
  transform {
    use "jq" {}
    use "js" {}
  }
  target {
    name = "again"
    use "file" {}
  }
  target {
    use "machine" {
      name = "orders"
    }
  }
  filter_target {
    use "silent" {}
  }
}
`
	c, ds := ParseFiles([]File{{Name: "weir.hcl", Src: []byte(text)}}, Options{Known: known})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	g := c.Plan().Drawing()
	var nodes, edges []string
	for _, n := range g.Nodes {
		nodes = append(nodes, n.ID+" "+string(n.Kind)+" "+n.Label+" "+n.Detail)
	}
	for _, e := range g.Edges {
		edges = append(edges, e.From+" "+e.Role+" "+e.To)
	}
	slices.Sort(nodes)
	slices.Sort(edges)
	wantNodes := []string{
		"machine/orders machine orders machine",
		"pipeline/failures/in pipeline failures/in ",
		"pipeline/in pipeline in ",
		"pipeline/out pipeline out jq · js",
		"queue/events queue events queue",
		"queue/failures/in queue failures/in queue",
		"queue/spare queue spare queue",
		"source/in source http ",
		"target.again/out target again file",
		"target/failures/in target file ",
	}
	wantEdges := []string{
		"pipeline/failures/in target target/failures/in",
		"pipeline/in failure_target queue/failures/in",
		"pipeline/in target queue/events",
		"pipeline/out target.again target.again/out",
		"pipeline/out target.machine machine/orders",
		"queue/events source pipeline/out",
		"queue/failures/in source pipeline/failures/in",
		"source/in source pipeline/in",
	}
	if diff := cmp.Diff(wantNodes, nodes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantEdges, edges); diff != "" {
		t.Error(diff)
	}
}
