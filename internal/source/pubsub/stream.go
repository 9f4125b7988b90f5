package pubsubsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// settledIn is how long a stream lives that works, even when there is nothing to receive.
const settledIn = 10 * time.Second

// answers is the version of the protocol in which the service answers a request that asks for
// nothing.
const answers = 1

// receive opens a stream again and again until Close begins, or somebody has to change something.
func (n *session) receive() {
	wait := n.times.retry
	for n.receiving.Err() == nil {
		worked, err := n.stream()
		switch {
		case n.receiving.Err() != nil:
			return
		case worked && temporary(err):
			wait = n.times.retry
			n.log.Debug("a stream has ended, opening it again", meter.KeyError, err)
			continue
		}
		err = gcp.Failed("receive from "+n.subscription, err, n.remedy())
		if k := fault.Of(err); k != fault.Transient && k != fault.Throttled {
			n.fail(fault.New(fault.Setup, err))
			// The pipeline ends, or asks again: then it may be that somebody has changed something.
			if !pause(n.receiving, n.times.max) {
				return
			}
			continue
		}
		if n.healthy.Load() == 0 {
			n.fail(err)
		} else {
			n.log.Warn("a stream of several cannot be opened, trying again", meter.KeyError, err, meter.KeyDelay, wait)
		}
		if !pause(n.receiving, wait/2+rand.N(wait/2+1)) {
			return
		}
		wait = min(2*wait, n.times.max)
	}
}

// temporary reports whether a stream that worked ends so: the service ends each now and then,
// and connections break.
func temporary(err error) bool {
	if err == nil || errors.Is(err, io.EOF) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Aborted, codes.DeadlineExceeded, codes.Unknown, codes.Canceled:
		return true
	}
	return false
}

// errSilent is the end of a stream that does not answer.
var errSilent = status.Error(codes.Unavailable, "the stream does not answer")

// pull is one stream.
type pull struct {
	n      *session
	client pubsubpb.Subscriber_StreamingPullClient
	cancel context.CancelFunc
	limits limits

	sending sync.Mutex
	closed  bool // for sending

	reading atomic.Bool  // it is waited for an answer, and not for room
	heard   atomic.Int64 // when the last answer came, in nanoseconds
	works   atomic.Bool
	silent  atomic.Bool
	ended   atomic.Bool // by us, for another to take its place
}

// stream receives from one stream until it ends. worked says whether it did before.
func (n *session) stream() (worked bool, err error) {
	u, err := n.link.Take(n.ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	p := &pull{n: n, cancel: cancel}
	share, renewal := n.each()
	p.limits = share
	p.client, err = p.open(ctx, u.Client)
	if err != nil {
		n.link.Give(u, false)
		return false, err
	}
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { p.watch(over, renewal, u.Stale) })
	begin := time.Now()
	err = p.receive(ctx)
	close(over)
	wg.Wait()
	if p.works.Load() {
		n.healthy.Add(-1)
	}
	n.link.Give(u, p.silent.Load())
	switch {
	case p.ended.Load():
		return true, nil
	case p.silent.Load():
		return p.works.Load(), errSilent
	}
	return p.works.Load() || time.Since(begin) > settledIn, err
}

// open opens the stream.
func (p *pull) open(ctx context.Context, c *pubsub.SubscriptionAdminClient) (pubsubpb.Subscriber_StreamingPullClient, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", "subscription="+url.QueryEscape(p.n.subscription))
	client, err := c.StreamingPull(ctx)
	if err != nil {
		return nil, err
	}
	err = client.Send(&pubsubpb.StreamingPullRequest{
		Subscription: p.n.subscription, ClientId: p.n.name, StreamAckDeadlineSeconds: int32(p.n.lease() / time.Second),
		MaxOutstandingMessages: int64(p.limits.messages), MaxOutstandingBytes: int64(p.limits.bytes), ProtocolVersion: answers,
	})
	if err != nil && !errors.Is(err, io.EOF) { // after io.EOF, Recv says why
		return nil, err
	}
	return client, nil
}

