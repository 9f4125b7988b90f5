package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/meter"
)

// joint is how the targets write that share the transactions of the source.
type joint struct {
	opts   []kgo.Opt
	writes string
	kafka.TransactionSettings
}

var (
	_ connector.TransactionSource = (*Source)(nil)
	_ kafka.Transactions          = (*Source)(nil)
)

// JoinTransactions implements connector.TransactionSource.
func (s *Source) JoinTransactions(t connector.TransactionTarget) error {
	k, ok := t.(kafka.Transactional)
	if !ok {
		return errors.New("only a kafka target can write in the transactions of a kafka source")
	}
	if of, own := k.Cluster(), s.config.Connection.Cluster(); of != own {
		return fmt.Errorf("a transaction holds within one cluster, and the source has the brokers %q, the target %q: write the same in both, or set transactional = false", own, of)
	}
	now := k.Transaction()
	if limit := millis(s.config.SessionTimeoutMillis); now.Timeout >= limit {
		return fmt.Errorf("transaction_timeout_ms (%d) must be less than session_timeout_ms of the source (%d): a transaction must not be open longer than its partitions may be without an owner", now.Timeout.Milliseconds(), limit.Milliseconds())
	}
	opts, writes := k.ProducerOptions()
	if s.joined != nil && (s.joined.writes != writes || s.joined.TransactionSettings != now) {
		return errors.New("targets that write in the transactions of one source share its producer: their options must be the same, but for topics and batching")
	}
	s.joined = &joint{opts, writes, now}
	k.WriteIn(s)
	return nil
}

// Producer implements kafka.Transactions.
func (s *Source) Producer() (*kgo.Client, error) {
	if ss := s.current(); ss != nil && ss.tx != nil {
		return ss.client, nil
	}
	return nil, errClosed
}

// transaction is the open transaction of a session, one after the other. What lies in it is
// all that became of the messages that were handed on since it began; it ends when all of them
// are settled, with their positions, or not at all, and then they are read again. So nothing is
// read ahead of its end, and a rebalance waits for it: it is short.
//
// The fields are guarded by the session's mutex, but for group.
type transaction struct {
	ending sync.Mutex // held while a transaction is ended: by a read, or by close

	ss    *session
	group *kgo.GroupTransactSession

	begun   bool
	since   time.Time // when its first message was handed on; zero: it is empty
	spoiled bool      // a message of it failed, or its partition went: it is not committed
}

// openTransactions joins the group with a client that writes, too.
func (ss *session) openTransactions() error {
	j := ss.s.joined
	opts := append(ss.s.joining(ss), j.opts...)
	opts = append(opts, kgo.TransactionalID(j.ID), kgo.TransactionTimeout(j.Timeout))
	group, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		return err
	}
	ss.tx = &transaction{ss: ss, group: group}
	ss.client = group.Client()
	return nil
}

// holds reports whether a rebalance has to wait for the end of the transaction, now that
// something was polled.
func (t *transaction) holds(f kgo.Fetches) bool {
	t.ss.mu.Lock()
	defer t.ss.mu.Unlock()
	return !t.since.IsZero() || f.NumRecords() > 0
}

// admit ends a transaction that has lasted long enough, once what was read in it has settled,
// and begins the next one. What is read then belongs to it; a poll must not wait beyond the
// context it returns.
func (t *transaction) admit(ctx context.Context) (wait context.Context, done func(), err error) {
	for {
		t.ss.mu.Lock()
		due := time.Until(t.since.Add(t.ss.s.joined.Interval))
		switch {
		case t.begun && t.spoiled, t.begun && !t.since.IsZero() && len(t.ss.pending) == 0 && (due <= 0 || t.ss.pressed):
			t.ss.mu.Unlock()
			if err := t.settle(ctx); err != nil {
				return nil, nil, err
			}
			if err := t.end(ctx); err != nil {
				return nil, nil, err
			}
			continue
		case !t.begun:
			if err := t.group.Begin(); err != nil {
				t.ss.mu.Unlock()
				return nil, nil, kafka.Fault(fmt.Errorf("begin a transaction: %w", err))
			}
			t.begun, t.since, t.spoiled = true, time.Time{}, false
		}
		empty := t.since.IsZero()
		t.ss.mu.Unlock()
		if empty {
			return ctx, func() {}, nil
		}
		wait, cancel := context.WithTimeout(ctx, max(due, 0))
		return wait, cancel, nil
	}
}

// settle waits until nothing of the transaction is in flight. A rebalance waits for half of its
// time at most; then it goes ahead, and the transaction is not committed.
func (t *transaction) settle(ctx context.Context) error {
	patience := time.NewTimer(millis(t.ss.s.config.RebalanceTimeoutMillis) / 2)
	defer patience.Stop()
	for {
		t.ss.mu.Lock()
		open, changed, broken := t.ss.flying, t.ss.changed, t.ss.broken
		t.ss.mu.Unlock()
		switch {
		case broken != nil:
			return broken
		case open == 0:
			return nil
		}
		select {
		case <-changed:
		case <-patience.C:
			t.group.AllowRebalance()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// end commits the transaction with the positions of all that was read in it, or aborts it.
func (t *transaction) end(ctx context.Context) error {
	t.ending.Lock()
	defer t.ending.Unlock()
	return t.ended(ctx)
}

// ended is end for who holds t.ending.
func (t *transaction) ended(ctx context.Context) error {
	t.ss.mu.Lock()
	if !t.begun { // another has ended it
		t.ss.mu.Unlock()
		return nil
	}
	try := kgo.TransactionEndTry(!t.spoiled)
	t.ss.mu.Unlock()
	// A call that is cut leaves the producer in no state to go on with.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.ss.s.joined.Timeout)
	defer cancel()
	ok, err := t.group.End(ctx, try)
	t.ss.mu.Lock()
	empty := t.since.IsZero()
	t.begun, t.since, t.spoiled = false, time.Time{}, false
	if !ok {
		t.ss.startOver()
	}
	t.ss.pressed = false
	t.ss.mu.Unlock()
	t.group.AllowRebalance()
	switch {
	case err != nil:
		err = kafka.Fault(fmt.Errorf("end a transaction: %w", err))
		if fault.Of(err) != fault.Fatal {
			err = fault.New(fault.Setup, err) // the pipeline is started again, with another producer
		}
		t.ss.fail(err)
		return err
	case !ok && !empty:
		t.ss.s.log.Warn("a transaction was not committed, since a message of it failed or the group was divided anew: its messages are read again")
	}
	return nil
}

// startOver has every partition read from what is committed: the client does so, too. ss.mu is
// held.
func (ss *session) startOver() {
	ss.pending = nil
	for at, p := range ss.owned {
		p.gone = true
		ss.owned[at] = newPartition(at)
	}
}

// close ends what is open: committed where all of it has settled, and everything that was
// polled was handed on.
func (t *transaction) close(ctx context.Context, whole bool) {
	t.ending.Lock() // a read that is ending one has its way first
	defer t.ending.Unlock()
	t.ss.mu.Lock()
	begun := t.begun && !t.since.IsZero()
	if t.ss.flying > 0 || !whole || t.ss.broken != nil {
		t.spoiled = true
	}
	t.ss.mu.Unlock()
	if !begun || ctx.Err() != nil {
		return // what is not ended is aborted by the next producer of its name, or by its timeout
	}
	if err := t.ended(ctx); err != nil {
		t.ss.s.log.Warn("the last transaction was not committed: its messages are read again", meter.KeyError, err)
	}
}
