package queue

// Remote is a store that is reached over a network, and may be away.
type Remote interface {
	// Away is an ErrAway with the reason, and since when, while the store cannot be reached, and
	// otherwise nil. It returns at once.
	Away() error
	// Leasable is closed once jobs can be leased, which nobody may who has not heard of the store
	// for long: at once when they can be now. Whoever waits for it hears when the store is back.
	Leasable() <-chan struct{}
}

// Leasing is closed once jobs can be leased from s: now, for a store that is never away.
func Leasing(s Store) <-chan struct{} {
	if r, ok := s.(Remote); ok {
		return r.Leasable()
	}
	return always
}

var always = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// AwayOf is why s cannot be reached; nil when it can.
func AwayOf(s Store) error {
	if r, ok := s.(Remote); ok {
		return r.Away()
	}
	return nil
}
