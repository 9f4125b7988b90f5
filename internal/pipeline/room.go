package pipeline

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
)

// inFlight is what the budget has given out.
type inFlight struct{ messages, bytes atomic.Int64 }

func (f *inFlight) add(messages, bytes int64) {
	f.messages.Add(messages)
	f.bytes.Add(bytes)
}

const (
	// roomShare is the part of the budget that is waited for before a read, so that a pipeline
	// that is full does not read a message here and a message there.
	roomShare = 8
	// roomPatience is how long it is waited for, since what is in flight may stay there.
	roomPatience = 20 * time.Millisecond
)

// room waits until there is room for a message, and is how much a read may return now, and
// what is set aside for it of the process's budget. ok is false when reading has ended.
func (p *Pipeline) room(reading context.Context) (r connector.Room, reserved int64, ok bool) {
	share := func(all int) int64 { return max(int64(all)/roomShare, 1) }
	messages, bytes := share(p.parts.InFlightMessages), share(p.parts.InFlightBytes)
	if !p.tryAcquire(messages, bytes) {
		patience, done := context.WithTimeout(reading, roomPatience)
		ok = p.acquire(patience, messages, bytes)
		done()
		if !ok {
			messages, bytes = 1, 1
			if !p.acquire(reading, messages, bytes) {
				return r, 0, false
			}
		}
	}
	p.release(messages, bytes)
	if reserved, ok = p.processRoom(reading); !ok {
		return r, 0, false
	}
	return connector.Room{
		Messages: max(p.parts.InFlightMessages-int(p.held.messages.Load()), 1),
		Bytes:    int(max(min(int64(p.parts.InFlightBytes)-p.held.bytes.Load(), reserved), 1)),
	}, reserved, true
}

// processRoom waits until the process may hold more, unless the pipeline holds nothing, and
// sets aside what a read may take of it.
func (p *Pipeline) processRoom(reading context.Context) (reserved int64, ok bool) {
	for {
		want := int64(p.parts.InFlightBytes) - p.held.bytes.Load()
		if reserved = p.parts.Process.reserve(want, p.flows.freed); reserved > 0 || p.held.messages.Load() == 0 {
			return reserved, true
		}
		end := p.starve(math.MaxInt64, math.MaxInt64)
		select {
		case <-p.flows.freed:
			end()
		case <-reading.Done():
			end()
			return 0, false
		}
	}
}

// acquire waits for room in flight; false means that the work was cut. While it waits,
// batches that are filling leave without waiting for more: what would fill them is what
// there is no room for.
func (p *Pipeline) acquire(work context.Context, messages, bytes int64) bool {
	if !p.tryAcquire(messages, bytes) {
		end := p.starve(messages, bytes)
		defer end()
		if p.budget.messages.Acquire(work, messages) != nil {
			return false
		}
		if p.budget.bytes.Acquire(work, bytes) != nil {
			p.budget.messages.Release(messages)
			return false
		}
		p.held.add(messages, bytes)
	}
	return true
}

// starve has batches that are filling leave, until it is ended: so much is waited for.
func (p *Pipeline) starve(messages, bytes int64) (end func()) {
	p.wanted.messages.Store(messages)
	p.wanted.bytes.Store(bytes)
	p.starved.Store(true)
	for _, s := range p.sinks.all() {
		s.each((*lane).poke)
	}
	return func() { p.starved.Store(false) }
}

// starving reports whether there is still no room for what is waited for, as far as is settled.
func (p *Pipeline) starving() bool {
	return p.starved.Load() && (p.wanted.messages.Load() > int64(p.parts.InFlightMessages)-p.held.messages.Load() ||
		p.wanted.bytes.Load() > int64(p.parts.InFlightBytes)-p.held.bytes.Load())
}

func (p *Pipeline) tryAcquire(messages, bytes int64) bool {
	if !p.budget.messages.TryAcquire(messages) {
		return false
	}
	if !p.budget.bytes.TryAcquire(bytes) {
		p.budget.messages.Release(messages)
		return false
	}
	p.held.add(messages, bytes)
	return true
}

// release gives back what was acquired.
func (p *Pipeline) release(messages, bytes int64) {
	p.held.add(-messages, -bytes)
	p.budget.messages.Release(messages)
	p.budget.bytes.Release(bytes)
}
