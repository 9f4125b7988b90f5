package pipeline

import (
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
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
	p.backUpFailed(fs)
	b := make(event.Batch, 0, len(fs))
	var whole event.Batch
	for _, f := range fs {
		inform(f.Message, f.Cause)
		var r remains
		if err := guard(func() (err error) { r, err = p.remains(f); return err }); err != nil {
			event.Settle(f.Message, fmt.Errorf("%w; its failure payload: %w", f.Cause, err))
			p.fail(fmt.Errorf("make a failure payload: %w", err))
			continue
		}
		if r.whole != nil {
			whole = append(whole, r.whole)
			p.sinks.failure.blame(overflows, f.Message, placed(f))
		}
		if r.cut {
			p.parts.Meter.Cut.Add(1)
			p.sinks.failure.blame(cutShort, f.Message, placed(f))
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
	if s.p.keeps {
		return // what is kept is told of as such
	}
	for from, i := 0, 1; i <= len(fs); i++ { // a line for those of one destination
		to := destinationOf(fs[from].Message)
		if i == len(fs) || destinationOf(fs[i].Message) != to {
			// What is given up of a queue is told of where that is decided.
			if _, up := errors.AsType[*retry.Exhausted](fs[from].Cause); !up || !s.p.redelivers {
				s.told.Note(turnedDown, to, i-from, placed(fs[from]))
				for _, f := range fs[from:i] {
					s.charge(turnedDown, f.Message)
				}
			}
			from = i
		}
	}
}

// placed is why a message failed, and which one it is.
func placed(f Failure) error {
	err := fmt.Errorf("%w; the message: %s", f.Cause, f.Message.Where())
	if d := fault.DetailOf(f.Cause); d.Fix != "" {
		err = fmt.Errorf("%w; %s", err, d.Fix)
	}
	return err
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
	s.blame(overflows, m, err)
	p.overflow(event.Batch{m})
	return true
}

// overflow keeps failures whole that the failure target does not.
func (p *Pipeline) overflow(b event.Batch) {
	if len(b) == 0 {
		return
	}
	p.parts.Meter.Overflowed.Add(int64(len(b)))
	p.sinks.overflow.put(nil, b)
}

// keyFix is the log attribute for what to write into the config.
const keyFix = "fix"
