package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// Source reads lines from files.
type Source struct {
	config   Config
	pipeline string
	log      *slog.Logger
	poll     time.Duration // between looks at followed files
	grace    time.Duration // how long a file that is gone may still grow

	todo     []string // without follow: files not opened yet, in order
	tails    []*tail  // open files; those whose name is gone first
	at       int      // the tail to read next
	scratch  [][]byte
	lastLook time.Time
	watched  map[*state]watch // files that are gone from path, are not open and may grow
	done     map[fileID]string
	told     map[string]string // by file, what was said of it last
	failed   []error           // what could not be read, where that ends the pipeline

	book    *book    // nil before Open
	kept    *kept    // holds the book over reloads; nil: the source does
	session *session // nil before Open

	mu     sync.Mutex
	behind behind
}

var (
	_ connector.Lagger    = (*Source)(nil)
	_ connector.Seeker    = (*Source)(nil)
	_ connector.Exclusive = (*Source)(nil)
	_ connector.Ender     = (*Source)(nil)
)

// kept holds the states of a pipeline's files for as long as the process lives, so that the
// source that replaces another at a reload goes on where that one was.
type kept struct {
	mu   sync.Mutex
	book *book
}

func (k *kept) get() *book {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.book
}

func (k *kept) set(b *book) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.book = b
}

func logger(d connector.Deps) *slog.Logger {
	if d.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Log
}

// Open implements connector.Source.
func (s *Source) Open(context.Context) error {
	s.letGo() // what an Open opened that failed
	s.at, s.lastLook, s.failed, s.session = 0, time.Time{}, nil, nil
	s.watched, s.done, s.told = map[*state]watch{}, map[fileID]string{}, map[string]string{}
	names, err := s.matches()
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	if len(names) == 0 && !s.config.Follow {
		return fault.New(fault.Setup, fmt.Errorf("no file matches path %q; correct it, create the file, or set follow = true to wait for one", s.config.Path))
	}
	if err := s.misnamed(names); err != nil {
		return err
	}
	if err := s.openBook(); err != nil {
		return fault.New(fault.Setup, err)
	}
	if s.config.Follow {
		s.watchRenamed()
		return s.look()
	}
	s.todo = names
	s.noteTodo()
	s.prune()
	return nil
}

// misnamed is the error of a path that names what is no file.
func (s *Source) misnamed(names []string) error {
	if len(names) != 1 || names[0] != s.config.Path {
		return nil // of those that a pattern matches, files are meant
	}
	if fi, err := os.Stat(names[0]); err == nil && irregular(fi) != "" {
		return fault.New(fault.Setup, fmt.Errorf("open %s: %s", names[0], irregular(fi)))
	}
	return nil
}

// openBook loads what the last run left, and proves that it can be replaced.
func (s *Source) openBook() error {
	before := s.book
	if s.kept != nil {
		before = s.kept.get()
	}
	b := before
	if path := s.config.PositionFile; path != "" {
		loaded, err := loadBook(path)
		if err != nil {
			return err
		}
		if b == nil {
			b = loaded
		}
		b.join(loaded)
		b.path = path
		if err := b.prove(); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w; create the directory %s", err, filepath.Dir(path))
			}
			return err
		}
	}
	if b == nil {
		b = newBook("")
	}
	b.path = s.config.PositionFile
	b.begin()
	s.book, s.session = b, &session{book: b}
	if s.kept != nil {
		s.kept.set(b)
	}
	return nil
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	for ctx.Err() == nil {
		if s.config.Follow && time.Since(s.lastLook) >= s.poll {
			if err := s.look(); err != nil {
				return nil, nil, err
			}
		}
		b, c, err := s.next(ctx, room)
		if err != nil {
			return nil, nil, err
		}
		if len(b) > 0 {
			return b, s.ack(c), nil
		}
		if !s.config.Follow {
			return nil, nil, s.ended()
		}
		timer := time.NewTimer(s.poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil, nil, context.Cause(ctx)
}

// ended is the end of files that are read once. What could not be read is not passed over in
// silence: everything else was.
func (s *Source) ended() error {
	if len(s.failed) == 0 {
		return io.EOF
	}
	return fault.New(fault.Fatal, fmt.Errorf("everything else was read, but not all of %d of the files: %w", len(s.failed), errors.Join(s.failed...)))
}

// next reads lines from the next file that has some: from files whose name is gone first,
// since what replaced them is younger, then from the others in turn.
func (s *Source) next(ctx context.Context, room connector.Room) (event.Batch, *cut, error) {
	if !s.config.Follow {
		return s.nextOnce(ctx, room)
	}
	for i := 0; i < len(s.tails) && !s.tails[i].gone.IsZero(); {
		t := s.tails[i]
		if b, c := s.batch(t, room); len(b) > 0 {
			return b, c, nil
		}
		if t.done && !t.follow {
			s.drop(t)
			continue
		}
		i++
	}
	for range len(s.tails) {
		s.at %= len(s.tails)
		t := s.tails[s.at]
		s.at++
		if b, c := s.batch(t, room); len(b) > 0 {
			return b, c, nil
		}
	}
	return nil, nil, nil
}

// nextOnce reads lines from the files in their order.
func (s *Source) nextOnce(ctx context.Context, room connector.Room) (event.Batch, *cut, error) {
	for {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if len(s.tails) == 0 && !s.openNext() {
			return nil, nil, nil
		}
		t := s.tails[0]
		if b, c := s.batch(t, room); len(b) > 0 {
			return b, c, nil
		}
		if t.done {
			s.drop(t)
		}
	}
}

// openNext opens the next file of those to be read once.
func (s *Source) openNext() bool {
	for len(s.todo) > 0 {
		path := s.todo[0]
		s.todo = s.todo[1:]
		s.noteTodo()
		t, err := openTail(path, false, s.config.MaxLineBytes)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.log.Warn("the file has disappeared before it was read", meter.KeyFile, path)
			continue
		case err != nil:
			if fi, serr := os.Stat(path); serr == nil && irregular(fi) != "" {
				s.tell(path, "it is no file to read", irregular(fi))
				continue
			}
			s.fails(path, unreadable(path, err))
			continue
		case s.done[t.id] != "":
			s.tell(path, "the file has another name too, and is read once", s.done[t.id])
			t.close()
			continue
		}
		s.done[t.id] = path
		s.note(t)
		s.tails = append(s.tails, t)
		return true
	}
	return false
}

