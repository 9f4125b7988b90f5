package kafkasource

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/checkpoint"
)

// place names a partition.
type place struct {
	topic  string
	number int32
}

// position is what is committed: the offset of the next message, with the epoch of the leader
// that the one before it was read from.
type position struct {
	offset int64
	epoch  int32
}

// none is the position of what nothing is known of.
var none = position{offset: -1, epoch: -1}

// partition is a partition that we own: from its assignment until it is revoked or lost. All
// of it is guarded by its session. One that is assigned again is another partition.
type partition struct {
	place
	name    string // the number as a text, which messages share
	tracker *checkpoint.Tracker[position]

	next      int64    // offset after what was handed on; -1 before the first
	free      position // what may be committed
	committed position // what was
	dirty     bool     // free is ahead of committed

	open  int       // portions that were handed on and whose ack has not run
	since time.Time // when the oldest of them was handed on, or the last was settled

	leaving bool // it is revoked: nothing of it is handed on any more
	gone    bool // it is ours no more: nothing of it may be committed

	told time.Time // when it was last said that it waits for a transaction
	held int64     // last stable offset when lag was last asked for
}

// unresolved is more than what is in flight ever is, so that the tracker never blocks: the
// budget of the pipeline bounds it.
const unresolved = 1 << 30

func newPartition(at place) *partition {
	return &partition{place: at, name: strconv.Itoa(int(at.number)), tracker: checkpoint.New[position](unresolved),
		next: -1, free: none, committed: none, held: -1}
}

// portion is what one read handed on of a partition.
type portion struct {
	*partition
	from, to int // in the batch
	resolve  func() (position, bool)
}

// run is records of a partition that were polled and not handed on yet.
type run struct {
	*partition
	records []*kgo.Record
	end     position // after the last of them, and after the marks of transactions behind it
}

// runOf is the messages among records: the marks of transactions are none, but are passed.
func runOf(p *partition, records []*kgo.Record) run {
	last := records[len(records)-1]
	r := run{partition: p, records: records, end: after(last)}
	if slices.ContainsFunc(records, isMark) {
		r.records = slices.DeleteFunc(slices.Clone(records), isMark)
	}
	return r
}

func isMark(r *kgo.Record) bool { return r.Attrs.IsControl() }

// after is the position behind a record.
func after(r *kgo.Record) position { return position{r.Offset + 1, r.LeaderEpoch} }

// pass goes over marks that no message follows yet.
func (p *partition) pass(end position) {
	resolve, err := p.tracker.Track(context.Background(), end)
	if err != nil {
		panic(err) // it never blocks
	}
	p.next = end.offset
	if free, moved := resolve(); moved {
		p.free, p.dirty = free, true
	}
}

// settled notes the outcome of a portion.
func (p *portion) settled(ok bool, now time.Time) {
	p.open--
	p.since = now
	if !ok {
		return // it is never resolved: nothing after it is committed
	}
	if free, moved := p.resolve(); moved {
		p.free, p.dirty = free, true
	}
}

// stuck reports for how long nothing of the partition was settled that is in work.
func (p *partition) stuck(now time.Time) time.Duration {
	if p.open == 0 || p.gone {
		return 0
	}
	return now.Sub(p.since)
}
