//go:build unix

package kinesissource

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
)

// TestManyShards: more than a page of a hundred are read, and are asked rarely when there is
// nothing new (K14).
func TestManyShards(t *testing.T) { // not parallel: it measures the process
	const shards = 150
	s, p := proxied(t, enginetest.Kinesalite(t), shards)
	want := texts("payload", 1000)
	s.put(t, func(i int) string { return fmt.Sprint(i) }, want...)
	d := newDesk()
	src := opened(t, s.source(d, func(c *Config) { c.ReadThrottleDelayMs, c.IdleDelayMs = 250, 1000 }))
	ackAll(t, reads(t, src, len(want)))
	lags, err := src.Lag(t.Context())
	if err != nil || len(lags) != shards {
		t.Errorf("lag of %d shards: %v", len(lags), err)
	}
	before, calls, begin := cpu(t), p.Calls("GetRecords"), time.Now()
	if err := pause(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	used, took := cpu(t)-before, time.Since(begin)
	calls = p.Calls("GetRecords") - calls
	t.Logf("%d idle shards were asked %d times in %s, which took %s of a processor, the proxy's share included", shards, calls, took, used)
	if most := shards + int(took.Seconds()*idleShards); calls > most {
		t.Errorf("%d idle shards were asked %d times in %s, more than %d", shards, calls, took, most)
	}
	if used > took/2 {
		t.Errorf("%d idle shards took %s of a processor in %s", shards, used, took)
	}
}

// cpu is the processor's time that the process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
