package meter

import "time"

// Look is how a pipeline stands at a moment: what counters do not say.
type Look struct {
	// Degraded is since when it waits to be started again, or for what its source stands on; Read
	// and Settled are when it last read something, and had something settled. Zero: it is not, never.
	Degraded, Read, Settled time.Time
	// Oldest is for how long the first read that is not settled has been under way.
	Oldest time.Duration
}

// Look says how the pipeline stands.
func (p *Pipeline) Look() Look {
	return Look{Degraded: p.degraded.time(), Read: p.read.time(), Settled: p.settled.time(), Oldest: p.flights.oldest()}
}

// Failing is since when the target takes nothing, and for how many destinations where it is known
// for which; zero when it takes what it gets.
func (s *Sink) Failing() (since time.Time, destinations int) {
	since = s.failing.time()
	if each := s.ailing.Load(); each != nil {
		(*each)(func(_ string, at time.Time) {
			if destinations++; since.IsZero() || at.Before(since) {
				since = at
			}
		})
	}
	return since, destinations
}

// time is the moment; zero when it never was.
func (m *moment) time() time.Time {
	if ns := m.at.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}
