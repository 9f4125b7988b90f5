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
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// mostOpen is how many reads may be open at once; a further one waits.
const mostOpen = 10_000

// Source reads lines from files.
type Source struct {
	config Config
	log    *slog.Logger
	poll   time.Duration // between looks at followed files
	grace  time.Duration // how long a file that is gone may still grow

	todo     []string // without follow: files not opened yet, in order
	tails    []*tail  // open files; those whose name is gone first
	at       int      // the tail to read next
	scratch  [][]byte
	lastLook time.Time
	broken   error // why Read cannot go on

	session *session   // nil before Open
	saved   *positions // without a position file, in memory: for as long as the pipeline is started again

	mu     sync.Mutex
	behind behind
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
	s.at, s.lastLook, s.broken = 0, time.Time{}, nil
	s.session = nil
	names, err := matches(s.config.Path)
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	if len(names) == 0 && !s.config.Follow {
		return fault.New(fault.Setup, fmt.Errorf("no file matches path %q; correct it, create the file, or set follow = true to wait for one", s.config.Path))
	}
	if err := s.openPositions(); err != nil {
		return fault.New(fault.Setup, err)
	}
	if s.config.Follow {
		if err := s.look(); err != nil {
			return err
		}
		s.findRenamed()
		return nil
	}
	s.todo = names
	s.noteTodo()
	s.prune()
	for _, name := range names {
		if fi, err := os.Stat(name); err == nil && irregular(fi) != "" {
			return fault.New(fault.Setup, fmt.Errorf("open %s: %s", name, irregular(fi)))
		}
	}
	return nil
}

