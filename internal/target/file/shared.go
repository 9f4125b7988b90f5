package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// shared is the process's one handle of a file.
type shared struct {
	config Config // of the target that opened it first
	log    *slog.Logger
	users  int // guarded by handles

	mu   sync.Mutex
	file *os.File
	info fs.FileInfo
	text []byte
	cut  int64 // where a torn line begins that could not be cut off; -1: none
}

// handles is every file that this process writes.
var handles struct {
	sync.Mutex
	all []*shared
}

// mostText is how much memory for batches a handle keeps.
const mostText = 4 << 20

// share returns the handle of the file that c names, opening it if nobody has.
func share(c Config, log *slog.Logger) (*shared, error) {
	handles.Lock()
	defer handles.Unlock()
	fi, err := os.Stat(c.Path)
	if err == nil && !fi.Mode().IsRegular() {
		return nil, fault.New(fault.Setup, fmt.Errorf("open %s: it is not a regular file; name a file, or use the stdout target for pipes and terminals", c.Path))
	}
	for _, s := range handles.all {
		if s.config.Path == c.Path || (err == nil && s.is(fi)) {
			s.users++
			return s, nil
		}
	}
	s := &shared{config: c, log: log, users: 1, cut: -1}
	if err := s.open(!c.Append); err != nil {
		return nil, explain(c.Path, err)
	}
	handles.all = append(handles.all, s)
	return s, nil
}

func (s *shared) is(fi fs.FileInfo) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != nil && os.SameFile(s.info, fi)
}

// release closes the file when its last target is closed.
func (s *shared) release() error {
	handles.Lock()
	defer handles.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	handles.all = slices.DeleteFunc(handles.all, func(o *shared) bool { return o == s })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut()
}

func (s *shared) shut() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	unlock(f)
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", s.config.Path, err)
	}
	return nil
}

// open opens and locks the file; empty takes out what it has, otherwise a torn last line
// is ended.
func (s *shared) open(empty bool) (err error) {
	path := s.config.Path
	if s.config.CreateDirectories {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
	}
	_, missing := os.Stat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			unlock(f)
			err = errors.Join(err, f.Close())
		}
	}()
	if err := lock(f); err != nil {
		return fault.New(fault.Setup, fmt.Errorf("open %s: another process writes it (%w); give each its own path", path, err))
	}
	if empty {
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := s.endTorn(f, info.Size()); err != nil {
		return err
	}
	if missing != nil && s.config.Sync {
		if err := syncDirectory(filepath.Dir(path)); err != nil {
			return err
		}
	}
	s.file, s.info, s.cut = f, info, -1
	return nil
}

// endTorn ends a last line that has no line end.
func (s *shared) endTorn(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil && err != io.EOF {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	s.log.Warn("the last line of the file was torn or has no line end; a line end was added", meter.KeyFile, s.config.Path)
	_, err := f.Write([]byte{'\n'})
	return err
}

func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// append writes the messages of b that are not in skip. On an error, the messages before
// index written are in the file, and those from it on are not.
func (s *shared) append(b event.Batch, skip map[int]error, sync bool) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return 0, explain(s.config.Path, err)
	}
	fi, err := s.file.Stat()
	if err != nil {
		return 0, explain(s.config.Path, err)
	}
	begin := fi.Size()
	s.text = s.text[:0]
	for i, m := range b {
		if skip[i] == nil {
			s.text = append(append(s.text, m.Data...), '\n')
		}
	}
	defer func() {
		if cap(s.text) > mostText {
			s.text = nil
		}
	}()
	if len(s.text) == 0 {
		return len(b), nil
	}
	n, err := s.file.Write(s.text)
	written = len(b)
	if err != nil {
		var whole int
		written, whole = wholeLines(b, skip, n)
		s.cutBack(begin + int64(whole))
	}
	if sync && written > 0 {
		if serr := s.file.Sync(); serr != nil {
			s.cutBack(begin)
			return 0, explain(s.config.Path, fmt.Errorf("sync: %w", serr))
		}
	}
	if err != nil {
		return written, explain(s.config.Path, err)
	}
	return written, nil
}

// wholeLines is how many messages of b fit as whole lines into n bytes, and their size.
func wholeLines(b event.Batch, skip map[int]error, n int) (written, size int) {
	for i, m := range b {
		if skip[i] != nil {
			continue
		}
		if size+len(m.Data)+1 > n {
			return i, size
		}
		size += len(m.Data) + 1
	}
	return len(b), size
}

// cutBack cuts the file at size; if that fails, the next write tries again.
func (s *shared) cutBack(size int64) {
	s.cut = size
	if err := s.file.Truncate(size); err == nil {
		s.cut = -1
	}
}

// ready makes sure that what is written next is found under the file's name, after a
// whole line.
func (s *shared) ready() error {
	if s.file != nil {
		fi, err := os.Stat(s.config.Path)
		if err == nil && os.SameFile(fi, s.info) {
			if s.cut < 0 {
				return nil
			}
			if fi.Size() > s.cut {
				if err := s.file.Truncate(s.cut); err != nil {
					return fmt.Errorf("cut off a torn line: %w", err)
				}
			}
			s.cut = -1
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if s.cut >= 0 {
			_ = s.file.Truncate(s.cut)
		}
		if err := s.shut(); err != nil { // renamed or removed: go on in a new file
			return err
		}
	}
	return s.open(false)
}

// explain gives an error of the file system its meaning and, where there is one, the fix.
func explain(path string, err error) error {
	if _, known := errors.AsType[*fault.Error](err); known {
		return err
	}
	err = fmt.Errorf("write to %s: %w", path, err)
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG):
		return fault.New(fault.Transient, fmt.Errorf("%w; free space or raise the limit: the write is tried again", err))
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Setup, fmt.Errorf("%w; create the directory %s or set create_directories = true", err, filepath.Dir(path)))
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fault.New(fault.Setup, fmt.Errorf("%w; let the user of this process write there", err))
	case errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR):
		return fault.New(fault.Setup, fmt.Errorf("%w; correct path", err))
	}
	return err
}
