package file

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// mostGone is how many contents are remembered that were removed or replaced, for what they
// were compressed or copied to.
const mostGone = 100

// book holds the states of all files of a source, and keeps the position file, if there is one.
type book struct {
	path string // of the position file; empty: there is none

	mu      sync.Mutex
	alive   map[fileID]*state
	gone    []*state // the oldest first
	changes uint64

	saving sync.Mutex
	saved  uint64 // the changes that are in the file; guarded by saving
}

// positionFile is the content of a position file.
type positionFile struct {
	Version int      `json:"version"`
	Files   []*state `json:"files"`
}

func newBook(path string) *book { return &book{path: path, alive: map[fileID]*state{}} }

// loadBook reads the position file at path; one that is not there holds nothing.
func loadBook(path string) (*book, error) {
	b := newBook(path)
	src, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read position file: %w", err)
	}
	var content positionFile
	if err := json.Unmarshal(src, &content); err != nil || content.Version != 1 {
		return nil, fmt.Errorf("read position file %s: it is not one of this version (%w); correct position_file, or delete the file to read everything from the beginning", path, errors.Join(err, fmt.Errorf("version %d", content.Version)))
	}
	for _, st := range content.Files {
		if st == nil || !st.valid() {
			return nil, fmt.Errorf("read position file %s: a position in it can never have been saved (%+v); delete the file to read everything from the beginning", path, st)
		}
		if st.Partition == "" {
			st.Partition = partitionOf(st.fileID, 0)
			if st.Generation != 0 {
				st.Partition += fmt.Sprintf("-%d", st.Generation)
			}
		}
		st.Generation = 0
		if st.Gone != 0 {
			b.gone = append(b.gone, st)
		} else {
			b.alive[st.fileID] = st
		}
	}
	slices.SortStableFunc(b.gone, func(x, y *state) int { return cmp.Compare(x.Gone, y.Gone) })
	return b, nil
}

// join adds the states of other that are news: what this process knows itself is no older.
func (b *book) join(other *book) {
	if b == other {
		return
	}
	b.change(func() {
		for id, st := range other.alive {
			if b.alive[id] == nil && b.named(st.Partition) == nil {
				b.alive[id] = st
			}
		}
		for _, st := range other.gone {
			if b.named(st.Partition) == nil {
				b.gone = append(b.gone, st)
			}
		}
		slices.SortStableFunc(b.gone, func(x, y *state) int { return cmp.Compare(x.Gone, y.Gone) })
		b.gone = slices.Delete(b.gone, 0, max(len(b.gone)-mostGone, 0))
	})
}

// change calls f, which changes states.
func (b *book) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	b.changes++
}

// find is the state of the file there is now, nil when none is known.
func (b *book) find(id fileID) *state {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.alive[id]
}

// at is a copy of st.
func (b *book) at(st *state) state {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := *st
	c.Done = slices.Clone(st.Done)
	return c
}

// add makes st the state of its file. Its partition becomes one that no other state has.
func (b *book) add(st *state) {
	b.change(func() {
		if st.Partition == "" || b.named(st.Partition) != nil {
			base, at := partitionOf(st.fileID, st.Birth), time.Now().UnixNano()
			for st.Partition = fmt.Sprintf("%s-%d", base, at); b.named(st.Partition) != nil; at++ {
				st.Partition = fmt.Sprintf("%s-%d", base, at+1)
			}
		}
		b.alive[st.fileID] = st
	})
}

// readTo notes how far the content of st was read.
func (b *book) readTo(st *state, at int64, behind []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st.read, st.behind = at, behind
}

// named is the state of a partition. b.mu is held.
func (b *book) named(partition string) *state {
	for _, st := range b.alive {
		if st.Partition == partition {
			return st
		}
	}
	for _, st := range b.gone {
		if st.Partition == partition {
			return st
		}
	}
	return nil
}

// partition is a copy of the state of a partition; false when none is known.
func (b *book) partition(name string) (state, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if st := b.named(name); st != nil {
		return *st, true
	}
	return state{}, false
}

// retire notes that the content of st is not in its file any more.
func (b *book) retire(st *state) {
	b.change(func() {
		if b.alive[st.fileID] == st {
			delete(b.alive, st.fileID)
		}
		if st.Gone != 0 || st.Packed {
			return // what was compressed is compressed to nothing else
		}
		st.Gone = max(time.Now().UnixNano(), 1)
		b.gone = append(b.gone, st)
		b.gone = slices.Delete(b.gone, 0, max(len(b.gone)-mostGone, 0))
	})
}

// revive notes that the content of st is in another file.
func (b *book) revive(st *state, id fileID, birth int64, path string, head []byte, packed bool) {
	b.change(func() {
		b.gone = slices.DeleteFunc(b.gone, func(x *state) bool { return x == st })
		st.fileID, st.Birth, st.Packed, st.Gone = id, birth, packed, 0
		st.called(path)
		st.Prefix, st.head = digestOf(head), head
		b.alive[id] = st
	})
}

// blank reports whether nothing was read of st.
func (b *book) blank(st *state) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return st.Offset == 0 && len(st.Done) == 0 && st.read == 0 && st.Prefix.Bytes == 0
}

// forget forgets st for good.
func (b *book) forget(st *state) {
	b.change(func() {
		if b.alive[st.fileID] == st {
			delete(b.alive, st.fileID)
		}
	})
}

// all are the states of the files there are, in the order of their paths.
func (b *book) all() []*state {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sorted()
}

func (b *book) sorted() []*state {
	all := make([]*state, 0, len(b.alive))
	for _, st := range b.alive {
		all = append(all, st)
	}
	slices.SortFunc(all, func(x, y *state) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Device, y.Device), cmp.Compare(x.Inode, y.Inode))
	})
	return all
}

// begin forgets how far files were read that nobody reads any more.
func (b *book) begin() {
	b.change(func() {
		for _, st := range b.alive {
			st.read, st.behind = 0, nil
		}
		for _, st := range b.gone {
			st.read, st.behind = 0, nil
		}
	})
}

// save makes durable what was changed before. Those who wait for one that is under way share
// the next.
func (b *book) save() error {
	if b.path == "" {
		return nil
	}
	b.mu.Lock()
	mine := b.changes
	b.mu.Unlock()
	b.saving.Lock()
	defer b.saving.Unlock()
	if b.saved >= mine {
		return nil
	}
	b.mu.Lock()
	upTo := b.changes
	text, err := json.MarshalIndent(positionFile{Version: 1, Files: append(b.sorted(), b.gone...)}, "", "  ")
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encode positions: %w", err)
	}
	if err := replace(b.path, append(text, '\n')); err != nil {
		return fmt.Errorf("save position file: %w", err)
	}
	b.saved = upTo
	return nil
}

// prove writes the position file whether or not anything has changed.
func (b *book) prove() error {
	b.change(func() {})
	return b.save()
}

// temporary is what the name of a position file ends with while it is being written.
const temporary = ".tmp"

// replace writes a file as a whole: after a crash it has the old or the new content.
func replace(path string, content []byte) (err error) {
	tmp := path + temporary
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = dir.Sync()
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	return err
}

// session is the reads from an Open to its Close: an ack reaches the book in its own only.
type session struct {
	book   *book
	mu     sync.RWMutex // held for reading while an ack settles
	closed bool
}

var errClosed = errors.New("save position file: the source is closed")

// settle notes what became settled, and makes it durable.
func (s *session) settle(_ context.Context, f func()) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed
	}
	s.book.change(f)
	return s.book.save()
}

// close makes durable what is settled. No ack settles anything after it.
func (s *session) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.book.save()
}
