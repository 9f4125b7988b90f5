// Package kafkatarget is the target "kafka": it writes messages as records.
//
// # Delivery
//
// A write returns when the brokers have answered for each of its records: by default when all
// replicas that are in sync have it. The producer is idempotent, so that a request whose answer
// was lost is sent again without a second record, and a partition keeps the order in which
// records were given to it. What a broker refuses fails alone, with what that means: too large
// or malformed is invalid, a topic that is not there or not permitted is a setup fault, a quota
// is a throttle, the rest is transient. What fails for the sake of its partition fails with
// everything behind it there, so that a retry keeps the order.
//
// # Records
//
// The value is the payload; a message without one is a tombstone, which is not an empty value.
// The key is the message's; see missing_key for those without. Headers are sent in their order,
// with the names that repeat, and with values that are nil. The time is that of the message.
//
// # Sizes
//
// A record counts with its key, its headers and the header of a batch. No batch is larger than
// max_message_bytes, nor than max.message.bytes of its topic, where the brokers say it. A batch
// that is refused as too large all the same, or for one of its records, is sent again record by
// record, alone, and only a record that is refused by itself is invalid.
package kafkatarget

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/kafka"
)

// Target writes to topics of one cluster. Write may be called by several goroutines at once.
type Target struct {
	config Config
	limits connector.Limits
	opts   []kgo.Opt
	log    *slog.Logger
	tls    *tls.Config        // nil without TLS
	in     kafka.Transactions // set when it writes in transactions of its source
	path   []string           // of topic_field
	room   int                // bytes that the client has to send at the most

	// passage is held whole by who sends records one by one, and in part by every other write.
	passage *semaphore.Weighted

	spares sync.Pool // of *[]item: records that were written, empty

	mu     sync.Mutex
	client *kgo.Client    // nil while it is closed
	most   map[string]int // max.message.bytes by topic, where it is known
}

var (
	_ connector.Limiter           = (*Target)(nil)
	_ connector.Checker           = (*Target)(nil)
	_ connector.TransactionTarget = (*Target)(nil)
	_ kafka.Transactional         = (*Target)(nil)
)

// New makes a target. It reads the files that the config names and touches no network.
func New(d connector.Deps, c Config) (*Target, error) {
	if c.Batching == nil {
		c.Batching = defaults().Batching
	}
	if ps := c.Validate(); len(ps) > 0 {
		return nil, connector.Blame(ps[0].Field, ps[0].Fix, errors.New(ps[0].What))
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	c.fill(d.Lone)
	if c.TransactionalID == "" {
		c.TransactionalID = strings.Join([]string{"weir", d.Pipeline, rand.Text()}, "-")
	}
	t := &Target{config: c, log: d.Log, limits: c.Batching.Limits(), passage: semaphore.NewWeighted(whole), most: map[string]int{}}
	if c.TopicField != "" {
		t.path = strings.Split(c.TopicField, ".")
	}
	t.room = c.sendRoom()
	t.limits.Eager = true
	t.limits.Size = t.size
	if c.TopicHeader != "" || c.TopicField != "" {
		t.limits.Group = t.topic
	}
	by, err := means(c.Connection, d.Dir)
	if err != nil {
		return nil, err
	}
	t.opts, t.tls = c.Connection.Options(d, by), by.TLS
	return t, nil
}

// whole is all of the passage.
const whole = 1 << 30

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.limits }

// Cluster implements kafka.Transactional.
func (t *Target) Cluster() string { return t.config.Connection.Cluster() }

// Transactional implements connector.TransactionTarget.
func (t *Target) Transactional() bool { return t.config.Transactional }

// ProducerOptions implements kafka.Transactional.
func (t *Target) ProducerOptions() ([]kgo.Opt, string) {
	return t.config.producing(t.batchLimit, t.room)
}

// Transaction implements kafka.Transactional.
func (t *Target) Transaction() kafka.TransactionSettings {
	c := t.config
	return kafka.TransactionSettings{ID: c.TransactionalID, Timeout: time.Duration(c.TransactionTimeoutMillis) * time.Millisecond, Interval: time.Duration(c.TransactionIntervalMillis) * time.Millisecond}
}

// WriteIn implements kafka.Transactional.
func (t *Target) WriteIn(in kafka.Transactions) { t.in = in }

