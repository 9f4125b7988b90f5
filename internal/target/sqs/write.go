package sqstarget

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	format "github.com/weirdata/weir/internal/sqs"
)

// Write sends b in as few requests as its sizes, and the order of groups, allow.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if len(b) == 0 {
		return nil
	}
	failed := map[int]error{}
	for _, part := range t.byQueue(b) {
		t.writeTo(ctx, part.name, b, part.indexes, failed)
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(failed) == len(b):
		for i := range b[1:] {
			if failed[i+1] != failed[0] { //nolint:errorlint // whether it is the very same error
				return &connector.Partial{Failed: failed}
			}
		}
		return failed[0]
	}
	return &connector.Partial{Failed: failed}
}

// share is the messages of a batch that are for one queue.
type share struct {
	name    string
	indexes []int
}

func (t *Target) byQueue(b event.Batch) []share {
	var shares []share
	at := map[string]int{}
	for i, m := range b {
		name := t.c.QueueName
		if t.c.QueueField != "" {
			name = t.queueOf(m)
		}
		k, ok := at[name]
		if !ok {
			k = len(shares)
			at[name] = k
			shares = append(shares, share{name: name})
		}
		shares[k].indexes = append(shares[k].indexes, i)
	}
	return shares
}

// delivery is the sending of messages to one queue.
type delivery struct {
	t      *Target
	client service
	queue  format.Queue
	batch  event.Batch
	failed map[int]error
	left   []outgoing       // in their order
	held   map[string]error // groups of a FIFO queue, of which a message is to be sent again, and why
	limit  int              // bytes of a request
}

// behind is the error of a message that is not sent because one before it in its group was not
// taken. It is of the same kind and counts as the same attempt: were the one before given up,
// this one must not be sent either.
func behind(err error) error {
	return fmt.Errorf("not sent: a message before it in its group was not taken: %w", err)
}

func (t *Target) writeTo(ctx context.Context, name string, b event.Batch, indexes []int, failed map[int]error) {
	failAll := func(err error) {
		for _, i := range indexes {
			failed[i] = err
		}
	}
	if name != t.c.QueueName && !aws.LegalQueueName(name) {
		failAll(invalid("InvalidQueueName", fmt.Sprintf("the field %s says %q, which is not the name of a queue", t.c.QueueField, name)))
		return
	}
	client, q, err := t.opened(ctx, name)
	if err != nil {
		failAll(err)
		return
	}
	d := &delivery{t: t, client: client, queue: q, batch: b, failed: failed, held: map[string]error{}, limit: format.MaxBytes}
	for _, i := range indexes {
		o, err := t.outgoing(q, b[i], i, false)
		if err != nil {
			failed[i] = err
			continue
		}
		d.left = append(d.left, o)
	}
	for inRow := 0; len(d.left) > 0; {
		some := d.next()
		if len(some) == 0 {
			continue // all that was left is behind something that failed
		}
		stop := d.send(ctx, some)
		if stop == nil {
			inRow = 0
			continue
		}
		// One request that fails says little of the next; two do, and what needs somebody to act.
		if inRow++; inRow == 2 || fault.Of(stop) == fault.Setup || ctx.Err() != nil {
			d.failFrom(d.left, stop)
			return
		}
	}
}

// next takes the messages of the next request: what fits, and of a group of a FIFO queue no more
// than may be together.
func (d *delivery) next() (some []outgoing) {
	size := 0
	inGroup := map[string]int{}
	skipped := map[string]bool{} // groups that have to wait for the next request
	var rest []outgoing
	for _, o := range d.left {
		ordered := d.queue.FIFO
		switch {
		case ordered && d.held[o.group] != nil:
			d.failed[o.index] = behind(d.held[o.group])
		case len(some) == format.MaxEntries, len(some) > 0 && size+o.size > d.limit, ordered && (skipped[o.group] || inGroup[o.group] == d.t.c.EntriesPerGroup):
			skipped[o.group] = true
			rest = append(rest, o)
		default:
			some = append(some, o)
			size += o.size
			inGroup[o.group]++
		}
	}
	d.left = rest
	return some
}

