package pipeline

import (
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// informed is a read whose source wants to know what failed of it: the tag of the read, or part of it.
type informed struct {
	settle connector.SettleIn

	mu    sync.Mutex // descendants of one message may fail at once
	batch event.Batch
}

// informed is the tag of a read of a [connector.Informed]; nil for another source.
func (p *Pipeline) informed(b event.Batch, settle connector.SettleIn) *informed {
	if !p.informs {
		return nil
	}
	return &informed{settle: settle, batch: slices.Clone(b)}
}

// inform has the message that m comes from say why m goes to the failure target. It must be called
// while m is tracked, and so before whoever settles that message asks for it.
func inform(m *event.Message, why error) {
	tag, i, _, ok := event.Root(m)
	if !ok {
		return
	}
	tag = tagOf(tag)
	in, _ := tag.(*informed)
	if t, ok := tag.(*traced); ok {
		in = t.told
	}
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.batch[i].Refuse(why)
}
