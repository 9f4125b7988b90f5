package postgres

import (
	"context"
	"fmt"
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
	if message == "" {
		return
	}
	// Nothing that must last: no wait for the disk.
	_, err := s.pool.Exec(ctx, "WITH c AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) SELECT pg_notify($1, $2) FROM c", s.channel(), message)
	if err != nil && ctx.Err() == nil {
		s.o.Log.Debug("other processes could not be told of new jobs; they find them when they poll", "error", err)
	}
}

// listen follows what other processes tell.
func (s *Store) listen(ctx context.Context) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := s.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > 10*time.Second {
			pause = 50 * time.Millisecond
		}
		s.o.Log.Warn("the connection for notifications broke; it is made again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
	}
}

func (s *Store) listenOnce(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	free := context.AfterFunc(of(c).over, cancel)
	defer free()
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(bounded)
	}()
	if _, err := c.Exec(ctx, `LISTEN "`+s.channel()+`"`); err != nil {
		return fmt.Errorf("listen: %w", meaning(err))
	}
	s.figures.listens.Add(1)
	s.followAll(ctx)
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for a notification: %w", err)
		}
		if n.Payload == messageFree {
			s.look()
			continue
		}
		s.followAll(ctx, strings.Split(n.Payload, ",")...)
	}
}

// followAll follows the logs of the partitions named that this process owns, or of all.
func (s *Store) followAll(ctx context.Context, names ...string) {
	var list []*owned
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil && (len(names) == 0 || slices.Contains(names, strconv.Itoa(i))) {
			list = append(list, o)
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
	tick := time.NewTicker(s.o.Poll)
	probed := time.Now()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, s.o.Timeout)
		err := s.recheck(bounded)
		if err == nil && time.Since(probed) >= s.o.Lease {
			probed = time.Now()
			err = s.probe(bounded)
		}
		if err != nil && ctx.Err() == nil {
			s.o.Log.Warn("it could not be looked whether the database is still the same; it will be tried again", "error", err)
		}
		if err := s.readHead(bounded); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("the head of the log could not be read; it will be tried again", "error", err)
		}
		s.followAll(bounded)
		if err := s.readPauses(bounded); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("what is paused could not be read; it will be tried again", "error", meaning(err))
		}
		cancel()
	}
}
