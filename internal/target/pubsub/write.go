package pubsubtarget

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// maxRequests is how many requests of one write are under way at once, each with a key of its own.
const maxRequests = 16

// delivery is one write on its way.
type delivery struct {
	t     *Target
	topic string
	// named is set when the message, and not the config, says which topic it is.
	named bool
	batch event.Batch

	mu     sync.Mutex
	failed map[int]error
}

// item is a message as it is published, and its index in the batch.
type item struct {
	index int
	as    *pubsubpb.PubsubMessage
}

// errHeld is why a message was not published that could have been.
var errHeld = errors.New("an earlier message with its ordering key was not published")

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := t.opened(); err != nil {
		return err
	}
	d := &delivery{t: t, topic: t.topic, batch: b, failed: map[int]error{}}
	if t.c.TopicHeader != "" {
		if name := t.topicOf(b[0]); name != "" {
			whole, err := topicPath(t.c.ProjectID, name)
			if err != nil {
				return refused(fmt.Errorf("header %s: %q is no topic: %w", t.c.TopicHeader, name, err), "topic that cannot be")
			}
			d.topic, d.named = whole, true
		}
	}
	d.deliver(ctx, d.divide())
	if len(d.failed) == 0 {
		return nil
	}
	return &connector.Partial{Failed: d.failed}
}

// divide is what is to be published, in runs that are published in their order: those of one
// key are one.
func (d *delivery) divide() [][]item {
	var runs [][]item
	at := map[string]int{}
	for i, m := range d.batch {
		as, err := d.t.published(m)
		if err != nil {
			d.failed[i] = err
			continue
		}
		n, known := at[as.OrderingKey]
		if !known {
			n = len(runs)
			at[as.OrderingKey] = n
			runs = append(runs, nil)
		}
		runs[n] = append(runs[n], item{i, as})
	}
	return runs
}

// deliver publishes runs, some at once.
func (d *delivery) deliver(ctx context.Context, runs [][]item) {
	if len(runs) == 1 {
		d.run(ctx, runs[0])
		return
	}
	next := make(chan []item)
	var wg sync.WaitGroup
	for range min(len(runs), maxRequests) {
		wg.Go(func() {
			for r := range next {
				d.run(ctx, r)
			}
		})
	}
	for _, r := range runs {
		next <- r
	}
	close(next)
	wg.Wait()
}

// run publishes the messages of a run in their order. With a key, one that fails and may be
// tried again holds back those behind it.
func (d *delivery) run(ctx context.Context, run []item) {
	var held error
	for len(run) > 0 {
		n := d.fitting(run)
		if held == nil {
			held = d.publish(ctx, run[:n])
		} else {
			d.fail(run[:n], fault.New(fault.Of(held), fmt.Errorf("%w: %w", errHeld, held)))
		}
		if run[0].as.OrderingKey == "" {
			held = nil
		}
		run = run[n:]
	}
}

// fitting is how many messages of a run make a request: the engine bounds what it writes at
// once, and who calls otherwise must not make a request that is refused for its size.
func (d *delivery) fitting(run []item) int {
	n, bytes := 0, 0
	for n < len(run) && n < maxRequestMessages {
		if bytes += d.t.size(d.batch[run[n].index]); n > 0 && bytes > d.t.c.Batching.MaxBatchBytes {
			break
		}
		n++
	}
	return n
}

// publish publishes messages in one request, and in halves when it is refused for one of them.
// The error is that of messages that may be tried again.
func (d *delivery) publish(ctx context.Context, items []item) error {
	err := d.request(ctx, items)
	switch {
	case err == nil:
		return nil
	case d.named && (status.Code(err) == codes.NotFound || status.Code(err) == codes.PermissionDenied):
		err = fmt.Errorf("header %s: %w", d.t.c.TopicHeader, gcp.Failed("publish to "+d.topic, err, remedy(d.topic)))
		d.fail(items, refused(err, "topic that cannot be published to"))
		return nil
	case !atFault(err):
		err = gcp.Failed("publish to "+d.topic, err, remedy(d.topic))
		d.fail(items, err)
		return err
	case len(items) == 1:
		d.fail(items, refused(fmt.Errorf("publish to %s: %w", d.topic, gcp.Failed("the message was refused", err, gcp.Remedy{})), "message that Pub/Sub refused"))
		return nil
	}
	half := len(items) / 2
	if err := d.publish(ctx, items[:half]); err != nil && items[0].as.OrderingKey != "" {
		d.fail(items[half:], fault.New(fault.Of(err), fmt.Errorf("%w: %w", errHeld, err)))
		return err
	}
	return d.publish(ctx, items[half:])
}

// atFault reports whether a request was refused for what is in it.
func atFault(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		return true
	case codes.ResourceExhausted: // gRPC says so of a request that one side does not take for its size
		return strings.Contains(s.Message(), "larger than max")
	}
	return false
}

// request publishes messages.
func (d *delivery) request(ctx context.Context, items []item) error {
	req := &pubsubpb.PublishRequest{Topic: d.topic, Messages: make([]*pubsubpb.PubsubMessage, len(items))}
	for i, it := range items {
		req.Messages[i] = it.as
	}
	return d.t.call(ctx, func(ctx context.Context, client *pubsub.TopicAdminClient) error {
		answer, err := client.Publish(ctx, req)
		if err != nil {
			return err
		}
		if n := len(answer.GetMessageIds()); n != len(items) {
			return status.Errorf(codes.Unknown, "%d messages were published, and the answer names %d", len(items), n)
		}
		return nil
	})
}

func (d *delivery) fail(items []item, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range items {
		d.failed[it.index] = err
	}
}
