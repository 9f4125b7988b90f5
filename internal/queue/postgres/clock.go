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
	told  time.Duration // by how much the database is ahead of this machine, as was said last
}

// differs is the least difference of two clocks that is told of.
const differs = 2 * time.Second

// compare reports by how much the database is ahead of the clock of this machine, when that
// is to be told: at the first look, and when it has become another.
func (c *databaseClock) compare(database, machine time.Time) (by time.Duration, tell bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by = database.Sub(machine)
	if by.Abs() < differs {
		by = 0
	}
	if (by-c.told).Abs() < differs && (by == 0) == (c.told == 0) {
		return by, false
	}
	c.told = by
	return by, true
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

// Now implements queue.Store: it is the time of the database.
func (s *Store) Now() time.Time { return s.now() }

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
	s.compareClocks()
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

// compareClocks tells when the clock of this machine is not that of the database. Nothing in
// the store goes by it.
func (s *Store) compareClocks() {
	if s.o.Now != nil {
		return
	}
	by, tell := s.clock.compare(s.now(), s.o.wall())
	switch {
	case !tell:
	case by == 0:
		s.o.Log.Info("the clock of this machine is that of the database again")
	case by > 0:
		s.o.Log.Warn("the clock of this machine is behind that of the database: what is in queues goes by the database's; set this machine's by NTP", "by", by.Round(time.Second/10))
	default:
		s.o.Log.Warn("the clock of this machine is ahead of that of the database: what is in queues goes by the database's; set this machine's by NTP", "by", (-by).Round(time.Second/10))
	}
}
