package webhook

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// TestRetryAsRudderStack: the policy in the example repeats and gives up by RudderStack's rules.
func TestRetryAsRudderStack(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("examples_full.hcl")
	if err != nil {
		t.Fatal(err)
	}
	cfg, ds := config.Parse("examples_full.hcl", text, os.LookupEnv)
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	class := func(p *config.RetryPolicy) retry.Class {
		return retry.Class{Delay: p.Delay(), MaxAttempts: p.MaxAttempts, MaxDelay: p.MaxDelay(), InvalidAfterMax: p.InvalidAfterMax, GiveUpAfter: p.GiveUpAfter()}
	}
	r := cfg.Pipelines[0].Retry
	p := retry.Policy{Transient: class(r.Transient), Throttle: class(r.Throttle)}
	for _, kind := range []fault.Kind{fault.Transient, fault.Throttled} {
		var waits []int
		for n := 1; n <= 8; n++ {
			waits = append(waits, int(p.Delay(kind, n, 0)/time.Second))
		}
		if d := cmp.Diff([]int{10, 20, 40, 80, 160, 300, 300, 300}, waits); d != "" {
			t.Errorf("%s: -want +got:\n%s", kind, d)
		}
	}
	for _, row := range []struct {
		kind     fault.Kind
		attempts int
		age      time.Duration
		want     bool
	}{
		{fault.Transient, 3, 179 * time.Minute, false},
		{fault.Transient, 99, 179 * time.Minute, false},
		{fault.Transient, 2, 999 * time.Hour, false},
		{fault.Transient, 3, 180 * time.Minute, true},
		{fault.Throttled, 999, 999 * time.Hour, false},
	} {
		c := p.Class(row.kind)
		if got := c.Exhausted(row.attempts, row.age); got != row.want {
			t.Errorf("%s, %d attempts, %s: %t", row.kind, row.attempts, row.age, got)
		}
	}
	if !p.Transient.InvalidAfterMax {
		t.Error("an event that is given up must go to the failure target")
	}
}