// Open implements connector.Target. A topic that is not there is found by the writes to it,
// which are tried again.
func (t *Target) Open(ctx context.Context) error {
	if t.config.Transactional && t.in == nil {
		return fault.New(fault.Fatal, errors.New("open the kafka target: transactional is set, and the source is not kafka"))
	}
	t.mu.Lock()
	opened := t.client != nil
	t.mu.Unlock()
	if opened {
		return errors.New("open the kafka target: it is open")
	}
	opts, _ := t.ProducerOptions()
	client, err := kgo.NewClient(append(append([]kgo.Opt{}, t.opts...), opts...)...)
	if err != nil {
		return fault.New(fault.Setup, fmt.Errorf("open the kafka target: %w", err))
	}
	if err := kafka.Ping(ctx, client); err != nil {
		client.Close()
		return fmt.Errorf("open the kafka target: %w", err)
	}
	if t.config.TopicName != "" {
		t.learn(ctx, client, t.config.TopicName)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.client = client
	return nil
}

// learn asks for the largest batch that a topic takes. Who may not ask finds out by writing.
func (t *Target) learn(ctx context.Context, client *kgo.Client, topic string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return
	}
	of, err := found.On(topic, nil)
	if err != nil || of.Err != nil {
		return
	}
	for _, c := range of.Configs {
		if n, err := strconv.Atoi(c.MaybeValue()); err == nil && c.Key == "max.message.bytes" && n > 0 {
			t.mu.Lock()
			t.most[topic] = n
			t.mu.Unlock()
			if n < t.config.Batching.MaxMessageBytes {
				t.log.Info("the topic takes smaller messages than max_message_bytes: a larger one is refused as invalid", "topic", topic, "max_message_bytes_of_topic", n,
					"max_message_bytes", t.config.Batching.MaxMessageBytes)
			}
		}
	}
}

// slack is what the client counts of a batch beyond what brokers do, and a little more: with
// the defaults, it is what a topic takes beyond max_message_bytes.
const slack = 12

// batchLimit is the largest batch that is sent to a topic.
func (t *Target) batchLimit(topic string) int32 {
	n := t.config.Batching.MaxMessageBytes + slack
	t.mu.Lock()
	defer t.mu.Unlock()
	if most, ok := t.most[topic]; ok {
		n = min(n, most)
	}
	return int32(min(max(n, leastBatch), mostBatch))
}

// producer is the client to write with.
func (t *Target) producer() (*kgo.Client, error) {
	t.mu.Lock()
	client := t.client
	t.mu.Unlock()
	switch {
	case client == nil:
		return nil, fault.New(fault.Setup, errors.New("the kafka target is not open"))
	case t.in != nil:
		return t.in.Producer()
	}
	return client, nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	t.mu.Lock()
	client := t.client
	t.client = nil
	t.mu.Unlock()
	if client != nil {
		client.Close() // what it has buffered, nobody waits for any more
	}
	return nil
}

// topic is the topic of a message.
func (t *Target) topic(m *event.Message) string {
	named := ""
	if t.config.TopicHeader != "" {
		named = m.Meta.Headers.Text(t.config.TopicHeader)
	}
	if named == "" && t.path != nil {
		named = field(m.Data, t.path)
	}
	if named == "" {
		return t.config.TopicName
	}
	return t.config.TopicPrefix + named
}

// Check implements connector.Checker.
func (t *Target) Check(ctx context.Context) error {
	client, err := kgo.NewClient(t.opts...)
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	defer client.Close()
	if err := kafka.Ping(ctx, client); err != nil {
		return err
	}
	if name := t.config.TopicName; name != "" {
		err = kafka.MayTopics(ctx, client, kmsg.ACLOperationWrite, name)
	}
	if t.config.Transactional {
		err = errors.Join(err, kafka.MayTransact(ctx, client, t.config.TransactionalID))
	}
	return err
}

// field is the text of a field of a JSON payload; empty when there is none that is a text.
func field(data []byte, path []string) string {
	if !jsontext.Valid(data) {
		return ""
	}
	value, ok := jsontext.Find(string(data), path)
	if !ok || len(value) < 2 || value[0] != '"' {
		return ""
	}
	return jsontext.Unquoted(value)
}
