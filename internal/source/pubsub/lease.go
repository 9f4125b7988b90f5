package pubsubsource

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/meter"
)

// The most of one request: the service takes 512 KiB.
const (
	maxIDs     = 1000
	maxIDBytes = 400 << 10
)

// verdict is what a call did for one acknowledgement id.
type verdict uint8

const (
	done  verdict = iota
	again         // not yet, and it may be tried again
	never
)

// The words by which the service speaks of single ids.
const (
	transientFailure = "TRANSIENT_FAILURE_"
	permanentFailure = "PERMANENT_FAILURE_"
)

// verdicts says what err of a call means for each id it had: the service names those that
// failed where it delivers exactly once; the others share what the call as a whole came to.
func verdicts(err error) func(id string) verdict {
	if err == nil {
		return func(string) verdict { return done }
	}
	of := map[string]string{}
	if s, ok := status.FromError(err); ok {
		for _, d := range s.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				maps.Copy(of, info.GetMetadata())
			}
		}
	}
	all := never
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Aborted, codes.ResourceExhausted, codes.Unknown, codes.Canceled:
		all = again
	}
	return func(id string) verdict {
		switch word := of[id]; {
		case strings.HasPrefix(word, transientFailure):
			return again
		case strings.HasPrefix(word, permanentFailure):
			return never
		}
		return all
	}
}

// call makes one call, for no longer than d.
func (n *session) call(ctx context.Context, d time.Duration, f func(context.Context, *pubsub.SubscriptionAdminClient) error) error {
	u, err := n.link.Take(ctx)
	if err != nil {
		return err
	}
	limited, end := context.WithTimeout(ctx, d)
	defer end()
	err = f(limited, u.Client)
	n.link.Give(u, gcp.Unanswered(ctx, err))
	return err
}

// portions are the bounds of requests with ids.
func portions(ids []string) (bounds [][2]int) {
	for begin := 0; begin < len(ids); {
		end, size := begin, 0
		for end < len(ids) && end-begin < maxIDs {
			if size += len(ids[end]) + 4; size > maxIDBytes && end > begin {
				break
			}
			end++
		}
		bounds = append(bounds, [2]int{begin, end})
		begin = end
	}
	return bounds
}

// modify has the leases with ids end in d from now; zero gives the messages back. result, which
// may be nil, is told of each request, of several at once.
func (n *session) modify(ctx context.Context, ids []string, d time.Duration, result func(begin, end int, err error)) error {
	var mu sync.Mutex
	var errs error
	var wg sync.WaitGroup
	slots := make(chan struct{}, senders)
	limit := n.times.call
	if d > 0 { // there must be time for another attempt
		limit = min(limit, max(d/4, time.Second))
	}
	for _, p := range portions(ids) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := n.call(ctx, limit, func(ctx context.Context, c *pubsub.SubscriptionAdminClient) error {
				return c.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: n.subscription, AckIds: ids[p[0]:p[1]], AckDeadlineSeconds: int32(d / time.Second)})
			})
			if result != nil {
				result(p[0], p[1], err)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = errors.Join(errs, err)
		})
	}
	wg.Wait()
	return errs
}

// lease is for how long a lease is taken now.
func (n *session) lease() time.Duration {
	if n.times.lease > 0 {
		return n.times.lease
	}
	return n.c.lease(n.exactlyOnce.Load())
}

// keep extends leases and gives messages back, until the session ends.
func (n *session) keep() {
	tick := time.NewTicker(n.times.look)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.look:
		case <-n.ctx.Done():
			return
		}
		now, lease := time.Now(), n.lease()
		if ids := n.returned(now); len(ids) > 0 {
			if err := n.modify(n.ctx, ids, n.times.returned, nil); err != nil && n.ctx.Err() == nil {
				n.log.Debug("messages are delivered again when their leases end, and no sooner", meter.KeyMessages, len(ids), meter.KeyError, err)
			}
		}
		var old time.Time
		if d := time.Duration(n.c.MaxExtensionSeconds) * time.Second; d > 0 {
			old = now.Add(-d)
		}
		e := n.book.look(now, now.Add(lease/2), old)
		if e.over > 0 {
			n.log.Warn("messages are in work for longer than max_extension_seconds: their leases are not extended any more, and they may be delivered again", meter.KeyMessages, e.over)
		}
		n.leasesLost(e.lost, "they were not extended in time")
		n.giveBack(e.back)
		n.extend(e.extend, lease)
	}
}

// extend extends the leases on hs.
func (n *session) extend(hs []*held, lease time.Duration) {
	if len(hs) == 0 {
		return
	}
	ids := n.book.ids(hs)
	var mu sync.Mutex
	lost := 0
	until := time.Now().Add(lease)
	err := n.modify(n.ctx, ids, lease, func(begin, end int, err error) {
		of := verdicts(err)
		for i := begin; i < end; i++ {
			switch of(ids[i]) {
			case done:
				n.book.extended(hs[i:i+1], ids[i:i+1], until)
			case never:
				back, inWork := n.book.forfeit(hs[i], ids[i])
				n.giveBack(back)
				if inWork {
					mu.Lock()
					lost++
					mu.Unlock()
				}
			}
		}
	})
	if err != nil && n.ctx.Err() == nil {
		n.log.Warn("leases could not be extended, trying again", meter.KeyMessages, len(hs), meter.KeyError, gcp.Failed("extend leases", err, n.remedy()))
	}
	n.leasesLost(lost, "the service says so")
}

func (n *session) leasesLost(count int, why string) {
	if count > 0 {
		n.log.Warn("the leases on messages in work have ended: they may be delivered again", meter.KeyMessages, count, "reason", why)
	}
}

// certain are those of ms whose leases the service confirms; where it delivers exactly once, the
// others are somebody else's.
func (n *session) certain(ctx context.Context, ms []*pubsubpb.ReceivedMessage, lease time.Duration) []*pubsubpb.ReceivedMessage {
	ids := make([]string, len(ms))
	for i, m := range ms {
		ids[i] = m.GetAckId()
	}
	confirmed := make([]bool, len(ms))
	for attempt, wait := 0, n.times.retry; attempt < 3; attempt++ {
		var open []int
		var rest []string
		for i, id := range ids {
			if id != "" && !confirmed[i] {
				open, rest = append(open, i), append(rest, id)
			}
		}
		if len(rest) == 0 || attempt > 0 && !pause(ctx, wait) {
			break
		}
		wait *= 2
		_ = n.modify(ctx, rest, lease, func(begin, end int, err error) { // portions share no index
			of := verdicts(err)
			for k := begin; k < end; k++ {
				switch of(rest[k]) {
				case done:
					confirmed[open[k]] = true
				case never:
					ids[open[k]] = ""
				}
			}
		})
	}
	var out []*pubsubpb.ReceivedMessage
	for i, m := range ms {
		if confirmed[i] {
			out = append(out, m)
		}
	}
	return out
}

// pause waits for d, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