func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open %s: %w; let the user of this process read it", path, err)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// tell warns about a file, unless that was the last that was said of it.
func (s *Source) tell(path, what, why string) {
	if s.told[path] == what+why {
		return
	}
	s.told[path] = what + why
	s.log.Warn(what, meter.KeyFile, path, meter.KeyError, why) //nolint:sloglint // its callers are the few that are constant
}

// fails notes that a file cannot be read, which stops no other.
func (s *Source) fails(path string, err error) {
	if !s.config.Follow {
		s.log.Error("a file cannot be read; the others are", meter.KeyFile, path, meter.KeyError, err)
		s.failed = append(s.failed, err)
		return
	}
	if why := err.Error(); s.told[path] != why {
		s.told[path] = why
		s.log.Error("a file cannot be read; the others are, and it is tried again", meter.KeyFile, path, meter.KeyError, err)
	}
}

// drop is done with a file.
func (s *Source) drop(t *tail) {
	s.forget(t)
	fi, err := t.f.Stat()
	there := err == nil && links(fi) > 0
	st := t.st
	if st == nil {
		st = s.book.find(t.id)
	}
	if there && s.config.Follow && st != nil {
		s.moved(t)
		w := watch{fi.Size(), fi.ModTime()}
		if t.format == plain {
			w.size = t.raw.offset // what was written since is not read
		}
		s.watched[st] = w
	}
	t.close()
	s.tails = slices.DeleteFunc(s.tails, func(x *tail) bool { return x == t })
	if s.config.Follow && !there && st != nil {
		s.book.retire(st)
		s.saveSoon()
	}
}

// saveSoon makes durable which files there are. What is settled waits for no such save, so
// that one that fails is told by the next acknowledgement.
func (s *Source) saveSoon() {
	if err := s.book.save(); err != nil {
		s.tell(s.config.PositionFile, "the position file cannot be saved", err.Error())
	}
}

// letGo closes the files that are open.
func (s *Source) letGo() {
	for _, t := range s.tails {
		s.forget(t)
		t.close()
	}
	s.tails, s.todo = nil, nil
}

// Close implements connector.Source.
func (s *Source) Close(context.Context) error {
	s.letGo()
	s.noteTodo()
	if s.session == nil {
		return nil
	}
	return s.session.close()
}

// Ends implements connector.Ender.
func (s *Source) Ends() bool { return !s.config.Follow }

// Exclusive implements connector.Exclusive: what a pipeline has read of its files has one owner,
// and so have positions, by whatever name they are reached.
func (s *Source) Exclusive() []string {
	ids := []string{"files of pipeline " + s.pipeline}
	if s.config.PositionFile != "" {
		ids = append(ids, "position file "+resolved(s.config.PositionFile))
	}
	return ids
}

// resolved is a path without links, as far as there is something.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// within is the bounds of one read.
func (s *Source) within(room connector.Room) (messages, bytes int) {
	return room.Within(s.config.MaxBatchMessages, math.MaxInt)
}
