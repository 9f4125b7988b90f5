package eventhubtarget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

const (
	// atOnce is how many batches of a write are sent at the same time.
	atOnce = 32
	// maxKey is the most characters of a partition key.
	maxKey = 128
)

// Names of headers that are properties of AMQP.
const (
	headerContentType   = "content-type"
	headerCorrelationID = "correlation-id"
)

// group is the messages of a write that have one key, by their index.
type group struct {
	key     *string // nil is none
	indexes []int
}

// write is one call of Write.
type write struct {
	t *Target
	b event.Batch

	mu     sync.Mutex
	failed map[int]error
}

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if len(b) == 0 {
		return nil
	}
	w := &write{t: t, b: b}
	slots := make(chan struct{}, atOnce)
	var sending sync.WaitGroup
	for _, g := range w.groups() {
		slots <- struct{}{}
		sending.Go(func() {
			defer func() { <-slots }()
			w.send(ctx, g)
		})
	}
	sending.Wait()
	return w.outcome()
}

// groups divides the write by key, in the order in which the keys come.
func (w *write) groups() []*group {
	var groups []*group
	of := map[string]*group{}
	for i, m := range w.b {
		key := ""
		if w.t.config.SetEHPartitionKey {
			key = m.Key
		}
		if utf8.RuneCountInString(key) > maxKey {
			w.fail(fault.New(fault.Invalid, fmt.Errorf("the partition key has %d characters, and Event Hubs takes %d: set another key, or set_eh_partition_key = false", utf8.RuneCountInString(key), maxKey)), i)
			continue
		}
		g := of[key]
		if g == nil {
			g = &group{}
			if key != "" {
				g.key = &key
			}
			of[key] = g
			groups = append(groups, g)
		}
		g.indexes = append(g.indexes, i)
	}
	return groups
}

func (w *write) fail(err error, indexes ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = map[int]error{}
	}
	for _, i := range indexes {
		w.failed[i] = err
	}
}

// outcome is nil when nothing has failed, and one error when everything has for one reason.
func (w *write) outcome() error {
	if len(w.failed) == 0 {
		return nil
	}
	if len(w.failed) == len(w.b) {
		one := w.failed[0]
		same := true
		for _, err := range w.failed {
			same = same && err == one //nolint:errorlint // the same error, not one like it
		}
		if same {
			return one
		}
	}
	return &connector.Partial{Failed: w.failed}
}

// send sends the messages of a group, as many in a batch as it takes. A message that is too large
// alone is left out; any other failure ends the group.
func (w *write) send(ctx context.Context, g *group) {
	for left := g.indexes; len(left) > 0; {
		n, err := w.sendSome(ctx, g.key, left)
		switch {
		case err == nil:
		case fault.Of(err) == fault.Invalid:
			w.fail(err, left[:n]...)
		default:
			w.fail(err, left...)
			return
		}
		left = left[n:]
	}
}

// sendSome sends the first n of messages in one batch, or says what is wrong with them.
func (w *write) sendSome(ctx context.Context, key *string, left []int) (n int, err error) {
	sending, cancel := context.WithTimeout(ctx, w.t.timeout)
	defer cancel()
	c, done, err := w.t.use()
	if err != nil {
		return 0, err
	}
	defer done()
	batch, n, err := w.fill(sending, c, key, left)
	if err != nil {
		return n, w.t.judge(ctx, sending, c, "write to", err)
	}
	w.t.quiet.RLock()
	err = c.SendEventDataBatch(sending, batch, nil)
	w.t.quiet.RUnlock()
	if azure.Condition(err) == azure.TooLarge {
		return w.tooLarge(ctx, key, left[:n])
	}
	return n, w.t.judge(ctx, sending, c, "write to", err)
}

// fill puts as many messages into a batch as it takes, one at least.
func (w *write) fill(ctx context.Context, c *client, key *string, left []int) (*azeventhubs.EventDataBatch, int, error) {
	batch, err := c.NewEventDataBatch(ctx, &azeventhubs.EventDataBatchOptions{PartitionKey: key})
	if err != nil {
		return nil, 0, err
	}
	for n, i := range left {
		err := batch.AddEventData(w.t.eventOf(w.b[i]), nil)
		switch {
		case err == nil:
		case errors.Is(err, azeventhubs.ErrEventDataTooLarge) && n > 0:
			return batch, n, nil
		case errors.Is(err, azeventhubs.ErrEventDataTooLarge):
			return nil, 1, fault.New(fault.Invalid, fmt.Errorf("an event of %d bytes and its properties is larger than a batch of %s may be", len(w.b[i].Data), w.t.hub.Name))
		default:
			if n > 0 {
				return batch, n, nil // it is the first of the next batch
			}
			return nil, 1, fault.New(fault.Invalid, fmt.Errorf("encode an event of %d bytes: %w", len(w.b[i].Data), err))
		}
	}
	return batch, len(left), nil
}

// tooLarge sends again, with nothing else under way, what was refused for its size: the refusal
// ends the link, and with it sends that are not to blame. If it is refused again it is halved; one
// message is then too large. n is how many of messages have their outcome.
func (w *write) tooLarge(ctx context.Context, key *string, indexes []int) (n int, err error) {
	w.t.quiet.Lock()
	defer w.t.quiet.Unlock()
	return w.halve(ctx, key, indexes)
}

func (w *write) halve(ctx context.Context, key *string, indexes []int) (n int, err error) {
	sending, cancel := context.WithTimeout(ctx, w.t.timeout)
	defer cancel()
	c, done, err := w.t.use()
	if err != nil {
		return 0, err
	}
	batch, n, err := w.fill(sending, c, key, indexes)
	if err == nil {
		err = c.SendEventDataBatch(sending, batch, nil)
	}
	done()
	if azure.Condition(err) != azure.TooLarge {
		return n, w.t.judge(ctx, sending, c, "write to", err)
	}
	if n == 1 {
		return 1, w.t.hub.Fault("write to", err)
	}
	return w.halve(ctx, key, indexes[:n/2])
}

// judge gives an error its meaning. A client that has not answered in time is not used again.
func (t *Target) judge(ctx, sending context.Context, c *client, what string, err error) error {
	if err == nil {
		return nil
	}
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		return fe
	}
	if sending.Err() != nil && ctx.Err() == nil {
		t.retire(c)
		return t.hub.Fault(what, fmt.Errorf("no answer within %s, so that nobody knows what was accepted: %w", t.timeout.Round(time.Millisecond), err))
	}
	return t.hub.Fault(what, err)
}

// eventOf is m as it is sent.
func (t *Target) eventOf(m *event.Message) *azeventhubs.EventData {
	e := &azeventhubs.EventData{Body: m.Data}
	if !t.config.SendHeaders || len(m.Meta.Headers) == 0 {
		return e
	}
	e.Properties = make(map[string]any, len(m.Meta.Headers))
	for i := range m.Meta.Headers {
		h := &m.Meta.Headers[i]
		var value any = h.Value
		if utf8.Valid(h.Value) {
			value = string(h.Value)
		}
		switch text, is := value.(string); {
		case h.Name == headerContentType && is && e.ContentType == nil:
			e.ContentType = &text
		case h.Name == headerCorrelationID && is && e.CorrelationID == nil:
			e.CorrelationID = text
		default:
			if _, taken := e.Properties[h.Name]; !taken {
				e.Properties[h.Name] = value
			}
		}
	}
	return e
}
