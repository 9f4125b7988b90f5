package file

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// recognise finds out which content t has, and where to begin with it; false: that shows later.
func (s *Source) recognise(t *tail) (bool, error) {
	form, err := detect(t.f, t.follow)
	if err != nil {
		return false, ignore(err, errUndecided)
	}
	t.format = form
	if st := s.book.find(t.id); st != nil {
		if s.resumes(t, st) {
			return true, nil
		}
		s.book.retire(st)
		return true, s.fresh(t, true)
	}
	st, at, wait, err := s.copied(t)
	switch {
	case err != nil || wait:
		return false, err
	case st == nil:
		return true, s.fresh(t, false)
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
	case err != nil, known.Birth != 0 && t.birth != 0 && known.Birth != t.birth, digestOf(head) != known.Prefix:
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
func (s *Source) fresh(t *tail, replaced bool) error {
	st := &state{Path: resolved(t.path), fileID: t.id, Birth: t.birth, Packed: t.format != plain}
	if !replaced {
		st.Partition = partitionOf(t.id, t.birth)
	}
	s.book.add(st)
	t.st, t.start, t.behind, t.want = st, 0, nil, digest{}
	if path := nameOf(t.f); path != "" {
		st.Path = path
	}
	s.saveSoon()
	var mark [2]byte
	if n, err := readFullAt(t.f, mark[:]); err == nil && n == 2 && (mark == [2]byte{0xff, 0xfe} || mark == [2]byte{0xfe, 0xff}) {
		s.tell(t.path, "the file begins as text in UTF-16 does; its lines are read as bytes, convert it to UTF-8", "it begins with a byte order mark of UTF-16")
	}
	return nil
}

// candidate is a content that another file may be a copy of, as far as that was read.
type candidate struct {
	st   *state
	at   int64
	tail digest
	gone bool
}

// copied finds the content that t has, if another file had it that was compressed or copied to
// t, and how far that was read. wait: that shows later.
func (s *Source) copied(t *tail) (st *state, at int64, wait bool, err error) {
	all := s.candidates(t)
	if len(all) == 0 {
		return nil, 0, false, nil
	}
	content, unzip, err := unpack(io.NewSectionReader(t.f, 0, 1<<62), t.format)
	if err != nil {
		return nil, 0, s.growing(t, err), nil // what is wrong with it shows when it is read
	}
	if unzip != nil {
		defer unzip.Close()
	}
	found, err := furthest(content, all)
	switch {
	case found == nil:
		return nil, 0, err != nil && s.growing(t, err), nil
	case found.gone:
		return found.st, found.at, false, nil
	case related(t, found.st) && t.format != plain:
		if t.done = !t.follow; t.done {
			s.tell(t.path, "the file is what another was compressed to, and is not read again", found.st.Path)
		}
		return nil, 0, true, nil // it goes on where the other one ends
	}
	return nil, 0, s.recent(t), nil // the other one is truncated soon, or this is a file of its own
}

// recent reports whether to wait for what becomes of a file that appeared just now.
func (s *Source) recent(t *tail) bool {
	return t.follow && t.gone.IsZero() && time.Since(t.written) < s.grace
}

// growing reports whether to wait for a file that is still being written, which err says it is:
// one that is compressed for as long as that takes.
func (s *Source) growing(t *tail, err error) bool {
	cut := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
	if t.format != plain {
		return cut && t.follow && t.gone.IsZero()
	}
	return cut && s.recent(t)
}

// candidates are the plain contents of the directory of t that were read.
func (s *Source) candidates(t *tail) (all []candidate) {
	dir := filepath.Dir(resolved(t.path))
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	add := func(st *state, gone bool) {
		c := candidate{st, st.Offset, st.Tail, gone}
		if st.read > st.Offset {
			c.at, c.tail = st.read, digestOf(st.behind)
		}
		if c.at > 0 && !st.Packed && st.Prefix.Bytes > 0 && filepath.Dir(st.Path) == dir && s.plausible(t, st, c.at, gone) {
			all = append(all, c)
		}
	}
	for _, st := range s.book.alive {
		add(st, false)
	}
	for _, st := range s.book.gone {
		add(st, true)
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.at, b.at) })
	return all
}

// plausible reports whether t may be a copy of st, if it has its content: short contents are
// alike by chance.
func (s *Source) plausible(t *tail, st *state, at int64, gone bool) bool {
	if !related(t, st) && at < digestBytes/4 {
		return false
	}
	if t.format != plain || !gone {
		return true
	}
	// A plain file is a copy when the one that it was made of was truncated. One that takes the
	// place of another is a file of its own, whatever it begins with.
	now := s.book.alive[st.fileID]
	return now != nil && now != st && now.fileID != t.id
}

// related reports whether the name of t says that it was made of st.
func related(t *tail, st *state) bool {
	base := filepath.Base(resolved(t.path))
	return base != filepath.Base(st.Path) && strings.HasPrefix(base, filepath.Base(st.Path))
}

// errOther says that a content is none of those it was held against.
var errOther = errors.New("another content")

// furthest is the candidate that was read furthest of those whose content this is. When there
// is none, the error says why: errOther, or what the content ended with.
func furthest(content io.Reader, all []candidate) (*candidate, error) {
	head := make([]byte, digestBytes)
	n, err := io.ReadFull(content, head)
	head = head[:n]
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) && ended(content) {
		err = nil // it is short
	}
	short := false // one of them may begin with it
	left := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool {
		if len(head) < c.st.Prefix.Bytes {
			short = short || bytes.HasPrefix(c.st.head, head)
			return true
		}
		return digestOf(head[:c.st.Prefix.Bytes]) != c.st.Prefix
	})
	if len(left) == 0 {
		if err == nil {
			err = errOther
			if short {
				err = io.ErrUnexpectedEOF
			}
		}
		return nil, err
	}
	var found *candidate
	behind, read := head, int64(n)
	for i := range left {
		c := &left[i]
		switch {
		case c.at <= int64(len(head)):
			if c.tail.ends(head[:c.at]) {
				found = c
			}
			continue
		case err != nil:
			return found, err
		}
		var more []byte
		if more, err = discard(content, c.at-read); err != nil {
			return found, cmp.Or(ignore(err, errReplaced), error(io.ErrUnexpectedEOF))
		}
		behind, read = last(behind, more), c.at
		if c.tail.ends(behind) {
			found = c
		}
	}
	if found == nil {
		return nil, errOther
	}
	return found, nil
}
