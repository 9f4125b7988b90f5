package admin

import (
	"bytes"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/queue"
)

// TestNamesOfQueues does everything with queues whose names have what means something in
// a path, as those of machines do.
func TestNamesOfQueues(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s kept, o Operator) {
		for _, name := range []string{"machine/orders", "machine/orders/steps", "a//b", "50%2Foff", "a b?c#d", "ünï"} {
			appendJobs(t, s, job(name, "dies", "x"))
			kill(t, s, name)
			appendJobs(t, s, job(name, "waits", "x"))
			all, err := o.Queues(t.Context(), queue.None)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, q := range all.Queues {
				found = found || q.Name == name && q.Open == 1 && q.Dead == 1
			}
			if !found {
				t.Errorf("%q is not among %+v", name, all.Queues)
			}
			p, err := o.Jobs(t.Context(), name, Selection{}, "", 10)
			if err != nil || strings.Join(payloads(p), " ") != "waits" {
				t.Errorf("%q: jobs %v, %v", name, payloads(p), err)
			}
			var out bytes.Buffer
			if n, err := o.Export(t.Context(), name, Selection{Dead: true}, &out, nil); err != nil || n != 1 {
				t.Errorf("%q: exported %d, %v", name, n, err)
			}
			if n, err := o.Retry(t.Context(), name, Selection{Dead: true, All: true}); err != nil || n != 1 {
				t.Errorf("%q: retried %d, %v", name, n, err)
			}
			if n, err := o.Count(t.Context(), name, Selection{}); err != nil || n != 2 {
				t.Errorf("%q: counted %d, %v", name, n, err)
			}
			if n, err := o.Drop(t.Context(), name, Selection{Dead: true, All: true}); err != nil || n != 0 {
				t.Errorf("%q: dropped %d, %v", name, n, err)
			}
		}
	})
}
