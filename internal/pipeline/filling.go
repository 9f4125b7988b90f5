package pipeline

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// filling is a batch that is filling, of one group of messages.
type filling struct {
	group string
	batch event.Batch
	bytes int       // as the target counts them
	due   time.Time // when it leaves however full it is; zero until a time was set
	begun uint64    // the how many-th it was that began to fill
}

// measured is what a target says of a message: how large it is, which messages it may travel
// with, and whether with any.
type measured struct {
	size  int
	group string
	alone bool
}

// measure asks the target about m. A panic is m's error (invariant 3).
func (s *sink) measure(m *event.Message) (x measured, err error) {
	lim := &s.limits
	x.size = len(m.Data)
	if s.target && !s.finishes {
		if why, unfinished := connector.IsUnfinished(m); unfinished {
			return x, unfinishedHere(why)
		}
	}
	if lim.Size == nil && lim.Group == nil && lim.Alone == nil {
		return x, nil
	}
	err = s.contain(func() error {
		if lim.Size != nil {
			x.size = lim.Size(m)
		}
		if lim.Group != nil {
			x.group = lim.Group(m)
		}
		x.alone = lim.Alone != nil && lim.Alone(m)
		return nil
	})
	return x, invalidPanic(err)
}

// unfinishedHere is the error of an unfinished message that its target cannot finish.
func unfinishedHere(why string) error {
	return fault.Describe(fault.Invalid, fmt.Errorf("it did not pass a step before, and this target cannot finish that: %s", why),
		fault.Detail{Type: "transformation", Code: "400", Safe: "it did not pass a step before"})
}

// large reports whether the target takes no message of a size.
func (s *sink) large(size int) bool {
	return s.limits.MaxMessageBytes > 0 && size > s.limits.MaxMessageBytes
}

// fill is the batch that is filling with the group's messages, nil when there is none. The
// lock is held.
func (l *lane) fill(group string) *filling {
	if l.s.limits.Group != nil {
		return l.byGroup[group]
	}
	if len(l.filling) > 0 {
		return l.filling[0]
	}
	return nil
}

// begin begins a batch of a group. The lock is held.
func (l *lane) begin(group string, room int) *filling {
	l.begun++
	f := &filling{group: group, batch: make(event.Batch, 0, room), begun: l.begun}
	l.filling = append(l.filling, f)
	if l.s.limits.Group != nil {
		if l.byGroup == nil {
			l.byGroup = map[string]*filling{}
		}
		l.byGroup[group] = f
	}
	return f
}

// take ends a batch that is filling. The lock is held.
func (l *lane) take(f *filling) event.Batch {
	i := slices.Index(l.filling, f)
	if l.filling = slices.Delete(l.filling, i, i+1); len(l.filling) == 0 {
		l.filling = nil
	}
	delete(l.byGroup, f.group)
	return f.batch
}

// wave is what of the groups that fill leaves because reading waits for room: those that had begun
// when it was first so. Others go on filling until all of these are settled, which may have made
// room: it is given back by whole reads, and one of those may have messages in every group. The
// lock is held.
func (l *lane) wave() event.Batch {
	if l.filling[0].begun > l.waved {
		if l.writing > 0 || !l.s.p.starving() {
			return nil
		}
		l.waved = l.begun
	}
	n := slices.IndexFunc(l.filling, func(f *filling) bool { return f.begun > l.waved })
	if n < 0 {
		n = len(l.filling)
	}
	return l.join(l.filling[:n])
}

// join ends the first of some batches that are filling, as many as are the share of what may be
// in flight that reading waits for, and makes one batch of them. The lock is held.
func (l *lane) join(some []*filling) event.Batch {
	p := &l.s.p.parts
	n, messages, bytes := 0, 0, 0
	for ; n < len(some) && messages < max(p.InFlightMessages/roomShare, 1) && bytes < max(p.InFlightBytes/roomShare, 1); n++ {
		messages += len(some[n].batch)
		bytes += some[n].bytes
	}
	if n == 1 {
		return l.take(some[0])
	}
	joint := make(event.Batch, 0, messages)
	for _, f := range slices.Clone(some[:n]) {
		joint = append(joint, l.take(f)...)
	}
	return joint
}

// fitting is the payload of a failure in a form that the failure target takes, by its own
// count. Where it is not the whole one, that is in whole; it is there too where nothing that
// fits can be made. A target may count more than the payload: what that is shows only when
// there is one, so a form that turns out too large is made again with less room.
func (s *sink) fitting(f Failure) (payload, whole []byte, err error) {
	most, m := s.limits.MaxMessageBytes, f.Message
	counted := func(payload []byte) int {
		if s.limits.Size == nil {
			return len(payload)
		}
		return s.limits.Size(&event.Message{Data: payload, Key: m.Key, Meta: m.Meta, Times: m.Times})
	}
	payload, err = s.p.parts.Format.Format(f, 0)
	if err != nil || most <= 0 || counted(payload) <= most {
		return payload, nil, err
	}
	whole = payload
	for limit, before := most, math.MaxInt; ; {
		if payload, err = s.p.parts.Format.Format(f, limit); err != nil {
			return nil, whole, err
		}
		size := counted(payload)
		if size <= most {
			return payload, whole, nil
		}
		// Less by what is too much, or by as much as the target counts for each byte.
		n := len(payload)
		limit = min(max(n-(size-most), n*most/size), n-1)
		if limit <= 0 || n >= before {
			break
		}
		before = n
	}
	spoil(f.Message)
	return nil, whole, fault.New(fault.Setup, fmt.Errorf("it does not fit into the %d bytes that the failure target takes: raise its batching.max_message_bytes", most))
}
