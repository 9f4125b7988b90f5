package executor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

func disk(b *testing.B) *embedded.Store {
	b.Helper()
	s, err := embedded.Open(b.TempDir(), embedded.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func script(b *testing.B, source string) executor.Function {
	b.Helper()
	f, err := executor.NewScript(source, executor.ScriptOptions{Runtimes: 4})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

const benchOrder = `{"id":"12345","country_code":"GB","total":129.95,"lines":[{"sku":"a-1","quantity":2},{"sku":"b-7","quantity":1}]}`

// empty waits until the machine has nothing left.
func empty(b *testing.B, s queue.Store) {
	b.Helper()
	for open(b, s) > 0 {
		time.Sleep(2 * time.Millisecond)
	}
}

// BenchmarkTransitions measures durable state transitions on the embedded store: states
// entered by executions whose every step is committed with fsync.
//
//	chain   one execution is two tasks in JavaScript and two other states, one commit
//	steps   one execution is four tasks with effects elsewhere: each is a step and a commit of its own
func BenchmarkTransitions(b *testing.B) {
	const check = `function main(o) { if (o.country_code !== "GB") throw new Error("no"); return o }`
	for _, bench := range []struct {
		name, text  string
		transitions int
	}{
		{"chain", `{"StartAt":"Check","States":{"Check":{"Type":"Task","Resource":"Check","Next":"Large"},
			"Large":{"Type":"Choice","Choices":[{"Variable":"$.total","NumericGreaterThan":100,"Next":"Mark"}],"Default":"Again"},
			"Mark":{"Type":"Pass","Result":true,"ResultPath":"$.large","Next":"Again"},"Again":{"Type":"Task","Resource":"Check","End":true}}}`, 4},
		{"steps", `{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"Echo","Next":"B"},"B":{"Type":"Task","Resource":"Echo","Next":"C"},
			"C":{"Type":"Task","Resource":"Echo","Next":"D"},"D":{"Type":"Task","Resource":"Echo","End":true}}}`, 4},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			s := disk(b)
			r := run(b, s, bench.text, map[string]executor.Function{"Check": script(b, check), "Echo": echo()}, func(o *executor.Options) { o.InFlight = 4096 })
			const size = 1000
			inputs := make([]string, size)
			for i := range inputs {
				inputs[i] = benchOrder
			}
			n, began := 0, time.Now() // the end of the last ones counts too
			for b.Loop() {
				start(b, r.Machine, inputs...)
				n += size
				for open(b, s) > 8*size { // what a source in front would wait for
					time.Sleep(time.Millisecond)
				}
			}
			empty(b, s)
			took := time.Since(began).Seconds()
			r.ends(b)
			if got := r.Meter().Target.Written.Load(); got != int64(n) {
				b.Fatalf("%d executions succeeded, want %d", got, n)
			}
			b.ReportMetric(float64(n*bench.transitions)/took, "transitions/s")
			b.ReportMetric(float64(n)/took, "executions/s")
		})
	}
}

// BenchmarkBlocking compares the two designs of an order pipeline at 1 % failing orders: the
// one that invokes a machine and waits for its end before it goes on, and the one that goes on
// when the execution is started. A failing order is tried three times, a second and then two
// apart. Four batches are in flight in both, as from four shards.
func BenchmarkBlocking(b *testing.B) {
	const text = `{"StartAt":"Check","States":{"Check":{"Type":"Task","Resource":"Check","End":true,
		"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":1,"BackoffRate":2,"MaxAttempts":2}],
		"Catch":[{"ErrorEquals":["States.ALL"],"Next":"Caught"}]},"Caught":{"Type":"Pass","End":true}}}`
	const check = `function main(o) { if (o.country_code === "PANIC") throw new Error("PANIC"); return o }`
	const size, shards = 100, 4
	batch := func() event.Batch {
		m := make(event.Batch, size)
		for i := range m {
			country := "GB"
			if i == 0 {
				country = "PANIC"
			}
			m[i] = event.New(fmt.Appendf(nil, `{"id":"%d","country_code":%q}`, i, country))
		}
		return m
	}
	for _, design := range []string{"blocking", "nonblocking"} {
		b.Run(design, func(b *testing.B) {
			s := disk(b)
			r := run(b, s, text, map[string]executor.Function{"Check": script(b, check)})
			ctx := context.Background()
			deliver := func() error {
				m := batch()
				if design == "blocking" {
					return r.Execute(ctx, m)
				}
				return s.Update(ctx, func(tx queue.Tx) error { return r.StartIn(tx, m) })
			}
			n := 0
			for b.Loop() {
				done := make(chan error, shards)
				for range shards {
					go func() { done <- deliver() }()
				}
				for range shards {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
				n += shards * size
				for open(b, s) > 5_000 { // so that acceptance cannot run ahead of the work
					time.Sleep(time.Millisecond)
				}
			}
			delivered := b.Elapsed()
			empty(b, s) // the failing ones too
			r.ends(b)
			b.ReportMetric(float64(n)/delivered.Seconds(), "orders/s")
		})
	}
}
