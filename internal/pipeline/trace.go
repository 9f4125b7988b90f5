package pipeline

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/tap"
	"github.com/weirdata/weir/internal/trace"
)

// traced is the spans of one read: the tag of a read of which a message is sampled. Every
// message that descends from such a message finds its span by it ([event.Root]), whatever
// transforms have done to its headers. A nil *traced is of a read that is not traced.
type traced struct {
	settle connector.SettleIn
	told   *informed     // nil: the source need not know what failed
	spans  []*trace.Span // by index in the read; nil is not sampled
	ended  atomic.Bool
}

// openTraces are the reads whose spans have not ended.
type openTraces struct {
	mu   sync.Mutex
	open map[*traced]struct{}
}

// begin begins the spans of a read, and returns the tag to track it with.
func (p *Pipeline) begin(b event.Batch, settle connector.SettleIn) (tag any, t *traced) {
	told := p.informed(b, settle)
	switch {
	case told == nil:
		tag = settle
	case settle == nil:
		tag = told
	default:
		tag, settle = told, told.settle
	}
	if p.parts.Trace == nil {
		return tag, nil
	}
	for i, m := range b {
		s := p.parts.Trace.Begin(p.parts.Name, m)
		if s == nil {
			continue
		}
		if t == nil {
			t = &traced{settle: settle, told: told, spans: make([]*trace.Span, len(b))}
		}
		t.spans[i] = s
	}
	if t == nil {
		return tag, nil
	}
	p.traces.mu.Lock()
	defer p.traces.mu.Unlock()
	if p.traces.open == nil {
		p.traces.open = map[*traced]struct{}{}
	}
	p.traces.open[t] = struct{}{}
	return t, t
}

// end ends the spans of a read that is settled, once.
func (t *traced) end(p *Pipeline, o event.Outcomes) {
	if t == nil || t.ended.Swap(true) {
		return
	}
	p.traces.mu.Lock()
	delete(p.traces.open, t)
	p.traces.mu.Unlock()
	for i, s := range t.spans {
		switch {
		case s == nil:
		case o == nil || o[i] == nil:
			s.End(nil, "")
		default:
			s.End(o[i], outcome(o[i]))
		}
	}
}

// endTraces ends the spans of messages that nothing will settle any more.
func (p *Pipeline) endTraces() {
	p.traces.mu.Lock()
	left := make([]*traced, 0, len(p.traces.open))
	for t := range p.traces.open {
		left = append(left, t)
	}
	p.traces.mu.Unlock()
	for _, t := range left {
		o := make(event.Outcomes, len(t.spans))
		for i := range o {
			o[i] = event.ErrUnsettled
		}
		t.end(p, o)
	}
}

// outcome is what became of a message that ended with err.
func outcome(err error) trace.Outcome {
	var dead *connector.Dead
	var again *connector.Again
	switch {
	case errors.As(err, &dead):
		return trace.Dead
	case errors.As(err, &again):
		return trace.Retried
	case errors.Is(err, event.ErrUnsettled):
		return trace.Unsettled
	}
	return trace.Failed
}

// settleIn is what settles the read with a tag in a transaction, if anything does.
func settleIn(tag any) connector.SettleIn {
	switch t := tagOf(tag).(type) {
	case *traced:
		return t.settle
	case *informed:
		if t.then != nil {
			return t.settle
		}
	case connector.SettleIn:
		return t
	}
	return nil
}

// spanOf is the span of the message that m comes from; nil when it is not sampled.
func spanOf(m *event.Message) *trace.Span {
	tag, i, _, ok := event.Root(m)
	if !ok {
		return nil
	}
	if t, ok := tagOf(tag).(*traced); ok {
		return t.spans[i]
	}
	return nil
}

// look is a message as it was before a transform had it.
type look struct {
	span    *trace.Span // nil: not sampled
	at      time.Time
	data    *byte
	size    int
	key     string
	headers *event.Header
	count   int       // of headers
	tapped  *tap.Seen // nil: nobody listens
}

// before looks at a message of the read that a transform gets next.
func (r *read) before(m *event.Message) (l look) {
	if r.traced != nil {
		if l.span = spanOf(m); l.span != nil {
			l = look{l.span, time.Now(), unsafe.SliceData(m.Data), len(m.Data), m.Key, unsafe.SliceData(m.Meta.Headers), len(m.Meta.Headers), nil}
		}
	}
	if r.taps != nil {
		l.tapped = tap.Before(m)
	}
	return l
}

// changed reports whether m is another message than it was.
func (l *look) changed(m *event.Message) bool {
	return l.data != unsafe.SliceData(m.Data) || l.size != len(m.Data) || l.key != m.Key ||
		l.headers != unsafe.SliceData(m.Meta.Headers) || l.count != len(m.Meta.Headers)
}

// after notes what the i-th transform made of m: out, or an error. One that changed nothing
// leaves no trace.
func (w *worker) after(r *read, l look, i int, m *event.Message, out event.Batch, err error) {
	if l.tapped != nil {
		r.taps.Transformed(i, w.p.step(i), l.tapped, m, out, err)
	}
	if l.span == nil || err == nil && len(out) == 1 && out[0] == m && !l.changed(m) {
		return
	}
	l.span.Transformed(trace.Transform{Name: w.p.step(i), Position: i, Begin: l.at, End: time.Now(), Pieces: len(out), Err: err})
}

// routed prepares the messages of a read to leave: their headers carry on the trace.
func (t *traced) routed(r *read) {
	if t == nil {
		return
	}
	for _, b := range append([]event.Batch{r.batch, r.filtered}, r.routes...) {
		for _, m := range b {
			spanOf(m).Stamp(m)
		}
	}
	for _, m := range r.filtered {
		spanOf(m).Filtered()
	}
}

// traceRefused notes that m goes to the failure target.
func (p *Pipeline) traceRefused(m *event.Message, cause error, oversized bool) {
	if p.parts.Trace == nil {
		return
	}
	s := spanOf(m)
	s.Refused(cause, oversized)
	s.Stamp(m)
}

// tracedWrite is one attempt to write that is traced; nil is one that is not.
type tracedWrite struct {
	attempt *trace.Attempt
	index   []int // in the batch, of the messages that are sampled
}

// traceWrite begins the span of an attempt to write b, if a message of it is sampled.
func (s *sink) traceWrite(ctx context.Context, b event.Batch) (context.Context, *tracedWrite) {
	p := &s.p.parts
	if p.Trace == nil {
		return ctx, nil
	}
	var spans []*trace.Span
	var index []int
	for i, m := range b {
		if x := spanOf(m); x != nil {
			spans, index = append(spans, x), append(index, i)
		}
	}
	if len(spans) == 0 {
		return ctx, nil
	}
	ctx, a := p.Trace.BeginWrite(ctx, trace.Write{Pipeline: p.Name, Role: s.meter.Role, Target: s.use, Delivers: s.target, Batch: b}, spans)
	return ctx, &tracedWrite{a, index}
}

// end ends the span of an attempt to write b that came to err.
func (w *tracedWrite) end(b event.Batch, err error) {
	if w == nil {
		return
	}
	var failed []error
	count := 0
	if err != nil {
		failed = failures(b, err)
		err = nil
		for _, e := range failed { // the gravest stands for all
			if e == nil {
				continue
			}
			if count++; err == nil || fault.Of(e) > fault.Of(err) {
				err = e
			}
		}
	}
	w.attempt.End(err, count, func(i int) bool { return failed == nil || failed[w.index[i]] == nil })
}
