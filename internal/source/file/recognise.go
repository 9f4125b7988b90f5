package file

import (
	"errors"
	"io"

	"github.com/weirdata/weir/internal/meter"
)

// recognise finds out which content t has, and where to begin with it; false: that shows later.
func (s *Source) recognise(t *tail) (bool, error) {
	form, err := detect(t.f, t.follow)
	if errors.Is(err, errUndecided) {
		if st := s.book.find(t.id); st != nil && !st.Packed && t.size < s.book.at(st).Offset {
			s.log.Warn("the file was truncated since it was read; reading it from the beginning", meter.KeyFile, t.path)
			s.book.retire(st)
			s.fresh(t, true)
			return true, nil
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t.format = form
	seen := s.book.find(t.id)
	if seen != nil && (!s.book.blank(seen) || !alike(seen.Birth, t.birth)) {
		if s.resumes(t, seen) {
			return true, nil
		}
		s.book.retire(seen)
		s.fresh(t, true)
		return true, nil
	}
	st, at, wait, err := s.copied(t)
	switch {
	case err != nil || wait:
		return false, err
	case st == nil && seen != nil:
		s.book.change(func() { seen.Packed = form != plain })
		return true, s.resumeAt(t, seen, 0)
	case st == nil:
		s.fresh(t, false)
		return true, nil
	}
	head, err := headOf(t.f, digestBytes)
	if err != nil {
		return false, err
	}
	s.log.Info("the file is what another was compressed or copied to; what was read there is not read again", meter.KeyFile, t.path, "from", st.Path, "offset", at)
	s.book.revive(st, t.id, t.birth, resolved(t.path), head, form != plain)
	s.saveSoon()
	return true, s.resumeAt(t, st, at)
}

// resumes has t read on as the content of st, if that is what it has.
func (s *Source) resumes(t *tail, st *state) bool {
	known := s.book.at(st)
	head, err := headOf(t.f, known.Prefix.Bytes)
	switch {
	case err != nil, !alike(known.Birth, t.birth), digestOf(head) != known.Prefix:
		s.log.Warn("the file is not the one that was read before under its inode; reading it from the beginning", meter.KeyFile, t.path)
		return false
	case t.format == plain && t.size < known.Offset:
		s.log.Warn("the file was truncated since it was read; reading it from the beginning", meter.KeyFile, t.path)
		return false
	}
	at := known.Offset
	if t.format == plain {
		behind, err := before(t.f, at)
		if err != nil || !known.Tail.ends(behind) {
			s.log.Warn("the file was rewritten since it was read; reading it from the beginning", meter.KeyFile, t.path)
			return false
		}
	}
	s.book.change(func() { st.Birth, st.Packed, st.head = t.birth, t.format != plain, head })
	return s.resumeAt(t, st, at) == nil
}

// resumeAt has t read st from an offset on.
func (s *Source) resumeAt(t *tail, st *state, at int64) error {
	t.st, t.start, t.want = st, at, digest{}
	if t.format == plain {
		behind, err := before(t.f, at)
		if err != nil {
			t.st = nil
			return err
		}
		t.behind = behind
	} else if at == st.Offset {
		t.want = st.Tail
	}
	s.moved(t)
	return nil
}

// alike reports whether two files may be one, by when they were made.
func alike(a, b int64) bool { return a == 0 || b == 0 || a == b }

// seen notes that there is a file of which nothing was read, so that it is found again whatever
// it is called then.
func (s *Source) seen(t *tail) {
	if form, err := detect(t.f, t.follow); err == nil && form == plain {
		if known, _ := s.recognise(t); known {
			return // otherwise Read tries again
		}
	}
	if s.book.find(t.id) == nil {
		s.book.add(s.stateOf(t))
		s.saveSoon()
	}
}

// stateOf is the state of a file that nobody has read.
func (s *Source) stateOf(t *tail) *state {
	st := &state{Path: nameOf(t.f), fileID: t.id, Birth: t.birth, Packed: t.format != plain, Partition: s.partitionOf(t.id, t.birth)}
	if st.Path == "" {
		st.Path = resolved(t.path)
	}
	st.also(st.Path)
	return st
}

// before is the content of a plain file before an offset, as far as a digest goes.
func before(f io.ReaderAt, at int64) ([]byte, error) {
	b := make([]byte, min(at, digestBytes))
	n, err := f.ReadAt(b, at-int64(len(b)))
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// fresh has t read as a content that nobody has read.
func (s *Source) fresh(t *tail, replaced bool) {
	st := s.stateOf(t)
	if replaced {
		st.Partition = "" // that one is taken, whether or not it is remembered
	}
	s.book.add(st)
	t.st, t.start, t.behind, t.want = st, 0, nil, digest{}
	s.saveSoon()
	var mark [2]byte
	if n, err := readFullAt(t.f, mark[:]); err == nil && n == 2 && (mark == [2]byte{0xff, 0xfe} || mark == [2]byte{0xfe, 0xff}) {
		s.tell(t.path, "the file begins as text in UTF-16 does; its lines are read as bytes, convert it to UTF-8", "it begins with a byte order mark of UTF-16")
	}
}
