package kinesissource

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

// cursor is where Read is within the record that is next.
type cursor struct {
	// resume says that records may come that begin covers.
	resume bool
	seen   bool // of records, the first one
	users  []aggregate.Record
	open   bool // users are those of the record that is next
	user   int  // the next of them
	// whole is the last record all of which was read.
	whole lease.Position
	kept  []byte // its data, when it was not taken apart
}

// entry is one message to be made.
type entry struct {
	record *types.Record
	user   *aggregate.Record // nil when the record is one message
	sub    uint64
}

// builder collects the messages of one read.
type builder struct {
	messages, bytes int // most
	size            int
	full            bool
	entries         []entry
}

func (b *builder) begin(room connector.Room, most int) {
	b.messages, b.bytes = room.Within(most, 0)
	if room.Bytes > 0 {
		b.bytes = room.Bytes
	}
	b.size, b.full, b.entries = 0, false, b.entries[:0]
}

// fits reports whether another message of so many bytes may be read.
func (b *builder) fits(bytes int) bool {
	if len(b.entries) > 0 && (len(b.entries) >= b.messages || b.bytes > 0 && b.size+bytes > b.bytes) {
		b.full = true
		return false
	}
	return true
}

func (b *builder) add(e entry, bytes int) {
	b.entries = append(b.entries, e)
	b.size += bytes
}

// segment is the messages of one shard in a read.
type segment struct {
	shard    *shard
	from, to int
	resolve  func() (lease.Position, bool)
}

// read takes the messages there is room for, of the shards in turn.
func (n *session) read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	b := &n.reads
	b.begin(room, n.config.MaxBatchMessages)
	var segments []segment
	for !b.full {
		sh := n.turn()
		if sh == nil {
			break
		}
		g := segment{shard: sh, from: len(b.entries)}
		p, progress := sh.take(b)
		g.to = len(b.entries)
		if progress {
			var err error
			if g.resolve, err = sh.tracker.Track(ctx, p); err != nil {
				return nil, nil, err // the session's end; it is read again
			}
			segments = append(segments, g)
		}
		n.back(sh)
	}
	batch := n.build(b.entries, segments)
	open := segments[:0]
	for _, g := range segments {
		if g.from == g.to { // everything was left out
			g.shard.settled(g.resolve)
			continue
		}
		open = append(open, g)
	}
	return batch, func(_ context.Context, o event.Outcomes) error { settle(open, o); return nil }, nil
}

// settle resolves the segments all of whose messages are handled.
func settle(segments []segment, o event.Outcomes) {
	for _, g := range segments {
		if o == nil || o[g.from:g.to].Err() == nil {
			g.shard.settled(g.resolve)
		}
	}
}

// turn takes the shard whose turn it is.
func (n *session) turn() *shard {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.ready) > 0 {
		sh := n.ready[0]
		n.ready = n.ready[1:]
		if sh.lease.Held() {
			return sh
		}
		sh.gone = true
		sh.drop()
	}
	return nil
}

// back has a shard wait for its next turn, or tells its reader that all was taken.
func (n *session) back(sh *shard) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case sh.gone:
		sh.drop()
	case sh.next < len(sh.records):
		sh.waits(&sh.records[sh.next])
		n.ready = append(n.ready, sh)
		return
	default:
		sh.full, sh.records, sh.next = false, nil, 0
		sh.waits(nil)
	}
	select {
	case sh.drained <- struct{}{}:
	default:
	}
}

// take puts what fits into b. The position is up to where the shard was read then; progress
// says that it has moved.
func (sh *shard) take(b *builder) (p lease.Position, progress bool) {
	c := &sh.cursor
	for sh.next < len(sh.records) {
		r := &sh.records[sh.next]
		if !c.open && !sh.begins(r) {
			sh.done(r, &progress) // covered by what was done before
			continue
		}
		if c.users == nil {
			if !b.fits(len(r.Data)) {
				break
			}
			b.add(entry{record: r}, len(r.Data))
			sh.done(r, &progress)
			continue
		}
		for ; c.user < len(c.users); c.user++ {
			u := &c.users[c.user]
			foreign := sh.foreign(u)
			drop := foreign && sh.n.config.ForeignRecords == foreignDrop
			if !drop && !b.fits(len(u.Data)) {
				return sh.reached(r), progress
			}
			if foreign {
				sh.n.foreign.add(1)
			}
			if !drop {
				b.add(entry{r, u, uint64(c.user)}, len(u.Data))
			}
			progress = true
		}
		sh.done(r, &progress)
	}
	return sh.whole(), progress
}

