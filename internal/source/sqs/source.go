// Package sqssource is the source "sqs": it receives the messages of a queue of Amazon SQS,
// standard or FIFO, and deletes those that were handled.
//
// # Delivery
//
// At least once: a message is deleted after it, or all it became, is durable elsewhere. While it
// is held its visibility timeout, which each receive sets, is extended, also while it waits for
// another attempt; by one goroutine that nothing else holds up. What is held when the source
// closes is given back at once, so that neither a restart nor a stop costs a timeout.
//
// A message that is received while it is held already is not handed out twice; only its newest
// receipt handle is used from then on. A handle that is refused is the end of that message here,
// and of no other.
//
// # What cannot be delivered
//
// With a queue that has a redrive policy, the queue decides: a message that is refused, or whose
// attempts are used up, goes back to it, and it moves the message to its dead-letter queue when
// it was received often enough. Between attempts the message waits here, extended: waiting is no
// receipt. Other messages go on ([connector.Redeliverer], [connector.DeadLetterer]). Without a
// redrive policy, or with dead_letters = "failure_target", what is refused goes to the failure
// target and is deleted; the engine retries the rest, as for any source.
//
// # Order
//
// Of a group of a FIFO queue one message is in the pipeline at a time, so that order does not
// depend on what comes after; groups do not wait for each other. When a message fails, those
// behind it in its group go back with it, not begun, itself as the last; then messages are
// received one by one until the group is over it, because each receipt counts. A receive call
// whose answer was lost is made again with its id, and gets the same messages.
//
// Messages of a standard queue have no order, and their origins no position.
//
// # Messages
//
// The body is the payload. Attributes are headers (package sqs). The queue's id of the message is
// its id, and the time it was sent its time of creation. A body that is the place of a payload in
// S3, as libraries for large messages write it, is passed on as it is, and said once.
package sqssource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	format "github.com/weirdata/weir/internal/sqs"
)

// Entry is the source's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name:      "sqs",
	Summary:   "Receives the messages of an Amazon SQS queue, and deletes them when they are delivered.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
		return New(d, c), nil
	},
})

// service is what the source asks of SQS.
type service interface {
	aws.QueueFinder
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// Source receives from one queue.
type Source struct {
	c       Config
	log     *slog.Logger
	version string
	connect func(ctx context.Context) (client service, disconnect func(), err error)
	redrive atomic.Bool // the queue that was opened puts messages aside by itself

	mu  sync.Mutex
	now *session // nil while closed
}

var (
	_ connector.Source       = (*Source)(nil)
	_ connector.Lagger       = (*Source)(nil)
	_ connector.Checker      = (*Source)(nil)
	_ connector.Holder       = (*Source)(nil)
	_ connector.Redeliverer  = (*Source)(nil)
	_ connector.DeadLetterer = (*Source)(nil)
)

// New builds the source. It touches nothing.
func New(d connector.Deps, c Config) *Source {
	s := &Source{c: c, log: d.Log, version: d.Version}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.connect = s.client
	return s
}

// client makes the client of SQS.
func (s *Source) client(ctx context.Context) (service, func(), error) {
	a := s.c.access()
	a.Version, a.Log = s.version, s.log
	cfg, err := aws.Load(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	closeIdle := func() { aws.Close(cfg) }
	// TLS says that a body is whole. A sum that is wrong would keep the other messages of its
	// answer from being received, again and again.
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) { o.DisableMessageChecksumValidation = true }), closeIdle, nil
}

// Redelivers implements connector.Redeliverer. It is known once the source is open.
func (s *Source) Redelivers() bool { return s.redrive.Load() }

// DeadLetters implements connector.DeadLetterer.
func (s *Source) DeadLetters() bool { return s.redrive.Load() }

// Holds implements connector.Holder: the next message of a group waits for the one before it.
func (s *Source) Holds() bool {
	now := s.session()
	return now != nil && now.queue.FIFO
}

