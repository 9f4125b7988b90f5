package lease

import (
	"strings"
	"time"
)

// ownerMark begins the name of every worker of ours, by which workers know that others renew as
// often as they do.
const ownerMark = "weir/"

func isOurs(worker string) bool { return strings.HasPrefix(worker, ownerMark) }

// longestPatience bounds what is concluded from how rarely a worker was seen to renew.
const longestPatience = 5 * time.Minute

// sight remembers when the rows of a table were seen to change, by the clock of this process.
type sight struct {
	failover, foreign time.Duration
	rows              map[string]glimpse
	// pace is the longest time, for certain, between two renewals of a worker.
	pace map[string]time.Duration
	last time.Time // end of the look before
}

// glimpse is what is remembered of a row.
type glimpse struct {
	owner   string
	counter int64
	changed time.Time     // when the look ended that saw it so first
	known   bool          // a change was seen, so that changed is its time
	gap     time.Duration // the shortest between two changes under one owner, for certain
	gaps    bool          // gap was measured
}

func newSight(failover, foreign time.Duration) *sight {
	return &sight{failover: failover, foreign: foreign, rows: map[string]glimpse{}}
}

// see takes in the rows of a look at the table that ended then.
func (s *sight) see(rows []Row, ended time.Time) {
	seen, pace := make(map[string]glimpse, len(rows)), map[string]time.Duration{}
	for _, r := range rows {
		g, ok := s.rows[r.Shard]
		switch {
		case !ok || g.owner != r.Owner:
			g = glimpse{owner: r.Owner, counter: r.Counter, changed: ended}
		case g.counter != r.Counter:
			if g.known {
				// It changed after the look before this one, and was seen changed before.
				gap := max(s.last.Sub(g.changed), 0)
				if !g.gaps || gap < g.gap {
					g.gap, g.gaps = gap, true
				}
			}
			g.counter, g.changed, g.known = r.Counter, ended, true
		}
		seen[r.Shard] = g
		if r.Owner != "" {
			pace[r.Owner] = max(pace[r.Owner], g.gap)
		}
	}
	s.rows, s.pace, s.last = seen, pace, ended
}

// patience is how long a row of owner may stay as it is before it is free: three of its intervals.
// Those of ours are a quarter of their fail-over time, which may be another than this one's.
func (s *sight) patience(owner string) time.Duration {
	least := s.failover
	if !isOurs(owner) {
		least = max(least, s.foreign)
	}
	return min(max(least, 3*s.pace[owner]), max(least, longestPatience))
}

// unchanged is how long, for certain, a row had been as it is when a look at the table began.
func (s *sight) unchanged(r Row, began time.Time) time.Duration {
	g, ok := s.rows[r.Shard]
	if !ok {
		return 0
	}
	return max(began.Sub(g.changed), 0)
}

// free reports whether nobody holds r any more.
func (s *sight) free(r Row, began time.Time) bool {
	return r.Owner == "" || s.unchanged(r, began) >= s.patience(r.Owner)
}
