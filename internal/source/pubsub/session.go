package pubsubsource

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// limits bound what is held.
type limits struct{ messages, bytes int }

// least is what is asked for at least, however little room there is: a stream that is opened for
// less than this would be opened again and again.
var least = limits{100, 1 << 20}

// session is the source from an Open to its Close. Acknowledgements of an earlier one change
// nothing of a later one.
type session struct {
	*Source
	ctx  context.Context // until everything is given back
	stop context.CancelFunc
	link *gcp.Link[*pubsub.SubscriptionAdminClient]
	book *book
	out  *outbox
	name string // of this client, for the service

	receiving context.Context // until Close begins
	halt      context.CancelFunc
	streams   sync.WaitGroup
	workers   sync.WaitGroup

	ordered, exactlyOnce atomic.Bool // as the service said last
	healthy              atomic.Int64
	trouble              chan struct{} // has an element when failed was set
	look                 chan struct{} // has an element when something was given back

	mu      sync.Mutex
	begun   bool
	want    limits        // as much as there was room for at most
	opened  limits        // what the streams were opened for
	renewal chan struct{} // closed when streams are to be opened again, for more
	failed  error         // for the next Read
	given   []expiring    // what was given back, and is not delivered again yet, in the order of time
	back    []string      // of given, what the service does not know of
}

// expiring is an acknowledgement id that was given back and when it is delivered again.
type expiring struct {
	id string
	at time.Time
}

// begin makes a session that has not received anything.
func (s *Source) begin() *session {
	n := &session{Source: s, book: newBook(), name: newName(), trouble: make(chan struct{}, 1), renewal: make(chan struct{}), look: make(chan struct{}, 1)}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.receiving, n.halt = context.WithCancel(n.ctx)
	n.link = gcp.NewLink(s.dial)
	n.out = newOutbox()
	return n
}

// newName is a name that no other client has: the service keeps the keys of one together.
func newName() string { return fmt.Sprintf("weir-%016x%016x", rand.Uint64(), rand.Uint64()) }

// dial makes a client that retries nothing.
func (s *Source) dial(ctx context.Context) (*pubsub.SubscriptionAdminClient, error) {
	opts, err := s.access.Options()
	if err != nil {
		return nil, err
	}
	client, err := pubsub.NewSubscriptionAdminClient(context.WithoutCancel(ctx), opts...)
	if err != nil {
		return nil, err
	}
	client.CallOptions = &pubsub.SubscriptionAdminCallOptions{}
	return client, nil
}

// allow notes how much there is room for, and begins to receive.
func (n *session) allow(room connector.Room) {
	_, read, readSize := n.book.counts()
	most := limits{n.c.MaxOutstandingMessages, n.c.MaxOutstandingBytes}
	want := most
	if room.Messages > 0 {
		want.messages = min(most.messages, max(read+room.Messages, least.messages))
	}
	if room.Bytes > 0 {
		want.bytes = min(most.bytes, max(readSize+room.Bytes, least.bytes))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.want.messages, n.want.bytes = max(n.want.messages, want.messages), max(n.want.bytes, want.bytes)
	if n.begun || n.receiving.Err() != nil {
		return
	}
	n.begun, n.opened = true, n.want
	for range n.c.StreamingPullGoroutines {
		n.streams.Go(n.receive)
	}
	n.workers.Go(n.keep)
	for range senders {
		n.workers.Go(n.send)
	}
}

// limits is what may be held now.
func (n *session) limits() limits {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.want
}

// starve is called when nothing waits: when all that the streams were opened for is in work, and
// there is room for more, they are opened again.
func (n *session) starve() {
	held, _, _ := n.book.counts()
	n.mu.Lock()
	defer n.mu.Unlock()
	more := n.opened.messages < n.want.messages && held >= n.opened.messages || n.opened.bytes < n.want.bytes && n.book.full(limits{1 << 62, n.opened.bytes})
	if !more {
		return
	}
	n.opened = n.want
	close(n.renewal)
	n.renewal = make(chan struct{})
}

// each is the share of a stream of what may be held, and the end of its time.
func (n *session) each() (share limits, renewal <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of := n.c.StreamingPullGoroutines
	return limits{(n.opened.messages + of - 1) / of, (n.opened.bytes + of - 1) / of}, n.renewal
}

// fail has the next Read that finds nothing return err.
func (n *session) fail(err error) {
	n.mu.Lock()
	n.failed = err
	n.mu.Unlock()
	select {
	case n.trouble <- struct{}{}:
	default:
	}
}

// recovered forgets a failure that is over.
func (n *session) recovered() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := fault.Of(n.failed); k == fault.Transient || k == fault.Throttled {
		n.failed = nil
	}
}

