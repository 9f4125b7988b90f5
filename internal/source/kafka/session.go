package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/meter"
)

// session is one membership of the group, from Open to Close. An ack of another session does
// nothing to it.
type session struct {
	s      *Source
	client *kgo.Client
	ctx    context.Context // ends when the session is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup
	dirty  chan struct{} // has an element when there may be something to commit

	committing sync.Mutex // held while a commit is made of what is settled, and sent

	tx *transaction // nil without

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew when portions settle, and when a wait is to end
	owned    map[place]*partition
	pending  []run
	flying   int   // reads whose ack has not run, those of partitions that have gone with them
	pressed  bool  // a rebalance waits for the end of a transaction
	stopping bool  // reading was asked to end: a rebalance waits for little
	closing  bool  // nothing is waited for any more
	broken   error // why there is no use in reading on
}

func newSession(s *Source) *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{s: s, ctx: ctx, cancel: cancel, dirty: make(chan struct{}, 1), changed: make(chan struct{}), owned: map[place]*partition{}}
}

// open joins the group, once the cluster answers. A topic that is not there is waited for.
func (ss *session) open(ctx context.Context) (err error) {
	// Whether the cluster can be used is found out before anybody has to wait for us.
	probe, err := kgo.NewClient(ss.s.opts...)
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	defer probe.Close()
	if err := kafka.Ping(ctx, probe); err != nil {
		return err
	}
	missing, err := ss.s.missing(ctx, probe)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		ss.s.log.Warn("the cluster has no such topic, or the user may not describe it; it is read once it is there", "topics", strings.Join(missing, ", "))
	}
	if ss.s.joined != nil {
		err = ss.openTransactions()
	} else {
		ss.client, err = kgo.NewClient(ss.s.joining(ss)...)
	}
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	if ss.tx == nil {
		ss.wg.Go(ss.commits)
	}
	ss.wg.Go(ss.watch)
	return nil
}

// close ends the membership, after a last commit of what is settled.
func (ss *session) close(ctx context.Context) error {
	ss.mu.Lock()
	ss.closing = true
	left := len(ss.pending) // they were polled, and are read again
	ss.pending = nil
	ss.wake()
	ss.mu.Unlock()
	var err error
	if ss.tx != nil {
		ss.tx.close(ctx, left == 0)
	} else {
		err = ss.commit(ctx, nil)
	}
	ss.cancel()
	// A static member keeps its partitions for its successor: it does not leave.
	leaving, done := context.WithTimeout(context.WithoutCancel(ctx), leavePatience(ctx))
	defer done()
	ss.client.AllowRebalance()
	if left := ss.client.LeaveGroupContext(leaving); left != nil {
		ss.s.log.Warn("the consumer group was not left: it waits for this member until session_timeout_ms has passed", meter.KeyError, left)
	}
	ss.client.Close()
	ss.mu.Lock()
	for _, p := range ss.owned {
		p.gone = true
	}
	ss.mu.Unlock()
	ss.wg.Wait()
	return err
}

// leavePatience is how long leaving the group may take, with a last commit.
func leavePatience(ctx context.Context) time.Duration {
	const most = 5 * time.Second
	if ctx.Err() != nil {
		return time.Second
	}
	if end, ok := ctx.Deadline(); ok {
		return min(most, max(time.Until(end), time.Second))
	}
	return most
}

// wake lets those look again who wait for something of the session. ss.mu is held.
func (ss *session) wake() {
	close(ss.changed)
	ss.changed = make(chan struct{})
}

// fail notes that there is no use in reading on. The first reason counts.
func (ss *session) fail(err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.broken == nil {
		ss.broken = err
		ss.pending = nil
	}
	ss.wake()
}

func (ss *session) failed() error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.broken
}

