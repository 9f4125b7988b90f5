// Package kafkasource is the source "kafka": it reads topics as a member of a consumer group.
//
// # Delivery
//
// At least once. Of a partition is committed what is settled without a gap before it, and
// nothing else: what was read and not settled is read again by whoever has the partition
// next. With a target in a transaction of ours, exactly once (transaction.go).
//
// # Rebalancing
//
// A partition that goes elsewhere is given up in this order: no message of it is admitted any
// more, those in flight settle (for half of the rebalance timeout at most), what is settled is
// committed, the partition is gone. Others go on afterwards where they were; what was polled
// of them stays. A partition that was lost, because the group has gone on without us, is
// dropped without a commit: its new owner has committed since. The client takes polls and
// rebalances in turn, so no read has messages of a partition that has gone.
//
// # A stuck pipeline
//
// The client keeps the membership alive whatever the pipeline does. A partition of which
// nothing was settled for max_processing_ms, while messages of it are in work, is a pipeline
// that hangs: the member leaves the group, so that another takes its partitions, and Read
// fails, so that the pipeline is started again. What it settles late is settled for nothing,
// and delivered twice.
//
// # Memory
//
// What is held is two fetches of each broker, which are asked for by what they come to once they
// are decompressed (fetch.go), and one poll. A lag makes it no larger. There is no goroutine for a
// message.
//
// # Positions
//
// A message's position is its offset; its stream and partition are the topic and the number of
// the partition.
package kafkasource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
)

// Source reads topics. It is a new member of its group each time it is opened.
type Source struct {
	config Config
	opts   []kgo.Opt // of every client
	log    *slog.Logger
	tls    *tls.Config // nil without TLS
	joined *joint      // set when targets write in transactions of the source

	mu      sync.Mutex
	session *session // nil while it is closed
}

var (
	_ connector.Lagger    = (*Source)(nil)
	_ connector.Seeker    = (*Source)(nil)
	_ connector.Checker   = (*Source)(nil)
	_ connector.Exclusive = (*Source)(nil)
)

// New makes a source. It reads the files that the config names and touches no network.
func New(d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, connector.Blame(ps[0].Field, ps[0].Fix, errors.New(ps[0].What))
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	by, err := means(c.Connection, d.Dir)
	if err != nil {
		return nil, err
	}
	return &Source{config: c, opts: c.Connection.Options(d, by), log: d.Log, tls: by.TLS}, nil
}

// Exclusive implements connector.Exclusive: two members of one name, and two producers of one,
// would end each other.
func (s *Source) Exclusive() []string {
	var names []string
	if id := s.config.InstanceID; id != "" {
		names = append(names, fmt.Sprintf("instance %q of the consumer group %q at %s", id, s.config.group(), s.config.Connection.Cluster()))
	}
	if s.joined != nil {
		names = append(names, fmt.Sprintf("transactional id %q at %s", s.joined.ID, s.config.Connection.Cluster()))
	}
	return names
}

// consuming are the options of a client that reads.
func (s *Source) consuming() []kgo.Opt {
	c := s.config
	level := kgo.ReadCommitted()
	if c.Isolation == uncommitted {
		level = kgo.ReadUncommitted()
	}
	opts := append([]kgo.Opt{}, s.opts...)
	opts = append(opts, newFetchSize(c).options()...)
	return append(opts,
		kgo.FetchIsolationLevel(level),
		kgo.FetchMaxWait(millis(c.FetchMaxWaitMillis)),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // our own option decides, and counts
		kgo.KeepControlRecords(),                    // to pass the marks of transactions, behind which no message may come
	)
}

// joining are the options of a member of the group.
func (s *Source) joining(ss *session) []kgo.Opt {
	c := s.config
	opts := append(s.consuming(),
		kgo.ConsumerGroup(c.group()),
		kgo.Balancers(balancer(c.Assignor)),
		kgo.SessionTimeout(millis(c.SessionTimeoutMillis)),
		kgo.HeartbeatInterval(min(3*time.Second, millis(c.SessionTimeoutMillis)/3)),
		kgo.RebalanceTimeout(millis(c.RebalanceTimeoutMillis)),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(ss.assigned),
		kgo.OnPartitionsRevoked(ss.revoked),
		kgo.OnPartitionsLost(ss.lost),
		kgo.OnPartitionsCallbackBlocked(func(context.Context, *kgo.Client) { ss.hurry() }),
	)
	switch c.OffsetsInitial {
	case newest:
		opts = append(opts, kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd()))
	case oldest:
		opts = append(opts, kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	default:
		opts = append(opts, kgo.ConsumeStartOffset(kgo.NewOffset().AfterMilli(int64(c.OffsetsInitial))))
	}
	if c.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(c.InstanceID))
	}
	if pattern, err := c.pattern(); c.TopicPattern && err == nil {
		return append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(pattern.String()), kgo.MetadataMaxAge(30*time.Second))
	}
	return append(opts, kgo.ConsumeTopics(c.topics()...))
}

