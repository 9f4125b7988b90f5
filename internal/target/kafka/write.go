package kafkatarget

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/meter"
)

// batchHeader is what a batch of records has before its first one.
const batchHeader = 61

// size is what a batch takes that holds m alone, before compression.
func (t *Target) size(m *event.Message) int {
	key := len(m.Key)
	if key == 0 && t.config.MissingKey == randomKey && m.Keyed == event.KeyOpen {
		key = 36
	}
	n := 1 + 1 + 1 + varint(key) + key + varint(len(m.Data)) + len(m.Data) // attributes, time and offset as in the first
	if !t.config.SendHeaders {
		return batchHeader + n + 1 + varint(n)
	}
	n += varint(len(m.Meta.Headers))
	for i := range m.Meta.Headers {
		h := &m.Meta.Headers[i]
		n += varint(len(h.Name)) + len(h.Name) + varint(len(h.Value)) + len(h.Value)
	}
	return batchHeader + n + varint(n)
}

// varint is the bytes that a number takes, in the form that records have.
func varint(n int) int { return (bits.Len64(uint64(n)<<1|1) + 6) / 7 }

// item is a record, and which message of its write it is. The record comes first, so that who
// is given it finds the item.
type item struct {
	kgo.Record
	index int
}

// write is one Write on its way.
type write struct {
	done chan struct{}

	mu     sync.Mutex
	open   int
	left   bool // nobody waits any more
	failed map[int]error
	acked  []bool
}

// promise notes what became of a record.
func (w *write) promise(r *kgo.Record, err error) {
	i := (*item)(unsafe.Pointer(r)).index
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left {
		return
	}
	w.acked[i] = true
	if err != nil {
		w.fail(i, err)
	}
	if w.open--; w.open == 0 {
		close(w.done)
	}
}

func (w *write) fail(i int, err error) {
	if w.failed == nil {
		w.failed = map[int]error{}
	}
	w.failed[i] = err
}

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if len(b) == 0 {
		return nil
	}
	client, err := t.producer()
	if err != nil {
		return err
	}
	if err := t.passage.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	items := t.items(b)
	failed := t.send(ctx, client, len(b), items)
	t.passage.Release(1)
	if len(failed) == 0 {
		t.spare(items)
	}
	failed = t.alone(ctx, client, b, failed)
	out := make(map[int]error, len(failed))
	for i, err := range failed {
		out[i] = t.meaning(b[i], err)
	}
	t.nameless(b, out)
	if len(out) == 0 {
		return nil
	}
	return &connector.Partial{Failed: out}
}

// nameless adds to failed the messages that name no topic there can be: they are not sent.
func (t *Target) nameless(b event.Batch, failed map[int]error) {
	if t.limits.Group == nil {
		return
	}
	for i, m := range b {
		if topic := t.topic(m); !isTopic(topic) {
			failed[i] = fault.New(fault.Invalid, fmt.Errorf("the message goes to the topic %.80q, which is no name of one", topic))
		}
	}
}

// isTopic reports whether a topic may be called name.
func isTopic(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return name != "" && len(name) <= 249
}

// meaning is what the error of a record means for delivery.
func (t *Target) meaning(m *event.Message, err error) error {
	if t.in != nil && spoils(err) {
		// The transaction cannot be committed any more: all that was read in it is read again.
		return fault.New(fault.Fatal, fmt.Errorf("write to topic %q in a transaction, which is lost with it: %w", t.topic(m), err))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errLate, err)
	}
	return kafka.Fault(fmt.Errorf("write to topic %q: %w", t.topic(m), err))
}

