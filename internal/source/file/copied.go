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
)

// candidate is a content that another file may be a copy of, as far as that was read.
type candidate struct {
	st   *state
	at   int64
	tail digest
	gone int64 // as in the state
}

// copied finds the content that t has, if another file had it that was compressed or copied to
// t, and how far that was read. wait: that shows later.
func (s *Source) copied(t *tail) (st *state, at int64, wait bool, err error) {
	all := s.candidates(t)
	if len(all) == 0 {
		return nil, 0, false, nil
	}
	if t.format == plain {
		st, at, wait = s.copiedPlain(t, all)
		return st, at, wait, nil
	}
	content, unzip, err := unpack(io.NewSectionReader(t.f, 0, 1<<62), t.format)
	if err != nil {
		return nil, 0, t.incomplete(err), nil // what is wrong with it shows when it is read
	}
	if unzip != nil {
		defer func() { _ = unzip.Close() }()
	}
	began := time.Now()
	found, err := furthest(content, all)
	defer func() {
		if wait { // it costs little of the time to find out again
			t.rest = time.Now().Add(20 * time.Since(began))
		}
	}()
	switch {
	case found == nil && errors.Is(err, errOther):
		st, at, err = s.earlier(t, all)
		return st, at, false, err
	case found == nil:
		return nil, 0, t.incomplete(err), nil
	case found.gone != 0:
		return found.st, found.at, false, nil
	case !related(t, found.st):
		return nil, 0, s.recent(t), nil // the other one is truncated soon, or this is a file of its own
	}
	if t.done = !t.follow; t.done {
		s.tell(t.path, "the file is what another was compressed to, and is not read again", found.st.Path)
	}
	return nil, 0, true, nil // it goes on where the other one ends
}

// earlier finds the content that was compressed to t before it grew on: t is the beginning of
// it, and has nothing that is not there. Its state is its own, and all of it is settled.
func (s *Source) earlier(t *tail, all []candidate) (*state, int64, error) {
	all = slices.DeleteFunc(all, func(c candidate) bool { return c.gone != 0 || !related(t, c.st) || s.reading(c.st) == nil })
	if len(all) == 0 {
		return nil, 0, nil
	}
	content, unzip, err := unpack(io.NewSectionReader(t.f, 0, 1<<62), t.format)
	if err != nil { // what is wrong with it shows when it is read
		return nil, 0, nil
	}
	if unzip != nil {
		defer func() { _ = unzip.Close() }()
	}
	var end ending
	if _, err := io.Copy(&end, content); err != nil || end.size == 0 {
		return nil, 0, nil
	}
	for _, c := range all {
		f := s.reading(c.st).f
		head, herr := headOf(f, len(end.head))
		same, berr := before(f, end.size)
		if end.size >= c.at || herr != nil || berr != nil || !bytes.Equal(head, end.head) || !bytes.Equal(same, end.last) {
			continue
		}
		s.tell(t.path, "the file is what another was compressed to, and is not read again", c.st.Path)
		st := s.stateOf(t)
		st.Offset, st.Tail, st.Packed = end.size, digestOf(end.last), true
		if head, err = headOf(t.f, digestBytes); err != nil {
			return nil, 0, err
		}
		st.Prefix, st.head = digestOf(head), head
		return st, end.size, nil
	}
	return nil, 0, nil
}

// ending keeps the first and the last bytes of what is written to it.
type ending struct {
	head, last []byte
	size       int64
}

func (e *ending) Write(p []byte) (int, error) {
	e.head = append(e.head, p[:min(len(p), digestBytes-len(e.head))]...)
	e.last = last(e.last, p)
	e.size += int64(len(p))
	return len(p), nil
}

// reading is the file that has the content of st now; nil when none is open.
func (s *Source) reading(st *state) *tail {
	if i := slices.IndexFunc(s.tails, func(x *tail) bool { return x.st == st }); i >= 0 {
		return s.tails[i]
	}
	return nil
}

// recent reports whether to wait for what becomes of a file that appeared just now.
func (s *Source) recent(t *tail) bool {
	return t.follow && t.gone.IsZero() && time.Since(t.opened) < s.grace
}

