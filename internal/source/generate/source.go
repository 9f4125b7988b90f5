// Package generatesource is the source "generate": it makes sample messages, at a rate or as
// many as the pipeline takes, for trying things out and for load.
//
// # Messages
//
// Message i of a kind and seed is always the same, apart from its time, which is the same
// too when start is set. Each has an id that no other message of any kind or seed has:
// event_uuid, messageId, the id of an order, or the request id in a log line. The message's own name,
// which queues and targets see, is "kind/seed/i".
//
// # Positions
//
// With a position_file, what was acknowledged is not made again after a restart. The file
// says how many messages, counted from the first, are settled; it is replaced as a whole and
// synced before an acknowledgement returns. What was made and not acknowledged is made
// again, with the same id and, without start, a later time.
//
// # Invariants
//
//   - A position is committed only when everything made before it is settled.
//   - A position file of another kind or seed is refused: its count means other messages.
package generatesource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/checkpoint"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// mostOpen is how many reads may be open at once; a further one waits.
const mostOpen = 10_000

// gather is the least time between two reads at a rate, so that messages come in groups.
const gather = 50 * time.Millisecond

// Source makes messages.
type Source struct {
	config Config
	start  time.Time
	make   maker
	log    *slog.Logger

	next   int64     // the message to make next
	begin  time.Time // from which the rate counts
	made   int64     // messages since then
	size   int       // of a message, about
	broken error     // why Read cannot go on

	session *session     // nil before Open
	kept    atomic.Int64 // the first message that is not settled, without a position file
}

// session is what is settled from an Open to its Close. An ack reaches no session but its own.
type session struct {
	commits *checkpoint.Committer[int64]
	save    func(next int64) error

	mu     sync.Mutex // guards closed
	closed bool
}

var _ connector.Source = (*Source)(nil)

// Open implements connector.Source.
func (s *Source) Open(context.Context) error {
	s.next, s.made, s.begin, s.broken, s.session = s.kept.Load(), 0, time.Time{}, nil, nil
	save := func(next int64) error { s.kept.Store(next); return nil }
	if path := s.config.PositionFile; path != "" {
		p, err := s.load()
		if err == nil {
			err = p.save(path) // proves that it can be replaced
		}
		if err != nil {
			return fault.New(fault.Setup, err)
		}
		s.next = p.Next
		save = func(next int64) error { return s.position(next).save(path) }
	}
	s.session = &session{save: save}
	s.session.commits = checkpoint.NewCommitter(mostOpen, s.session.commit)
	if s.next > 0 {
		s.log.Info("continuing after what was delivered before", meter.KeyMessages, s.next, meter.KeyFile, s.config.PositionFile)
	}
	return nil
}

// Ends implements connector.Ender.
func (s *Source) Ends() bool { return s.config.Count > 0 }

// Exclusive implements connector.Exclusive: positions have one owner.
func (s *Source) Exclusive() []string {
	if s.config.PositionFile == "" {
		return nil
	}
	path, err := filepath.Abs(s.config.PositionFile)
	if err != nil {
		path = s.config.PositionFile
	}
	return []string{"position file " + path}
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	most, bytes := room.Within(s.config.MaxBatchMessages, math.MaxInt)
	for ctx.Err() == nil && s.broken == nil {
		if s.config.Count > 0 && s.next >= int64(s.config.Count) {
			return nil, nil, io.EOF
		}
		n, wait := s.due(time.Now(), most)
		if n > 0 {
			return s.batch(ctx, n, bytes)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	if s.broken != nil {
		return nil, nil, s.broken
	}
	return nil, nil, context.Cause(ctx)
}

// due is how many messages are to be made now, at most limit, and when to ask again if none
// are.
func (s *Source) due(now time.Time, limit int) (n int, wait time.Duration) {
	most := int64(limit)
	if s.config.Count > 0 {
		most = min(most, int64(s.config.Count)-s.next)
	}
	rate := s.config.Rate
	if rate == 0 {
		return int(most), 0
	}
	if s.begin.IsZero() {
		s.begin = now
	}
	owed := int64(now.Sub(s.begin).Seconds()*rate) + 1 - s.made
	if second := int64(math.Ceil(rate)); owed > second { // the rest is not made up for
		s.begin, s.made = now, 1-second
		owed = second
	}
	if owed > 0 {
		return int(min(owed, most)), 0
	}
	at := s.begin.Add(time.Duration(float64(s.made) / rate * float64(time.Second)))
	return 0, max(at.Sub(now), gather)
}

// batch makes the next n messages, or as many of them as have that many bytes.
func (s *Source) batch(ctx context.Context, n, bytes int) (event.Batch, connector.Ack, error) {
	now := time.Now().UTC()
	size := n * (s.size + s.size/4 + 16)
	if bytes < size {
		size = bytes + s.size // the message that does not fit is made, too
	}
	data := make([]byte, 0, size)
	ends := make([]int, n)
	for i := range n {
		data = s.make(data, s.next+int64(i), s.at(s.next+int64(i), now))
		if i > 0 && len(data) > bytes {
			n, data = i, data[:ends[i-1]]
			break
		}
		ends[i] = len(data)
	}
	s.size = len(data) / n
	payloads := make([][]byte, n)
	for i, from := 0, 0; i < n; i++ {
		payloads[i] = data[from:ends[i]:ends[i]]
		from = ends[i]
	}
	b := event.NewBatch(now, payloads)
	prefix := s.config.Kind + "/" + strconv.Itoa(s.config.Seed) + "/"
	for i, m := range b {
		m.Meta.ID = prefix + strconv.FormatInt(s.next+int64(i), 10)
	}
	s.next += int64(n)
	s.made += int64(n)
	ack, err := s.track(ctx)
	if err != nil {
		return nil, nil, err
	}
	return b, ack, nil
}

// at is the time of message i, which is made now.
func (s *Source) at(i int64, now time.Time) time.Time {
	if s.start.IsZero() {
		return now
	}
	rate := s.config.Rate
	if rate == 0 {
		rate = 1000
	}
	seconds, rest := math.Modf(float64(i) / rate)
	return s.start.Add(time.Duration(seconds)*time.Second + time.Duration(rest*float64(time.Second)))
}

// track notes how far reading has come.
func (s *Source) track(ctx context.Context) (connector.Ack, error) {
	settle, err := s.session.commits.Track(ctx, s.next)
	if err != nil {
		s.broken = err // these messages are delivered by nobody: no later position may be committed
		return nil, err
	}
	return func(ctx context.Context, o event.Outcomes) error {
		if o.Err() == nil {
			return settle(ctx)
		}
		return nil // its position is never committed: the next run makes it again
	}, nil
}

// commit makes durable that every message before next is settled.
func (s *session) commit(_ context.Context, next int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("save position file: the source is closed")
	}
	return s.save(next)
}

// Close implements connector.Source.
func (s *Source) Close(ctx context.Context) error {
	if s.session == nil {
		return nil
	}
	if err := s.session.close(ctx); err != nil {
		return fmt.Errorf("close the generate source: %w", err)
	}
	return nil
}

// close commits what is settled, and nothing after it.
func (s *session) close(ctx context.Context) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil
	}
	err := s.commits.Flush(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return err
}
