package meter_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	var s, o meter.Span
	s.Join(o)
	if s != (meter.Span{}) {
		t.Error("a span of nothing is not nothing")
	}
	o.Add(3 * time.Second)
	o.Add(-time.Second) // clocks differ
	o.Add(2 * time.Second)
	s.Add(5 * time.Second)
	s.Join(o)
	if s.Min != 0 || s.Max != 5*time.Second {
		t.Errorf("span is %s to %s", s.Min, s.Max)
	}
}

// TestReasons: errors are counted by what is safe to show, and by no more than so many
// different things.
func TestReasons(t *testing.T) {
	t.Parallel()
	var w meter.Watch
	secret := errors.New("the payload is secret")
	w.Failed(secret, 2)
	w.Failed(fault.New(fault.Throttled, secret), 3)
	w.Failed(fault.Describe(fault.Transient, secret, fault.Detail{Code: "503", Safe: strings.Repeat("ä", 200)}), 4)
	w.Oversized()
	w.Invalid(fault.New(fault.Invalid, secret))
	got := w.Take()
	want := meter.Window{
		Failed: map[meter.Reason]int64{
			{Description: "Transient error"}:                       2,
			{Description: "Throttle error"}:                        3,
			{Code: "503", Description: strings.Repeat("ä", 256/2)}: 4,
		},
		Invalid: map[meter.Reason]int64{{Description: "Size violation"}: 1, {Description: "Invalid error"}: 1},
	}
	if diff := cmp.Diff(want.Failed, got.Failed); diff != "" {
		t.Errorf("failed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Invalid, got.Invalid); diff != "" {
		t.Errorf("invalid (-want +got):\n%s", diff)
	}
	if again := w.Take(); again.Failed != nil || again.Invalid != nil {
		t.Error("a window is not empty after it was taken")
	}
	for i := range 1000 {
		w.Failed(fault.Describe(fault.Transient, secret, fault.Detail{Code: fmt.Sprint(i)}), 1)
	}
	got = w.Take()
	sum := int64(0)
	for _, n := range got.Failed {
		sum += n
	}
	if len(got.Failed) != meter.MaxReasons+1 || got.Failed[meter.OtherReason] != 1000-meter.MaxReasons || sum != 1000 {
		t.Errorf("%d reasons, %d others, %d in all", len(got.Failed), got.Failed[meter.OtherReason], sum)
	}
}

// TestAlerts: being broken is told at every failure, being healthy again once.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var told []string
	w := &meter.Watch{Tell: func(a meter.Alert) {
		told = append(told, fmt.Sprintf("%s %s %v %t", a.Pipeline, a.Role, a.Err, a.Died))
	}}
	p := meter.NewPipeline("p")
	w.Healthy("p", &p.Target)
	w.Setup("p", &p.Target, errors.New("one"))
	w.Setup("p", &p.Target, errors.New("two"))
	w.Healthy("p", &p.Failure)
	w.Healthy("p", &p.Target)
	w.Healthy("p", &p.Target)
	w.Died("p", errors.New("three"))
	want := []string{"p target one false", "p target two false", "p target <nil> false", "p  three true"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNilWatch: a pipeline that nobody watches costs nothing and breaks nothing.
func TestNilWatch(t *testing.T) {
	t.Parallel()
	var w *meter.Watch
	p := meter.NewPipeline("p")
	err := errors.New("x")
	w.Failed(err, 1)
	w.Invalid(err)
	w.Oversized()
	w.Observe(&meter.Spans{}, 1)
	w.Setup("p", &p.Target, err)
	w.Healthy("p", &p.Target)
	w.Died("p", err)
	if got := w.Take(); got.Failed != nil || got.Untimed != 0 {
		t.Errorf("a nil watch has %v", got)
	}
}

func TestDroppedReports(t *testing.T) {
	t.Parallel()
	r := meter.Registry{Reports: &meter.Reports{}}
	r.Reports.Sentry.Add(3)
	s := gather(t, &r)
	for _, want := range []string{`weir_reports_dropped_total{receiver="sentry"} 3`, `weir_reports_dropped_total{receiver="statsd"} 0`} {
		if !strings.Contains(s, want) {
			t.Errorf("%s is missing in\n%s", want, s)
		}
	}
}
