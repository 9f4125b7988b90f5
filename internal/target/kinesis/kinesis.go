// Package kinesistarget is the target "kinesis": it puts messages into a stream of Amazon
// Kinesis Data Streams, with PutRecords.
//
// # Limits of the service
//
//	records of a request   500
//	bytes of a request     10 MiB, payloads and partition keys
//	bytes of a record      1 MiB, payload and partition key; more where the stream allows it
//	partition key          1 to 256 characters
//
// What a stream allows is asked for when it is opened, if the identity in use may ask
// (kinesis:DescribeStreamSummary); otherwise batching.max_message_bytes decides.
//
// # Outcomes
//
// The answer to a request has an outcome for each record, and only what failed is written again,
// in its order. A request that fails whole for an argument is sent again in halves until the
// record at fault stands alone, which is then invalid. When there is no answer, nobody knows
// whether the records were taken: they are sent again, and may be there twice.
//
// # Parts
//
// Which shard takes a record follows from the MD5 of its partition key, or its explicit hash
// key. The target divides the range of hashes into 1024 parts of its own. Where a record is
// refused because its shard has enough, its part is left alone for 50 ms at first and up to a
// second, and its records wait for their turn (fault.Pace), without a request and without an
// attempt. The parts follow the shards of a stream however these are split and merged, and need
// no permission. A record that was refused while its part and its shard have taken nothing for a
// minute is reported as throttled.
//
// # Order
//
// A request keeps no order, not even for one key. In an ordered pipeline a request has no key
// twice: of the messages with one key each is sent when that before it was taken, and one that
// failed holds back those behind it. So a batch costs as many requests as it has messages with
// the same key, unless these are aggregated.
//
// # Aggregates
//
// Only records with one partition key and explicit hash key share an aggregate, so that it
// belongs to their shard whatever the shards are.
package kinesistarget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Entry is the target's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name:      "kinesis",
	Summary:   "Puts messages into a stream of Amazon Kinesis Data Streams.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(ctx context.Context, d connector.Deps, c Config) (connector.Target, error) {
		t, err := New(ctx, d, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
})

// mostStreams bounds the streams that messages name and of which something is remembered.
const mostStreams = 1000

// Target puts records. Write may be called by several goroutines at once.
type Target struct {
	c      Config
	access aws.Access
	log    *slog.Logger
	limits connector.Limits
	// ordered says that of messages with one key none may overtake another.
	ordered bool

	mu      sync.Mutex
	cfg     sdk.Config
	client  *kinesis.Client // nil: not open
	streams map[string]*stream
}

var (
	_ connector.Target  = (*Target)(nil)
	_ connector.Limiter = (*Target)(nil)
	_ connector.Checker = (*Target)(nil)
)

// New builds the target.
func New(_ context.Context, d connector.Deps, c Config) (*Target, error) {
	if c.Batching == nil {
		c.Batching = defaults().Batching
	}
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("kinesis target: %s: %s", ps[0].What, ps[0].Fix))
	}
	t := &Target{c: c, access: c.access(), log: d.Log, limits: c.Batching.Limits(), ordered: d.Ordered && c.PartitionKey != random}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.access.Version, t.access.Log = d.Version, t.log
	t.limits.Size = t.size
	if c.StreamHeader != "" {
		t.limits.Group = t.streamOf
	}
	return t, nil
}

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.limits }

// size is what Kinesis counts of a message.
func (t *Target) size(m *event.Message) int {
	if t.c.PartitionKey == random {
		return len(m.Data) + randomKeyLength
	}
	return len(m.Data) + len(m.PartitionKey())
}

// streamOf is the stream that a message goes to.
func (t *Target) streamOf(m *event.Message) string {
	if t.c.StreamHeader != "" {
		if h := m.Meta.Headers.Fold(t.c.StreamHeader); h != nil {
			return string(h.Value)
		}
	}
	return t.c.StreamName
}

// Open looks at the stream, where it may.
func (t *Target) Open(ctx context.Context) error {
	cfg, err := aws.Load(ctx, t.access)
	if err != nil {
		return fmt.Errorf("open the kinesis target: %w", err)
	}
	_ = t.Close(ctx) // it may be open
	t.mu.Lock()
	t.cfg, t.client, t.streams = cfg, kinesis.NewFromConfig(cfg), map[string]*stream{}
	t.mu.Unlock()
	s, _, err := t.stream(t.c.StreamName)
	if err == nil {
		err = s.describe(ctx)
	}
	if err != nil && !unasked(err) {
		_ = t.Close(ctx)
		return err
	}
	return nil
}

