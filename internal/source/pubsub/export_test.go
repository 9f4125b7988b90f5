package pubsubsource

import "time"

// Hasten shortens what a source waits for when the other side does not work.
func Hasten(s *Source, ping, pong, call time.Duration) {
	s.times.ping, s.times.pong, s.times.call = ping, pong, call
}

// Lease sets for how long a lease is taken, and how often it is looked at.
func Lease(s *Source, lease, look time.Duration) { s.times.lease, s.times.look = lease, look }

// Returned sets when a message is delivered again that was given back.
func Returned(s *Source, d time.Duration) { s.times.returned = d }

// Held is how many messages an open source holds.
func Held(s *Source) int {
	messages, _, _ := s.open().book.counts()
	return messages
}
