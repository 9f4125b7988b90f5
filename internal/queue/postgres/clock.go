package postgres

import (
	"sync"
	"time"
)

// databaseClock is the clock of the database, which counts for all processes, as far as this
// one knows it: each answer that holds the time bounds it from both sides. What it shows is
// never ahead of the database, unless that was set back since the last answer.
type databaseClock struct {
	mu    sync.Mutex
	known bool
	ahead time.Duration // of the time since born
}

// heard takes in that the database said now, to what was asked at sent and answered by got. It
// reports by how much the clock was set, if it was by more than a second.
func (c *databaseClock) heard(now time.Time, sent, got time.Duration) (set time.Duration) {
	least, most := time.Duration(now.UnixNano())-got, time.Duration(now.UnixNano())-sent
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.ahead
	if !c.known || c.ahead < least || c.ahead > most {
		c.ahead = least
	}
	if set = c.ahead - was; !c.known || set.Abs() <= time.Second {
		set = 0
	}
	c.known = true
	return set
}

func (c *databaseClock) at(since time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Unix(0, int64(c.ahead+since)).UTC()
}

// now is the time by which jobs come due: that of the database.
func (s *Store) now() time.Time {
	if s.o.Now != nil {
		return s.o.Now()
	}
	return s.clock.at(time.Since(s.born))
}

// steady goes on evenly, whatever clock is set; leases end by it.
func (s *Store) steady() int64 {
	if s.o.Now != nil {
		return s.o.Now().UnixNano()
	}
	return 1 + int64(time.Since(s.born))
}

// heard takes in what the database said of its time, and has what has come due by it handed
// out when that was set.
func (s *Store) heard(now time.Time, sent time.Duration) {
	set := s.clock.heard(now, sent, time.Since(s.born))
	if set == 0 || s.o.Now != nil {
		return
	}
	s.o.Log.Warn("the time of the database was set: what waits comes earlier or later", "by", set)
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			o.p.Stepped()
		}
	}
}