// unasked reports whether an error says only that a question may not be asked, or is not
// understood.
func unasked(err error) bool {
	code := fault.DetailOf(err).Code
	return strings.HasPrefix(code, "AccessDenied") || code == "UnknownOperationException"
}

// Close closes idle connections.
func (t *Target) Close(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		aws.Close(t.cfg)
		t.client, t.streams = nil, nil
	}
	return nil
}

var errClosed = errors.New("the kinesis target is not open")

// stream is what is known of a stream; fresh says that nothing was until now.
func (t *Target) stream(name string) (s *stream, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client == nil {
		return nil, false, errClosed
	}
	if known := t.streams[name]; known != nil {
		return known, false, nil
	}
	for other := range t.streams { // one of no particular order; what was known of it is learnt again
		if len(t.streams) < mostStreams {
			break
		}
		if other != t.c.StreamName {
			delete(t.streams, other)
		}
	}
	s = &stream{name: name, client: t.client, log: t.log}
	s.most.Store(int64(t.limits.MaxMessageBytes))
	t.streams[name] = s
	return s, true, nil
}

// stream is a stream that is written to.
type stream struct {
	name   string
	client *kinesis.Client
	log    *slog.Logger
	most   atomic.Int64 // bytes of a record
	parts  parts
}

// names is the name or the ARN of a stream, as requests have them.
func (s *stream) names() (name, arn *string) {
	if strings.HasPrefix(s.name, "arn:") {
		return nil, &s.name
	}
	return &s.name, nil
}

// summary asks for what the service says of the stream.
func (s *stream) summary(ctx context.Context) (*types.StreamDescriptionSummary, error) {
	in := &kinesis.DescribeStreamSummaryInput{}
	in.StreamName, in.StreamARN = s.names()
	out, err := s.client.DescribeStreamSummary(ctx, in)
	if err != nil {
		return nil, aws.Fault("look at stream "+s.name, err)
	}
	if out.StreamDescriptionSummary == nil {
		return &types.StreamDescriptionSummary{}, nil
	}
	return out.StreamDescriptionSummary, nil
}

// describe finds out how large a record may be.
func (s *stream) describe(ctx context.Context) error {
	d, err := s.summary(ctx)
	if err != nil {
		return err
	}
	if kib := d.MaxRecordSizeInKiB; kib != nil && *kib > 0 {
		s.most.Store(min(s.most.Load(), int64(*kib)<<10))
	}
	return nil
}

// Check implements connector.Checker. It puts nothing.
func (t *Target) Check(ctx context.Context) error {
	cfg, err := aws.Load(ctx, t.access)
	if err != nil {
		return err
	}
	defer aws.Close(cfg)
	s := &stream{name: t.c.StreamName, client: kinesis.NewFromConfig(cfg)}
	d, err := s.summary(ctx)
	switch code := fault.DetailOf(err).Code; {
	case code == "ResourceNotFoundException":
		return fault.New(fault.Setup, fmt.Errorf("%w, as by aws kinesis create-stream --stream-name %s --stream-mode-details StreamMode=ON_DEMAND", err, s.name))
	case err != nil && unasked(err):
		return fault.New(fault.Setup, fmt.Errorf("%w; the target itself needs kinesis:PutRecords on the stream, and kms:GenerateDataKey on its key where it is encrypted with one of your own", err))
	case err != nil:
		return err
	}
	setup := func(format string, args ...any) error {
		return fault.New(fault.Setup, fmt.Errorf("stream %s: "+format, append([]any{s.name}, args...)...))
	}
	switch {
	case d.StreamStatus == types.StreamStatusDeleting:
		return setup("it is being deleted")
	case d.RecordDistributionStrategy == types.RecordDistributionStrategyAuto && (t.ordered || t.c.ExplicitHashKeyHeader != ""):
		return setup("it distributes records by itself (RecordDistributionStrategy AUTO), so that neither partition keys nor explicit hash keys decide, and no order is kept; set it to USER_PARTITION_KEY, or leave out explicit_hash_key_header and the pipeline's ordered")
	case d.MaxRecordSizeInKiB != nil && *d.MaxRecordSizeInKiB > 0 && t.limits.MaxMessageBytes > int(*d.MaxRecordSizeInKiB)<<10:
		return setup("it takes records of %d KiB, less than batching.max_message_bytes (%d): lower that to %d, or raise the stream's with aws kinesis update-max-record-size", *d.MaxRecordSizeInKiB, t.limits.MaxMessageBytes, int(*d.MaxRecordSizeInKiB)<<10)
	case d.MaxRecordSizeInKiB == nil && t.limits.MaxMessageBytes > usualRecordBytes:
		return setup("it does not say that it takes records of more than 1 MiB, and batching.max_message_bytes is %d", t.limits.MaxMessageBytes)
	}
	return nil
}
