package cli

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// steady is standard error for logs: a reader that stands still never holds up who logs. What
// waits to be written is bounded; lines that find no room are dropped and counted, and the
// count is written once somebody reads again. Lines that cannot be written, as on a full disk, are
// counted with them, and end nothing.
type steady struct {
	w io.Writer
	// dropped makes the line that tells of n lines that were dropped.
	dropped func(n int) string

	mu      sync.Mutex
	waiting []byte
	lost    int  // lines, since the last that was kept
	failed  bool // the last write
	torn    bool // it has left a line without its end
	writing bool
	idle    chan struct{} // closed when nothing waits and nothing is written
}

// mostWaiting is how many bytes of log wait for a reader at most.
const mostWaiting = 1 << 20

func newSteady(w io.Writer, dropped func(n int) string) *steady {
	s := &steady{w: w, dropped: dropped, idle: make(chan struct{})}
	close(s.idle)
	return s
}

// plainDropped is the line in text.
func plainDropped(n int) string {
	return fmt.Sprintf("%d log lines were dropped: nobody read them in time\n", n)
}

// jsonDropped is the line in JSON.
func jsonDropped(n int) string {
	return fmt.Sprintf(`{"time":%q,"level":"WARN","msg":"log lines were dropped: nobody read them in time","lines":%d}`+"\n",
		time.Now().Format(time.RFC3339Nano), n)
}

// Write takes whole lines, and never waits.
func (s *steady) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting)+len(p) > mostWaiting {
		s.lost++
		return len(p), nil
	}
	if s.lost > 0 && !s.failed {
		s.waiting = append(s.waiting, s.dropped(s.lost)...)
		s.lost = 0
	}
	s.waiting = append(s.waiting, p...)
	if !s.writing {
		s.writing = true
		s.idle = make(chan struct{})
		go s.drain()
	}
	return len(p), nil
}

// drain writes until nothing waits.
func (s *steady) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 {
		b, head := s.waiting, 0
		if s.waiting = nil; s.torn {
			b, head = append([]byte("\n"), b...), 1
		}
		s.mu.Unlock()
		n, err := s.w.Write(b)
		s.mu.Lock()
		if err != nil { // a full disk, or nobody who reads: it is told once that is over
			n = min(max(n, 0), len(b))
			s.lost += bytes.Count(b[max(n, head):], []byte("\n"))
			s.failed, s.torn = true, n == 0 && head > 0 || n > 0 && b[n-1] != '\n'
			continue
		}
		s.failed, s.torn = false, false
		if s.lost > 0 && len(s.waiting) == 0 {
			s.waiting = append(s.waiting, s.dropped(s.lost)...)
			s.lost = 0
		}
	}
	s.writing = false
	close(s.idle)
}

// lastWords is how long the end of a process waits for somebody to read its log.
const lastWords = time.Second

// flush waits until what was logged is written, but not for long.
func (s *steady) flush() {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(lastWords):
	}
}
