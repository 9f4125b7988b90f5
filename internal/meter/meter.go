// Package meter counts what pipelines do, and holds every metric and log attribute name.
//
// Counters are plain atomics that the engine adds to once per batch; Prometheus reads
// them when it is scraped, so the hot path pays for no label look-up. Names follow the
// Prometheus conventions: base units, _total for counters, the labels pipeline and role.
package meter

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/fault"
)

// Unnamed is the name of the pipeline that a config gives none.
const Unnamed = "default"

// Log attribute names.
const (
	KeyPipeline  = "pipeline"
	KeyComponent = "component"
	KeyError     = "error"
	KeyKind      = "kind"
	KeyAttempt   = "attempt"
	KeyDelay     = "delay"
	KeyMessages  = "messages"
	KeyFile      = "file"
	KeyAddress   = "address"
	KeyStack     = "stack"
	KeyAnswer    = "answer" // how the other side's answer begins: it stays in the log
	KeyState     = "state"
)

// The roles a target plays in a pipeline.
const (
	RoleTarget  = "target"
	RoleFilter  = "filter_target"
	RoleFailure = "failure_target"
	// RoleOverflow is the queue that keeps failures whole which the failure target cannot hold.
	RoleOverflow = "failure_overflow"
	// RoleBackup is the target of what was read, as it was read.
	RoleBackup = "backup_target"
)

// Pipeline is what one pipeline has done since it was built.
type Pipeline struct {
	Name string

	Read          atomic.Int64 // messages
	ReadBytes     atomic.Int64
	ReadErrors    atomic.Int64
	Filtered      atomic.Int64 // messages a transform dropped on purpose
	Invalid       atomic.Int64 // messages a transform or target refused
	Oversized     atomic.Int64 // messages larger than the target takes
	Cut           atomic.Int64 // failed messages that are whole nowhere
	Overflowed    atomic.Int64 // failed messages that the failure target cannot hold, kept whole in the store
	Unsettled     atomic.Int64 // messages given back to the source
	Unconfirmed   atomic.Int64 // messages settled, and the source's side may not know it
	Panics        atomic.Int64 // recovered in transforms and targets
	Restarts      atomic.Int64 // starts after a failure
	Degraded      atomic.Int64 // 1 while it waits to be started again, or for what its source stands on
	InFlight      atomic.Int64 // messages read and not settled
	InFlightBytes atomic.Int64
	lag           atomic.Int64 // nanoseconds; see CurrentLag

	// Behind is how much there is that the source has not read.
	Behind Behind

	reasons  reasons
	leftOut  leftOut
	failures failures

	// Watch, if set before the pipeline is opened, is told what reports need beside these.
	Watch *Watch

	// Machine, if set, says that it is a machine's.
	Machine *Machine

	flights                 flights
	degraded, read, settled moment
	components              []component
	reads, writes           []string // queues

	routing sync.Mutex
	routes  []*Sink

	// Target counts for all targets together; see [Pipeline.Route] for each of several.
	Target, Filter, Failure, Overflow, Backup Sink

	Latency   prometheus.Histogram // from read to settled, seconds
	Transform prometheus.Histogram // of one read, through all transforms, seconds
	Lag       prometheus.Histogram // from created to settled, seconds
}

// Sink is what one of a pipeline's targets has done.
type Sink struct {
	Role         string
	Written      atomic.Int64 // messages
	WrittenBytes atomic.Int64
	Writes       atomic.Int64 // attempts
	Failures     [fault.Fatal + 1]atomic.Int64
	Retries      atomic.Int64
	broken       atomic.Bool // somebody must change something; see [Watch.Setup]
	written      moment
	failing      moment
	ailing       atomic.Pointer[func(func(destination string, since time.Time))]
	blame        blame
	Duration     prometheus.Histogram // of one attempt, seconds
}

var durations = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewPipeline returns the counters of the pipeline called name.
func NewPipeline(name string) *Pipeline {
	p := &Pipeline{Name: name}
	p.Latency, p.Transform, p.Lag = settleSeconds.Histogram(name), transformSeconds.Histogram(name), lagSeconds.Histogram(name)
	for role, s := range map[string]*Sink{RoleTarget: &p.Target, RoleFilter: &p.Filter, RoleFailure: &p.Failure, RoleOverflow: &p.Overflow, RoleBackup: &p.Backup} {
		s.begin(name, role)
	}
	return p
}

// Route is the meter of one of several targets; its role is "target.NAME". The same name
// gives the same meter.
func (p *Pipeline) Route(name string) *Sink {
	p.routing.Lock()
	defer p.routing.Unlock()
	role := RoleTarget + "." + name
	for _, s := range p.routes {
		if s.Role == role {
			return s
		}
	}
	s := &Sink{}
	s.begin(p.Name, role)
	p.routes = append(p.routes, s)
	return s
}

