package kinesissource

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/connector"
)

// staleAnswer is how old an answer may be that still says that there is nothing new.
const staleAnswer = time.Minute

// Lag implements connector.Lagger: of each shard that this instance holds, how long ago the
// oldest record came that was not read. Kinesis does not say how many there are.
func (s *Source) Lag(context.Context) ([]connector.Lag, error) {
	n := s.current()
	if n == nil {
		return nil, errClosed
	}
	now := time.Now()
	n.mu.Lock()
	lags := make([]connector.Lag, 0, len(n.held))
	for sh := range n.held {
		lags = append(lags, sh.lag(now))
	}
	n.mu.Unlock()
	slices.SortFunc(lags, func(a, b connector.Lag) int { return cmp.Compare(a.Partition, b.Partition) })
	return lags, nil
}

func (sh *shard) lag(now time.Time) connector.Lag {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := connector.Lag{Stream: sh.n.config.StreamName, Partition: sh.id, Messages: connector.Unknown, Bytes: connector.Unknown, Age: connector.Unknown}
	switch {
	case !sh.oldest.IsZero():
		l.Age = max(now.Sub(sh.oldest), 0)
	case sh.ended:
		l.Messages, l.Bytes, l.Age = 0, 0, 0
	case sh.answered.IsZero(): // nothing is known yet
	case sh.behind > 0:
		l.Age = sh.behind + now.Sub(sh.answered)
	case now.Sub(sh.answered) <= staleAnswer:
		l.Messages, l.Bytes, l.Age = 0, 0, 0
	}
	return l
}