// incomplete reports whether a compressed file is still being written, as err says.
func (t *tail) incomplete(err error) bool {
	return t.follow && t.gone.IsZero() && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF))
}

// candidates are the plain contents of the directory of t that were read and may be in t, those
// that were read least first.
func (s *Source) candidates(t *tail) (all []candidate) {
	dir := filepath.Dir(resolved(t.path))
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	add := func(st *state) {
		c := candidate{st, st.Offset, st.Tail, st.Gone}
		if st.read > st.Offset {
			c.at, c.tail = st.read, digestOf(st.behind)
		}
		if c.at == 0 || st.Packed || st.Prefix.Bytes == 0 || filepath.Dir(st.Path) != dir {
			return
		}
		// Short contents are alike by chance. A plain file is a copy when the one that it was made
		// of is truncated; one that takes the place of another is a file of its own.
		now := s.book.alive[st.fileID]
		switch {
		case t.format != plain && (related(t, st) || c.at >= digestBytes/4):
			all = append(all, c)
		case t.format == plain && related(t, st) && now != nil && now.fileID != t.id:
			all = append(all, c)
		}
	}
	for _, st := range s.book.alive {
		add(st)
	}
	for _, st := range s.book.gone {
		add(st)
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.at, b.at) })
	return all
}

// related reports whether the name of t says that it was made of st.
func related(t *tail, st *state) bool {
	base := filepath.Base(resolved(t.path))
	return base != filepath.Base(st.Path) && slices.ContainsFunc(append([]string{filepath.Base(st.Path)}, st.Names...), func(name string) bool {
		return len(base) > len(name) && strings.HasPrefix(base, name)
	})
}

// copiedPlain is copied for a file that is not compressed.
func (s *Source) copiedPlain(t *tail, all []candidate) (st *state, at int64, wait bool) {
	fi, err := t.f.Stat()
	if err != nil {
		return nil, 0, false
	}
	size := fi.Size()
	for i := range all {
		c := &all[i]
		head, err := headOf(t.f, c.st.Prefix.Bytes)
		begun := err == nil && digestOf(head) == c.st.Prefix
		behind, err := before(t.f, min(size, c.at))
		switch {
		case err != nil || !begun && !bytes.HasPrefix(c.st.head, head):
		case size < c.at:
			wait = wait || s.copying(t, c, behind, size)
		case begun && c.tail.ends(behind) && c.gone != 0:
			st, at = c.st, c.at
		case begun && c.tail.ends(behind):
			wait = wait || s.recent(t)
		}
	}
	return st, at, wait && st == nil
}

// copying reports whether t may become a copy of c, of which it has size bytes that end with
// behind.
func (s *Source) copying(t *tail, c *candidate, behind []byte, size int64) bool {
	of := s.reading(c.st)
	if c.gone != 0 || of == nil {
		return s.recent(t) && time.Since(time.Unix(0, c.gone)) < s.grace
	}
	same, err := before(of.f, size)
	return err == nil && bytes.Equal(same, behind) && t.follow && t.gone.IsZero() && size > 0
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
	var found *candidate
	behind, read := head, int64(n)
	for i := range all {
		c := &all[i]
		switch {
		case len(head) < c.st.Prefix.Bytes:
			if err != nil && bytes.HasPrefix(c.st.head, head) {
				return found, err
			}
			continue
		case digestOf(head[:c.st.Prefix.Bytes]) != c.st.Prefix:
			continue
		case c.at <= int64(n):
			if c.tail.ends(head[:c.at]) {
				found = c
			}
			continue
		case err != nil:
			return found, err
		}
		more, err := discard(content, c.at-read)
		if err != nil {
			if found == nil && errors.Is(err, errReplaced) {
				return nil, errOther // it has an end, and is shorter
			}
			return found, err
		}
		behind, read = last(behind, more), c.at
		if c.tail.ends(behind) {
			found = c
		}
	}
	if found == nil {
		return nil, cmp.Or(err, errOther)
	}
	return found, nil
}
