package postgres

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// moves tells which partitions this process takes, gives back and loses, in one line for all that
// move within a moment and at most one every ten seconds: while others come and go there is always
// one that says how it stands.
type moves struct {
	log   *slog.Logger
	share func() (has, of int)

	mu                     sync.Mutex
	taken, givenBack, lost int
	told                   time.Time
	timer                  *time.Timer
	ended                  bool
}

const (
	movesGather = 200 * time.Millisecond
	movesEvery  = 10 * time.Second
)

func (m *moves) took(n int)   { m.note(n, 0, 0) }
func (m *moves) gave(n int)   { m.note(0, n, 0) }
func (m *moves) misses(n int) { m.note(0, 0, n) }

func (m *moves) note(taken, givenBack, lost int) {
	if taken+givenBack+lost == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken, m.givenBack, m.lost = m.taken+taken, m.givenBack+givenBack, m.lost+lost
	switch {
	case m.ended:
		m.tell()
	case m.timer == nil:
		wait := movesGather
		if !m.told.IsZero() {
			wait = max(wait, movesEvery-time.Since(m.told))
		}
		m.timer = time.AfterFunc(wait, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.timer = nil; m.taken+m.givenBack+m.lost > 0 {
				m.tell()
			}
		})
	}
}

// tell writes the line. The lock is held.
func (m *moves) tell() {
	has, of := m.share()
	level, text := slog.LevelInfo, "partitions have changed hands"
	if m.lost > 0 {
		level, text = slog.LevelWarn, "partitions have changed hands, and others have taken some that this process had"
	}
	m.log.Log(context.Background(), level, text, "taken", m.taken, "given_back", m.givenBack, "lost", m.lost, "has", has, "of", of) //nolint:sloglint // the texts are constants
	m.taken, m.givenBack, m.lost, m.told = 0, 0, 0, time.Now()
}

// flush tells what was not told yet; what comes then is told at once.
func (m *moves) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	if m.taken+m.givenBack+m.lost > 0 {
		m.tell()
	}
}

// tally is of how many partitions this process leases from something, and how many there are.
func (s *Store) tally() (has, of int) {
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil && len(o.queues()) > 0 && !o.leaving.Load() {
			has++
		}
	}
	return has, len(s.owned)
}