// spoils reports whether a transaction has ended with the error of one of its records.
func spoils(err error) bool {
	for _, e := range []error{
		kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.UnknownProducerID,
		kerr.OutOfOrderSequenceNumber, kerr.TransactionAbortable, kerr.TransactionCoordinatorFenced,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// spare keeps the memory of records for those of a later write. All of them have been written: of
// one that failed, the client may still hold a request.
func (t *Target) spare(items []item) {
	clear(items)
	items = items[:0]
	t.spares.Put(&items)
}

// items are the records of b.
func (t *Target) items(b event.Batch) []item {
	var items []item
	if spare, ok := t.spares.Get().(*[]item); ok && cap(*spare) >= len(b) {
		items = *spare
	} else {
		items = make([]item, 0, len(b))
	}
	headers := 0
	if t.config.SendHeaders {
		for _, m := range b {
			headers += len(m.Meta.Headers)
		}
	}
	slab := make([]kgo.RecordHeader, 0, headers)
	for i, m := range b {
		topic := t.config.TopicName
		if t.limits.Group != nil {
			if topic = t.topic(m); !isTopic(topic) {
				continue
			}
		}
		items = append(items, item{index: i})
		r := &items[len(items)-1]
		r.Topic, r.Key, r.Value = topic, t.key(m), m.Data
		if t.config.Timestamp == created {
			r.Timestamp = m.Times.Created // zero: now
		}
		if t.config.SendHeaders && len(m.Meta.Headers) > 0 {
			from := len(slab)
			for _, h := range m.Meta.Headers {
				slab = append(slab, kgo.RecordHeader{Key: h.Name, Value: h.Value})
			}
			r.Headers = slab[from:len(slab):len(slab)]
		}
	}
	return items
}

// key is the key of m's record, which shares memory with m.
func (t *Target) key(m *event.Message) []byte {
	if m.Key == "" {
		switch {
		case m.Keyed == event.KeyEmpty:
			return []byte{}
		case m.Keyed == event.KeyNone, t.config.MissingKey == none:
			return nil
		}
	}
	key := m.PartitionKey()
	return unsafe.Slice(unsafe.StringData(key), len(key))
}

// errLate is the error of records that could not be sent.
var errLate = errors.New("no broker took it within delivery_timeout_ms")

// send sends records and waits for all of them, and has the errors of those that failed, by
// their places among n messages. The client's own timeout is of no use: it counts from the time
// of the record, which may be long ago.
func (t *Target) send(ctx context.Context, client *kgo.Client, n int, items []item) map[int]error {
	if len(items) == 0 {
		return nil
	}
	patience := time.Duration(t.config.DeliveryTimeoutMillis) * time.Millisecond
	sending, sent := context.WithTimeoutCause(ctx, patience, errLate)
	defer sent()
	w := &write{done: make(chan struct{}), open: len(items), acked: make([]bool, n)}
	for i := range items {
		client.Produce(sending, &items[i].Record, w.promise)
	}
	late := time.NewTimer(patience + patience/4)
	defer late.Stop()
	began := time.Now()
	for {
		select {
		case <-w.done:
			return w.failed
		case <-late.C:
			w.mu.Lock()
			open := w.open
			w.mu.Unlock()
			t.log.Warn("the brokers do not answer for records that were sent, and may have them; waiting", meter.KeyMessages, open, "topic", items[0].Topic, "waiting_for", time.Since(began).Round(time.Second))
			late.Reset(patience)
		case <-ctx.Done():
			return w.leave(items, context.Cause(ctx))
		}
	}
}

// leave waits no more: what has no answer yet has failed for cause.
func (w *write) leave(items []item, cause error) map[int]error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = true
	for i := range items {
		if at := items[i].index; !w.acked[at] {
			w.fail(at, fmt.Errorf("the answer was not waited for: %w", cause))
		}
	}
	return w.failed
}

// alone sends those records by themselves that were refused with a batch, for its size or for
// one of its records, and nothing beside them.
func (t *Target) alone(ctx context.Context, client *kgo.Client, b event.Batch, failed map[int]error) map[int]error {
	var again []int
	for i := range b {
		if err := failed[i]; refusedTogether(err) {
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return failed
	}
	if err := t.passage.Acquire(ctx, whole); err != nil {
		for _, i := range again {
			failed[i] = context.Cause(ctx)
		}
		return failed
	}
	defer t.passage.Release(whole)
	for _, i := range again {
		if err := t.send(ctx, client, 1, t.items(b[i:i+1]))[0]; err != nil {
			failed[i] = err
			continue
		}
		delete(failed, i)
	}
	return failed
}

// refusedTogether reports whether a broker has refused a whole batch for what may be the fault of
// one record.
func refusedTogether(err error) bool {
	for _, e := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
