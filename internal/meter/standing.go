package meter

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MaxLabels bounds how many destinations, and sources, of one pipeline have numbers of their
// own, and how many of one queue; what is beyond counts as [Other].
const MaxLabels = 1000

// Other is the value of a label for all that found no place of its own.
const Other = "other"

// moment is a time that is set by many goroutines; zero: never.
type moment struct{ at atomic.Int64 }

func (m *moment) now() { m.at.Store(time.Now().UnixNano()) }

// begin sets the time unless it is set.
func (m *moment) begin() { m.at.CompareAndSwap(0, time.Now().UnixNano()) }

// clear has it never have been. What is zero is not written: most are, and are looked at often.
func (m *moment) clear() {
	if m.at.Load() != 0 {
		m.at.Store(0)
	}
}

// seconds is the time as Prometheus has it; false when it was never.
func (m *moment) seconds() (float64, bool) {
	ns := m.at.Load()
	return float64(ns) / 1e9, ns != 0
}

// Flight is one read that is not settled.
type Flight struct {
	at         time.Time
	prev, next *Flight
}

// flights are the reads that are not settled, in their order.
type flights struct {
	mu          sync.Mutex
	first, last *Flight
}

func (f *flights) add(x *Flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.prev = f.last; x.prev != nil {
		x.prev.next = x
	} else {
		f.first = x
	}
	f.last = x
}

func (f *flights) remove(x *Flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		f.first = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	} else {
		f.last = x.prev
	}
	x.prev, x.next = nil, nil
}

// oldest is how long the first has been under way; 0 without any.
func (f *flights) oldest() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		return 0
	}
	return max(time.Since(f.first.at), 0)
}

// Begin notes that something was read, and is what [Pipeline.Done] is to be given once it is
// settled.
func (p *Pipeline) Begin(messages, bytes int64) *Flight {
	p.Read.Add(messages)
	p.ReadBytes.Add(bytes)
	p.InFlight.Add(messages)
	p.InFlightBytes.Add(bytes)
	x := &Flight{at: time.Now()}
	p.read.at.Store(x.at.UnixNano())
	p.flights.add(x)
	return x
}

// Done notes that a read is settled, which was of so much.
func (p *Pipeline) Done(x *Flight, messages, bytes int64) {
	p.InFlight.Add(-messages)
	p.InFlightBytes.Add(-bytes)
	p.flights.remove(x)
	p.settled.now()
}

// SetDegraded says whether the pipeline is degraded.
func (p *Pipeline) SetDegraded(is bool) {
	if is {
		p.degraded.begin()
		p.Degraded.Store(1)
		return
	}
	p.Degraded.Store(0)
	p.degraded.clear()
}

// component is a connector of a pipeline that has numbers of its own.
type component struct {
	name string
	Measured
}

// Attach has what v measures shown as of a component of the pipeline, before that is shown.
func (p *Pipeline) Attach(name string, v any) {
	if m, can := v.(Measured); can {
		p.components = append(p.components, component{name, m})
	}
}

// Join says which queues the pipeline reads and writes, before it is shown.
func (p *Pipeline) Join(reads, writes []string) { p.reads, p.writes = reads, writes }

// standing shows what stands still, and since when.
func (p *Pipeline) standing(emit Emit) {
	for d, m := range map[*Definition]*moment{degradedSince: &p.degraded, lastRead: &p.read, lastSettled: &p.settled} {
		if at, was := m.seconds(); was {
			emit(d, at, p.Name)
		}
	}
	emit(oldestFlight, p.flights.oldest().Seconds(), p.Name)
	for _, q := range p.reads {
		emit(pipelineQueue, 1, p.Name, q, "reads")
	}
	for _, q := range p.writes {
		emit(pipelineQueue, 1, p.Name, q, "writes")
	}
}

// Wrote notes that messages are durable at the target.
func (s *Sink) Wrote(messages, bytes int64) {
	if messages == 0 {
		return
	}
	s.Written.Add(messages)
	s.WrittenBytes.Add(bytes)
	s.written.now()
}

// Attempted notes how an attempt to write ended: whether nothing of it came through. Where
// Ailing is set, that says more.
func (s *Sink) Attempted(failed bool) {
	if failed {
		s.failing.begin()
	} else {
		s.failing.clear()
	}
}

// Ailing has each say, at every scrape, for which destinations writes fail and since when.
func (s *Sink) Ailing(each func(func(destination string, since time.Time))) { s.ailing.Store(&each) }

// Outcomes of messages that a target does not take.
const (
	OutcomeAgain  = "again"
	OutcomeDead   = "dead"
	OutcomeFailed = "failed"
	OutcomeCut    = "cut"
)

