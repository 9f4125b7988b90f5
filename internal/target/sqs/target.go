// Package sqstarget is the target "sqs": it sends messages to a queue of Amazon SQS, standard or
// FIFO, with SendMessageBatch.
//
// # Delivery
//
// At least once. What SQS has taken is not sent again: of a request that failed in part only what
// failed is reported, each message with what its error means. When nobody knows whether a
// request arrived, it is sent again; a FIFO queue then drops what it has, by the de-duplication
// ids, for five minutes. A message that SQS would never take (too large, with characters that it
// refuses, naming a queue that is not there) is refused alone.
//
// # Sizes
//
// SQS counts the body and names, types and values of the attributes, for a message against the
// queue's MaximumMessageSize, and for the messages of a request together.
//
// # FIFO
//
// The group is the key of a message. A queue is written by one writer at a time, and of a group
// one message is in a request; when one fails that is to be sent again, those behind it in its
// group are not sent. So the order of a group is that of the pipeline's batches. De-duplication
// ids are made of what a message is and where it was read, so that it has the same one at every
// attempt, after a restart too. Messages with one id are one message for SQS: equal
// payloads that one message has become.
//
// # Attributes
//
// Headers are attributes (package sqs), ten at most; what does not fit is in one of them.
package sqstarget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	format "github.com/weirdata/weir/internal/sqs"
)

// Entry is the target's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name:      "sqs",
	Summary:   "Sends messages to an Amazon SQS queue, standard or FIFO.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		return New(d, c), nil
	},
})

// service is what the target asks of SQS.
type service interface {
	aws.QueueFinder
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

// mostQueues is how many queues that fields name are remembered.
const mostQueues = 1000

// Target sends to one queue, or to those that messages name.
type Target struct {
	c       Config
	log     *slog.Logger
	version string
	limits  connector.Limits

	queueField, groupField, deduplicationField field

	mu         sync.Mutex
	service    service // nil while closed
	disconnect func()
	queues     map[string]format.Queue
}

var (
	_ connector.Target  = (*Target)(nil)
	_ connector.Limiter = (*Target)(nil)
	_ connector.Checker = (*Target)(nil)
)

// New builds the target. It touches nothing.
func New(d connector.Deps, c Config) *Target {
	if c.Batching == nil {
		c.Batching = defaults().Batching
	}
	t := &Target{c: c, log: d.Log, version: d.Version, limits: c.Batching.Limits()}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.queueField, t.groupField, t.deduplicationField = fieldOf(c.QueueField), fieldOf(c.MessageGroupField), fieldOf(c.DeduplicationField)
	t.limits.Size = t.size
	if c.QueueField != "" {
		t.limits.Group = t.queueOf
	}
	if c.fifo() {
		t.limits.MaxConcurrentBatches = 1 // two at once could overtake each other
	}
	return t
}

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.limits }

func (t *Target) connect(ctx context.Context) (service, func(), error) {
	a := t.c.access()
	a.Version, a.Log = t.version, t.log
	cfg, err := aws.Load(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	closeIdle := func() { aws.Close(cfg) }
	return sqs.NewFromConfig(cfg), closeIdle, nil
}

// Open finds the queue.
func (t *Target) Open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.service != nil {
		return errors.New("open the sqs target: it is open already")
	}
	client, disconnect, err := t.connect(ctx)
	if err != nil {
		return err
	}
	q, err := aws.FindQueue(ctx, client, t.c.QueueName, t.c.QueueOwnerAccountID)
	if err != nil {
		disconnect()
		return err
	}
	if q.FIFO != t.c.fifo() {
		disconnect()
		return fault.New(fault.Setup, fmt.Errorf("queue %q is FIFO: %t, which its name does not say: the service at this endpoint is no SQS", q.Name, q.FIFO))
	}
	t.service, t.disconnect, t.queues = client, disconnect, map[string]format.Queue{q.Name: q}
	return nil
}

// Close closes idle connections.
func (t *Target) Close(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.service == nil {
		return nil
	}
	t.disconnect()
	t.service, t.queues = nil, nil
	return nil
}

// opened is the service and the queue with a name.
func (t *Target) opened(ctx context.Context, name string) (service, format.Queue, error) {
	t.mu.Lock()
	client := t.service
	q, known := t.queues[name]
	t.mu.Unlock()
	if client == nil {
		return nil, q, errors.New("write to the sqs target: it is not open")
	}
	if known {
		return client, q, nil
	}
	q, err := aws.FindQueue(ctx, client, name, t.c.QueueOwnerAccountID)
	if err != nil {
		if d := fault.DetailOf(err); d.Code == "QueueDoesNotExist" || d.Code == "NonExistentQueue" {
			err = fault.Describe(fault.Invalid, fmt.Errorf("the field %s names a queue that is not there: %w", t.c.QueueField, err), d)
		}
		return nil, q, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queues) >= mostQueues {
		clear(t.queues)
	}
	if t.queues != nil {
		t.queues[name] = q
	}
	return client, q, nil
}

// forget has a queue looked up again, which was deleted, or changed what it takes.
func (t *Target) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.queues, name)
}

// field is where a payload has something; nil is nowhere.
type field []string

func fieldOf(path string) field {
	if path == "" {
		return nil
	}
	return jsontext.Path(path)
}

// of is what m has there as text; empty when it has nothing.
func (f field) of(m *event.Message) string {
	if f == nil {
		return ""
	}
	return jsontext.Field(m.Data, f)
}

// queueOf is the name of the queue that a message is for.
func (t *Target) queueOf(m *event.Message) string {
	if name := t.queueField.of(m); name != "" {
		return name
	}
	return t.c.QueueName
}

// Check implements connector.Checker. It sends a request without messages, which SQS refuses in
// different words to who may send and to who may not.
func (t *Target) Check(ctx context.Context) error {
	client, disconnect, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer disconnect()
	q, err := aws.FindQueue(ctx, client, t.c.QueueName, t.c.QueueOwnerAccountID)
	if err != nil {
		return err
	}
	_, err = client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.URL, Entries: emptyBatch})
	if err = aws.Fault(fmt.Sprintf("send to queue %q", q.Name), err); aws.Forbidden(err) {
		return err
	}
	return nil
}
