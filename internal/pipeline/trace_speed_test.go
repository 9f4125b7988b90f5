package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
	"github.com/weirdata/weir/internal/target/silent"
	"github.com/weirdata/weir/internal/trace"
)

// tracedThrough runs batches through a pipeline of which a share of the messages is traced;
// a negative share is without a tracer.
func tracedThrough(t testing.TB, share float64, batches int, ps [][]byte) {
	t.Helper()
	var tracer *trace.Tracer
	if share >= 0 {
		var err error
		if tracer, err = trace.New(context.Background(), trace.Settings{SampleRatio: share, Exporter: tracetest.NewNoopExporter()}); err != nil {
			t.Fatal(err)
		}
	}
	quiet := build(t, silent.Entry)
	p := pipeline.New(pipeline.Parts{Name: "speed", Source: &supply{batches, ps}, Transforms: []connector.Transform{connector.Stateless(pass{})}, Workers: 2,
		Target: sink(t, quiet), Filter: sink(t, quiet), Failure: sink(t, quiet), Format: noFormat{},
		Drain: time.Minute, Retry: retry.Default(), Trace: tracer})
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tracer.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestUnsampledAllocates: a message that is not sampled costs no memory, be there a tracer
// or not.
func TestUnsampledAllocates(t *testing.T) { // not parallel: it counts allocations
	if raceEnabled {
		return // the race detector allocates
	}
	ps := payloads(1000, 64)
	const batches = 100
	count := func(share float64) float64 {
		return testing.AllocsPerRun(3, func() { tracedThrough(t, share, batches, ps) }) / (batches * 1000)
	}
	off, none, few := count(-1), count(0), count(.001)
	t.Logf("allocations per message: %.4f without a tracer, %.4f with none sampled, %.4f with one in a thousand", off, none, few)
	if off > 0.1 || none > off+0.01 || few > off+0.2 {
		t.Errorf("allocations per message: %.4f without a tracer, %.4f with none sampled, %.4f with one in a thousand", off, none, few)
	}
}

func BenchmarkTrace(b *testing.B) {
	for _, share := range []float64{-1, 0, .01, 1} {
		b.Run(fmt.Sprint("share=", share), func(b *testing.B) {
			b.ReportAllocs()
			ps := payloads(100, 512)
			const messages = 20_000
			for b.Loop() {
				tracedThrough(b, share, messages/len(ps), ps)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
		})
	}
}
