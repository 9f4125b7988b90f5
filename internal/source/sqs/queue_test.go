package sqssource

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// model is a queue that keeps the rules of SQS, in the time of a bubble: visibility, receipt
// handles, groups, redrive, and answers of a FIFO queue that are given again.
type model struct {
	fifo        bool
	maxReceives int
	// fail decides, before a call is done, whether it fails; lose, whether its answer is lost.
	fail, lose func(operation string) error

	mu       sync.Mutex
	messages []*stored
	dead     []string // bodies
	handles  map[string]*stored
	attempts map[string]*sqs.ReceiveMessageOutput
	made     int
	calls    map[string]int
	asked    []int32 // how many messages each receive asked for
}

// stored is a message in the queue.
type stored struct {
	id, body, group string
	seq             int
	visible         time.Time
	inFlight        bool
	receives        int
	handle          string // the newest
}

func newModel(fifo bool, maxReceives int) *model {
	never := func(string) error { return nil }
	return &model{fifo: fifo, maxReceives: maxReceives, fail: never, lose: never, handles: map[string]*stored{},
		attempts: map[string]*sqs.ReceiveMessageOutput{}, calls: map[string]int{}}
}

func (q *model) send(group, body string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.made++
	q.messages = append(q.messages, &stored{id: fmt.Sprint("id-", q.made), body: body, group: group, seq: q.made})
}

// call is what every call begins with.
func (q *model) call(operation string) error {
	q.mu.Lock()
	q.calls[operation]++
	fail := q.fail
	q.mu.Unlock()
	time.Sleep(time.Millisecond)
	return fail(operation)
}

// count is how many calls of an operation there were.
func (q *model) count(operation string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.calls[operation]
}

// lost is what comes instead of an answer.
func (q *model) lost(operation string) error {
	q.mu.Lock()
	lose := q.lose
	q.mu.Unlock()
	return lose(operation)
}

// heal ends all faults.
func (q *model) heal() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fail = func(string) error { return nil }
	q.lose = q.fail
}

func (q *model) GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	url := "http://queue"
	return &sqs.GetQueueUrlOutput{QueueUrl: &url}, nil
}

