package queuesource

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// positionBytes is the size of a position: the number of the batch that the job was appended
// with, and that of the job in it.
const positionBytes = 12

// drift is a difference of clocks that is none.
const drift = 100 * time.Millisecond

// messages is the messages of jobs, as read now. Those that follow each other share what
// is the same of them.
func messages(jobs []queue.Job, store time.Time) event.Batch {
	now := time.Now().UTC()
	// What became of a job is known by the clock of the store; how long ago that is counts.
	ahead := store.Sub(now)
	if ahead.Abs() < drift {
		ahead = 0
	}
	b := make(event.Batch, len(jobs))
	var scope *event.Scope
	var delivery *event.Delivery
	origins := make([]event.Origin, len(jobs))
	positions := make([]byte, 0, positionBytes*len(jobs))
	lane := ""
	for i := range jobs {
		j := &jobs[i]
		if scope == nil || *scope != j.Scope {
			scope = new(event.Scope)
			*scope = j.Scope
		}
		if delivery == nil || delivery.Attempt != j.Attempt || !delivery.Since.Equal(j.At.Add(-ahead)) {
			delivery = &event.Delivery{Attempt: j.Attempt, Since: j.At.Add(-ahead)}
		}
		m := j.Msg
		m.Meta.Scope, m.Meta.Delivery = scope, delivery
		m.Times.Read = now
		if i == 0 || j.ID.Lane != jobs[i-1].ID.Lane {
			lane = strconv.FormatUint(j.ID.Lane, 10)
		}
		positions = binary.BigEndian.AppendUint32(event.PutNumber(positions, j.ID.Seq), j.ID.Index)
		origins[i] = event.Origin{Stream: j.Queue, Partition: lane, Position: positions[positionBytes*i:], At: j.At, First: m.Meta.Origin.Earliest()}
		origins[i].Position = origins[i].Position[:positionBytes:positionBytes]
		m.Meta.Origin = &origins[i]
		b[i] = m
	}
	return b
}
