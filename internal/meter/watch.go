package meter

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// KeyName is the log attribute that says which part of the process speaks.
const KeyName = "name"

// Latency is one of the times that reports give the shortest and longest of.
type Latency uint8

// The latencies. The written ones end when the write does that made the message durable.
const (
	Processing   Latency = iota // a written message, since it was read
	Age                         // a written message, since it was created
	Transforming                // a written message, the time its transforms took
	Filtering                   // a filtered message, from reading to being filtered
	Requesting                  // one attempt to write, successful or not
	EndToEnd                    // a written Snowplow event, since the collector had it
	latencies
)

// Span is the shortest and the longest of some durations. The zero Span is of none.
type Span struct {
	Min, Max time.Duration
	some     bool
}

// Add takes d into s. A negative duration, which clocks that differ make, is zero.
func (s *Span) Add(d time.Duration) {
	d = max(d, 0)
	if !s.some {
		*s = Span{d, d, true}
		return
	}
	s.Min, s.Max = min(s.Min, d), max(s.Max, d)
}

// Join takes all that o is of into s.
func (s *Span) Join(o Span) {
	if o.some {
		s.Add(o.Min)
		s.Add(o.Max)
	}
}

// Spans is a Span of each latency.
type Spans [latencies]Span

// Join takes all that o is of into s.
func (s *Spans) Join(o *Spans) {
	for i := range s {
		s[i].Join(o[i])
	}
}

// Reason is what errors are counted by: both parts are safe to show outside the process.
type Reason struct{ Code, Description string }

// MaxReasons bounds how many different reasons one window counts; what is beyond counts
// as [OtherReason].
const MaxReasons = 100

// maxReason bounds the length of each part of a reason, in bytes.
const maxReason = 256

// OtherReason stands for reasons that found no place in a window.
var OtherReason = Reason{"other", "Other errors"}

// Window is what happened to a pipeline since the window before.
type Window struct {
	Spans   Spans
	Untimed int64 // written messages without a readable collector timestamp
	// Failed counts messages of failed attempts to write to the target, Invalid those
	// that went to the failure target, both by reason.
	Failed, Invalid map[Reason]int64
}

// Alert is a change of what somebody should know at once.
type Alert struct {
	Pipeline, Role string
	// Err is what somebody must see to; nil says that the role is healthy again.
	Err error
	// Died says that the pipeline ends because of Err.
	Died bool
}

// Watch is what reports need beside counters. A pipeline whose Watch is nil measures none
// of it, and every method of a nil Watch does nothing. The cost is one short lock for each
// attempt to write.
type Watch struct {
	// Collected is when a collector had the messages that were written: the earliest and the
	// latest time, whether there is one (timed is not 0), and how many do not say. Nil where
	// the time since then is not measured.
	Collected func(written event.Batch, failed []error) (first, last time.Time, timed, untimed int64)
	// Tell, if set, is told of alerts. It must not block.
	Tell func(Alert)

	mu     sync.Mutex
	window Window

	telling sync.Mutex // keeps alerts in order
}

// Observe notes latencies, and how many messages had no readable collector timestamp.
func (w *Watch) Observe(s *Spans, untimed int64) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.window.Spans.Join(s)
	w.window.Untimed += untimed
}

// Failed notes an attempt to write that failed for n messages.
func (w *Watch) Failed(err error, n int64) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	count(&w.window.Failed, reasonOf(err), n)
}

// Invalid notes a message that goes to the failure target because of err.
func (w *Watch) Invalid(err error) {
	if w != nil {
		w.invalid(reasonOf(err))
	}
}

// Oversized notes a message that goes to the failure target because of its size.
func (w *Watch) Oversized() {
	if w != nil {
		w.invalid(Reason{"", "Size violation"})
	}
}

func (w *Watch) invalid(r Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	count(&w.window.Invalid, r, 1)
}

// Take returns what was noted since the last Take.
func (w *Watch) Take() Window {
	if w == nil {
		return Window{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.window
	w.window = Window{}
	return taken
}

// Setup says that s cannot be written to until somebody changes something.
func (w *Watch) Setup(pipeline string, s *Sink, err error) {
	if w == nil {
		return
	}
	w.telling.Lock()
	defer w.telling.Unlock()
	s.broken.Store(true)
	w.tell(Alert{Pipeline: pipeline, Role: s.Role, Err: err})
}

// Healthy says that a write to s succeeded.
func (w *Watch) Healthy(pipeline string, s *Sink) {
	if w == nil || !s.broken.Load() {
		return
	}
	w.telling.Lock()
	defer w.telling.Unlock()
	if s.broken.Swap(false) {
		w.tell(Alert{Pipeline: pipeline, Role: s.Role})
	}
}

// Died says that the pipeline ends because of err.
func (w *Watch) Died(pipeline string, err error) {
	if w == nil {
		return
	}
	w.telling.Lock()
	defer w.telling.Unlock()
	w.tell(Alert{Pipeline: pipeline, Err: err, Died: true})
}

func (w *Watch) tell(a Alert) {
	if w.Tell != nil {
		w.Tell(a)
	}
}

func count(m *map[Reason]int64, r Reason, n int64) {
	if *m == nil {
		*m = map[Reason]int64{}
	}
	if _, known := (*m)[r]; !known && len(*m) >= MaxReasons {
		r = OtherReason
	}
	(*m)[r] += n
}

// Join adds the counts of o to m.
func (w *Window) Join(o Window) {
	w.Spans.Join(&o.Spans)
	w.Untimed += o.Untimed
	for r, n := range o.Failed {
		count(&w.Failed, r, n)
	}
	for r, n := range o.Invalid {
		count(&w.Invalid, r, n)
	}
}

// reasonOf is what of err may be shown outside the process. What carries no such detail is
// described by its kind alone.
func reasonOf(err error) Reason {
	d := fault.DetailOf(err)
	r := Reason{clip(d.Code), clip(d.Safe)}
	if r.Description == "" {
		r.Description = kindDescriptions[fault.Of(err)]
	}
	return r
}

var kindDescriptions = [...]string{
	fault.Transient: "Transient error",
	fault.Throttled: "Throttle error",
	fault.Setup:     "Setup error",
	fault.Invalid:   "Invalid error",
	fault.Fatal:     "Fatal error",
}

// clip cuts s to the length a reason may have, at a character boundary.
func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	cut := maxReason
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut]
}

// Reports counts what was to be told to others and was dropped, because it could not be
// sent or there was too much of it.
type Reports struct {
	Statsd   atomic.Int64 // packets
	Webhook  atomic.Int64 // heartbeats and alerts
	Metadata atomic.Int64 // reports
	Sentry   atomic.Int64 // events
	Traces   atomic.Int64 // spans
	Metrics  atomic.Int64 // exports of metrics
}
