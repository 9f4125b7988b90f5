package file

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/checkpoint"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// session is the reads from an Open to its Close, and how far they are committed. Reads are
// numbered from 1 in each, so an ack reaches no session but its own.
type session struct {
	saved   *positions
	commits *checkpoint.Committer[uint64]

	saving  sync.Mutex // held from the look at closed until the file is replaced
	mu      sync.Mutex
	reads   uint64
	pending []reached // of reads that are not committed yet, in their order
	closed  bool
}

// reached is how far a read has come.
type reached struct {
	read uint64
	position
	last bool // the file is done and gone: forget it
}

func newSession(saved *positions) *session {
	s := &session{saved: saved}
	s.commits = checkpoint.NewCommitter(mostOpen, s.commit)
	return s
}

// track makes the ack of what was read from t just now.
func (s *Source) track(ctx context.Context, t *tail) (connector.Ack, error) {
	settle, err := s.session.commits.Track(ctx, s.session.read(t.where()))
	if err != nil {
		s.broken = err // these lines are delivered by nobody: no later position may be committed
		return nil, err
	}
	return func(ctx context.Context, o event.Outcomes) error {
		if o.Err() == nil {
			return settle(ctx)
		}
		return nil // its position is never committed: the next run reads it again
	}, nil
}

// read notes that reading has come to p, and returns the number of the read.
func (s *session) read(p position) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	s.pending = append(s.pending, reached{read: s.reads, position: p})
	return s.reads
}

// done notes that a file was read to its end and is gone. Its position goes when everything
// read of it is settled.
func (s *session) done(id fileID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, reached{read: s.reads, position: position{fileID: id}, last: true})
}

// commit makes the positions durable that reads up to the given one have reached.
func (s *session) commit(_ context.Context, read uint64) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("save position file: the source is closed")
	}
	n := 0
	for n < len(s.pending) && s.pending[n].read <= read {
		if p := s.pending[n]; p.last {
			s.saved.forget(p.fileID)
		} else {
			s.saved.set(p.position)
		}
		n++
	}
	s.pending = slices.Delete(s.pending, 0, n)
	s.mu.Unlock()
	return s.saved.save()
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
	s.saving.Lock() // the file is never replaced by a session that is closed
	defer s.saving.Unlock()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return err
}
