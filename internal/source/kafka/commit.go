package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/meter"
)

const (
	// commitPatience is how long one commit may take.
	commitPatience = 10 * time.Second
	// closingPatience is how long the last one may.
	closingPatience = 3 * time.Second
	// lastAttempts is how often the last commit of a partition is tried.
	lastAttempts = 5
	// refresh is how often the positions of partitions that do not move are committed again,
	// well within offsets.retention.minutes (7 days by default).
	refresh = time.Hour
)

// commits commits what settles, at most once in an interval, until the session ends.
func (ss *session) commits() {
	every := millis(ss.s.config.CommitIntervalMillis)
	again := time.NewTicker(refresh)
	defer again.Stop()
	failing := false
	for {
		select {
		case <-ss.ctx.Done():
			return
		case <-ss.dirty:
		case <-again.C:
			ss.touch()
		}
		err := ss.commit(ss.ctx, nil)
		switch {
		case err == nil:
			failing = false
		case ss.ctx.Err() == nil:
			if !failing {
				ss.s.log.Warn("positions are not committed, trying again", meter.KeyError, err)
			}
			failing = true
			select {
			case ss.dirty <- struct{}{}:
			default:
			}
		}
		pause := time.NewTimer(every)
		select {
		case <-pause.C:
		case <-ss.ctx.Done():
			pause.Stop()
			return
		}
	}
}

// touch has the positions of partitions committed that were before.
func (ss *session) touch() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, p := range ss.owned {
		if p.committed != none {
			p.dirty = true
		}
	}
}

// commit commits what is settled of ps, or of all partitions, once: a position is never
// followed by a lower one of the same partition, since commits are made one after the other,
// and of partitions that are gone nothing is.
func (ss *session) commit(ctx context.Context, ps []*partition) error {
	ss.committing.Lock()
	defer ss.committing.Unlock()
	for attempt := 1; ; attempt++ {
		err := ss.commitOnce(ctx, ps)
		ss.mu.Lock()
		last := ss.closing || ps != nil
		ss.mu.Unlock()
		if err == nil || notOurs(err) || !last || attempt == lastAttempts || ctx.Err() != nil {
			return err // where it is not the last, the next one makes up for it
		}
		pause := time.NewTimer(100 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

func (ss *session) commitOnce(ctx context.Context, ps []*partition) error {
	offsets, want, closing := ss.settled(ps)
	if len(want) == 0 {
		return nil
	}
	patience := commitPatience
	if closing {
		patience = closingPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var failed error
	refused := map[place]error{}
	ss.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, err error) {
		if failed = err; err != nil {
			return
		}
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					refused[place{t.Topic, p.Partition}] = err
				}
			}
		}
	})
	var errs []error
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for p, at := range want {
		err := failed
		if err == nil {
			err = refused[p.place]
		}
		switch {
		case err == nil:
			p.committed = at
			p.dirty = p.free != at
		case notOurs(err):
			p.dirty = false // the client rejoins, and the partition is given to somebody
			errs = append(errs, err)
		default:
			errs = append(errs, fmt.Errorf("topic %q, partition %d: %w", p.topic, p.number, err))
		}
	}
	if len(errs) > 0 {
		return kafka.Fault(fmt.Errorf("commit for the consumer group %q: %w", ss.s.config.group(), errs[0]))
	}
	return nil
}

// settled is what there is to commit of ps, or of all partitions.
func (ss *session) settled(ps []*partition) (offsets map[string]map[int32]kgo.EpochOffset, want map[*partition]position, closing bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ps == nil {
		for _, p := range ss.owned {
			if !p.leaving || ss.closing { // the end of a rebalance commits what leaves
				ps = append(ps, p)
			}
		}
	}
	offsets, want = map[string]map[int32]kgo.EpochOffset{}, map[*partition]position{}
	for _, p := range ps {
		if !p.dirty || p.gone || p.free == none {
			continue
		}
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[p.topic][p.number] = kgo.EpochOffset{Epoch: p.free.epoch, Offset: p.free.offset}
		want[p] = p.free
	}
	return offsets, want, ss.closing
}

// notOurs reports whether a commit was refused because the group has gone on without us.
func notOurs(err error) bool {
	return errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.StaleMemberEpoch)
}
