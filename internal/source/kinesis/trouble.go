package kinesissource

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// trouble is a row of errors in one thing that is tried again: how long to wait, and when to
// speak. The first error is said, and then one each minute, also when it works in between; being
// throttled is said when it lasts.
type trouble struct {
	log   *slog.Logger
	what  string
	least time.Duration

	attempts int
	since    time.Time
	spoke    bool      // of this row
	said     time.Time // of any
}

const (
	mostDelay  = 30 * time.Second
	sayAgain   = time.Minute
	sayThrottl = 30 * time.Second // after which being throttled is said
)

func (sh *shard) trouble(what string) *trouble {
	return &trouble{log: sh.log, what: what, least: time.Duration(sh.n.config.ReadThrottleDelayMs) * time.Millisecond}
}

// note is how long to wait after err.
func (t *trouble) note(err error) time.Duration {
	now := time.Now()
	if t.attempts == 0 {
		t.since = now
	}
	t.attempts++
	delay := min(t.least<<min(t.attempts-1, 10), mostDelay)
	kind := fault.Of(err)
	if kind == fault.Setup {
		delay = max(delay, min(time.Second<<min(t.attempts-1, 10), mostDelay))
	}
	delay = max(delay, min(fault.After(err), mostDelay))
	quiet := kind == fault.Throttled && now.Sub(t.since) < sayThrottl
	if !quiet && (t.said.IsZero() || now.Sub(t.said) >= sayAgain) {
		t.said, t.spoke = now, true
		t.log.Warn("that did not work, and is tried again", "what", t.what, meter.KeyError, err, meter.KeyAttempt, t.attempts, meter.KeyDelay, delay)
	}
	return delay - time.Duration(rand.Int64N(int64(delay)/5+1)) // so that shards do not come together
}

// over is called when it has worked.
func (t *trouble) over() {
	if t.spoke {
		t.log.Info("that works again", "what", t.what, meter.KeyAttempt, t.attempts, "after", time.Since(t.since).Round(time.Millisecond))
	}
	t.attempts, t.since, t.spoke = 0, time.Time{}, false
}
