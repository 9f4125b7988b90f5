package config_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
)

// planOf is the plan of a text that must be right, of a binary whose sources and targets
// "queue" and "machine" stand on the store.
func planOf(t *testing.T, src string) *config.Plan {
	t.Helper()
	names := map[string]string{"queue": "name"}
	c, ds := config.ParseFiles([]config.File{{Name: "weir.hcl", Src: []byte(src)}}, config.Options{Older: snowbridge.Older,
		Env:   func(name string) (string, bool) { return "from_" + name, true },
		Known: config.Known{ReadQueue: names, WriteQueue: names, StartMachine: map[string]string{"machine": "name"}}})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return c.Plan()
}

// TestSpillIsWrittenOut: what spill stands for are two pipelines that could be written.
func TestSpillIsWrittenOut(t *testing.T) {
	t.Parallel()
	p := planOf(t, `
pipeline "orders" {
  failure_target {
    spill = true
    use "kafka" {
      topic = "failed"
    }
  }
  retry {
    transient {
      delay_ms          = 50
      max_attempts      = 3
      invalid_after_max = true
      max_delay_ms      = 500
    }
  }
  in_flight {
    messages = 100
  }
  drain_timeout_ms = 20000
}
pipeline "other" {
  source {
    use "http" {}
  }
}
`)
	var got []string
	for _, one := range p.Pipelines {
		got = append(got, fmt.Sprintf("%s from %s%v to %s failures %s%v keep %v", one.Name, one.Source.Use.Name, one.Upstream(), one.Targets[0].Name,
			one.FailureTarget.Use.Name, one.Downstream(), one.FailureTarget.Keep))
	}
	want := []string{
		`orders from stdin[] to stdout failures queue[failures/orders] keep false`,
		`failures/orders from queue[failures/orders] to kafka failures stdout[] keep true`,
		`other from http[] to stdout failures stdout[] keep false`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	second := p.Pipelines[1]
	if second.FailuresOf() == nil || second.FailuresOf().Name != "orders" || p.Pipelines[0].FailuresOf() != nil {
		t.Error("the plan does not say whose failures it takes")
	}
	unlimited := func(delay, most int) *config.RetryPolicy {
		return &config.RetryPolicy{DelayMillis: delay, MaxDelayMillis: most}
	}
	if d := cmp.Diff(&config.Retry{Transient: unlimited(50, 500), Setup: unlimited(20000, 60000), Throttle: unlimited(10000, 60000)}, second.Retry); d != "" {
		t.Error(d)
	}
	if second.InFlight.Messages != 100 || second.InFlight.Bytes != 32<<20 || second.DrainTimeoutMillis != 10000 || second.FinishTimeoutMillis != 20000 {
		t.Errorf("bounds: %+v, drain %d, finish %d", second.InFlight, second.DrainTimeoutMillis, second.FinishTimeoutMillis)
	}
	var source struct {
		Name          string `hcl:"name"`
		StopWhenEmpty bool   `hcl:"stop_when_empty"`
	}
	if err := second.Source.Use.Decode(&source); err != nil || source.Name != "failures/orders" || !source.StopWhenEmpty || !second.Source.Use.Implied() {
		t.Errorf("source: %+v, %v", source, err)
	}
	if p.Store == nil || len(p.Declared) != 0 || len(p.Implied) != 1 {
		t.Errorf("store %v, declared %v, implied %v", p.Store, p.Declared, p.Implied)
	}
}

// TestPlan: the queues there are, which of them keep order, and who stands on them.
func TestPlan(t *testing.T) {
	t.Parallel()
	p := planOf(t, `
queue "in" {}
queue "from_OUT" {}
queue "elsewhere" {
  ordered = true
}
machine "orders" {
  definition = "orders.json"
}
function "put" {
  target {
    use "queue" {
      name = "in"
    }
  }
}
pipeline "move" {
  source {
    use "queue" {
      name    = "in"
      ordered = true
    }
  }
  target {
    use "queue" {
      name = env.OUT
    }
  }
  target {
    use "machine" {
      name = "orders"
    }
  }
  failure_target {
    keep = true
  }
}
`)
	// Who reads "elsewhere" in order is in another process.
	want := []connector.Queue{{Name: "elsewhere", Ordered: true}, {Name: "from_OUT"}, {Name: "in", Ordered: true}, {Name: "machine/orders"}, {Name: "machine/orders/steps"}}
	if d := cmp.Diff(want, p.Queues); d != "" {
		t.Error(d)
	}
	one := p.Pipelines[0]
	if up, down := one.Upstream(), one.Downstream(); !slices.Equal(up, []string{"in"}) || !slices.Equal(down, []string{"from_OUT", "machine/orders"}) {
		t.Errorf("takes from %v, puts into %v", up, down)
	}
	if f := p.FunctionsFill(); !slices.Equal(f, []string{"in"}) {
		t.Errorf("functions put into %v", f)
	}
	if one.OnFailure != "" {
		t.Errorf("a named pipeline: on_failure %q", one.OnFailure)
	}
	lone := planOf(t, "source {\n  use \"stdin\" {}\n}\n")
	if lone.Store != nil || lone.Pipelines[0].OnFailure != config.FailureExit || lone.Empty {
		t.Errorf("the only pipeline, of the top level: store %v, on_failure %q, empty %v", lone.Store, lone.Pipelines[0].OnFailure, lone.Empty)
	}
	if !planOf(t, "").Empty {
		t.Error("nothing is written, and the plan does not say so")
	}
}
