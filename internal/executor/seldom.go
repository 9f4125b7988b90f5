package executor

import (
	"sync"
	"time"
)

// seldom lets a line of the log that would repeat itself be written once in sayAgain, with how
// often it would have been since. The zero value is ready to use.
type seldom struct {
	mu   sync.Mutex
	said map[string]said
}

type said struct {
	at    time.Time
	since int
}

const (
	sayAgain = time.Minute
	sayMost  = 1000 // different lines that are told apart; the others count as one
)

// say reports whether the line called key is to be written now, and how often it came since it
// was written last, this time included.
func (s *seldom) say(key string) (now bool, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, known := s.said[key]
	if !known && len(s.said) >= sayMost {
		key = ""
		line, known = s.said[key]
	}
	line.since++
	times = line.since
	if now = !known || time.Since(line.at) >= sayAgain; now {
		line = said{at: time.Now()}
	}
	if s.said == nil {
		s.said = map[string]said{}
	}
	s.said[key] = line
	return now, times
}
