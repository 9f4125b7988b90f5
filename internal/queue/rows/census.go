package rows

import (
	"context"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// censusRows bounds how many side rows of a lane are passed over in one census, before one that
// is open is found; the next goes on from there.
const censusRows = 10_000

// elders is what is known of the oldest jobs of lanes. A census of lanes of which nothing has
// changed reads nothing.
type elders struct {
	mu    sync.Mutex
	lanes map[uint64]*elder
}

// elder is the oldest job of a lane: in the log, and among the side rows.
type elder struct {
	first uint64 // the value that at is of
	at    time.Time
	from  queue.ID // no side row below it is open, nor will be
}

// Shared implements queue.Census.
func (s *Store) Shared() bool { return false }

// Lanes implements queue.Census.
func (s *Store) Lanes(ctx context.Context) ([]queue.LaneState, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.elders.mu.Lock()
	defer s.elders.mu.Unlock()
	known := map[uint64]*elder{}
	var out []queue.LaneState
	for _, l := range s.part.Lanes() {
		st := queue.LaneState{Queue: l.Queue, Scope: l.Scope, Open: l.Jobs + l.Retry + l.Parked, Retrying: l.Retried, Dead: l.Dead, Bytes: l.Bytes}
		if st.Open > 0 {
			e := s.elders.lanes[l.ID]
			if e == nil {
				e = &elder{}
			}
			known[l.ID] = e
			var err error
			if st.Oldest, err = s.oldest(ctx, &l, e); err != nil {
				return nil, err
			}
		}
		out = append(out, st)
	}
	s.elders.lanes = known
	return queue.JoinLanes(out), nil
}

// oldest is when the oldest open job of a lane was appended; zero when that is not known.
func (s *Store) oldest(ctx context.Context, l *partition.Lane, e *elder) (time.Time, error) {
	var at time.Time
	if l.Jobs > 0 {
		if e.first != l.First {
			e.first, e.at = l.First, time.Time{}
		}
		if e.at.IsZero() {
			// It may be settled by now: then it is not there, or not the oldest any more.
			if head, err := s.Part(ctx, l.ID, l.First, 0, queue.HeaderSize); err == nil {
				e.at = queue.AppendedAt(head)
			} else if ctx.Err() != nil {
				return at, ctx.Err()
			}
		}
		at = e.at
	}
	if l.Retry+l.Parked == 0 {
		return at, nil
	}
	// Jobs come out of the log from First on, so that what is below it stays as it is.
	least, n := queue.ID{Lane: l.ID, Seq: l.First}, 0
	e.from.Lane = l.ID
	err := s.eachSide(rowSide, e.from, func(r partition.Side) (bool, error) {
		n++
		if r.ID.Before(least) {
			e.from = r.ID
		}
		if r.Open() {
			if side := time.Unix(0, r.At).UTC(); at.IsZero() || side.Before(at) {
				at = side
			}
			return false, nil
		}
		return n < censusRows, nil
	})
	return at, err
}
