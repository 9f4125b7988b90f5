package pipeline

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/throttle"
)

// A flow is the messages of one value of an isolated source, from their read until they
// are settled; a pipeline that is not isolated is one flow. What a flow has is its own: its
// share of what may be in flight, the order of its reads, and lanes with writers at each
// target. Targets and workers are shared. A flow exists only while it has messages in
// flight, and costs a few hundred bytes then, so that the number of values that hang is
// bounded by nothing but what they hold.
type flow struct {
	value string

	// Guarded by flows.mu.
	messages, bytes int64 // in flight

	lanes []lanes // by target

	mu      sync.Mutex
	reads   []*read // in their order, until they are routed
	routing bool    // somebody hands the first of them on
}

// flows are the flows of one run.
type flows struct {
	whole *flow // of a pipeline that is not isolated

	mu      sync.Mutex
	byValue map[string]*flow
	// What is in flight and what may be, of all values together.
	messages, bytes         int64
	mostMessages, mostBytes int64
	refused                 bool          // a value that has work got no room
	freed                   chan struct{} // has an element when there may be room for one that got none

	process  *Budget // of all pipelines
	reserved int64   // of it, for the read under way

	rests func(value string) bool // nil: none does
	pace  *throttle.ByValue       // nil: nothing is throttled
	rest  *time.Timer             // signals freed when a value may be written to again
	due   time.Time               // when it does
}

func newFlows(messages, bytes int) *flows {
	return &flows{whole: &flow{}, byValue: map[string]*flow{}, mostMessages: int64(messages), mostBytes: int64(bytes), reserved: math.MaxInt64, freed: make(chan struct{}, 1)}
}

// room is what a value may read now: half of what is left of the pipeline's budget, less
// what it holds. So a value alone gets most of the budget, and among many each gets an equal
// share, with something left for the next. A value that holds nothing may always read one
// message: whatever the others hold, and however many they are, it waits for none of them.
func (f *flows) room(value string) (int, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rests != nil && f.rests(value) {
		f.restFor(restLook)
		return 0, 0
	}
	var held struct{ messages, bytes int64 }
	if v := f.byValue[value]; v != nil {
		held.messages, held.bytes = v.messages, v.bytes
	}
	messages := (f.mostMessages-f.messages)/2 - held.messages
	bytes := min((f.mostBytes-f.bytes)/2-held.bytes, f.reserved)
	if held.messages == 0 {
		messages, bytes = max(messages, 1), max(bytes, 1)
	}
	if messages <= 0 || bytes <= 0 {
		f.refused = true
		return 0, 0
	}
	if f.pace != nil { // what could not be written yet stays in the queue
		allowed, more := f.pace.Of(value).Allowance()
		if messages = min(messages, int64(allowed)-held.messages); messages <= 0 {
			f.restFor(more)
			return 0, 0
		}
	}
	return int(messages), int(bytes)
}

// restLook is how often it is looked whether a value that rests goes on.
const restLook = 5 * time.Second

// restFor has the source asked again after d at the latest. The lock is held.
func (f *flows) restFor(d time.Duration) {
	now := time.Now()
	if f.due.After(now) && !f.due.After(now.Add(d)) {
		return
	}
	f.due = now.Add(d)
	if f.rest == nil {
		f.rest = time.AfterFunc(d, f.signal)
		return
	}
	f.rest.Reset(d)
}

// signal has the source asked again.
func (f *flows) signal() {
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// left is what may be read of all values together: what is left of the budget, or as much as
// the source likes when nothing is, since only values that hold nothing have room then, for a
// message each.
func (f *flows) left() connector.Room {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserved = f.process.reserve(f.mostBytes-f.bytes, f.freed)
	bytes := min(f.mostBytes-f.bytes, f.reserved)
	return connector.Room{Messages: int(max(f.mostMessages-f.messages, 0)), Bytes: int(max(bytes, 0))}
}

// admit counts messages of a value that were read.
func (f *flows) admit(value string, targets int, messages, bytes int64) *flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.byValue[value]
	if v == nil {
		v = &flow{value: value, lanes: make([]lanes, targets)}
		f.byValue[value] = v
	}
	v.messages += messages
	v.bytes += bytes
	f.messages += messages
	f.bytes += bytes
	return v
}

// release counts messages that are settled. The last of a flow ends it.
func (f *flows) release(v *flow, messages, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v.messages -= messages
	v.bytes -= bytes
	f.messages -= messages
	f.bytes -= bytes
	if v.messages == 0 {
		delete(f.byValue, v.value)
	}
	if f.refused {
		f.refused = false
		f.signal()
	}
}

// list is the flows that there are.
func (f *flows) list() []*flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*flow, 0, len(f.byValue))
	for _, v := range f.byValue {
		all = append(all, v)
	}
	return all
}

