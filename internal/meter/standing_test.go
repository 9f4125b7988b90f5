package meter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/weirdata/weir/internal/meter"
)

// families gathers what collectors show, and checks that each is a metric that is defined, with
// the labels that it is defined with.
func families(t *testing.T, cs ...prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(cs...)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]*meter.Definition{}
	for _, d := range meter.Definitions() {
		defined[d.Name] = d
	}
	out := map[string]*dto.MetricFamily{}
	for _, f := range all {
		out[f.GetName()] = f
		d := defined[f.GetName()]
		if d == nil {
			t.Errorf("%s is shown and not defined", f.GetName())
			continue
		}
		if got := strings.ToLower(f.GetType().String()); got != string(d.Type) || f.GetHelp() != d.Help {
			t.Errorf("%s is a %s: %s", d.Name, got, f.GetHelp())
		}
		want := slices.Sorted(slices.Values(d.Labels))
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			if !slices.Equal(labels, want) {
				t.Errorf("%s has the labels %v, not %v", d.Name, labels, want)
			}
		}
	}
	return out
}

// sum is the sum of a family's numbers whose labels have a value, and how many series it has.
func sum(f *dto.MetricFamily, label, value string) (total float64, series int) {
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label && l.GetValue() == value {
				total += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				series++
			}
		}
	}
	return total, series
}

// TestBacklogIsBounded: the largest destinations have numbers of their own, the others share
// one, and none is lost from the sum.
func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	const n = meter.MaxLabels + 500
	var counts []meter.Backlog
	want := 0
	for i := range n {
		want += i + 1
		counts = append(counts, meter.Backlog{Queue: "q", Destination: fmt.Sprint("d", i), Source: "s\xff", Open: int64(i + 1), Age: time.Duration(n-i) * time.Second})
	}
	counts = append(counts, meter.Backlog{Queue: "q", Destination: meter.Other, Open: 7, Age: -1}, meter.Backlog{Queue: "empty", Age: -1})
	fs := families(t, meter.Stores(func() (meter.Store, bool) {
		return meter.Store{Name: "store", Shared: true, Up: true, Counts: counts, Own: meter.NewOperations()}, true
	}))
	jobs := fs["weir_cluster_destination_jobs"]
	if got, series := sum(jobs, "state", "open"); got != float64(want+7) || series != meter.MaxLabels+1 {
		t.Errorf("%v open messages of %d destinations", got, series)
	}
	if got, _ := sum(jobs, "destination", meter.Other); got < 7+500*501/2 {
		t.Errorf("the others have %v", got)
	}
	if got, series := sum(fs["weir_cluster_queue_oldest_seconds"], "queue", "q"); got != n || series != 1 {
		t.Errorf("the oldest is %v", got)
	}
	if _, series := sum(fs["weir_cluster_queue_jobs"], "queue", "empty"); series != 3 {
		t.Errorf("a queue without messages has %d series", series)
	}
	if fs["weir_postgres_seconds"] == nil || fs["weir_postgres_errors_total"] == nil {
		t.Error("the store's own numbers are missing")
	}
}

// TestStanding: what stands still is shown with its age, and whose messages failed.
func TestStanding(t *testing.T) {
	t.Parallel()
	p := meter.NewPipeline("p")
	p.Machine = &meter.Machine{Name: "m"}
	p.Join([]string{"in"}, []string{"out", "failed"})
	p.Machine.Ended[meter.TimedOut].Add(2)
	first, second := p.Begin(2, 20), p.Begin(1, 10)
	third := p.Begin(1, 1)
	p.Done(second, 1, 10)
	p.SetDegraded(true)
	p.Target.Attempted(true)
	for i := range meter.MaxLabels + 10 {
		p.Target.Blame(fmt.Sprint("d", i), "web", meter.OutcomeDead, 2)
	}
	for i := range meter.MaxReasons + 5 {
		p.LeaveOut("d", fmt.Sprint("reason ", i), 1)
	}
	answers := &meter.Responses{}
	answers.Add(503)
	answers.Add(9999)
	p.Attach("source.http", answers)
	var r meter.Registry
	r.Replace(p)
	fs := families(t, &r)
	if got := fs["weir_in_flight_oldest_seconds"].GetMetric()[0].GetGauge().GetValue(); got <= 0 {
		t.Errorf("the oldest read in flight is %v old", got)
	}
	for name, want := range map[string]float64{"weir_destination_left_out_total": 5, "weir_destination_failures_total": 20, "weir_http_responses_total": 1, "weir_machine_executions_ended_total": 2} {
		label := map[string][2]string{"weir_destination_left_out_total": {"reason", meter.Other}, "weir_destination_failures_total": {"destination", meter.Other}, "weir_http_responses_total": {"status", "503"}, "weir_machine_executions_ended_total": {"status", "timed_out"}}[name]
		if got, _ := sum(fs[name], label[0], label[1]); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, series := sum(fs["weir_pipeline_queue_info"], "direction", "writes"); series != 2 {
		t.Errorf("%d queues are written", series)
	}
	if fs["weir_degraded_since_timestamp_seconds"] == nil || fs["weir_failing_since_timestamp_seconds"] == nil {
		t.Error("nothing says since when it is degraded, or fails")
	}
	p.Done(first, 2, 20)
	p.Done(third, 1, 1)
	p.SetDegraded(false)
	p.Target.Attempted(false)
	fs = families(t, &r)
	if got := fs["weir_in_flight_oldest_seconds"].GetMetric()[0].GetGauge().GetValue(); got != 0 {
		t.Errorf("nothing is in flight, and the oldest is %v old", got)
	}
	if fs["weir_degraded_since_timestamp_seconds"] != nil || fs["weir_failing_since_timestamp_seconds"] != nil {
		t.Error("it is well, and something says since when it is not")
	}
}
