package admin

import (
	"context"

	"github.com/weirdata/weir/internal/queue"
)

// OfMessage is the open jobs of all queues whose message has an id. It looks at a number of jobs at most,
// and no longer than ctx: all is false where there are more.
func (l Local) OfMessage(ctx context.Context, id string, most int) (found []queue.Job, looked int, all bool, err error) {
	a, err := l.admin()
	if err != nil {
		return nil, 0, false, err
	}
	for after := (queue.ID{}); ; {
		p, err := page(ctx, a, queue.Search{State: queue.Open}, after, min(MaxPage, most-looked))
		if err != nil {
			if ctx.Err() != nil {
				return found, looked, false, nil //nolint:nilerr // the time is over: what was found is told
			}
			return nil, looked, false, err
		}
		looked += len(p.Jobs)
		for i := range p.Jobs {
			if p.Jobs[i].Msg.Meta.ID == id {
				found = append(found, p.Jobs[i])
			}
		}
		if after = p.Next; after == (queue.ID{}) {
			return found, looked, true, nil
		}
		if looked >= most {
			return found, looked, false, nil
		}
	}
}
