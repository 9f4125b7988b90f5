package pipeline

import (
	"maps"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// informed is a read whose source wants to know what failed of it: the tag of the read, or part of it.
// Why a message failed is kept beside it, since others may have it at the time, and is said by the
// message when nobody has: when it is settled.
type informed struct {
	then connector.SettleIn

	mu    sync.Mutex // descendants of one message may fail at once
	batch event.Batch
	why   map[int]error // by index in the batch
}

// informed is the tag of a read of a [connector.Informed]; nil for another source.
func (p *Pipeline) informed(b event.Batch, settle connector.SettleIn) *informed {
	if !p.informs {
		return nil
	}
	return &informed{then: settle, batch: slices.Clone(b)}
}

// inform notes why m, which goes to the failure target, has failed. It must be called while m is
// tracked, and so before the message that it comes from is settled.
func inform(m *event.Message, why error) {
	tag, i, _, ok := event.Root(m)
	if !ok {
		return
	}
	in := toldOf(tag)
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.why == nil {
		in.why = map[int]error{}
	}
	in.why[i] = why
}

// toldOf is the informed of a tag; nil where there is none.
func toldOf(tag any) *informed {
	switch t := tagOf(tag).(type) {
	case *informed:
		return t
	case *traced:
		return t.told
	}
	return nil
}

// say has the messages with these indexes, or all, say why they failed. Nobody works any more on
// anything that they became. in may be nil.
func (in *informed) say(index []int, all bool) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if all {
		index = slices.Collect(maps.Keys(in.why))
	}
	for _, i := range index {
		if why := in.why[i]; why != nil {
			in.batch[i].Refuse(why)
		}
	}
}

// settle settles messages in a transaction; without one it only marks them.
func (in *informed) settle(tx queue.Tx, index []int) error {
	if tx != nil {
		in.say(index, false)
	}
	return in.then(tx, index)
}
