package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
	"github.com/weirdata/weir/internal/target/silent"
	"github.com/weirdata/weir/internal/target/stdout"
)

// supply is a source of left batches of the same payloads.
type supply struct {
	left     int
	payloads [][]byte
}

func (*supply) Open(context.Context) error  { return nil }
func (*supply) Close(context.Context) error { return nil }

func (s *supply) Read(context.Context, connector.Room) (event.Batch, connector.Ack, error) {
	if s.left == 0 {
		return nil, nil, io.EOF
	}
	s.left--
	return event.NewBatch(time.Now(), s.payloads), acknowledged, nil
}

func acknowledged(context.Context, event.Outcomes) error { return nil }

type pass struct{}

func (pass) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	return append(out, m), nil
}

type noFormat struct{}

func (noFormat) Format(pipeline.Failure, int) ([]byte, error) {
	return nil, fmt.Errorf("nothing fails here")
}

func payloads(n, size int) [][]byte {
	ps := make([][]byte, n)
	for i := range ps {
		ps[i] = make([]byte, size)
	}
	return ps
}

func sink(t testing.TB, target connector.Target) pipeline.Sink {
	t.Helper()
	return pipeline.Sink{Target: target, Limits: target.(connector.Limiter).Limits()}
}

func build(t testing.TB, entry connector.Entry[connector.Target]) connector.Target {
	t.Helper()
	target, err := entry.Build(t.Context(), connector.Deps{}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// passThrough runs batches of the given payloads through a pipeline to target.
func passThrough(t testing.TB, target connector.Target, batches int, ps [][]byte, transforms, workers int) {
	t.Helper()
	var steps []connector.Transform
	for range transforms {
		steps = append(steps, connector.Stateless(pass{}))
	}
	quiet := build(t, silent.Entry)
	p := pipeline.New(pipeline.Parts{Name: "speed", Source: &supply{batches, ps}, Transforms: steps, Workers: workers,
		Target: sink(t, target), Filter: sink(t, quiet), Failure: sink(t, quiet), Format: noFormat{},
		Drain: time.Minute, Retry: retry.Default()})
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := p.Meter().Target.Written.Load(); n != int64(batches*len(ps)) {
		t.Fatalf("%d messages were written", n)
	}
}

func dataOnly() connector.Target {
	c := *stdout.Entry.Default().(*stdout.Config)
	c.DataOnlyOutput = true
	return stdout.New(io.Discard, c)
}

// TestPassThroughAllocates bounds what the engine allocates for each message.
func TestPassThroughAllocates(t *testing.T) { // not parallel: it counts allocations
	if raceEnabled {
		return // the race detector allocates
	}
	ps := payloads(1000, 512)
	for _, c := range []struct {
		name   string
		target connector.Target
		most   float64
	}{
		{"silent", build(t, silent.Entry), 0.1},
		{"stdout", dataOnly(), 0.3},
	} {
		const batches = 200
		n := testing.AllocsPerRun(3, func() { passThrough(t, c.target, batches, ps, 1, 2) }) / (batches * 1000)
		t.Logf("%s: %.4f allocations per message", c.name, n)
		if n > c.most {
			t.Errorf("%s: %.3f allocations per message, want at most %.1f", c.name, n, c.most)
		}
	}
}

func BenchmarkPipeline(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		for _, transforms := range []int{0, 2} {
			b.Run(fmt.Sprintf("passthrough/read=%d/transforms=%d", size, transforms), func(b *testing.B) {
				b.ReportAllocs()
				target, ps := build(b, silent.Entry), payloads(size, 512)
				const messages = 20_000
				b.SetBytes(messages * 512)
				for b.Loop() {
					passThrough(b, target, messages/size, ps, transforms, 2)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
			})
		}
	}
}