// enter puts a read behind the earlier ones of its flow.
func (v *flow) enter(r *read) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads = append(v.reads, r)
}

// ready says that the transforms are done with r, and hands on, in the order they were
// read, the reads of the flow that nothing has to be waited for any more.
func (v *flow) ready(r *read, hand func(*read)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r.ready = true
	if v.routing {
		return // whoever is at it goes on with this one
	}
	v.routing = true
	for len(v.reads) > 0 && v.reads[0].ready {
		first := v.reads[0]
		v.reads[0] = nil
		v.reads = v.reads[1:]
		v.mu.Unlock()
		hand(first)
		v.mu.Lock()
	}
	if len(v.reads) == 0 {
		v.reads = nil
	}
	v.routing = false
}

// rota is the reads that wait for a worker. Flows take turns, a read each.
type rota struct {
	most int // reads that may wait; one more waits for room

	mu     sync.Mutex
	change *sync.Cond
	turns  []*flow // that have something to do
	todo   map[*flow][]*read
	count  int
	closed bool
}

func newRota(most int) *rota {
	r := &rota{most: most, todo: map[*flow][]*read{}}
	r.change = sync.NewCond(&r.mu)
	return r
}

// add has a worker take r, once there is room.
func (q *rota) add(r *read) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.most > 0 && q.count >= q.most {
		q.change.Wait()
	}
	q.push(r, false)
}

// again has a worker go on with r when the other flows have had their turn.
func (q *rota) again(r *read) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(r, true)
}

func (q *rota) push(r *read, first bool) {
	waiting := q.todo[r.flow]
	if len(waiting) == 0 {
		q.turns = append(q.turns, r.flow)
	}
	if first {
		waiting = slices.Insert(waiting, 0, r)
	} else {
		waiting = append(waiting, r)
	}
	q.todo[r.flow] = waiting
	q.count++
	q.change.Broadcast()
}

// take waits for a read; nil means that there will be none.
func (q *rota) take() *read {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.turns) == 0 {
		if q.closed {
			return nil
		}
		q.change.Wait()
	}
	v := q.turns[0]
	q.turns[0] = nil
	q.turns = q.turns[1:]
	waiting := q.todo[v]
	r := waiting[0]
	waiting[0] = nil
	if waiting = waiting[1:]; len(waiting) > 0 {
		q.todo[v] = waiting
		q.turns = append(q.turns, v)
	} else {
		delete(q.todo, v)
	}
	q.count--
	q.change.Broadcast()
	return r
}

// contended reports whether another flow waits for a worker.
func (q *rota) contended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.turns) > 0
}

// close says that nothing more will be added.
func (q *rota) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.change.Broadcast()
}

// acker runs the acknowledgements of many small reads, some at a time: each waits for a
// commit that it shares with the others, and a goroutine for each would cost more than its
// messages.
type acker struct {
	mu      sync.Mutex
	waiting []func()
	running int
}

// acksAtOnce is how many acknowledgements of an isolated pipeline wait for a commit at once.
const acksAtOnce = 256

// run runs ack, now or when others have ended. It does not wait.
func (a *acker) run(ack func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running == acksAtOnce {
		a.waiting = append(a.waiting, ack)
		return
	}
	a.running++
	go a.work(ack)
}

func (a *acker) work(ack func()) {
	for ack != nil {
		ack()
		a.mu.Lock()
		if ack = nil; len(a.waiting) > 0 {
			ack = a.waiting[0]
			a.waiting[0] = nil
			a.waiting = a.waiting[1:]
		} else {
			a.waiting = nil
			a.running--
		}
		a.mu.Unlock()
	}
}

// readValues reads from an isolated source until it ends, ctx does, or an error ends the
// pipeline.
func (p *Pipeline) readValues(ctx, work context.Context, todo *rota) {
	var failures readFailures
	for ctx.Err() == nil {
		var portions []connector.Portion
		err := guard(func() (err error) {
			portions, err = p.divided.ReadValues(ctx, p.flows.left(), p.flows.room, p.flows.freed)
			return err
		})
		p.parts.Process.giveBack(p.flows.reserved)
		for _, part := range portions {
			if part.Settle = unspoiled(part.Settle); p.joined == nil {
				part.Settle = nil
			}
			p.admitValue(work, part, todo)
		}
		if !p.goOn(ctx, err, &failures) {
			return
		}
		if err == nil && p.flows.short() {
			select {
			case <-time.After(shortPause):
			case <-ctx.Done():
			}
		}
	}
}

// shortPause is how long is waited after a read in which values got no room: asking each of
// them again whenever one message is settled would cost more than the messages.
const shortPause = 2 * time.Millisecond

// short reports whether a value that has work got no room.
func (f *flows) short() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}