// send makes one request. The error it returns is one of the whole service: there is no use in
// sending more now.
func (d *delivery) send(ctx context.Context, some []outgoing) (stop error) {
	in := &sqs.SendMessageBatchInput{QueueUrl: &d.queue.URL, Entries: make([]types.SendMessageBatchRequestEntry, len(some))}
	for i := range some {
		id := strconv.Itoa(i) // ours: ids of messages may be equal, or none that SQS takes
		some[i].entry.Id = &id
		in.Entries[i] = some[i].entry
	}
	doing := fmt.Sprintf("send to queue %q", d.queue.Name)
	out, err := d.client.SendMessageBatch(ctx, in)
	if err != nil {
		return d.refused(ctx, doing, some, err)
	}
	answered := make([]bool, len(some))
	for _, x := range out.Successful {
		if i, ok := place(x.Id, len(some)); ok {
			answered[i] = true
		}
	}
	for _, x := range out.Failed {
		i, ok := place(x.Id, len(some))
		if !ok {
			continue
		}
		answered[i] = true
		code, text := "", ""
		if x.Code != nil {
			code = *x.Code
		}
		if x.Message != nil {
			text = *x.Message
		}
		d.entryFailed(ctx, doing, some[i], code, text, x.SenderFault)
	}
	for i, o := range some {
		if !answered[i] {
			d.fail(o, fmt.Errorf("%s: the answer says nothing of the message", doing))
		}
	}
	return nil
}

// place is the place of an entry by its id.
func place(id *string, n int) (int, bool) {
	if id == nil {
		return 0, false
	}
	i, err := strconv.Atoi(*id)
	return i, err == nil && i >= 0 && i < n
}

// fail ends a message with an error; those behind it in its group wait, unless it is never sent
// again.
func (d *delivery) fail(o outgoing, err error) {
	d.failed[o.index] = err
	if d.queue.FIFO && fault.Of(err) != fault.Invalid {
		d.held[o.group] = err
	}
}

// entryFailed deals with one message that SQS refused.
func (d *delivery) entryFailed(ctx context.Context, doing string, o outgoing, code, text string, sender bool) {
	err := aws.Entry(doing, code, text)
	kind := fault.Of(err)
	if kind == fault.Invalid && d.t.c.IllegalPayloads == illegalBase64 && fault.DetailOf(err).Code == "InvalidMessageContents" {
		if again, e := d.t.outgoing(d.queue, d.batch[o.index], o.index, true); e == nil && o.entry.MessageAttributes[format.EncodingAttribute].DataType == nil {
			if stop := d.send(ctx, []outgoing{again}); stop != nil {
				d.fail(o, stop)
			}
			return
		}
	}
	if sender && kind == fault.Transient { // an error that we do not know, and that is the message's
		err = fault.Describe(fault.Invalid, err, fault.DetailOf(err))
	}
	d.fail(o, err)
}

// refused deals with a request that failed as a whole.
func (d *delivery) refused(ctx context.Context, doing string, some []outgoing, err error) (stop error) {
	code := aws.Code(err)
	tooLong := code == "BatchRequestTooLong"
	err = aws.Fault(doing, err)
	kind := fault.Of(err)
	ofContents := kind == fault.Invalid || code == "InvalidParameterValue" || tooLong
	switch {
	case ofContents && len(some) > 1:
		if tooLong {
			d.limit = min(d.limit, max(total(some)/2, 1))
		}
		half := (len(some) + 1) / 2
		if stop := d.send(ctx, some[:half]); stop != nil {
			d.failFrom(some[half:], stop)
			return stop
		}
		var rest []outgoing
		for _, o := range some[half:] {
			if err := d.held[o.group]; err != nil {
				d.failed[o.index] = behind(err)
				continue
			}
			rest = append(rest, o)
		}
		if len(rest) == 0 {
			return nil
		}
		return d.send(ctx, rest)
	case ofContents:
		if kind != fault.Invalid {
			err = fault.Describe(fault.Invalid, err, fault.DetailOf(err))
		}
		d.fail(some[0], err)
		return nil
	}
	if code == "QueueDoesNotExist" || code == "NonExistentQueue" {
		d.t.gone(d.queue.Name)
	}
	d.failFrom(some, err)
	return err
}

func (d *delivery) failFrom(some []outgoing, err error) {
	for _, o := range some {
		d.fail(o, err)
	}
}

func total(some []outgoing) (n int) {
	for _, o := range some {
		n += o.size
	}
	return n
}

// gone has a queue that a field names looked up again.
func (t *Target) gone(name string) {
	if name != t.c.QueueName {
		t.forget(name)
	}
}