// Sinks are the sinks of the pipeline: where there are several targets, each of them for
// itself.
func (p *Pipeline) Sinks() []*Sink {
	p.routing.Lock()
	defer p.routing.Unlock()
	all := append(slices.Clone(p.routes), &p.Filter, &p.Failure)
	if len(p.routes) == 0 {
		all = append([]*Sink{&p.Target}, all...)
	}
	for _, s := range []*Sink{&p.Backup, &p.Overflow} { // few pipelines have one
		if s.Writes.Load() > 0 {
			all = append(all, s)
		}
	}
	return all
}

// begin names s and makes its histogram.
func (s *Sink) begin(pipeline, role string) {
	s.Role = role
	s.Duration = writeSeconds.Histogram(pipeline, role)
}

// Behind is how far a source is behind, as it said when it was asked last.
type Behind struct {
	mu     sync.Mutex
	values [3]int64 // messages, bytes and nanoseconds, each one more than it is; 0 is not known
}

// Set replaces what is known; what is negative is not known.
func (b *Behind) Set(messages, bytes int64, age time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values = [3]int64{max(messages, -1) + 1, max(bytes, -1) + 1, max(int64(age), -1) + 1}
}

// Get is what was set last; -1 where it is not known.
func (b *Behind) Get() (messages, bytes int64, age time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.values[0] - 1, b.values[1] - 1, time.Duration(b.values[2] - 1)
}

// reasons counts filtered messages by why they were.
type reasons struct {
	mu     sync.Mutex
	counts map[Reason]int64
}

// FilteredFor counts n messages that a transform dropped for a reason. No more than
// [MaxReasons] are told apart.
func (p *Pipeline) FilteredFor(reason string, n int64) {
	p.reasons.mu.Lock()
	defer p.reasons.mu.Unlock()
	count(&p.reasons.counts, Reason{Description: clip(strings.ToValidUTF8(reason, "\uFFFD"))}, n)
}

// FilteredReasons is how many messages were dropped on purpose, by reason.
func (p *Pipeline) FilteredReasons() map[string]int64 {
	p.reasons.mu.Lock()
	defer p.reasons.mu.Unlock()
	all := make(map[string]int64, len(p.reasons.counts))
	for r, n := range p.reasons.counts {
		if r == OtherReason {
			r.Description = r.Code
		}
		all[r.Description] += n
	}
	return all
}

// leftOut counts by destination and reason what went to others only, or to nobody.
type leftOut struct {
	mu sync.Mutex
	by tally
}

// LeaveOut counts n messages of which a destination got nothing for a reason. Destinations beyond
// [MaxLabels], and reasons beyond [MaxReasons], are not told apart.
func (p *Pipeline) LeaveOut(destination, reason string, n int64) {
	p.leftOut.mu.Lock()
	defer p.leftOut.mu.Unlock()
	p.leftOut.by.count(destination, p.leftOut.by.outcome(Label(reason)), n)
}

// LeftOut is how many messages a destination got nothing of for a reason.
type LeftOut struct{ Destination, Reason string }

// LeftOut is how many messages each destination got nothing of, by reason.
func (p *Pipeline) LeftOut() map[LeftOut]int64 {
	p.leftOut.mu.Lock()
	defer p.leftOut.mu.Unlock()
	all := make(map[LeftOut]int64, len(p.leftOut.by.counts))
	for k, n := range p.leftOut.by.counts {
		all[LeftOut{k.name, k.outcome}] = n
	}
	return all
}

// StateFailure is a failure of a state of a machine and what became of it.
type StateFailure struct{ State, Error, Outcome string }

type failures struct {
	mu     sync.Mutex
	counts map[StateFailure]int64
}

// StateFailed counts a failure of a state. No more than [MaxReasons] are told apart.
func (p *Pipeline) StateFailed(f StateFailure) {
	for _, s := range [...]*string{&f.State, &f.Error, &f.Outcome} {
		*s = clip(strings.ToValidUTF8(*s, "\uFFFD"))
	}
	p.failures.mu.Lock()
	defer p.failures.mu.Unlock()
	if p.failures.counts == nil {
		p.failures.counts = map[StateFailure]int64{}
	}
	if _, known := p.failures.counts[f]; !known && len(p.failures.counts) >= MaxReasons {
		f = StateFailure{OtherReason.Code, OtherReason.Code, f.Outcome}
	}
	p.failures.counts[f]++
}

// StateFailures is how often states failed.
func (p *Pipeline) StateFailures() map[StateFailure]int64 {
	p.failures.mu.Lock()
	defer p.failures.mu.Unlock()
	return maps.Clone(p.failures.counts)
}

// Settled notes that a batch read at read, its oldest message created at created, is settled.
func (p *Pipeline) Settled(read, created time.Time) {
	now := time.Now()
	if !read.IsZero() {
		p.Latency.Observe(now.Sub(read).Seconds())
	}
	if !created.IsZero() {
		p.Lag.Observe(max(now.Sub(created).Seconds(), 0))
		p.lag.Store(int64(max(now.Sub(created), 0)))
	}
}

// CurrentLag is the age the oldest message of the last settled batch had then.
func (p *Pipeline) CurrentLag() time.Duration { return time.Duration(p.lag.Load()) }