// receive takes what comes, while there is room, until the stream ends.
func (p *pull) receive(ctx context.Context) error {
	n := p.n
	for {
		before := time.Now()
		if err := p.room(ctx); err != nil {
			return err
		}
		waited := time.Since(before)
		p.heard.Store(time.Now().UnixNano())
		p.reading.Store(true)
		r, err := p.client.Recv()
		p.reading.Store(false)
		if err != nil {
			return err
		}
		p.heard.Store(time.Now().UnixNano())
		if !p.works.Swap(true) {
			n.healthy.Add(1)
			n.recovered()
		}
		if s := r.GetSubscriptionProperties(); s != nil {
			n.ordered.Store(s.GetMessageOrderingEnabled())
			n.exactlyOnce.Store(s.GetExactlyOnceDeliveryEnabled())
		}
		ms := r.GetReceivedMessages()
		if len(ms) == 0 {
			continue
		}
		// The leases began before the messages were here.
		now, lease := time.Now(), n.lease()
		if n.exactlyOnce.Load() {
			if ms = n.certain(ctx, ms, lease); len(ms) == 0 {
				continue
			}
		}
		until := now.Add(lease)
		if waited > lease/4 { // and perhaps long before: they are extended at the next look
			until = now.Add(lease / 4)
		}
		n.book.receive(ms, now, until, n.ordered.Load())
	}
}

// room waits until more may be held. When Close has begun, what is under way is taken, to be
// given back.
func (p *pull) room(ctx context.Context) error {
	for {
		changed := p.n.book.next()
		if !p.n.book.full(p.n.limits()) {
			return nil
		}
		select {
		case <-changed:
		case <-p.n.receiving.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch asks the stream from time to time whether it works, which keeps it open too, and ends it
// when it does not answer, or its time is over.
func (p *pull) watch(over, renewal <-chan struct{}, stale <-chan struct{}) {
	ask := time.NewTicker(p.n.times.ping)
	defer ask.Stop()
	answer := time.NewTimer(0)
	defer answer.Stop()
	<-answer.C
	var asked int64
	for {
		select {
		case <-over:
			return
		case <-ask.C:
			if p.reading.Load() && p.send(&pubsubpb.StreamingPullRequest{}) {
				asked = time.Now().UnixNano()
				answer.Reset(p.n.times.pong)
			}
		case <-answer.C:
			if p.reading.Load() && p.heard.Load() < asked {
				p.silent.Store(true)
				p.cancel()
			}
		case <-stale:
			p.ended.Store(true)
			p.cancel()
			return
		case <-renewal:
			p.finish(over)
			return
		case <-p.n.receiving.Done():
			p.finish(over)
			return
		}
	}
}

// send sends a request; false means that the stream takes none any more.
func (p *pull) send(r *pubsubpb.StreamingPullRequest) bool {
	p.sending.Lock()
	defer p.sending.Unlock()
	return !p.closed && p.client.Send(r) == nil
}

// finish has the stream end, so that what is under way arrives, and cuts it when it does not.
func (p *pull) finish(over <-chan struct{}) {
	p.ended.Store(true)
	p.sending.Lock()
	p.closed = true
	err := p.client.CloseSend()
	p.sending.Unlock()
	t := time.NewTimer(p.n.times.stop)
	defer t.Stop()
	if err == nil {
		select {
		case <-over:
			return
		case <-t.C:
		}
	}
	p.cancel()
}

// remedy is what to do about errors of the subscription.
func (s *Source) remedy() gcp.Remedy {
	return gcp.Remedy{
		Missing: fmt.Sprintf("create it with gcloud pubsub subscriptions create %s --topic=TOPIC, or correct project_id and subscription_id", s.subscription),
		Denied:  fmt.Sprintf("grant pubsub.subscriptions.consume: gcloud pubsub subscriptions add-iam-policy-binding %s --role=roles/pubsub.subscriber --member=serviceAccount:ACCOUNT", s.subscription),
	}
}