// openPositions loads what the last run left, and proves that it can be replaced.
func (s *Source) openPositions() error {
	switch path := s.config.PositionFile; {
	case path != "":
		saved, err := loadPositions(path)
		if err != nil {
			return err
		}
		if err := saved.save(); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w; create the directory %s", err, filepath.Dir(path))
			}
			return err
		}
		s.saved = saved
	case s.saved == nil:
		s.saved = newPositions("")
	}
	s.session = newSession(s.saved)
	return nil
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	for ctx.Err() == nil && s.broken == nil {
		if s.config.Follow && time.Since(s.lastLook) >= s.poll {
			if err := s.look(); err != nil {
				return nil, nil, err
			}
		}
		b, t, err := s.next(room)
		if err != nil {
			return nil, nil, err
		}
		if len(b) > 0 {
			ack, err := s.track(ctx, t)
			if err != nil {
				return nil, nil, err
			}
			return b, ack, nil
		}
		if !s.config.Follow {
			return nil, nil, io.EOF
		}
		timer := time.NewTimer(s.poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	if s.broken != nil {
		return nil, nil, s.broken
	}
	return nil, nil, context.Cause(ctx)
}

// next reads lines from the next file that has some: from files whose name is gone first,
// since what replaced them is younger, then from the others in turn.
func (s *Source) next(room connector.Room) (event.Batch, *tail, error) {
	for i := 0; i < len(s.tails) && !s.tails[i].gone.IsZero(); {
		t := s.tails[i]
		b, err := s.batch(t, room)
		if len(b) > 0 || err != nil {
			return b, t, err
		}
		if t.done {
			s.drop(t)
			continue
		}
		i++
	}
	for range len(s.tails) + len(s.todo) {
		if !s.config.Follow && len(s.tails) == 0 {
			if err := s.openNext(); err != nil {
				return nil, nil, err
			}
		}
		if len(s.tails) == 0 {
			return nil, nil, nil
		}
		s.at %= len(s.tails)
		t := s.tails[s.at]
		b, err := s.batch(t, room)
		if len(b) == 0 && err == nil && t.done && !s.config.Follow {
			s.drop(t)
			continue
		}
		if s.config.Follow {
			s.at++
		}
		if len(b) > 0 || err != nil {
			return b, t, err
		}
	}
	return nil, nil, nil
}

// batch reads what t has now.
func (s *Source) batch(t *tail, room connector.Room) (event.Batch, error) {
	limit, bytes := room.Within(s.config.MaxBatchMessages, math.MaxInt)
	got, err := t.next(s.scratch[:0], limit, bytes, s.config.MaxLineBytes)
	s.scratch = got
	if err != nil || len(got) == 0 {
		return nil, err
	}
	b := event.NewBatch(time.Now().UTC(), got)
	t.place(b, s.config.Path)
	s.note(t)
	clear(got)
	return b, nil
}

// openNext opens the next file of those to be read once.
func (s *Source) openNext() error {
	for len(s.todo) > 0 {
		path := s.todo[0]
		t, err := openTail(path, false)
		if err == nil {
			s.todo = s.todo[1:]
			s.noteTodo()
			s.place(t)
			s.note(t)
			s.tails = append(s.tails, t)
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return unreadable(path, err)
		}
		s.log.Warn("the file has disappeared before it was read", meter.KeyFile, path)
		s.todo = s.todo[1:]
	}
	return nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Setup, fmt.Errorf("open %s: %w; let the user of this process read it", path, err))
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// place sets where t begins: where the last run left it, if it is the same file.
func (s *Source) place(t *tail) {
	if s.saved == nil {
		return
	}
	p, known := s.saved.get(t.id)
	if !known {
		return
	}
	if !p.Prefix.still(t.raw.f) {
		s.log.Warn("the file is not the one that was read before under its inode; reading it from the beginning", meter.KeyFile, t.path)
		t.renew()
		return
	}
	t.start, t.prefix, t.generation = p.Offset, p.Prefix, p.Generation
	if f, err := t.detect(); err == nil && f == plain && t.size < p.Offset {
		s.log.Warn("the file was truncated since it was read; reading it from the beginning", meter.KeyFile, t.path)
		t.start = 0
		t.renew()
	}
}

func (s *Source) drop(t *tail) {
	s.forget(t)
	t.close()
	i := slices.Index(s.tails, t)
	s.tails = slices.Delete(s.tails, i, i+1)
	if s.config.Follow {
		s.session.done(t.id)
	}
}

// look finds files that appeared, were renamed, truncated or removed.
func (s *Source) look() error {
	s.lastLook = time.Now()
	names, err := matches(s.config.Path)
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	known := map[fileID]*tail{}
	for _, t := range s.tails {
		known[t.id] = t
	}
	there := map[fileID]bool{}
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil {
			continue // it disappeared, or a link leads nowhere
		}
		if what := irregular(fi); what != "" {
			if len(names) == 1 && name == s.config.Path {
				return fault.New(fault.Setup, fmt.Errorf("open %s: %s", name, what))
			}
			continue
		}
		id := identify(name, fi)
		there[id] = true
		if t := known[id]; t != nil {
			t.path, t.gone = name, time.Time{}
			continue
		}
		if err := s.follow(name); err != nil {
			return err
		}
	}
	for _, t := range s.tails {
		if err := s.examine(t, there[t.id]); err != nil {
			return err
		}
	}
	slices.SortStableFunc(s.tails, func(a, b *tail) int { // files that are gone come first
		if c := boolOrder(!a.gone.IsZero(), !b.gone.IsZero()); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	return nil
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

// follow begins to follow the file called name.
func (s *Source) follow(name string) error {
	t, err := openTail(name, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unreadable(name, err)
	}
	s.place(t)
	s.note(t)
	s.tails = append(s.tails, t)
	return nil
}

// examine notes what has happened to t. A file whose name is gone is let go when it has
// not grown for a while.
func (s *Source) examine(t *tail, there bool) error {
	if err := t.look(); err != nil {
		return err
	}
	grew := t.grew
	t.grew = false
	switch {
	case there:
	case t.gone.IsZero() || grew:
		t.gone = time.Now()
	case time.Since(t.gone) >= s.grace:
		t.raw.ended, t.follow, t.short = true, false, false // the rest is its last line
		if t.reader != nil {
			t.reader.Resume()
		}
	}
	return nil
}

// findRenamed opens files that were read by an earlier run, were renamed since to names
// that path does not match, and have something left to read.
func (s *Source) findRenamed() {
	if s.saved == nil {
		return
	}
	for _, p := range s.saved.all() {
		if slices.ContainsFunc(s.tails, func(t *tail) bool { return t.id == p.fileID }) {
			continue
		}
		entries, _ := os.ReadDir(filepath.Dir(p.Path))
		found := false
		for _, e := range entries {
			name := filepath.Join(filepath.Dir(p.Path), e.Name())
			fi, err := os.Stat(name)
			if err != nil || irregular(fi) != "" || identify(name, fi) != p.fileID {
				continue
			}
			t, err := openTail(name, true)
			if err != nil || !p.Prefix.still(t.raw.f) {
				if err == nil {
					t.close()
				}
				continue
			}
			found = true
			t.start, t.prefix, t.generation, t.gone = p.Offset, p.Prefix, p.Generation, time.Now()
			s.note(t)
			s.tails = slices.Insert(s.tails, 0, t)
			break
		}
		if !found {
			s.log.Warn("a file that was being read is gone; what was left in it cannot be read", meter.KeyFile, p.Path)
			s.saved.forget(p.fileID)
		}
	}
}

// prune forgets the positions of files that are not there any more.
func (s *Source) prune() {
	if s.saved == nil {
		return
	}
	there := map[fileID]bool{}
	for _, name := range s.todo {
		if fi, err := os.Stat(name); err == nil {
			there[identify(name, fi)] = true
		}
	}
	for _, p := range s.saved.all() {
		if _, err := os.Stat(p.Path); errors.Is(err, fs.ErrNotExist) && !there[p.fileID] {
			s.saved.forget(p.fileID)
		}
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
func (s *Source) Close(ctx context.Context) error {
	s.letGo()
	if s.session == nil {
		return nil
	}
	return s.session.close(ctx)
}
