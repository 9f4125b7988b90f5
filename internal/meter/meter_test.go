package meter_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestExposition compares everything that two pipelines report with the golden file:
// dashboards and alerts are built on these names.
func TestExposition(t *testing.T) {
	t.Parallel()
	a, b := meter.NewPipeline("a"), meter.NewPipeline("b")
	a.Read.Add(10)
	a.ReadBytes.Add(1000)
	a.Target.Written.Add(7)
	a.Target.Failures[fault.Throttled].Add(2)
	b.InFlight.Add(3)
	a.Behind.Set(12, -1, 1500*time.Millisecond)
	b.Behind.Set(0, 1<<40, -1)
	b.FilteredFor("app_id matches \xff", 3)
	b.FilteredFor("FilterOut", 1)
	b.FilteredFor("FilterOut", 1)
	a.StateFailed(meter.StateFailure{State: "Charge", Error: "Target.Transient", Outcome: "retried"})
	a.StateFailed(meter.StateFailure{State: "Charge", Error: "Target.Transient", Outcome: "retried"})
	a.StateFailed(meter.StateFailure{State: "Ch\xffrge", Error: "", Outcome: "caught"})
	now := time.Now()
	a.Settled(now.Add(-time.Second-time.Millisecond), now.Add(-time.Hour))
	if lag := a.CurrentLag(); lag < time.Hour || lag > time.Hour+time.Minute {
		t.Errorf("lag %s", lag)
	}
	var r meter.Registry
	r.Replace(b, a)
	got := gather(t, &r)
	var kept []string
	for l := range strings.SplitSeq(got, "\n") {
		if strings.Contains(l, "_sum{") {
			l = l[:strings.LastIndexByte(l, ' ')] // a measured time
		}
		kept = append(kept, l)
	}
	got = strings.Join(kept, "\n")
	const golden = "testdata/exposition.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("run go test ./internal/meter -update if this is meant (-want +got):\n%s", diff)
	}
}

func gather(t *testing.T, r *meter.Registry) string {
	t.Helper()
	p := prometheus.NewPedanticRegistry()
	if err := p.Register(r); err != nil {
		t.Fatal(err)
	}
	families, err := p.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// TestReplace: a reload changes the set of pipelines that is reported.
func TestReplace(t *testing.T) {
	t.Parallel()
	var r meter.Registry
	r.Replace(meter.NewPipeline("old"))
	if s := gather(t, &r); !strings.Contains(s, `pipeline="old"`) {
		t.Error("the first pipeline is missing")
	}
	r.Replace(meter.NewPipeline("z"), meter.NewPipeline("new"))
	s := gather(t, &r)
	if strings.Contains(s, `pipeline="old"`) || !strings.Contains(s, `pipeline="new"`) {
		t.Error("the replaced pipeline is still reported, or the new one is not")
	}
	if ps := r.Pipelines(); len(ps) != 2 || ps[0].Name != "new" {
		t.Error("pipelines are not in the order of their names")
	}
}

func TestSettledWithoutTimes(t *testing.T) {
	t.Parallel()
	p := meter.NewPipeline("a")
	p.Settled(time.Time{}, time.Time{})
	p.Settled(time.Now(), time.Now().Add(time.Hour)) // a clock that is ahead
	if p.CurrentLag() != 0 {
		t.Errorf("lag %s", p.CurrentLag())
	}
}

// TestFilteredReasons: reasons that scripts make up are counted, and no more of them are told
// apart than there is room for.
func TestFilteredReasons(t *testing.T) {
	t.Parallel()
	p := meter.NewPipeline("a")
	for i := range 10 * meter.MaxReasons {
		p.FilteredFor(strings.Repeat("x", 1000)+"\xc3", 1)
		p.FilteredFor(time.Duration(i).String(), 2)
	}
	all := p.FilteredReasons()
	sum := int64(0)
	for r, n := range all {
		if len(r) > 256 {
			t.Errorf("a reason has %d bytes", len(r))
		}
		sum += n
	}
	if len(all) != meter.MaxReasons+1 || sum != 30*meter.MaxReasons || all[meter.OtherReason.Code] == 0 {
		t.Errorf("%d reasons of %d messages, %d others", len(all), sum, all[meter.OtherReason.Code])
	}
}
