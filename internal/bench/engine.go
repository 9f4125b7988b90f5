package main

// script parses a payload, changes two fields and writes it again, as scripts of users do.
const script = `function main(input) {
  var e = JSON.parse(input.Data);
  e.user.plan = "gold";
  e.seen = e.seen + 1;
  return { Data: JSON.stringify(e) };
}`

const dataOnly = `target {
  use "stdout" {
    data_only_output = true
  }
}
`

// engineGroup is what Weir itself costs, between standard input and standard output.
func engineGroup() group {
	return group{
		name:  "engine",
		title: "What an event costs",
		intro: `Standard input to standard output, and to and from a queue, Weir and the limit in turn. CPU
is user plus system time of the whole process, start-up included. Events have 500 bytes; the
enriched events are those of examples/snowplow.`,
		notes: `Peers on a machine of the same size, measured once, for scale: standard input to standard
output 12.4 us an event (Snowbridge 5.1; 4.0 with batches of 500) and 7.5 us (Benthos);
parse, change and stringify in JavaScript 76 us (Snowbridge) and 58 us (Redpanda Connect);
enriched TSV to JSON 351 us (Snowbridge), filter and TSV to JSON of a mix 128 us.`,
		run: func(b *bench) ([]section, error) {
			s, err := b.stdinCases(engineCases())
			return []section{s}, err
		},
	}
}

func engineCases() []benchmark {
	js := "transform {\n  use \"js\" {\n    script = <<EOT\n" + script + "\nEOT\n  }\n}\n"
	return []benchmark{
		{name: "passthrough, payload only", config: dataOnly, input: jsonLines, events: 1_000_000, limit: "lines", aim: "0.8 us"},
		{name: "passthrough, default line", config: "target {\n  use \"stdout\" {}\n}\n", input: jsonLines, events: 1_000_000, limit: "lines", aim: "0.8 us"},
		{name: "js parse, change, stringify", config: js + dataOnly, input: jsonLines, events: 200_000, limit: "goja", aim: "7.6 us"},
		{name: "enriched TSV to JSON", config: "transform {\n  use \"spEnrichedToJson\" {}\n}\n" + dataOnly, input: enriched, events: 200_000, limit: "lines", aim: "10 us"},
		{name: "filter, enriched TSV to JSON", config: filterToJSON + dataOnly, input: enriched, events: 200_000, limit: "lines", aim: "10 us"},
		{name: "standard input to a queue", config: queueStore + toQueue, input: jsonLines, events: 500_000, limit: "log"},
		{name: "queue to a file", prepare: queueStore + toQueue, config: queueStore + fromQueue, input: jsonLines, events: 500_000, limit: "log", check: holds("out.jsonl", every)},
	}
}

const filterToJSON = `transform {
  use "spEnrichedFilter" {
    atomic_field  = "platform"
    regex         = "^web$"
    filter_action = "keep"
  }
  use "spEnrichedToJson" {}
}
`

// queueStore is the durable store of the cases with a queue.
const queueStore = `store {
  use "embedded" {
    path = "store"
  }
}
queue "events" {}
`

const toQueue = `target {
  use "queue" {
    name = "events"
  }
}
`

const fromQueue = `source {
  use "queue" {
    name            = "events"
    stop_when_empty = true
  }
}
target {
  use "file" {
    path = "out.jsonl"
  }
}
`
