package postgres

// tuned are the options that may change while the store is open: MaxBytes, SegmentBytes, SegmentAge,
// Patience and Poll are read here only.
func (s *Store) tuned() *Options { return s.tuning.Load() }

// Retune has the open store go by the MaxBytes, SegmentBytes, SegmentAge, Patience and Poll of o from
// now on. It names, as a config spells them, those of the others that differ: sessions, shares and
// caches are made with them when the store is opened.
func (s *Store) Retune(o Options) (later []string, err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	s.tuning.Store(&o)
	s.judge()
	select {
	case s.retuned <- struct{}{}:
	default: // it is asked already
	}
	for _, x := range []struct {
		name    string
		was, is any
	}{
		{"partitions", s.o.Partitions, o.Partitions},
		{"spread", s.o.Spread, o.Spread},
		{"process_name", s.o.Name, o.Name},
		{"max_committers", s.o.Committers, o.Committers},
		{"max_readers", s.o.Readers, o.Readers},
		{"lease_seconds", s.o.Lease, o.Lease},
		{"timeout_seconds", s.o.Timeout, o.Timeout},
		{"cache_bytes", s.o.CacheBytes, o.CacheBytes},
	} {
		if x.was != x.is {
			later = append(later, x.name)
		}
	}
	return later, nil
}
