package kafkasource

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/kafka"
)

// Lag implements connector.Lagger: how far it is from what was handed on to the end of what
// can be read, which is the last stable offset where transactions count. A partition whose
// messages wait for a transaction of somebody else, and have waited since the last time, is
// behind by all of them, and the log says why.
func (s *Source) Lag(ctx context.Context) ([]connector.Lag, error) {
	ss := s.current()
	if ss == nil {
		return nil, errClosed
	}
	topics := map[string]bool{}
	ss.mu.Lock()
	ps := make([]*partition, 0, len(ss.owned))
	for _, p := range ss.owned {
		ps = append(ps, p)
		topics[p.topic] = true
	}
	ss.mu.Unlock()
	if len(ps) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(topics))
	for name := range topics {
		names = append(names, name)
	}
	adm := kadm.NewClient(ss.client)
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, kafka.Fault(fmt.Errorf("ask for the ends of topics: %w", err))
	}
	stable := ends
	if s.config.Isolation == committed {
		if stable, err = adm.ListCommittedOffsets(ctx, names...); err != nil {
			return nil, kafka.Fault(fmt.Errorf("ask for the ends of topics: %w", err))
		}
	}
	begins := s.begins(ctx, ss, adm, ps, names, ends)
	lags := make([]connector.Lag, 0, len(ps))
	for _, p := range ps {
		lag := connector.Lag{Stream: p.topic, Partition: p.name, Messages: connector.Unknown, Bytes: connector.Unknown, Age: connector.Unknown}
		end, ok := ends.Lookup(p.topic, p.number)
		until, also := stable.Lookup(p.topic, p.number)
		if ok && also && end.Err == nil && until.Err == nil {
			at, known := ss.next(p), true
			if at < 0 {
				at, known = begins[p.place]
			}
			if known {
				lag.Messages = ss.behind(p, at, until.Offset, end.Offset)
			}
		}
		if lag.Messages == 0 {
			lag.Age = 0
		}
		lags = append(lags, lag)
	}
	return lags, nil
}

// begins is where partitions begin of which nothing was read yet: at what the group has
// committed, or where offsets_initial says.
func (s *Source) begins(ctx context.Context, ss *session, adm *kadm.Client, ps []*partition, names []string, ends kadm.ListedOffsets) map[place]int64 {
	if !slices.ContainsFunc(ps, func(p *partition) bool { return ss.next(p) < 0 }) {
		return nil
	}
	begins := map[place]int64{}
	first := ends
	if s.config.OffsetsInitial != newest {
		var err error
		if first, err = adm.ListStartOffsets(ctx, names...); err != nil {
			return nil
		}
	}
	first.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			begins[place{o.Topic, o.Partition}] = o.Offset
		}
	})
	of, err := adm.FetchOffsets(ctx, s.config.group())
	if err != nil {
		return nil
	}
	of.Each(func(o kadm.OffsetResponse) {
		if at := (place{o.Topic, o.Partition}); o.Err == nil && o.At >= 0 {
			begins[at] = max(o.At, begins[at])
		}
	})
	return begins
}

// behind is how many messages are between the next and what can be read of p.
func (ss *session) behind(p *partition, at, stable, end int64) int64 {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	waits := stable < end && at >= stable && p.held == stable
	p.held = stable
	if !waits {
		return max(stable-at, 0)
	}
	if now := time.Now(); now.Sub(p.told) > 10*time.Minute {
		p.told = now
		ss.s.log.Warn("messages cannot be read while a transaction of another producer is open: it ends when its producer goes on, or at its transaction.timeout.ms; kafka-transactions.sh --find-hanging finds one that never does",
			"topic", p.topic, "partition", p.number, "messages", end-at, "last_stable_offset", stable)
	}
	return max(end-at, 0)
}
