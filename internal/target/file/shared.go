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

// handle is the process's one handle of a file, whatever names lead to it.
type handle struct {
	file  *os.File
	info  fs.FileInfo
	users int // names that lead to it; guarded by owned

	mu   sync.Mutex // of what is written
	text []byte
	cut  int64 // where a torn line begins that could not be cut off; -1: none
}

// name is a path that targets of this process write to. What is written goes into the file
// that the path leads to at that moment: one that was renamed keeps what it has, and is
// another's if the new name is.
type name struct {
	path  string
	users int // targets; guarded by owned

	mu     sync.Mutex
	config Config // of the target that was opened last
	log    *slog.Logger
	file   *handle // nil before the first write after the file had gone
	closed bool
}

// owned is every file that this process writes, and the paths by which it does.
var owned struct {
	sync.Mutex
	files []*handle
	names map[string]*name
	// emptied are the paths that were opened without append: what they have now was delivered
	// since.
	emptied map[string]bool
}

// mostText is how much memory for batches a handle keeps.
const mostText = 4 << 20

// share returns the name that c is about, after opening its file.
func share(c Config, log *slog.Logger) (*name, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, explain(c.Path, err)
	}
	n := nameOf(path)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config, n.log = c, log
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, errors.Join(fault.New(fault.Setup, fmt.Errorf("open %s: it is not a regular file; name a file, or use the stdout target for pipes and terminals", c.Path)), n.leave())
	}
	if n.file == nil {
		if n.file, err = open(path, c, log); err != nil {
			return nil, errors.Join(explain(c.Path, err), n.leave())
		}
	}
	return n, nil
}

// nameOf is the name of path, with one more user.
func nameOf(path string) *name {
	owned.Lock()
	defer owned.Unlock()
	n := owned.names[path]
	if n == nil {
		n = &name{path: path}
		if owned.names == nil {
			owned.names, owned.emptied = map[string]*name{}, map[string]bool{}
		}
		owned.names[path] = n
	}
	n.users++
	return n
}

// release gives the name up. The last to do so lets go of its file.
func (n *name) release() error {
	n.mu.Lock() // after a write that is under way
	defer n.mu.Unlock()
	return n.leave()
}

// leave is release with the lock held.
func (n *name) leave() error {
	owned.Lock()
	n.users--
	last := n.users == 0
	if last {
		delete(owned.names, n.path)
	}
	owned.Unlock()
	if !last {
		return nil
	}
	n.closed = true
	return n.letGo()
}

// letGo gives up the file, which is closed when no other name leads to it. The lock is held.
func (n *name) letGo() error {
	f := n.file
	if f == nil {
		return nil
	}
	n.file = nil
	owned.Lock()
	defer owned.Unlock()
	if f.users--; f.users > 0 {
		return nil
	}
	owned.files = slices.DeleteFunc(owned.files, func(o *handle) bool { return o == f })
	unlock(f.file)
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("close %s: %w", n.path, err)
	}
	return nil
}

// open opens the file that path leads to, with one more user, and locks it when this process
// has not. The first time that a config without append opens a path, what the file has is
// taken out; otherwise a torn last line is ended.
func open(path string, c Config, log *slog.Logger) (o *handle, err error) {
	if c.CreateDirectories {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
	}
	owned.Lock()
	defer owned.Unlock()
	_, missing := os.Stat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	kept, locked := false, false
	defer func() {
		if kept {
			return
		}
		if locked {
			unlock(f)
		}
		err = errors.Join(err, f.Close())
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	empty := !c.Append && !owned.emptied[path]
	defer func() {
		if err == nil && !c.Append {
			owned.emptied[path] = true
		}
	}()
	for _, other := range owned.files {
		if os.SameFile(other.info, info) {
			other.users++
			return other, nil
		}
	}
	if err := lock(f); err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("open %s: another process writes it (%w); give each its own path", path, err))
	}
	locked = true
	if empty {
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
	}
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := endTorn(f, info.Size(), path, log); err != nil {
		return nil, err
	}
	if missing != nil && c.Sync {
		if err := syncDirectory(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	kept = true
	o = &handle{file: f, info: info, users: 1, cut: -1}
	owned.files = append(owned.files, o)
	return o, nil
}

// endTorn ends a last line that has no line end.
func endTorn(f *os.File, size int64, path string, log *slog.Logger) error {
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
	log.Warn("the last line of the file was torn or has no line end; a line end was added", meter.KeyFile, path)
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
func (n *name) append(b event.Batch, skip map[int]error, sync bool) (written int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.ready(); err != nil {
		return 0, explain(n.path, err)
	}
	if written, err = n.file.append(b, skip, sync); err != nil {
		return written, explain(n.path, err)
	}
	return written, nil
}

func (o *handle) append(b event.Batch, skip map[int]error, sync bool) (written int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	begin, err := o.size()
	if err != nil {
		return 0, err
	}
	o.text = o.text[:0]
	for i, m := range b {
		if skip[i] == nil {
			o.text = append(append(o.text, m.Data...), '\n')
		}
	}
	defer func() {
		if cap(o.text) > mostText {
			o.text = nil
		}
	}()
	if len(o.text) == 0 {
		return len(b), nil
	}
	n, err := o.file.Write(o.text)
	written = len(b)
	if err != nil {
		var whole int
		written, whole = wholeLines(b, skip, n)
		o.cutBack(begin + int64(whole))
	}
	if sync && written > 0 {
		if serr := o.file.Sync(); serr != nil {
			o.cutBack(begin)
			return 0, fmt.Errorf("sync: %w", serr)
		}
	}
	return written, err
}

// size is where the next line begins, once a torn one is cut off.
func (o *handle) size() (int64, error) {
	fi, err := o.file.Stat()
	if err != nil {
		return 0, err
	}
	if o.cut < 0 || fi.Size() <= o.cut {
		o.cut = -1
		return fi.Size(), nil
	}
	if err := o.file.Truncate(o.cut); err != nil {
		return 0, fmt.Errorf("cut off a torn line: %w", err)
	}
	at := o.cut
	o.cut = -1
	return at, nil
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
func (o *handle) cutBack(size int64) {
	o.cut = size
	if err := o.file.Truncate(size); err == nil {
		o.cut = -1
	}
}

// ready makes sure that what is written next is found under the file's name. The lock is held.
func (n *name) ready() error {
	if n.closed {
		return errors.New("the target is not open")
	}
	if n.file != nil {
		fi, err := os.Stat(n.path)
		if err == nil && os.SameFile(fi, n.file.info) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		n.file.mu.Lock()
		_, _ = n.file.size() // cuts a torn line off, which nobody may come to do any more
		n.file.mu.Unlock()
		if err := n.letGo(); err != nil { // renamed or removed: go on in a new file
			return err
		}
	}
	f, err := open(n.path, n.config, n.log)
	n.file = f
	return err
}

// explain gives an error of the file system its meaning and, where there is one, the fix.
func explain(path string, err error) error {
	if _, known := errors.AsType[*fault.Error](err); known {
		return err
	}
	err = fmt.Errorf("write to %s: %w", path, err)
	switch {
	case fault.Full(fault.OfDisk(err)):
		return fault.OfDisk(fmt.Errorf("%w; free space or raise the limit: the write is tried again", err))
	case errors.Is(err, syscall.EFBIG):
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