func (q *model) GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := map[string]string{"FifoQueue": strconv.FormatBool(q.fifo), "ApproximateNumberOfMessages": strconv.Itoa(len(q.messages))}
	if q.maxReceives > 0 {
		a["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":"arn:dead","maxReceiveCount":%d}`, q.maxReceives)
	}
	return &sqs.GetQueueAttributesOutput{Attributes: a}, nil
}

func (q *model) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	if err := q.call("receive"); err != nil {
		return nil, err
	}
	end := time.Now().Add(time.Duration(in.WaitTimeSeconds) * time.Second)
	for {
		out := q.receive(in)
		if len(out.Messages) > 0 || !time.Now().Before(end) {
			if err := q.lost("receive"); err != nil {
				return nil, err
			}
			return out, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *model) receive(in *sqs.ReceiveMessageInput) *sqs.ReceiveMessageOutput {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	until := now.Add(time.Duration(in.VisibilityTimeout) * time.Second)
	if in.ReceiveRequestAttemptId != nil {
		if out := q.attempts[*in.ReceiveRequestAttemptId]; out != nil {
			for i := range out.Messages {
				if m := q.handles[*out.Messages[i].ReceiptHandle]; m != nil && m.handle == *out.Messages[i].ReceiptHandle {
					m.visible = until
				}
			}
			return out
		}
	}
	q.asked = append(q.asked, in.MaxNumberOfMessages)
	blocked := map[string]bool{}
	for _, m := range q.messages {
		if m.inFlight && now.Before(m.visible) {
			blocked[m.group] = true
		}
	}
	out := &sqs.ReceiveMessageOutput{}
	for _, m := range slices.Clone(q.messages) {
		if len(out.Messages) == int(in.MaxNumberOfMessages) {
			break
		}
		if now.Before(m.visible) || q.fifo && blocked[m.group] {
			continue
		}
		m.inFlight = false
		if q.maxReceives > 0 && m.receives >= q.maxReceives {
			q.messages = slices.DeleteFunc(q.messages, func(x *stored) bool { return x == m })
			q.dead = append(q.dead, m.body)
			continue
		}
		m.receives++
		m.inFlight, m.visible = true, until
		m.handle = fmt.Sprintf("%s-receipt-%d", m.id, m.receives)
		q.handles[m.handle] = m
		count, seq, handle := strconv.Itoa(m.receives), strconv.Itoa(m.seq), m.handle
		out.Messages = append(out.Messages, types.Message{MessageId: &m.id, Body: &m.body, ReceiptHandle: &handle,
			Attributes: map[string]string{"ApproximateReceiveCount": count, "SequenceNumber": seq, "MessageGroupId": m.group, "SentTimestamp": "1000"}})
	}
	if in.ReceiveRequestAttemptId != nil && len(out.Messages) > 0 {
		q.attempts[*in.ReceiveRequestAttemptId] = out
	}
	return out
}

func (q *model) DeleteMessageBatch(_ context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	if err := q.call("delete"); err != nil {
		return nil, err
	}
	q.mu.Lock()
	out := &sqs.DeleteMessageBatchOutput{}
	ids := map[string]bool{}
	for _, e := range in.Entries {
		if ids[*e.Id] {
			q.mu.Unlock()
			return nil, &smithy.GenericAPIError{Code: "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", Message: *e.Id}
		}
		ids[*e.Id] = true
		// By an old handle the answer is 200, and the message stays.
		if m := q.handles[*e.ReceiptHandle]; m != nil && m.handle == *e.ReceiptHandle {
			q.messages = slices.DeleteFunc(q.messages, func(x *stored) bool { return x == m })
		}
		out.Successful = append(out.Successful, types.DeleteMessageBatchResultEntry{Id: e.Id})
	}
	q.mu.Unlock()
	if err := q.lost("delete"); err != nil {
		return nil, err
	}
	return out, nil
}

func (q *model) ChangeMessageVisibilityBatch(_ context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	operation := "extend"
	if in.Entries[0].VisibilityTimeout == 0 {
		operation = "return"
	}
	if err := q.call(operation); err != nil {
		return nil, err
	}
	q.mu.Lock()
	out := &sqs.ChangeMessageVisibilityBatchOutput{}
	now := time.Now()
	for _, e := range in.Entries {
		m := q.handles[*e.ReceiptHandle]
		if m == nil || m.handle != *e.ReceiptHandle || !m.inFlight || !now.Before(m.visible) || !slices.Contains(q.messages, m) {
			code := "MessageNotInflight"
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, Code: &code, SenderFault: true})
			continue
		}
		m.visible = now.Add(time.Duration(e.VisibilityTimeout) * time.Second)
		if e.VisibilityTimeout == 0 {
			m.inFlight = false
		}
		out.Successful = append(out.Successful, types.ChangeMessageVisibilityBatchResultEntry{Id: e.Id})
	}
	q.mu.Unlock()
	if err := q.lost(operation); err != nil {
		return nil, err
	}
	return out, nil
}

// state is what is there: how many messages, how many of them are hidden, and the dead ones.
func (q *model) state() (all, hidden int, dead []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if time.Now().Before(m.visible) {
			hidden++
		}
	}
	return len(q.messages), hidden, slices.Clone(q.dead)
}

// source is a source of q, open.
func (q *model) source(t *testing.T, set ...func(*Config)) *Source {
	t.Helper()
	s := q.closed(set...)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (q *model) closed(set ...func(*Config)) *Source {
	c := defaults()
	c.QueueName = "q"
	for _, f := range set {
		f(&c)
	}
	s := newSource(c)
	s.connect = func(context.Context) (service, func(), error) { return q, func() {}, nil }
	return s
}

var errCut = errors.New("connection reset by peer")

// sometimes is an error one time in n.
func sometimes(r *rand.Rand, mu *sync.Mutex, n int) func(string) error {
	return func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(n) == 0 {
			return errCut
		}
		return nil
	}
}