// whole is the position of the last record that was read to its end. One that was not taken
// apart counts as all that is in it, for those who will.
func (sh *shard) whole() lease.Position {
	c := &sh.cursor
	if c.kept != nil {
		if users, _ := aggregate.Read(nil, c.kept); len(users) > 0 {
			c.whole.Sub = uint64(len(users) - 1)
		}
		c.kept = nil
	}
	return c.whole
}

// reached is the position within a record that is not read to its end.
func (sh *shard) reached(r *types.Record) lease.Position {
	if c := &sh.cursor; sh.n.within && c.user > 0 {
		return lease.Position{Sequence: *r.SequenceNumber, Sub: uint64(c.user - 1)}
	}
	return sh.whole()
}

// begins opens a record, unless what was done before covers all of it.
func (sh *shard) begins(r *types.Record) bool {
	c := &sh.cursor
	c.open, c.user, c.users = true, 0, nil
	if sh.n.apart {
		// Those who made messages of the users before keep them: the memory is not used again.
		users, kind := aggregate.Read(nil, r.Data)
		c.users = users
		if kind == aggregate.Broken {
			sh.n.broken.add(1)
		}
	}
	first := !c.seen
	c.seen = true
	if sh.afresh.Load() {
		c.resume = false
	}
	if !c.resume {
		return true
	}
	order := compareSequences(*r.SequenceNumber, sh.begin.Sequence)
	if order > 0 {
		c.resume = false
		if first {
			sh.log.Warn("the stream does not hold the record any more up to which the shard was read: what came behind it may have been trimmed before it was read",
				"position", sh.begin.String(), "first", *r.SequenceNumber)
		}
		return true
	}
	switch {
	case order < 0 || !sh.n.within:
		return false
	case c.users != nil:
		c.user = int(min(sh.begin.Sub+1, uint64(len(c.users))))
		return c.user < len(c.users)
	case sh.begin.Sub > 0: // others have kept a place in it
		users, _ := aggregate.Read(nil, r.Data)
		return sh.begin.Sub+1 < uint64(len(users))
	}
	return false
}

// done goes on to the next record.
func (sh *shard) done(r *types.Record, progress *bool) {
	c := &sh.cursor
	c.whole = lease.Position{Sequence: *r.SequenceNumber}
	if n := len(c.users); n > 0 && sh.n.within {
		c.whole.Sub = uint64(n - 1)
	}
	if c.kept = nil; !sh.n.apart && sh.n.within {
		c.kept = r.Data
	}
	c.open, c.user, c.users = false, 0, nil
	sh.n.budget.add(-cost(r))
	sh.next++
	*progress = true
}

// build makes the messages of a read.
func (n *session) build(entries []entry, segments []segment) event.Batch {
	if len(entries) == 0 {
		return nil
	}
	payloads, size := make([][]byte, len(entries)), 0
	for i := range entries {
		e := &entries[i]
		if payloads[i] = e.record.Data; e.user != nil {
			payloads[i] = e.user.Data
		} else if payloads[i] == nil {
			payloads[i] = []byte{}
		}
		size += 1 + len(*e.record.SequenceNumber)
	}
	batch := event.NewBatch(time.Now().UTC(), payloads)
	origins, positions := make([]event.Origin, len(entries)), make([]byte, 0, size)
	for _, g := range segments {
		for i := g.from; i < g.to; i++ {
			e, o := &entries[i], &origins[i]
			o.Stream, o.Partition, o.Sub = n.config.StreamName, g.shard.id, e.sub
			if i > g.from && entries[i-1].record == e.record {
				o.Position = origins[i-1].Position
			} else {
				at := len(positions)
				positions, _ = putSequence(positions, *e.record.SequenceNumber) // which was read before
				o.Position = positions[at:len(positions):len(positions)]
			}
			n.describeMessage(batch[i], e, o)
		}
	}
	clear(entries) // what is read must not be kept alive
	return batch
}

// describeMessage gives a message what is known of it beside its payload.
func (n *session) describeMessage(m *event.Message, e *entry, o *event.Origin) {
	r := e.record
	if t := r.ApproximateArrivalTimestamp; t != nil {
		o.At = t.UTC()
		m.Times.Created = o.At
	}
	m.Meta.Origin, m.Meta.ID = o, *r.SequenceNumber
	if e.user != nil {
		m.Meta.ID += "/" + strconv.FormatUint(e.sub, 10)
	}
	if n.config.PartitionKey != keySource {
		return
	}
	if e.user != nil {
		m.Key = e.user.Key
	} else if r.PartitionKey != nil {
		m.Key = *r.PartitionKey
	}
}