// Blame counts n messages that a target did not take, for whom they were and from whom.
func (s *Sink) Blame(destination, source, outcome string, n int64) {
	s.blame.mu.Lock()
	defer s.blame.mu.Unlock()
	for i, name := range [2]string{destination, source} {
		s.blame.by[i].count(name, outcome, n)
	}
}

// blame is whose messages failed, by destination and by source.
type blame struct {
	mu sync.Mutex
	by [2]tally
}

type tallied struct{ name, outcome string }

// tally counts by a name and an outcome; no more than [MaxLabels] names are told apart.
type tally struct {
	names    map[string]struct{}
	outcomes map[string]struct{} // of those that come from outside
	counts   map[tallied]int64
}

// outcome is what an outcome is counted as that comes from outside: no more than [MaxReasons]
// are told apart.
func (t *tally) outcome(s string) string {
	if _, known := t.outcomes[s]; known {
		return s
	}
	if len(t.outcomes) >= MaxReasons {
		return Other
	}
	if t.outcomes == nil {
		t.outcomes = map[string]struct{}{}
	}
	t.outcomes[s] = struct{}{}
	return s
}

func (t *tally) count(name, outcome string, n int64) {
	if name == "" {
		return
	}
	if t.names == nil {
		t.names, t.counts = map[string]struct{}{}, map[tallied]int64{}
	}
	name = Label(name)
	if _, known := t.names[name]; !known {
		if len(t.names) >= MaxLabels {
			name = Other
		} else {
			t.names[name] = struct{}{}
		}
	}
	t.counts[tallied{name, outcome}] += n
}

// Label is a name from outside as the value of a label.
func Label(s string) string { return clip(strings.ToValidUTF8(s, "\uFFFD")) }

// standing shows since when the target takes nothing, and whose messages it did not take.
func (s *Sink) standing(pipeline string, emit Emit) {
	if at, was := s.written.seconds(); was {
		emit(lastWritten, at, pipeline, s.Role)
	}
	since := map[string]float64{}
	if at, is := s.failing.seconds(); is {
		since[""] = at
	}
	if each := s.ailing.Load(); each != nil {
		(*each)(func(destination string, at time.Time) {
			name, t := Label(destination), float64(at.UnixNano())/1e9
			if before, known := since[name]; !known && len(since) >= MaxLabels {
				name = Other
			} else if known && before < t {
				return
			}
			if before, known := since[name]; !known || t < before {
				since[name] = t
			}
		})
	}
	if len(since) > 1 {
		delete(since, "") // it is known which
	}
	for destination, at := range since {
		emit(failingSince, at, pipeline, s.Role, destination)
	}
	s.blame.mu.Lock()
	defer s.blame.mu.Unlock()
	for i := range s.blame.by {
		for k, n := range s.blame.by[i].counts {
			emit(blamedOn[i], float64(n), pipeline, s.Role, k.name, k.outcome)
		}
	}
}

// Machine is what a machine does, beside what its [Pipeline] counts.
type Machine struct {
	Name    string
	Started atomic.Int64
	Ended   [machineEnds]atomic.Int64
}

// The ways in which an execution ends, as places in [Machine].Ended.
const (
	Succeeded = iota
	Failed
	Aborted
	TimedOut
	Refused // nothing could be made of it
	machineEnds
)

func (m *Machine) collect(pipeline string, emit Emit) {
	emit(executionsStarted, float64(m.Started.Load()), pipeline, m.Name)
	for i, status := range [machineEnds]string{"succeeded", "failed", "aborted", "timed_out", "refused"} {
		emit(executionsEnded, float64(m.Ended[i].Load()), pipeline, m.Name, status)
	}
}

// Process shows what runs: its value is the version and the commit.
type Process struct{ Version, Commit string }

// Describe implements prometheus.Collector.
func (Process) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (p Process) Collect(ch chan<- prometheus.Metric) {
	ch <- buildInfo.metric(1, p.Version, p.Commit, runtime.Version())
}

// Memory shows how much memory the process may take, 0 without a limit, and whether it is short.
type Memory func() (limit int64, short bool)

// Describe implements prometheus.Collector.
func (Memory) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m Memory) Collect(ch chan<- prometheus.Metric) {
	limit, short := m()
	ch <- memoryLimit.metric(float64(limit))
	ch <- memoryShort.metric(Bool(short))
}

// Responses counts answers by their status, without a look-up.
type Responses struct{ by [500]atomic.Int64 }

// Add counts an answer.
func (r *Responses) Add(status int) {
	if r != nil && status >= 100 && status < 600 {
		r.by[status-100].Add(1)
	}
}

// Measure implements [Measured].
func (r *Responses) Measure(emit Emit) {
	for i := range r.by {
		if n := r.by[i].Load(); n > 0 {
			emit(Answers, float64(n), statusText(i+100))
		}
	}
}

func statusText(code int) string {
	return string([]byte{byte('0' + code/100), byte('0' + code/10%10), byte('0' + code%10)})
}