// read is Read of the source.
func (ss *session) read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(ss.s.config.MaxPollRecords, 1<<40)
	// Who is asked to stop lets no rebalance wait for messages that may never settle.
	calm := context.AfterFunc(ctx, ss.ending)
	defer calm()
	for {
		if err := ss.failed(); err != nil {
			return nil, nil, err
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		wait, done := ctx, func() {}
		if ss.tx != nil {
			var err error
			if wait, done, err = ss.tx.admit(ctx); err != nil {
				return nil, nil, err
			}
		}
		if b, ack := ss.take(messages, bytes); len(b) > 0 {
			done()
			return b, ack, nil
		}
		err := ss.poll(wait, messages)
		done()
		if ctx.Err() != nil && err == nil {
			continue // what was polled waits for the next read
		}
		if broken := ss.failed(); broken != nil {
			err = broken
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// poll waits for records and keeps them for take. While it has them, no rebalance begins.
func (ss *session) poll(ctx context.Context, most int) error {
	fetches := ss.client.PollRecords(ctx, most)
	if ss.tx == nil || !ss.tx.holds(fetches) {
		defer ss.client.AllowRebalance()
	}
	var errs []error
	ss.mu.Lock()
	fetches.EachPartition(func(t kgo.FetchTopicPartition) {
		if len(t.Records) == 0 {
			return
		}
		p := ss.owned[place{t.Topic, t.Partition}]
		if p == nil || p.leaving || ss.closing {
			return // it is read again by its owner
		}
		if r := runOf(p, t.Records); len(r.records) > 0 {
			ss.pending = append(ss.pending, r)
		} else if !slices.ContainsFunc(ss.pending, func(r run) bool { return r.partition == p }) {
			p.pass(r.end)
		} else {
			ss.pending = append(ss.pending, r)
		}
	})
	ss.mu.Unlock()
	fetches.EachError(func(topic string, number int32, err error) {
		if err := ss.fetchError(ctx, place{topic, number}, err); err != nil {
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// fetchError decides what an error of a poll means; nil: nothing.
func (ss *session) fetchError(ctx context.Context, at place, err error) error {
	var loss *kgo.ErrDataLoss
	var group *kgo.ErrGroupSession
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.Is(err, kgo.ErrClientClosed):
		return errClosed
	case errors.As(err, &loss):
		ss.s.log.Error("the cluster has lost messages of a partition", "topic", loss.Topic, "partition", loss.Partition,
			"consumed_to", loss.ConsumedTo, "goes_on_at", loss.ResetTo)
		return nil
	case isOutOfRange(err):
		return ss.outOfRange(ctx, at)
	case errors.As(err, &group):
		err = kafka.Fault(fmt.Errorf("consumer group %q: %w", ss.s.config.group(), group.Err))
		if fault.Of(err) == fault.Fatal {
			ss.fail(err)
		}
		return err
	}
	return kafka.Fault(fmt.Errorf("read topic %q, partition %d: %w", at.topic, at.number, err))
}

// take hands on pending records, as many as there is room for, and tracks them.
func (ss *session) take(messages, bytes int) (event.Batch, connector.Ack) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.broken != nil || ss.closing {
		return nil, nil
	}
	runs, n := ss.cut(messages, bytes)
	if n == 0 {
		return nil, nil
	}
	b := ss.s.messages(runs, n)
	portions := make([]portion, 0, len(runs))
	now := time.Now()
	if ss.tx != nil && ss.tx.since.IsZero() {
		ss.tx.since = now
	}
	from := 0
	for _, r := range runs {
		p := r.partition
		if len(r.records) == 0 {
			p.pass(r.end)
			continue
		}
		resolve, err := p.tracker.Track(context.Background(), r.end)
		if err != nil {
			panic(err) // it never blocks
		}
		if p.open == 0 {
			p.since = now
		}
		p.open++
		p.next = r.end.offset
		portions = append(portions, portion{p, from, from + len(r.records), resolve})
		from += len(r.records)
	}
	ss.flying++
	return b, ss.ack(portions)
}

// cut takes records off what is pending: at least one, and no more than there is room for.
func (ss *session) cut(messages, bytes int) (runs []run, n int) {
	for len(ss.pending) > 0 {
		r := &ss.pending[0]
		k := 0
		for k < len(r.records) && n < messages {
			size := len(r.records[k].Value)
			if n > 0 && size > bytes {
				break
			}
			bytes -= size
			n++
			k++
		}
		if k < len(r.records) {
			if k > 0 {
				runs = append(runs, run{r.partition, r.records[:k], after(r.records[k-1])})
				r.records = r.records[k:]
			}
			return runs, n
		}
		runs = append(runs, *r)
		ss.pending[0] = run{}
		ss.pending = ss.pending[1:]
	}
	ss.pending = nil
	return runs, n
}

// ack settles portions. Of one with a failure nothing is committed, nor of what follows it in
// its partition.
func (ss *session) ack(portions []portion) connector.Ack {
	var once sync.Once
	return func(_ context.Context, o event.Outcomes) error {
		once.Do(func() {
			ss.mu.Lock()
			now := time.Now()
			ss.flying--
			for i := range portions {
				p := &portions[i]
				ok := o == nil || !slices.ContainsFunc(o[p.from:p.to], func(err error) bool { return err != nil })
				p.settled(ok, now)
				if !ok && ss.tx != nil {
					ss.tx.spoiled = true
				}
			}
			ss.wake()
			ss.mu.Unlock()
			select {
			case ss.dirty <- struct{}{}:
			default:
			}
		})
		return nil
	}
}

// watch looks for partitions whose messages hang in the pipeline.
func (ss *session) watch() {
	most := millis(ss.s.config.MaxProcessingMillis)
	if most == 0 {
		return
	}
	tick := time.NewTicker(max(most/10, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ss.ctx.Done():
			return
		case <-tick.C:
		}
		ss.mu.Lock()
		now := time.Now()
		var stuck *partition
		for _, p := range ss.owned {
			if p.stuck(now) > most && (stuck == nil || p.stuck(now) > stuck.stuck(now)) {
				stuck = p
			}
		}
		var err error
		if stuck != nil && !ss.closing {
			err = fault.New(fault.Setup, fmt.Errorf("messages of topic %q, partition %d are in work for %s and none was settled: the process has left the consumer group, so that another one reads them; see what the target or a transform waits for (max_processing_ms is %d)",
				stuck.topic, stuck.number, stuck.stuck(now).Round(time.Millisecond), ss.s.config.MaxProcessingMillis))
		}
		ss.mu.Unlock()
		if err != nil {
			ss.leave(err)
			return
		}
	}
}

// leave leaves the group for a reason that ends the session: what is settled is committed,
// what hangs is read again by another member.
func (ss *session) leave(err error) {
	ss.s.log.Error("the pipeline hangs", meter.KeyError, err)
	ss.fail(err)
	ss.mu.Lock()
	ss.closing = true // nothing is waited for
	ss.wake()
	ss.mu.Unlock()
	if ss.tx == nil {
		if err := ss.commit(ss.ctx, nil); err != nil {
			ss.s.log.Warn("positions are not committed: what was settled since the last commit is read again", meter.KeyError, err)
		}
	}
	ss.client.CloseAllowingRebalance()
}
