package main

import "fmt"

// lakeFile is how many events a file of the lake has.
const lakeFile = 20_000

// lakeGroup is what it costs to land events in a lake.
func lakeGroup() group {
	config := func(more string) string {
		return fmt.Sprintf(`in_flight {
  messages = %d
  bytes    = 67108864
}
target {
  use "lake" {
    path              = "lake"
    time_field        = "created_at"
    time_format       = "epoch_s"
    buffer_max_events = %d
%s  }
}
failure_target {
  use "file" {
    path = "failed.jsonl"
  }
}
`, 2*lakeFile, lakeFile, more)
	}
	return group{
		name:  "lake",
		title: "What it costs to land an event",
		intro: `Lesson events of 288 bytes of JSON on standard input, of two hours, become Parquet files with
zstd in folders by hour, each on the disk before its events count as delivered. CPU is user
plus system time of the whole process, start-up included.`,
		run: func(b *bench) ([]section, error) {
			s, err := b.stdinCases([]benchmark{
				{name: "JSON to Parquet", config: config(""), input: lessons, events: 500_000, limit: "parquet", aim: "3 us", check: holds("failed.jsonl", none)},
				{name: "JSON to Parquet, each id once", config: config("    dedup_field       = \"event_uuid\"\n"), input: lessons, events: 500_000, limit: "parquet", check: holds("failed.jsonl", none)},
			})
			return []section{s}, err
		},
	}
}
