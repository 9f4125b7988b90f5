package report_test

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// TestSummary: it adds up over windows and reloads, whatever pipelines do in them; a window
// without a change has none, and what stands still is told once.
func TestSummary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, "stats_receiver {\n buffer_sec = 1\n}", "a", "b", "c")
		type totals struct{ read, delivered, filtered, failed int64 }
		var did, said totals
		random := rand.New(rand.NewPCG(3, 4))
		lines := func() []string {
			all := r.log.taken()
			return slices.DeleteFunc(strings.Split(all, "\n"), func(s string) bool { return !strings.Contains(s, "msg=summary") })
		}
		number := func(line, name string) (n int64) {
			if m := regexp.MustCompile(" " + name + `=(\d+)`).FindStringSubmatch(line); m != nil {
				n, _ = strconv.ParseInt(m[1], 10, 64)
			}
			return n
		}
		for range 200 {
			moved := false
			for i := range r.pipelines {
				if random.IntN(6) == 0 {
					next := meter.NewPipeline(r.pipelines[i].Name)
					r.Attach(next)
					now := slices.Clone(r.pipelines)
					now[i] = next
					r.replace(now...)
				}
				if random.IntN(3) > 0 {
					continue
				}
				p, n := r.pipelines[i], random.Int64N(1000)+1
				p.Read.Add(n)
				p.Target.Written.Add(n / 2)
				p.Filtered.Add(n / 3)
				p.Invalid.Add(n / 7)
				did = totals{did.read + n, did.delivered + n/2, did.filtered + n/3, did.failed + n/7}
				moved = true
			}
			pass(time.Second)
			got := lines()
			if want := map[bool]int{true: 1}[moved]; len(got) != want {
				t.Fatalf("%d summaries of a window, want %d: %q", len(got), want, got)
			}
			for _, line := range got {
				said = totals{said.read + number(line, "read"), said.delivered + number(line, "delivered"), said.filtered + number(line, "filtered"), said.failed + number(line, "failed")}
			}
			if said != did {
				t.Fatalf("the summaries come to %+v, and it was %+v", said, did)
			}
		}
		for i := range 10 {
			r.pipelines[i%2].LeaveOut("crm", "consent", 2)
			r.pipelines[2].LeaveOut("d"+strconv.Itoa(i), "consent", 1)
		}
		r.pipelines[0].Read.Add(1)
		pass(time.Second)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], `left_out="crm 20: consent; d0 1: consent; `) || !strings.Contains(got[0], `d6 1: consent; 3 more"`) {
			t.Errorf("what destinations got nothing of: %q", got)
		}
		r.pipelines[0].Read.Add(1)
		pass(time.Second)
		if got := lines(); len(got) != 1 || strings.Contains(got[0], "left_out") {
			t.Errorf("what destinations got nothing of, a window later: %q", got)
		}
		r.pipelines[0].InFlight.Store(7)
		pass(time.Minute)
		if got := lines(); len(got) != 1 || number(got[0], "in_flight") != 7 {
			t.Errorf("what is in flight and stays so: %q", got)
		}
	})
}