func balancer(name string) kgo.GroupBalancer {
	switch name {
	case "range":
		return kgo.RangeBalancer()
	case "roundrobin":
		return kgo.RoundRobinBalancer()
	case "sticky":
		return kgo.StickyBalancer()
	}
	return kgo.CooperativeStickyBalancer()
}

// Open implements connector.Source.
func (s *Source) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return errors.New("open the kafka source: it is open")
	}
	ss := newSession(s)
	if err := ss.open(ctx); err != nil {
		return fmt.Errorf("open the kafka source: %w", err)
	}
	s.session = ss
	return nil
}

func (s *Source) current() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

var errClosed = fault.New(fault.Setup, errors.New("the kafka source is not open"))

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	ss := s.current()
	if ss == nil {
		return nil, nil, errClosed
	}
	return ss.read(ctx, room)
}

// Close implements connector.Source.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	ss := s.session
	s.session = nil
	s.mu.Unlock()
	if ss == nil {
		return nil
	}
	if err := ss.close(ctx); err != nil {
		return fmt.Errorf("close the kafka source: %w", err)
	}
	return nil
}

// missing are the topics of the config that the cluster does not have.
func (s *Source) missing(ctx context.Context, cl *kgo.Client) ([]string, error) {
	names := s.config.topics()
	if len(names) == 0 {
		return nil, nil
	}
	found, err := kadm.NewClient(cl).ListTopics(ctx, names...)
	if err != nil {
		return nil, kafka.Fault(err)
	}
	var missing []string
	for _, name := range names {
		if t := found[name]; !found.Has(name) {
			if t.Err != nil && !isUnknownTopic(t.Err) {
				return nil, kafka.Fault(fmt.Errorf("topic %q: %w", name, t.Err))
			}
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// Check implements connector.Checker.
func (s *Source) Check(ctx context.Context) error {
	cl, err := kgo.NewClient(s.consuming()...)
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	defer cl.Close()
	if err := kafka.Ping(ctx, cl); err != nil {
		return err
	}
	missing, err := s.missing(ctx, cl)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fault.New(fault.Setup, fmt.Errorf("the cluster has no topic %s, or the user may not describe it: create it (kafka-topics.sh --create --topic %s), or give the user Describe and Read on it",
			strings.Join(missing, ", "), missing[0]))
	}
	adm := kadm.NewClient(cl)
	topics := s.config.topics()
	if s.config.TopicPattern {
		if topics, err = s.checkPattern(ctx, adm); err != nil {
			return err
		}
	}
	group := s.config.group()
	if err := errors.Join(kafka.MayTopics(ctx, cl, kmsg.ACLOperationRead, topics...), kafka.MayJoin(ctx, cl, group)); err != nil {
		return err
	}
	described, err := adm.DescribeGroups(ctx, group)
	if err == nil {
		err = described[group].Err
	}
	if err != nil && !isUnknownGroup(err) {
		return kafka.Fault(fmt.Errorf("consumer group %q: %w", group, err))
	}
	if d := described[group]; d.ProtocolType == "consumer" && d.Protocol != "" && d.Protocol != s.config.Assignor && len(d.Members) > 0 {
		return fault.New(fault.Setup, fmt.Errorf("the consumer group %q has %d members with the assignor %q, and this source has %q: stop them, or set assignor = %q",
			group, len(d.Members), d.Protocol, s.config.Assignor, d.Protocol))
	}
	return nil
}

// checkPattern is the topics that match the pattern.
func (s *Source) checkPattern(ctx context.Context, adm *kadm.Client) ([]string, error) {
	all, err := adm.ListTopics(ctx)
	if err != nil {
		return nil, kafka.Fault(err)
	}
	pattern, err := s.config.pattern()
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	var topics []string
	for name := range all {
		if pattern.MatchString(name) {
			topics = append(topics, name)
		}
	}
	if len(topics) > 0 {
		return topics, nil
	}
	return nil, fault.New(fault.Setup, fmt.Errorf("no topic that the user may describe matches the pattern %q: create one, correct topic_name, or give the user Describe and Read", s.config.TopicName))
}
