package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// mostWatched is how many files may be watched that path does not match any more.
const mostWatched = 100

// shortFor is how long what is compressed may be incomplete before that is said.
const shortFor = time.Minute

// watch is what a file was like that is watched for growth, and not open.
type watch struct {
	size int64 // -1: it is not known yet
	time time.Time
}

// look finds files that appeared, were renamed or removed, and those that are gone and grow.
func (s *Source) look() error {
	s.lastLook = time.Now()
	names, err := s.matches()
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	if err := s.misnamed(names); err != nil {
		return err
	}
	known := map[fileID]*tail{}
	for _, t := range s.tails {
		known[t.id] = t
	}
	there := map[fileID]string{}
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil || irregular(fi) != "" {
			continue // it disappeared, a link leads nowhere, or it is not meant
		}
		id := identify(name, fi)
		if first := there[id]; first != "" {
			s.tell(name, "the file has another name too, and is read once", first)
			if st := s.book.find(id); st != nil {
				s.book.change(func() { st.also(name) })
			}
			continue
		}
		there[id] = name
		if t := known[id]; t != nil {
			if t.path != name || !t.gone.IsZero() {
				t.path, t.gone = name, time.Time{}
				s.moved(t)
			}
			continue
		}
		s.follow(name, time.Time{})
	}
	for _, t := range s.tails {
		s.examine(t, there[t.id] != "")
	}
	s.lookAtWatched(there)
	slices.SortStableFunc(s.tails, func(a, b *tail) int { // files that are gone come first
		if c := boolOrder(!a.gone.IsZero(), !b.gone.IsZero()); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	return nil
}

// matches lists the files that path names, in the order of their names. What this source writes
// itself is none of them.
func (s *Source) matches() ([]string, error) {
	names, err := matches(s.config.Path)
	own := s.config.PositionFile
	return slices.DeleteFunc(names, func(name string) bool { return own != "" && (name == own || name == own+temporary) }), err
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// follow begins to follow the file called name, which has been gone from path since a time.
func (s *Source) follow(name string, gone time.Time) *tail {
	t, err := openTail(name, true, s.config.MaxLineBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.fails(name, unreadable(name, err))
		return nil
	}
	delete(s.told, name)
	t.gone = gone
	if st := s.book.find(t.id); st != nil {
		delete(s.watched, st)
	}
	s.tails = append(s.tails, t)
	s.seen(t)
	s.note(t)
	return t
}

// examine notes what has happened to t. A file whose name is gone is let go when it has not
// grown for a while.
func (s *Source) examine(t *tail, there bool) {
	if err := t.look(); err != nil {
		s.fails(t.path, err)
		return
	}
	grew := t.grew
	t.grew = false
	if grew {
		t.rest = time.Time{}
	}
	if t.short && !t.shortAt.IsZero() && time.Since(t.shortAt) > shortFor {
		s.tell(t.path, "the compressed file is incomplete; waiting for the rest of it", "it has not grown for a minute")
		t.shortAt = time.Time{}
	}
	switch {
	case there:
	case t.gone.IsZero() || grew:
		if t.gone.IsZero() {
			s.moved(t)
		}
		t.gone = time.Now()
	case time.Since(t.gone) >= s.grace:
		t.end() // the rest is its last line
	}
}

// moved keeps where the file is now.
func (s *Source) moved(t *tail) {
	st := s.book.find(t.id)
	if st == nil || t.st != nil && t.st != st {
		return
	}
	path := nameOf(t.f)
	if path == "" && t.gone.IsZero() {
		path = resolved(t.path)
	}
	if path != "" && path != st.Path {
		s.book.change(func() { st.called(path) })
		s.saveSoon()
	}
}

// watchRenamed watches the files that were read before, whatever they are called now.
func (s *Source) watchRenamed() {
	for _, st := range s.book.all() {
		s.watched[st] = watch{size: -1}
	}
}

// lookAtWatched opens what has grown of the files that are watched. there are the names that path
// matches.
func (s *Source) lookAtWatched(there map[fileID]string) {
	dirs := map[string][]fs.DirEntry{}
	for st, w := range s.watched {
		if there[st.fileID] != "" {
			delete(s.watched, st) // it is followed
			continue
		}
		path, fi := find(st, dirs, w)
		if path == "" {
			delete(s.watched, st)
			if w.size < 0 && st.Prefix.Bytes > 0 {
				s.log.Warn("a file that was being read is gone; what was left in it can be read only where it was compressed to", meter.KeyFile, st.Path)
			}
			s.book.retire(st)
			s.saveSoon()
			continue
		}
		if path != st.Path {
			s.book.change(func() { st.called(path) })
			s.saveSoon()
		}
		if w.size != fi.Size() || !w.time.Equal(fi.ModTime()) {
			if s.follow(path, time.Now()) == nil {
				s.watched[st] = watch{fi.Size(), fi.ModTime()} // it is tried again when it changes
			}
		}
	}
	s.watchFewer()
}

// watchFewer forgets the files that were changed longest ago, where there are too many.
func (s *Source) watchFewer() {
	for len(s.watched) > mostWatched {
		var oldest *state
		for st, w := range s.watched {
			if oldest == nil || w.time.Before(s.watched[oldest].time) {
				oldest = st
			}
		}
		s.log.Info("a file is watched no longer: there are more recent ones that path does not match", meter.KeyFile, oldest.Path)
		delete(s.watched, oldest)
		s.book.forget(oldest)
	}
}

// find is where the file of st is now: where it was, or in the same directory. dirs are the
// directories that were read for it.
func find(st *state, dirs map[string][]fs.DirEntry, known watch) (string, fs.FileInfo) {
	if fi := has(st.Path, st, known); fi != nil {
		return st.Path, fi
	}
	dir := filepath.Dir(st.Path)
	entries, read := dirs[dir]
	if !read {
		entries, _ = os.ReadDir(dir)
		dirs[dir] = entries
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if fi := has(name, st, watch{size: -1}); fi != nil {
			return name, fi
		}
	}
	return "", nil
}

// has is what the file called name is like, if it is the one of st: one that was given its inode
// is another. known is what it was like when that was known last.
func has(name string, st *state, known watch) fs.FileInfo {
	fi, err := os.Stat(name)
	if err != nil || irregular(fi) != "" || identify(name, fi) != st.fileID {
		return nil
	}
	if known.size == fi.Size() && known.time.Equal(fi.ModTime()) {
		return fi
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrPermission) {
		return fi // as far as can be told
	}
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if birth := born(f); !alike(birth, st.Birth) || birth == 0 && !st.Prefix.begins(f) {
		return nil
	}
	return fi
}

// prune notes which files are not there any more that were read before.
func (s *Source) prune() {
	there := map[fileID]bool{}
	for _, name := range s.todo {
		if fi, err := os.Stat(name); err == nil {
			there[identify(name, fi)] = true
		}
	}
	for _, st := range s.book.all() {
		if _, err := os.Stat(st.Path); errors.Is(err, fs.ErrNotExist) && !there[st.fileID] {
			s.book.retire(st)
		}
	}
}

var _ connector.Source = (*Source)(nil)
