package postgres

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What processes tell each other with NOTIFY: "free" when partitions can be taken over,
// or the numbers of the partitions that were appended to, with commas. It is a hint:
// poll finds what got lost. It is sent outside of the commits, which it would make wait
// for each other, and only for partitions that another process owns.
const messageFree = "free"

// notifyPause is the least time between two notifications of one process.
const notifyPause = 5 * time.Millisecond

// noted is the partitions whose owners are to be told.
type noted struct {
	mu    sync.Mutex
	parts map[int]struct{}
	wake  chan struct{}
}

func newNoted() *noted { return &noted{parts: map[int]struct{}{}, wake: make(chan struct{}, 1)} }

func (n *noted) add(parts []int) {
	if len(parts) == 0 {
		return
	}
	n.mu.Lock()
	for _, p := range parts {
		n.parts[p] = struct{}{}
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *noted) drain() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]int, 0, len(n.parts))
	for p := range n.parts {
		out = append(out, p)
	}
	clear(n.parts)
	slices.Sort(out)
	return out
}

func (s *Store) channel() string { return "weir_queue_" + s.o.Schema }

// notifier tells the owners of other partitions about new jobs, many at once.
func (s *Store) notifier(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.noted.wake:
		}
		var words []string
		for _, p := range s.noted.drain() {
			words = append(words, strconv.Itoa(p))
		}
		s.tell(ctx, strings.Join(words, ","))
		select {
		case <-ctx.Done():
			return
		case <-time.After(notifyPause):
		}
	}
}

func (s *Store) tell(ctx context.Context, message string) {
	if message == "" || s.Away() != nil {
		return
	}
	ctx, cancel := s.bounded(ctx, s.o.Timeout)
	defer cancel()
	// Nothing that must last: no wait for the disk.
	_, err := s.pool.Exec(ctx, "WITH c AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) SELECT pg_notify($1, $2) FROM c", s.channel(), message)
	if err != nil && ctx.Err() == nil {
		s.o.Log.Debug("other processes could not be told of new jobs; they find them when they poll", "error", err)
	}
}

// partsIn is the numbers in a notification.
func partsIn(payload string) (parts []int) {
	for word := range strings.SplitSeq(payload, ",") {
		if n, err := strconv.Atoi(word); err == nil {
			parts = append(parts, n)
		}
	}
	return parts
}

// follows is the partitions whose logs this process follows.
func (s *Store) follows() (parts []int) {
	for i := range s.owned {
		if s.owned[i].Load() != nil {
			parts = append(parts, i)
		}
	}
	return parts
}

// follower follows the logs that notifications tell of. It is not the one who waits for these:
// a log that cannot be read keeps nobody from noticing that the database is away.
func (s *Store) follower(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hints.wake:
		}
		bounded, cancel := s.bounded(ctx, s.o.Timeout)
		s.followAll(bounded, s.hints.drain())
		cancel()
	}
}

// followAll follows the logs of those of some partitions that this process follows.
func (s *Store) followAll(ctx context.Context, parts []int) {
	var list []*owned
	for _, i := range parts {
		if i >= 0 && i < len(s.owned) {
			if o := s.owned[i].Load(); o != nil {
				list = append(list, o)
			}
		}
	}
	if len(list) == 0 {
		return
	}
	if err := s.follow(ctx, list); err != nil && ctx.Err() == nil {
		s.o.Log.Warn("new jobs could not be looked for; it will be tried again", "error", err)
	}
}

// poll looks for what others appended, whether or not they could tell.
func (s *Store) poll(ctx context.Context) {
	tick := time.NewTicker(s.tuned().Poll)
	probed := time.Now()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.retuned:
			tick.Reset(s.tuned().Poll)
			continue
		case <-tick.C:
		}
		if s.Away() != nil {
			continue
		}
		bounded, cancel := s.bounded(ctx, s.o.Timeout)
		err := s.recheck(bounded)
		if err == nil && time.Since(probed) >= s.o.Lease {
			probed = time.Now()
			err = s.probe(bounded)
		}
		if err != nil && bounded.Err() == nil && s.Away() == nil {
			s.o.Log.Warn("it could not be looked whether the database is still the same; it will be tried again", "error", err)
		}
		if err := s.readHead(bounded); err != nil && bounded.Err() == nil && s.Away() == nil {
			s.o.Log.Warn("the head of the log could not be read; it will be tried again", "error", err)
		}
		s.followAll(bounded, s.follows())
		if err := s.readPauses(bounded); err != nil && bounded.Err() == nil && s.Away() == nil {
			s.o.Log.Warn("what is paused could not be read; it will be tried again", "error", meaning(err))
		}
		cancel()
	}
}
