package runs

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/queue"
)

// Named reports whether a run sent m.
func Named(m *event.Message) bool {
	return m.Meta.Descriptor != nil && m.Meta.Descriptor.JobRun != ""
}

// tally is what one transaction changes, by run.
type tally map[string]map[row]Counts

func (t tally) add(run string, r row, c Counts) {
	rows := t[run]
	if rows == nil {
		rows = map[row]Counts{}
		t[run] = rows
	}
	sum := rows[r]
	sum.add(c)
	rows[r] = sum
}

// Appended counts messages that tx appends to a queue of a stage, and those that it leaves out, which
// say so ([event.Message.Dropped]).
func (b *Book) Appended(tx queue.Tx, stage string, all event.Batch) error {
	var t tally
	for _, m := range all {
		if !Named(m) {
			continue
		}
		if t == nil {
			t = tally{}
		}
		c := Counts{In: 1}
		if m.Dropped() != "" {
			c.Out = 1
		}
		var scope queue.Scope
		if m.Meta.Scope != nil {
			scope = *m.Meta.Scope
		}
		t.add(m.Meta.Descriptor.JobRun, rowOf(stage, m.Meta.Descriptor, scope), c)
	}
	return b.put(tx, t)
}

// End is the end of a job that was leased from a queue of a stage.
type End struct {
	Job *queue.Job
	Why error // it failed, if it is not nil
}

// Ended counts jobs that tx settles for good.
func (b *Book) Ended(tx queue.Tx, stage string, ends []End) error {
	var t tally
	for _, e := range ends {
		if !Named(e.Job.Msg) {
			continue
		}
		if t == nil {
			t = tally{}
		}
		about := e.Job.Msg.Meta.Descriptor
		r := rowOf(stage, about, e.Job.Scope)
		if e.Why == nil {
			t.add(about.JobRun, r, Counts{Out: 1})
			continue
		}
		t.add(about.JobRun, r, Counts{Failed: 1})
		if err := b.note(tx, about.JobRun, r, e); err != nil {
			return err
		}
	}
	return b.put(tx, t)
}

// put notes what a transaction changes, a record for each run.
func (b *Book) put(tx queue.Tx, t tally) error {
	if len(t) == 0 {
		return nil
	}
	now := b.store().Now()
	for run, rows := range t {
		number := binary.BigEndian.AppendUint64(nil, b.number.Add(1))
		if err := queue.Note(tx, join(changes, hash(run), b.writer[:], number), appendChange(nil, run, now, rows)); err != nil {
			return err
		}
	}
	b.wake()
	return nil
}

// StageOf is the stage of a queue, as those have said who have opened it; empty for none.
func StageOf(tx queue.Tx, name string) (string, error) {
	stage, err := tx.Get([]byte(queues + name))
	return string(stage), err
}

const (
	longestRecord = 4 << 10 // bytes of a recordId that is kept
	keyedRecord   = 600     // bytes of it in a key
)

// note notes the record of an event that failed, if the event has one.
func (b *Book) note(tx queue.Tx, run string, r row, e End) error {
	id, ok := recordOf(e.Job.Msg.Raw())
	if !ok {
		return nil
	}
	return queue.Note(tx, recordKey(run, r.hash(), id), appendRecord(nil, r, id, codeOf(e.Why)))
}

// codeOf is the number that the code of an error begins with, or 0.
func codeOf(why error) int {
	number, _, _ := strings.Cut(fault.DetailOf(why).Code, " ")
	code, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return code
}

// recordOf is the text of the recordId of an event.
func recordOf(payload []byte) (string, bool) {
	id, found := jsontext.FindBytes(payload, []string{"recordId"})
	switch text := string(id); {
	case !found, text == "null", text == `""`, len(text) > longestRecord, !jsontext.Valid(text):
		return "", false
	default:
		return text, true
	}
}

// recordKey is the key of a failed record. Those of one row are in order of their texts, as far as
// texts are in keys.
func recordKey(run string, of []byte, id string) []byte {
	if len(id) <= keyedRecord {
		return join(failed, hash(run), of, []byte(id))
	}
	return join(failed, hash(run), of, []byte(id[:keyedRecord]), hash(id))
}

// The values. A later form of one begins with another number.
const form = 1

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func (r row) append(dst []byte) []byte {
	return appendText(appendText(appendText(dst, r.task), r.source), r.destination)
}

func (c Counts) append(dst []byte) []byte {
	for _, n := range [...]int64{c.In, c.Out, c.Failed} {
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

func appendChange(dst []byte, run string, now time.Time, rows map[row]Counts) []byte {
	dst = appendText(append(dst, form), run)
	dst = binary.AppendVarint(dst, now.Unix())
	dst = binary.AppendUvarint(dst, uint64(len(rows)))
	for r, c := range rows {
		dst = c.append(r.append(dst))
	}
	return dst
}

func appendRecord(dst []byte, r row, id string, code int) []byte {
	dst = r.append(append(dst, form))
	return appendText(binary.AppendVarint(dst, int64(code)), id)
}
