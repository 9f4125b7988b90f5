package pipeline

import (
	"errors"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// watch tells the pipeline's watch, if it has one, what an attempt to write b came to.
func (s *sink) watch(b event.Batch, begin time.Time, took time.Duration, err error) {
	p := s.p.parts.Meter
	if p.Watch == nil {
		return
	}
	if err == nil {
		p.Watch.Healthy(p.Name, s.meter)
		if s.target {
			s.timed(b, nil, begin, took)
		}
		return
	}
	failed := failures(b, err)
	var setup error
	for _, e := range failed {
		if fault.Of(e) == fault.Setup {
			setup = e
		}
		if s.target && e != nil && fault.Of(e) != fault.Invalid && !fault.Paced(e) {
			p.Watch.Failed(e, 1)
		}
	}
	if setup != nil {
		p.Watch.Setup(p.Name, s.meter, setup)
	}
	if s.target {
		s.timed(b, failed, begin, took)
	}
}

// failures is the error of each message of b, nil for one that was written.
func failures(b event.Batch, err error) []error {
	failed := make([]error, len(b))
	var partial *connector.Partial
	isPartial := errors.As(err, &partial)
	for i := range b {
		if failed[i] = err; isPartial {
			failed[i] = partial.Failed[i]
		}
	}
	return failed
}

// timed notes the latencies of an attempt to write b to the target. Messages with an
// error in failed, which may be nil, count for the attempt alone.
func (s *sink) timed(b event.Batch, failed []error, begin time.Time, took time.Duration) {
	w, end := s.p.parts.Meter.Watch, begin.Add(took)
	var spans meter.Spans
	spans[meter.Requesting].Add(took)
	var read, created time.Time // of the message before: most of a batch share theirs
	for i, m := range b {
		if failed != nil && failed[i] != nil {
			continue
		}
		t := &m.Times
		if !t.Read.IsZero() && t.Read != read {
			read = t.Read
			spans[meter.Processing].Add(end.Sub(read))
		}
		if !t.Created.IsZero() && t.Created != created {
			created = t.Created
			spans[meter.Age].Add(end.Sub(created))
		}
		if !t.Transformed.IsZero() {
			spans[meter.Transforming].Add(t.Transformed.Sub(t.TransformStarted))
		}
	}
	untimed := int64(0)
	if w.Collected != nil {
		first, last, timed, unknown := w.Collected(b, failed)
		if untimed = unknown; timed > 0 {
			spans[meter.EndToEnd].Add(end.Sub(first))
			spans[meter.EndToEnd].Add(end.Sub(last))
		}
	}
	w.Observe(&spans, untimed)
}

// watchFiltered notes the latency of messages that were filtered.
func (p *Pipeline) watchFiltered(b event.Batch) {
	w := p.parts.Meter.Watch
	if w == nil {
		return
	}
	now := time.Now()
	var spans meter.Spans
	for _, m := range b {
		if !m.Times.Read.IsZero() {
			spans[meter.Filtering].Add(now.Sub(m.Times.Read))
		}
	}
	w.Observe(&spans, 0)
}
