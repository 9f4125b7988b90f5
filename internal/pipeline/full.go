package pipeline

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/meter"
)

// A target may have no room for anything (fault.Full): a store that has reached its limit, a disk
// that somebody else has filled, a database that cannot be reached. That says nothing of the messages, so none is given up for it,
// and the log has one line when it begins and one when it is over. What happens to the messages
// is up to the source:
//
//   - Callers that can be told to come back (connector.Refuser) are told so at once, those that
//     wait and those that come.
//   - Any other waits, and so the source is held back.

// fullness is whether the targets of a pipeline have room.
type fullness struct {
	targets []connector.Capacity     // that know it
	seen    atomic.Pointer[noRoomBy] // by a write to another
}

// noRoomBy is what a write has found, and until when that counts: then the next one finds out.
type noRoomBy struct {
	err   error
	until time.Time
}

// now is why a target has no room, as far as that is known without a write.
// Where memory is short there is no room for what comes in either, whatever the targets have.
func (f *fullness) now() error {
	if err := memorylimit.Short(); err != nil {
		return err
	}
	for _, c := range f.targets {
		if err := c.Full(); err != nil {
			return err
		}
	}
	if s := f.seen.Load(); s != nil && time.Now().Before(s.until) {
		return s.err
	}
	return nil
}

// capacities are the targets that know whether they have room.
func (p *Pipeline) capacities() (all []connector.Capacity) {
	for i := range p.routes {
		if c, ok := p.routes[i].Target.(connector.Capacity); ok {
			all = append(all, c)
		}
	}
	return all
}

// refuses reports whether the source's callers can be told that there is no room.
func (p *Pipeline) refuses() bool {
	_, ok := p.parts.Source.(connector.Refuser)
	return ok
}

// Full is why a target of the pipeline has no room; refusing says that the source turns its
// callers away for it.
func (p *Pipeline) Full() (err error, refusing bool) { //nolint:revive // the error is what is asked for
	return p.full.now(), p.refuses()
}

// refused is how many of the outcomes are that there was no room.
func refused(o event.Outcomes) (n int64) {
	for _, err := range o {
		if err != nil && fault.Full(err) {
			n++
		}
	}
	return n
}

// roomState is whether the last writes of a sink found room.
type roomState struct {
	told atomic.Bool // err is set
	mu   sync.Mutex
	err  error     // why not; nil: they did
	last time.Time // when one did not
}

const (
	// roomSettles is how long writes have found room before there is said to be some again: a
	// small one may fit where a large one does not.
	roomSettles = time.Second
	// noRoomFor is how long a write that found none counts, where that has not said it.
	noRoomFor = 5 * time.Second
)

// noteRoom notes how a write ended, and tells of a change.
func (s *sink) noteRoom(err error) {
	full := err != nil && fault.Full(err)
	if !full && !s.room.told.Load() {
		return
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	now := time.Now()
	switch {
	case full:
		s.room.last = now
		if s.room.err == nil {
			if fault.Away(err) {
				s.p.parts.Log.Warn("what is written to cannot be reached; nothing is lost, and it is tried again until it can", meter.KeyComponent, s.meter.Role, meter.KeyError, err)
			} else {
				s.p.parts.Log.Warn("there is no room for what is written; nothing is lost, and it is tried again until there is", meter.KeyComponent, s.meter.Role, meter.KeyError, err)
			}
		}
		s.room.err = err
		s.room.told.Store(true)
		if _, knows := s.base.(connector.Capacity); s.target && !knows {
			s.p.full.seen.Store(&noRoomBy{err, now.Add(cmp.Or(fault.After(err), noRoomFor))})
		}
	case err == nil && s.room.err != nil && now.Sub(s.room.last) >= roomSettles:
		if fault.Away(s.room.err) {
			s.p.parts.Log.Info("what is written to is reached again", meter.KeyComponent, s.meter.Role)
		} else {
			s.p.parts.Log.Info("there is room again for what is written", meter.KeyComponent, s.meter.Role)
		}
		s.room.err = nil
		s.room.told.Store(false)
	}
}
