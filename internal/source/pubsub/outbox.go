package pubsubsource

import (
	"context"
	"fmt"
	"sync"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/meter"
)

// senders is how many requests of one kind are under way at once.
const senders = 4

// outbox is what is to be acknowledged. What comes while requests are under way shares the next.
type outbox struct {
	mu      sync.Mutex
	pending []*held
	sending int
	wake    chan struct{} // has an element when something is pending
	changed chan struct{} // closed when a request has ended
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

func (o *outbox) put(hs ...*held) {
	o.mu.Lock()
	o.pending = append(o.pending, hs...)
	o.mu.Unlock()
	o.call()
}

func (o *outbox) call() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take is what the next request is of.
func (o *outbox) take() []*held {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.pending), maxIDs)
	hs := o.pending[:n:n]
	if o.pending = o.pending[n:]; len(o.pending) == 0 {
		o.pending = nil
	} else {
		o.call()
	}
	o.sending += n
	return hs
}

// sent ends a request of n messages, of which some are to be sent again.
func (o *outbox) sent(n int, again []*held) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending -= n
	o.pending = append(o.pending, again...)
	close(o.changed)
	o.changed = make(chan struct{})
}

// drain waits until nothing is pending, and says how much still is when ctx ends.
func (o *outbox) drain(ctx context.Context) int {
	for {
		o.mu.Lock()
		left, changed := len(o.pending)+o.sending, o.changed
		o.mu.Unlock()
		if left == 0 {
			return 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return left
		}
	}
}

// send sends what is to be acknowledged, until the session ends.
func (n *session) send() {
	wait := n.times.retry
	for n.ctx.Err() == nil {
		hs := n.out.take()
		if len(hs) == 0 {
			select {
			case <-n.out.wake:
				continue
			case <-n.ctx.Done():
				return
			}
		}
		left := n.acknowledge(hs)
		n.out.sent(len(hs), left)
		if len(left) == 0 {
			wait = n.times.retry
			continue
		}
		pause(n.ctx, wait)
		wait = min(2*wait, n.times.max)
		n.out.call()
	}
}

// acknowledge acknowledges hs and returns those for which it is to be tried again.
func (n *session) acknowledge(hs []*held) (left []*held) {
	ids := n.book.ids(hs)
	if ps := portions(ids); len(ps) > 1 {
		for _, p := range ps {
			left = append(left, n.acknowledge(hs[p[0]:p[1]])...)
		}
		return left
	}
	err := n.call(n.ctx, n.times.call, func(ctx context.Context, c *pubsub.SubscriptionAdminClient) error {
		return c.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: n.subscription, AckIds: ids})
	})
	if status.Code(err) == codes.InvalidArgument && len(hs) > 1 { // for one of them, perhaps
		half := len(hs) / 2
		return append(n.acknowledge(hs[:half]), n.acknowledge(hs[half:])...)
	}
	of := verdicts(err)
	var confirmed, refused []*held
	for i, h := range hs {
		switch of(ids[i]) {
		case done:
			confirmed = append(confirmed, h)
		case again:
			left = append(left, h)
		case never:
			refused = append(refused, h)
		}
	}
	unheard := n.book.confirmed(confirmed, nil)
	if len(refused) > 0 {
		unheard += n.book.confirmed(refused, fmt.Errorf("the service does not take the acknowledgement: %w", gcp.Failed("acknowledge", err, n.remedy())))
	}
	if unheard > 0 {
		n.log.Warn("messages were settled, and their acknowledgements came too late: they may be delivered again", meter.KeyMessages, unheard)
	}
	if len(left) > 0 && n.ctx.Err() == nil {
		n.log.Warn("acknowledgements failed, trying again", meter.KeyMessages, len(left), meter.KeyError, gcp.Failed("acknowledge", err, n.remedy()))
	}
	return n.book.still(left)
}
