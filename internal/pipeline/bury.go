package pipeline

import (
	"fmt"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// bury formats failures and hands them to the failure target's sink, all at once, or keeps
// them where they come from. Of a failure that the failure target cannot hold as a whole, it
// gets a form that is cut, and the overflow the whole one (invariant 2).
func (p *Pipeline) bury(fs []Failure) {
	if len(fs) == 0 {
		return
	}
	if p.keeps {
		p.keep(fs)
		return
	}
	b := make(event.Batch, 0, len(fs))
	var whole event.Batch
	for _, f := range fs {
		var r remains
		if err := guard(func() (err error) { r, err = p.remains(f); return err }); err != nil {
			event.Settle(f.Message, fmt.Errorf("%w; its failure payload: %w", f.Cause, err))
			p.fail(fmt.Errorf("make a failure payload: %w", err))
			continue
		}
		if r.whole != nil {
			whole = append(whole, r.whole)
		}
		if r.cut {
			p.parts.Meter.Cut.Add(1)
			cause, which := f.Cause, f.Message.Where()
			p.cutting.note(1, func(n int64) {
				p.parts.Log.Error("failed messages are cut to fit the failure target, and are whole nowhere: raise its batching.max_message_bytes, or set spill = true in failure_target, which keeps them whole in the store",
					meter.KeyMessages, n, meter.KeyError, cause, keyMessage, which)
			})
		}
		if r.row == nil { // nothing that fits can be made of it: the overflow has it
			event.Settle(f.Message, nil)
			continue
		}
		f.Message.Replace(r.row)
		b = append(b, f.Message)
	}
	p.sinks.failure.put(nil, b)
	p.overflow(whole)
}

// noteRefused logs that a target refuses messages, which are buried next.
func (s *sink) noteRefused(fs []Failure) {
	p := s.p
	if len(fs) == 0 || p.keeps {
		return // what is kept is logged as such
	}
	told := refusal(fs[0].Cause, fs[0].Message)
	p.refusals.note(int64(len(fs)), func(n int64) {
		p.parts.Log.Warn("messages are refused and go to the failure target", append(told, meter.KeyComponent, s.meter.Role, meter.KeyMessages, n)...)
	})
}

// remains is what is left of a failed message.
type remains struct {
	row   []byte         // for the failure target; nil when it takes none
	whole *event.Message // for the overflow; nil when the row is whole, or there is no place for it
	cut   bool           // it is whole nowhere
}

func (p *Pipeline) remains(f Failure) (r remains, err error) {
	s, m := p.sinks.failure, f.Message
	row, full, err := s.fitting(f)
	if full != nil {
		if r.whole, r.cut = p.overflowing(f, full), true; r.whole != nil {
			r.cut, err = false, nil
		}
	}
	if err != nil || row == nil {
		return r, err
	}
	if to, stored := s.base.(connector.StoreTarget); stored {
		probe := event.Message{Data: row, Key: m.Key, Meta: m.Meta}
		probe.SetRaw(m.Raw())
		if to.Accepts(&probe) == nil {
			r.cut = false // the queue has the payload as it was read beside the row
		} else {
			m.SetRaw(row) // what was read is more than a queue holds
		}
	}
	r.row = row
	return r, nil
}

// overflowing is the message that keeps a failure whole, nil when there is no place for it.
func (p *Pipeline) overflowing(f Failure, row []byte) *event.Message {
	s, m := p.sinks.overflow, f.Message
	if s == nil {
		return nil
	}
	if most := s.limits.MaxMessageBytes; most > 0 && len(row) > most {
		// The job holds the payload as it was read, however much of it the row has.
		var err error
		if row, err = p.parts.Format.Format(f, most); err != nil {
			return nil
		}
	}
	probe := event.Message{Data: row, Key: m.Key, Meta: m.Meta}
	probe.SetRaw(m.Raw())
	if to, stored := s.base.(connector.StoreTarget); stored && to.Accepts(&probe) != nil {
		return nil
	}
	c := m.Clone()
	c.Replace(row)
	return c
}

// refuge has a failure, which the failure target refuses although it was made for it, kept in
// the overflow instead. It reports false when there is none.
func (p *Pipeline) refuge(s *sink, m *event.Message, err error) bool {
	if s != p.sinks.failure || p.sinks.overflow == nil {
		return false
	}
	p.parts.Log.Error("the failure target refuses a failed message; it is kept in the store", meter.KeyError, err)
	p.overflow(event.Batch{m})
	return true
}

// overflow keeps failures whole that the failure target does not.
func (p *Pipeline) overflow(b event.Batch) {
	if len(b) == 0 {
		return
	}
	p.parts.Meter.Overflowed.Add(int64(len(b)))
	which := b[0].Where()
	p.overflowed.note(int64(len(b)), func(n int64) {
		p.parts.Log.Error("failed messages are larger than the failure target takes: it gets what fits, and they are kept whole in the store; see weir failures ls",
			meter.KeyMessages, n, keyMessage, which)
	})
	p.sinks.overflow.put(nil, b)
}

// The log attributes for which message it is (where it was read, its id, its key), and for what
// to write into the config.
const (
	keyMessage = "message"
	keyFix     = "fix"
)

// refusal is what the log says of a message that is refused.
func refusal(err error, m *event.Message) []any {
	told := []any{meter.KeyError, err}
	if m != nil {
		told = append(told, keyMessage, m.Where())
	}
	if d := fault.DetailOf(err); d.Fix != "" {
		told = append(told, meter.KeyAnswer, d.Answer, keyFix, d.Fix)
	}
	return told
}

// repeats is a log line that would come again and again: it comes at once, and then with what
// has gathered after a while.
type repeats struct {
	mu    sync.Mutex
	again time.Time
	n     int64
	last  func(n int64)
}

// repeatEvery is how often a line is repeated at most.
const repeatEvery = 10 * time.Second

// note counts n more; line logs how many there are since it was last called.
func (r *repeats) note(n int64, line func(n int64)) {
	r.mu.Lock()
	r.n += n
	now := time.Now()
	if now.Before(r.again) {
		r.last = line
		r.mu.Unlock()
		return
	}
	n = r.n
	r.n, r.last, r.again = 0, nil, now.Add(repeatEvery)
	r.mu.Unlock()
	line(n)
}

// flush logs what has gathered.
func (r *repeats) flush() {
	r.mu.Lock()
	line, n := r.last, r.n
	r.n, r.last = 0, nil
	r.mu.Unlock()
	if line != nil {
		line(n)
	}
}