// failure is what [session.fail] was told, once.
func (n *session) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.failed
	n.failed = nil
	return err
}

// settle is the Ack of messages.
func (n *session) settle(ctx context.Context, hs []*held, o event.Outcomes) error {
	if n.ctx.Err() != nil {
		return errNotOpen
	}
	confirm, back := n.book.settle(hs, func(i int) bool { return o == nil || o[i] == nil })
	n.giveBack(back)
	if len(confirm) == 0 {
		return nil
	}
	w := &waiter{done: make(chan struct{})}
	n.book.await(w, confirm)
	n.out.put(confirm...)
	var why error
	select {
	case <-w.done:
	case <-ctx.Done():
		why = fmt.Errorf("no answer yet: %w", context.Cause(ctx))
	case <-n.ctx.Done():
		why = errNotOpen
	}
	if unconfirmed, err := n.book.giveUp(w, confirm, why); unconfirmed > 0 {
		return &connector.Unconfirmed{Messages: unconfirmed, Err: fmt.Errorf("subscription %s: %w", n.c.SubscriptionID, err)}
	}
	return nil
}

// giveBack has the service deliver messages again, to us or to others: after a while, so that
// what cannot be delivered does not go round, or at once when the session ends before.
func (n *session) giveBack(hs []*held) {
	if len(hs) == 0 {
		return
	}
	ids := n.book.ids(hs)
	at := time.Now().Add(n.times.returned)
	n.mu.Lock()
	for _, id := range ids {
		n.given = append(n.given, expiring{id, at})
	}
	n.back = append(n.back, ids...)
	n.mu.Unlock()
	select {
	case n.look <- struct{}{}:
	default:
	}
}

// returned is what was given back and the service does not know of. What is delivered again by
// now is forgotten.
func (n *session) returned(now time.Time) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := 0
	for known < len(n.given) && !now.Before(n.given[known].at) {
		known++
	}
	n.given = n.given[known:]
	ids := n.back
	n.back = nil
	return ids
}

// end stops receiving, sends what is to be acknowledged and gives back all else.
func (n *session) end(ctx context.Context) error {
	n.halt()
	within(ctx, 2*n.times.stop, n.streams.Wait)
	flushing, done := context.WithTimeout(ctx, n.times.flush)
	defer done()
	unsent := n.out.drain(flushing)
	left := n.book.empty()
	n.mu.Lock()
	ids := make([]string, 0, len(left)+len(n.given))
	for _, g := range n.given {
		ids = append(ids, g.id)
	}
	n.mu.Unlock()
	for _, h := range left {
		ids = append(ids, h.ack)
	}
	// Others wait for these messages: a Close that has no time left takes a little for it.
	last, done := context.WithTimeout(context.WithoutCancel(ctx), n.times.stop)
	defer done()
	err := n.modify(last, ids, 0, nil)
	n.stop()
	n.streams.Wait()
	n.workers.Wait()
	closed := n.link.Close()
	if unsent > 0 {
		n.log.Warn("messages were settled, and it is not confirmed that they are acknowledged: they may be delivered again", meter.KeyMessages, unsent)
	}
	if err != nil && len(ids) > 0 {
		n.log.Warn("messages were not given back: they are delivered again when their leases end", meter.KeyMessages, len(ids), meter.KeyError, err)
	}
	if closed != nil {
		return fmt.Errorf("close the connection to Pub/Sub: %w", closed)
	}
	return nil
}

// within waits for f, and no longer than d or ctx.
func within(ctx context.Context, d time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

var errLost = errors.New("its lease had ended before")