func (s *Source) session() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Open finds the queue and begins to extend what will be held.
func (s *Source) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		return errors.New("open the sqs source: it is open already")
	}
	client, disconnect, err := s.connect(ctx)
	if err != nil {
		return err
	}
	q, err := aws.FindQueue(ctx, client, s.c.QueueName, s.c.QueueOwnerAccountID)
	if err != nil {
		disconnect()
		return err
	}
	if q.Unread {
		s.log.Warn("the attributes of the queue may not be read, so that its redrive policy is not known: allow sqs:GetQueueAttributes", "queue", q.Name)
	}
	redrive := q.MaxReceives > 0 && s.c.DeadLetters == deadInQueue
	if redrive {
		s.log.Info("messages that cannot be delivered go back to the queue, which has a redrive policy, and not to the failure target",
			"queue", q.Name, "max_receive_count", q.MaxReceives, "dead_letter_queue", q.DeadLetters)
	}
	s.redrive.Store(redrive)
	s.now = begin(client, disconnect, q, s.c, redrive, s.log)
	return nil
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	now := s.session()
	if now == nil {
		return nil, nil, errors.New("read from the sqs source: it is not open")
	}
	es, err := now.read(ctx, room)
	if len(es) == 0 {
		return nil, nil, err
	}
	return now.messages(es), func(ctx context.Context, o event.Outcomes) error { return now.settle(ctx, es, o) }, nil
}

// messages are es as the engine has them.
func (s *session) messages(es []*entry) event.Batch {
	payloads := make([][]byte, len(es))
	for i, e := range es {
		payloads[i] = e.data
	}
	b := event.NewBatch(time.Now().UTC(), payloads)
	origins := make([]event.Origin, len(es))
	for i, e := range es {
		m := b[i]
		m.Meta.ID, m.Meta.Headers, m.Times.Created = e.id, e.headers, e.created
		origins[i] = event.Origin{Stream: s.queue.Name, At: e.created}
		if s.queue.FIFO {
			origins[i].Partition, origins[i].Position = e.group, e.position
		}
		m.Meta.Origin = &origins[i]
		if s.c.PartitionKey == keySource {
			m.Key = e.group
		}
		if s.redrive {
			m.Meta.Delivery = &event.Delivery{Attempt: e.attempts, Since: e.created}
		}
	}
	return b
}

// Close gives back what is held.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	now := s.now
	s.now = nil
	s.mu.Unlock()
	if now == nil {
		return nil
	}
	return now.close(ctx)
}

// Lag implements connector.Lagger: what may be received now.
func (s *Source) Lag(ctx context.Context) ([]connector.Lag, error) {
	now := s.session()
	if now == nil {
		return nil, errors.New("the sqs source is not open")
	}
	q, err := aws.DescribeQueue(ctx, now.service, now.queue.Name, now.queue.URL)
	if err != nil {
		return nil, err
	}
	return []connector.Lag{{Stream: q.Name, Messages: q.Waiting, Bytes: connector.Unknown, Age: connector.Unknown}}, nil
}

// Check implements connector.Checker. What it asks for cannot be done, so that the answer says
// whether it may be, and nothing is received, deleted or hidden.
func (s *Source) Check(ctx context.Context) error {
	client, disconnect, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer disconnect()
	q, err := aws.FindQueue(ctx, client, s.c.QueueName, s.c.QueueOwnerAccountID)
	if err != nil {
		return err
	}
	var missing []error
	if q.Unread {
		missing = append(missing, fault.New(fault.Setup, fmt.Errorf("read the attributes of queue %q: AccessDenied; allow sqs:GetQueueAttributes in a policy of the identity in use", q.Name)))
	}
	may := func(doing string, err error) {
		if err = aws.Fault(fmt.Sprintf("%s queue %q", doing, q.Name), err); aws.Forbidden(err) {
			missing = append(missing, err)
		}
	}
	_, err = client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.URL, MaxNumberOfMessages: format.MaxEntries + 1, VisibilityTimeout: 43201})
	may("receive from", err)
	_, err = client.DeleteMessageBatch(ctx, deleteInput(q.URL, []string{"none"}))
	may("delete from", err)
	_, err = client.ChangeMessageVisibilityBatch(ctx, visibilityInput(q.URL, []string{"none"}, []time.Duration{0}))
	may("extend messages of", err)
	return errors.Join(missing...)
}
