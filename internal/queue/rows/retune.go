package rows

// limits are the options that may change while the store is open: MaxBytes, MinFree, DeadRetention
// and SegmentBytes are read here only.
func (s *Store) limits() *Options { return s.bounds.Load() }

// Retune has the open store keep to the limits of opt from now on: MaxBytes, MinFree, DeadRetention
// and SegmentBytes. The other options of opt are ignored.
func (s *Store) Retune(opt Options) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	opt = opt.WithDefaults()
	s.bounds.Store(&opt)
	if l, can := s.log.(interface{ SetSegmentBytes(n int64) }); can {
		l.SetSegmentBytes(opt.SegmentBytes)
	}
	s.wanted.Store(0) // it was asked for below the limit of before
	s.checkLimits()
	return nil
}
