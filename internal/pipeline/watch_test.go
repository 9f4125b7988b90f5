package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/snowplow"
)

// watched gives b's pipeline a watch; what it tells is appended to the result.
func (b *bench) watched(collector bool) (*meter.Watch, *[]string) {
	told := &[]string{}
	b.parts.Meter = meter.NewPipeline(b.parts.Name)
	b.parts.Meter.Watch = &meter.Watch{Collected: collected(collector), Tell: func(a meter.Alert) {
		*told = append(*told, fmt.Sprintf("%s %s %v %t", a.Pipeline, a.Role, a.Err, a.Died))
	}}
	return b.parts.Meter.Watch, told
}

func span(s meter.Span) string { return s.Min.String() + " to " + s.Max.String() }

// TestWatchLatencies: every latency of a small pipeline, to the millisecond.
func TestWatchLatencies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "filter", "b"}}, step{after: time.Second, payloads: []string{"c"}}).
			through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
				d := 10 * time.Millisecond
				if string(m.Data) == "b" {
					d = 30 * time.Millisecond
				}
				time.Sleep(d)
				m.Times.Created = m.Times.Read.Add(-time.Minute)
				if string(m.Data) == "filter" {
					return out, nil
				}
				return append(out, m), nil
			}))
		b.target.before = func(_ context.Context, batch event.Batch) error {
			time.Sleep(time.Duration(len(batch)) * time.Millisecond)
			return nil
		}
		w, told := b.watched(false)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := w.Take()
		// Read at 0: a and b are routed at 50 ms, flushed at 150 ms and written at 152 ms. c
		// is the only one of its batch, and flushed because the source ends.
		want := map[string]string{
			"processing": "11ms to 152ms", "age": "1m0.011s to 1m0.152s", "transform": "10ms to 30ms",
			"filter": "50ms to 50ms", "request": "1ms to 2ms", "e2e": "0s to 0s",
		}
		shown := map[string]string{
			"processing": span(got.Spans[meter.Processing]), "age": span(got.Spans[meter.Age]),
			"transform": span(got.Spans[meter.Transforming]), "filter": span(got.Spans[meter.Filtering]),
			"request": span(got.Spans[meter.Requesting]), "e2e": span(got.Spans[meter.EndToEnd]),
		}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(*told) != 0 || got.Untimed != 0 {
			t.Errorf("told %q, %d without collector timestamp", *told, got.Untimed)
		}
	})
}

// TestWatchErrors: failures and refusals are counted by reason, setup errors are told until
// a write succeeds, and so is the end of the pipeline.
func TestWatchErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "refused", "b", strings.Repeat("x", 2000)}}, step{after: time.Hour, payloads: []string{"fatal"}})
		b.parts.Target.Limits.MaxMessageBytes = 1000
		attempt := 0
		b.target.before = func(_ context.Context, batch event.Batch) error {
			switch attempt++; attempt {
			case 1:
				return &connector.Partial{Failed: map[int]error{1: errInvalid, 0: errSetup}}
			case 2:
				return errSetup
			case 3:
				return errTransient
			case 4:
				return nil
			}
			return errFatal
		}
		w, told := b.watched(false)
		if err := b.run(t.Context()); !errors.Is(err, errFatal) {
			t.Fatalf("the pipeline ends with %v", err)
		}
		got := w.Take()
		wantFailed := map[meter.Reason]int64{{Description: "Setup error"}: 2, {Description: "Transient error"}: 1, {Description: "Fatal error"}: 1}
		if diff := cmp.Diff(wantFailed, got.Failed); diff != "" {
			t.Errorf("failed (-want +got):\n%s", diff)
		}
		wantInvalid := map[meter.Reason]int64{{Description: "Invalid error"}: 1, {Description: "Size violation"}: 1}
		if diff := cmp.Diff(wantInvalid, got.Invalid); diff != "" {
			t.Errorf("invalid (-want +got):\n%s", diff)
		}
		want := []string{"test target no such topic false", "test target no such topic false", "test target <nil> false",
			"test  write to the target: cannot go on true"}
		if diff := cmp.Diff(want, *told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if n := b.parts.Meter.Target.Failures[fault.Setup].Load(); n != 2 {
			t.Errorf("%d setup failures are counted", n)
		}
	})
}

