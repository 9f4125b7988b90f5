package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// counts is a pipeline's counters as Snowbridge names them: messages, except for the
// writes.
type counts struct {
	writes, sent, failed                      int64 // of the target; failed counts each attempt
	filtered                                  int64 // delivered to the filter target
	invalid                                   int64 // refused, or too large
	failureWrites, failureSent, failureFailed int64 // of the failure target
}

func countsOf(p *meter.Pipeline) counts {
	return counts{
		writes: p.Target.Writes.Load(), sent: p.Target.Written.Load(), failed: failures(&p.Target) - p.Target.Failures[fault.Invalid].Load(),
		filtered:      p.Filter.Written.Load(),
		invalid:       p.Invalid.Load() + p.Oversized.Load(),
		failureWrites: p.Failure.Writes.Load(), failureSent: p.Failure.Written.Load(), failureFailed: failures(&p.Failure),
	}
}

func failures(s *meter.Sink) (n int64) {
	for i := range s.Failures {
		n += s.Failures[i].Load()
	}
	return n
}

func (c counts) minus(o counts) counts {
	o.writes, o.sent, o.failed, o.filtered, o.invalid = -o.writes, -o.sent, -o.failed, -o.filtered, -o.invalid
	o.failureWrites, o.failureSent, o.failureFailed = -o.failureWrites, -o.failureSent, -o.failureFailed
	return c.plus(o)
}

func (c counts) plus(o counts) counts {
	return counts{
		c.writes + o.writes, c.sent + o.sent, c.failed + o.failed, c.filtered + o.filtered, c.invalid + o.invalid,
		c.failureWrites + o.failureWrites, c.failureSent + o.failureSent, c.failureFailed + o.failureFailed,
	}
}

// observedLatencies are the latencies of the statistics line, in its order and words.
var observedLatencies = []struct {
	word string
	of   meter.Latency
}{
	{"Proc", meter.Processing}, {"Msg", meter.Age}, {"Filter", meter.Filtering},
	{"Transform", meter.Transforming}, {"Req", meter.Requesting}, {"E2E", meter.EndToEnd},
}

// observed is the statistics line of p; latencies are in whole milliseconds.
func (p *part) observed() string {
	var b strings.Builder
	c := p.counts
	fmt.Fprintf(&b, "TargetResults:%d,MsgFiltered:%d,MsgSent:%d,MsgFailed:%d,InvalidTargetResults:%d,InvalidMsgSent:%d,InvalidMsgFailed:%d",
		c.writes, c.filtered, c.sent, c.failed, c.failureWrites, c.failureSent, c.failureFailed)
	for _, l := range observedLatencies {
		s := p.window.Spans[l.of]
		fmt.Fprintf(&b, ",Min%sLatency:%d,Max%sLatency:%d", l.word, s.Min/time.Millisecond, l.word, s.Max/time.Millisecond)
	}
	return b.String()
}
