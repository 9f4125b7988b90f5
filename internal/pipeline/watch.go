package pipeline

import (
	"bytes"
	"errors"
	"time"
	"unsafe"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/snowplow"
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
		if s.target && e != nil && fault.Of(e) != fault.Invalid {
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
	if w.CollectorTime {
		untimed = endToEnd(b, failed, end, &spans[meter.EndToEnd])
	}
	w.Observe(&spans, untimed)
}

// endToEnd notes how long before end the collector had the written messages of b, and
// returns how many of them do not say. Timestamps in the usual form sort as text, so only
// the first and the last of them are parsed.
func endToEnd(b event.Batch, failed []error, end time.Time, span *meter.Span) (untimed int64) {
	add := func(text string) bool {
		at, err := time.Parse(collectorLayout, text)
		if err == nil {
			span.Add(end.Sub(at))
		}
		return err == nil
	}
	var first, last string
	sorted := int64(0)
	for i, m := range b {
		if failed != nil && failed[i] != nil {
			continue
		}
		switch text := collected(m); {
		case usual(text):
			if sorted++; sorted == 1 {
				first, last = text, text
			}
			first, last = min(first, text), max(last, text)
		case !add(text):
			untimed++
		}
	}
	if sorted == 0 || add(first) && add(last) {
		return untimed
	}
	// One has the form and is no date, such as the 30th of February: each for itself.
	for i, m := range b {
		if failed != nil && failed[i] != nil {
			continue
		}
		if text := collected(m); usual(text) && !add(text) {
			untimed++
		}
	}
	return untimed
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

const collectorLayout = "2006-01-02 15:04:05.999"

// usual reports whether text has the form of a collector's timestamp: digits where it has
// digits, to the second, and then perhaps a fraction.
func usual(text string) bool {
	const form = "0000-00-00 00:00:00."
	if len(text) < len(form)-1 {
		return false
	}
	for i := range len(text) {
		digit := text[i]-'0' <= 9
		if i >= len(form) || form[i] == '0' {
			if !digit {
				return false
			}
		} else if text[i] != form[i] {
			return false
		}
	}
	return true
}

// collected is the text of the collector's timestamp in the Snowplow event that m carries
// or was made from; empty when it is none. Of a payload that is not parsed, no more is read
// than up to that field. The text is valid as long as the payload is.
func collected(m *event.Message) string {
	if e, ok := m.View().(*snowplow.Event); ok {
		return e.Raw(snowplow.CollectorTstamp)
	}
	line := m.Raw()
	for range snowplow.CollectorTstamp {
		tab := bytes.IndexByte(line, '\t')
		if tab < 0 {
			return ""
		}
		line = line[tab+1:]
	}
	return unsafe.String(unsafe.SliceData(line), max(bytes.IndexByte(line, '\t'), 0))
}
