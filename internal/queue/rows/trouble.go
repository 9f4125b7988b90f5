package rows

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// trouble is what keeps the state from being written: a disk that is full, a folder that is
// gone. Pebble tries again without end and without a pause; so each failure waits a while
// here, is logged once a minute with its count, and ends the wait of those who wait for a
// flush. Nothing is lost by it: the log has all that the state lacks.
type trouble struct {
	mu     sync.Mutex
	err    error         // the last
	met    chan struct{} // closed at the next failure
	row    int           // failures since the last success
	untold int           // failures since the last that was logged
	told   time.Time
}

// The pause after a failed write of the state doubles.
const (
	leastPause = 10 * time.Millisecond
	mostPause  = time.Second
	tellEvery  = time.Minute
)

// next is closed at the next failure, whose error last is.
func (t *trouble) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.met == nil {
		t.met = make(chan struct{})
	}
	return t.met
}

func (t *trouble) last() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// note notes a failure, and is how many are to be told of now, and how long to wait.
func (t *trouble) note(err error) (tell int, pause time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	if t.met != nil {
		close(t.met)
		t.met = nil
	}
	pause = min(leastPause<<min(t.row, 10), mostPause)
	t.row++
	t.untold++
	if now := time.Now(); t.told.IsZero() || now.Sub(t.told) >= tellEvery {
		tell, t.untold, t.told = t.untold, 0, now
	}
	return tell, pause
}

func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.row = 0
}

// notWritten is told by Pebble of each write of the state that fails.
func (s *Store) notWritten(err error) {
	tell, pause := s.trouble.note(err)
	if tell > 0 {
		s.opt.Log.Error("the state of the queue store was not written; it is tried again", "dir", s.dir, "error", err, "failures", tell)
	}
	<-time.After(pause)
}

// flushed is told by Pebble of each flush.
func (s *Store) flushed(i pebble.FlushInfo) {
	if i.Err == nil {
		s.trouble.over()
	}
}

// flushState has the state written, and waits until it is or a write of it fails.
func (s *Store) flushState() error {
	failed := s.trouble.next()
	done, err := s.db.AsyncFlush()
	if err != nil {
		return stateError("flush", err)
	}
	select {
	case <-done:
		return nil
	case <-failed:
		return stateError("flush", s.trouble.last())
	}
}