// TestWatchEndToEnd: the collector's timestamp is that of the event a message was read as,
// whatever it was turned into; what has none is counted.
func TestWatchEndToEnd(t *testing.T) {
	t.Parallel()
	enriched := func(tstamp string) string {
		fields := make([]string, snowplow.NumFields)
		fields[snowplow.CollectorTstamp] = tstamp
		return strings.Join(fields, "\t")
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{
			enriched("1999-12-31 23:59:50.5"), enriched("1999-12-31 23:00:00"), enriched("soon"), enriched(""), enriched("1999-02-30 00:00:00"), enriched("1999-12-31 23:30:00."), "a\tb\tc", "", "1\t2\t3\t1999-12-31 23:00:00",
		}}).through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			if e, err := snowplow.Of(m); err == nil && e.Raw(snowplow.CollectorTstamp) == "1999-12-31 23:00:00" {
				m.Replace([]byte(`{"now":"JSON"}`))
				m.Keep(e)
			} else if err == nil {
				m.Replace([]byte(`{}`))
			}
			return append(out, m), nil
		}))
		b.parts.Target.Limits.Eager = true
		w, _ := b.watched(true)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := w.Take()
		if s := span(got.Spans[meter.EndToEnd]); s != "9.5s to 1h0m0s" || got.Untimed != 7 {
			t.Errorf("%s, %d without collector timestamp", s, got.Untimed)
		}
	})
}

// TestWatchAllocates: watching costs a batch, not its messages.
func TestWatchAllocates(t *testing.T) { // not parallel: it counts allocations
	p := New(Parts{Name: "test"})
	p.parts.Meter.Watch = &meter.Watch{Collected: snowplow.Collected}
	s := &sink{p: p, meter: &p.parts.Meter.Target, target: true}
	batch := make(event.Batch, 500)
	for i := range batch {
		batch[i] = event.New([]byte("a\tb\tc\t2026-05-26 16:45:15.123\t" + strings.Repeat("\t", 127)))
	}
	if n := testing.AllocsPerRun(100, func() { s.watch(batch, time.Now(), time.Millisecond, nil) }); n > 1 {
		t.Errorf("%.1f allocations for a batch", n)
	}
	if w := p.parts.Meter.Watch.Take(); w.Untimed != 0 || w.Spans[meter.EndToEnd].Max == 0 {
		t.Errorf("nothing was measured: %+v", w)
	}
}

func BenchmarkWatch(b *testing.B) {
	for _, collector := range []bool{false, true} {
		b.Run(fmt.Sprintf("collector=%t", collector), func(b *testing.B) {
			b.ReportAllocs()
			p := New(Parts{Name: "test"})
			p.parts.Meter.Watch = &meter.Watch{Collected: collected(collector)}
			s := &sink{p: p, meter: &p.parts.Meter.Target, target: true}
			now := time.Now()
			payload := []byte("a\tb\tc\t2026-05-26 16:45:15.123\t" + strings.Repeat("\t", 127))
			payloads := make([][]byte, 500)
			for i := range payloads {
				payloads[i] = payload
			}
			batch := event.NewBatch(now, payloads)
			for i, m := range batch {
				m.Times.TransformStarted, m.Times.Transformed = now, now.Add(time.Duration(i))
			}
			for b.Loop() {
				s.watch(batch, now, time.Millisecond, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/message")
		})
	}
}

// collected is how it is known when the collector had messages, where that is measured.
func collected(measured bool) func(event.Batch, []error) (first, last time.Time, timed, untimed int64) {
	if measured {
		return snowplow.Collected
	}
	return nil
}
