package snowbridge

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
)

var concurrencyDialect = Dialect{
	Name:  "concurrent_writes",
	Since: "5.0.0",
	Old: `source {
  use "stdin" {
    concurrent_writes = 15
  }
}

transform {
  use "spEnrichedToJson" {}
}

target {
  use "http" {
    url = "https://example.com/events"
  }
}
`,
	New: `source {
  use "stdin" {
  }
}

transform {
  use "spEnrichedToJson" {}
  worker_pool = 15
}

target {
  use "http" {
    url = "https://example.com/events"
    batching {
      max_concurrent_batches = 15
    }
  }
}
`,
	Note: "It said how many messages were transformed and written at once, which are two settings now. " +
		"`worker_pool` is only written where there are transforms, and neither replaces one that is set.",
}

// concurrentTargets are the targets of Snowbridge that write to another system.
var concurrentTargets = []string{"http", "kafka", "kinesis", "pubsub", "sqs", "eventhub"}

// moveConcurrency: before 5.0.0, a source said how many messages were worked on at once.
func moveConcurrency(r *rewriter, b *hclsyntax.Body) {
	for _, use := range usesIn(b, "", "source") {
		a := use.Body.Attributes["concurrent_writes"]
		if a == nil {
			continue
		}
		v := r.valueOf(a)
		var now []string
		for _, t := range config.BlocksOf(b, "transform")[:min(1, len(config.BlocksOf(b, "transform")))] {
			if t.Body.Attributes["worker_pool"] == nil && len(t.Body.Blocks) > 0 {
				r.add(t, "worker_pool", v, a.NameRange)
				now = append(now, blockText("transform", r.shown("worker_pool", v)))
			}
		}
		for _, target := range usesIn(b, "", "target") {
			batching := config.BlocksOf(target.Body, "batching")
			if slices.Contains(concurrentTargets, target.Labels[0]) &&
				(len(batching) == 0 || batching[0].Body.Attributes["max_concurrent_batches"] == nil) {
				r.nest(target, "batching", []setting{{name: "max_concurrent_batches", v: v, at: a.NameRange}})
				now = append(now, blockText("target", blockText(config.HeaderText(target), blockText("batching", r.shown("max_concurrent_batches", v)))))
			}
		}
		fix := "remove the line"
		if len(now) > 0 {
			fix = "write instead\n" + strings.Join(now, "\n")
		}
		r.warn(a.NameRange, "concurrent_writes is no setting of a source: transforms and targets have their own", fix)
		r.drop(use, a)
	}
}

var failureFormatDialect = Dialect{
	Name:  "failure format",
	Since: "5.0.0",
	Old: `failure_target {
  use "stdout" {}
  format = "event_forwarding"
}
`,
	New: `failure_target {
  use "stdout" {}
}

failure_parser {
  format = "event_forwarding"
}
`,
}

// moveFailureFormat: before 5.0.0, the form of failed messages was an option of
// failure_target.
func moveFailureFormat(r *rewriter, b *hclsyntax.Body) {
	for _, target := range config.BlocksOf(b, "failure_target") {
		a := target.Body.Attributes["format"]
		if a == nil {
			continue
		}
		v := r.valueOf(a)
		parsers := config.BlocksOf(b, "failure_parser")
		if len(parsers) > 0 && parsers[0].Body.Attributes["format"] != nil {
			r.twice(target, a, "failure_parser.format")
			continue
		}
		r.warn(a.NameRange, "format is no option of failure_target; it is read as that of failure_parser",
			"write\n"+blockText("failure_parser", r.shown("format", v)))
		above, behind := r.commentsOf(a.SrcRange)
		r.touch(target)
		delete(target.Body.Attributes, a.Name)
		from, to := r.linesOf(a.SrcRange)
		r.removeLines(from-len(above), to)
		line := above + "format = " + strings.TrimSpace(v.text+" "+behind) + "\n"
		if len(parsers) > 0 {
			r.add(parsers[0], "format", v, a.NameRange)
			continue
		}
		parser := newBlock("failure_parser", a.NameRange)
		parser.Body.Attributes["format"] = &hclsyntax.Attribute{Name: "format", Expr: v.expr, SrcRange: a.SrcRange, NameRange: a.NameRange}
		b.Blocks = append(b.Blocks, parser)
		_, end := r.linesOf(target.CloseBraceRange)
		r.replaceText(end, end, r.lineEndAt(end)+"\nfailure_parser {\n"+line+"}\n")
	}
}

var statsTimeoutDialect = Dialect{
	Name:  "statistics timeout",
	Since: "5.1.1",
	Old: `stats_receiver {
  use "statsd" {
    address = "127.0.0.1:8125"
  }
  timeout_sec = 1
}
`,
	New: `stats_receiver {
  use "statsd" {
    address = "127.0.0.1:8125"
  }
}
`,
	Note: "It has no effect, here as in Snowbridge: statsd is sent by UDP, which has nothing to wait for.",
}

// dropStatsTimeout: since 5.1.1 stats_receiver.timeout_sec is read and ignored.
func dropStatsTimeout(r *rewriter, b *hclsyntax.Body) {
	for _, receiver := range config.BlocksOf(b, "stats_receiver") {
		if a := receiver.Body.Attributes["timeout_sec"]; a != nil {
			r.warn(a.NameRange, "timeout_sec has no effect: statsd is sent by UDP, which has nothing to wait for", "remove the line")
			r.drop(receiver, a)
		}
	}
}

var statsdAddressDialect = Dialect{
	Name:  "statsd without an address",
	Since: "2.0.0",
	Old: `stats_receiver {
  use "statsd" {
    prefix = "events"
  }
}
`,
	New: `stats_receiver {
}
`,
	Note: "Without an address nothing is sent, and Snowbridge says nothing of it.",
}

// dropStatsdWithoutAddress: a statsd receiver that names no server has never sent anything.
func dropStatsdWithoutAddress(r *rewriter, b *hclsyntax.Body) {
	for _, receiver := range config.BlocksOf(b, "stats_receiver") {
		for _, use := range config.BlocksOf(receiver.Body, "use") {
			if len(use.Labels) == 1 && use.Labels[0] == "statsd" && use.Body.Attributes["address"] == nil {
				r.warn(config.HeaderOf(use), `use "statsd" has no address, so no metrics are sent`, `add address = "host:port", or remove the block`)
				r.dropBlock(receiver, use)
			}
		}
	}
}
