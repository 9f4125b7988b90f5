package pipeline

import (
	"sync/atomic"

	"github.com/weirdata/weir/internal/event"
)

// A backup gets what was read, as it was read, in a sink of its own: of every message, or of those of
// which something failed. Its copies hold the place of what was read beside what that became, so
// that a message is settled when both are durable, and is delivered again where either was not
// (invariant 1). A copy that the backup refuses is a failure like another, and is not backed up.

// backsUpAll reports whether every message is backed up.
func (p *Pipeline) backsUpAll() bool { return p.parts.Backup.Target != nil && !p.parts.BackUpFailed }

// copyRead makes the copies of what was read, before anything is done to it. They leave when the rest
// does: until then all that a message became is with whoever works on the read ([event.Place.Pass]).
func (p *Pipeline) copyRead(r *read) {
	if !p.backsUpAll() {
		return
	}
	r.copies = make(event.Batch, len(r.batch))
	for i, m := range r.batch {
		r.copies[i] = m.Clone()
	}
}

// original is the tag of a read of which is backed up what fails: the messages as they were read,
// whatever transforms make of them, around the tag that it would have.
type original struct {
	tag      any
	messages event.Batch // that nobody waits for
	taken    []atomic.Bool
}

// remember has the messages of a read found again as they were, where what fails is backed up.
func (p *Pipeline) remember(b event.Batch, tag any) any {
	if p.parts.Backup.Target == nil || !p.parts.BackUpFailed {
		return tag
	}
	o := &original{tag: tag, messages: make(event.Batch, len(b)), taken: make([]atomic.Bool, len(b))}
	for i, m := range b {
		o.messages[i] = m.Clone()
	}
	return o
}

// tagOf is the tag that an original is around.
func tagOf(tag any) any {
	if o, ok := tag.(*original); ok {
		return o.tag
	}
	return tag
}

// backUpFailed backs up the messages that failures come from, each once however much of it fails.
func (p *Pipeline) backUpFailed(fs []Failure) {
	if p.parts.Backup.Target == nil || !p.parts.BackUpFailed {
		return
	}
	var copies event.Batch
	for _, f := range fs {
		tag, i, _, ok := event.Root(f.Message)
		o, remembered := tag.(*original)
		if f.ofBackup || !ok || !remembered || o.taken[i].Swap(true) {
			continue
		}
		c, as := f.Message.Clone(), o.messages[i]
		c.Replace(as.Data)
		c.Key, c.Keyed, c.Meta, c.Times = as.Key, as.Keyed, as.Meta, as.Times
		copies = append(copies, c)
	}
	p.sinks.backup.put(nil, copies)
}
