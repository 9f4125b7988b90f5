package directory

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
)

// staged is a file in STAGING, locked while this process writes it.
type staged struct {
	b    *Bucket
	temp string
	file *os.File // nil when it is closed
}

// stage begins a file in STAGING.
func (b *Bucket) stage() (*staged, error) {
	for range stagingTries {
		if err := b.folder(b.staging); err != nil {
			return nil, err
		}
		temp := path.Join(b.staging, rand.Text()+tempSuffix)
		f, err := b.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
		if errors.Is(err, fs.ErrNotExist) {
			b.forget(b.staging)
			continue
		}
		if err != nil {
			return nil, err
		}
		s := &staged{b, temp, f}
		err = tryLock(f)
		if err == nil && b.named(f, temp) {
			if err := f.Chmod(0o640); err != nil { // whatever the umask: the group reads the object
				return nil, errors.Join(err, s.drop())
			}
			b.step(StepStaged, temp)
			return s, nil
		}
		if err != nil && !errors.Is(err, ErrLocked) {
			return nil, errors.Join(err, s.drop())
		}
		_ = f.Close() // a sweep was faster than the lock, and has removed it
	}
	return nil, fmt.Errorf("stage a file in %s: it is removed again and again; is another program tidying up there?", b.staging)
}

// named reports whether the name is that of the open file.
func (b *Bucket) named(f *os.File, name string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := b.root.Lstat(name)
	return err == nil && os.SameFile(mine, there)
}

// drop closes the file and removes its staged name. What cannot be removed now is by a sweep.
func (s *staged) drop() error {
	err := s.close()
	if removeErr := s.b.root.Remove(s.temp); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		return errors.Join(err, removeErr)
	}
	return err
}

func (s *staged) close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(unlock(s.file), s.file.Close())
	s.file = nil
	return err
}

// sync makes what was written survive power loss.
func (s *staged) sync() error {
	s.b.step(StepWritten, s.temp)
	if err := s.b.system.syncFile(s.file); err != nil {
		return err
	}
	s.b.step(StepSynced, s.temp)
	return nil
}

// publish gives the file, which is synced, its name, and ends it.
func (s *staged) publish(ctx context.Context, name string) (err error) {
	defer func() {
		_ = s.drop() // the object is there or not without it; what stays is swept
		if err == nil {
			s.b.step(StepTidied, s.temp)
		}
	}()
	for range stagingTries {
		if err := s.b.folder(path.Dir(name)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				s.b.forget(path.Dir(name))
				continue
			}
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = s.link(ctx, name)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s.b.forget(path.Dir(name)) // somebody has removed it since
	}
	switch {
	case errors.Is(err, blob.ErrExists):
		return errors.Join(err, s.b.settle(name))
	case err != nil:
		return err
	}
	return s.b.syncFolder(path.Dir(name))
}

// link gives the file its name if nobody has it.
func (s *staged) link(ctx context.Context, name string) error {
	err := s.b.system.link(s.b.root, s.temp, name)
	if err != nil && !s.b.named(s.file, name) {
		switch {
		case withoutLinks(err):
			return s.rename(ctx, name)
		case !errors.Is(err, fs.ErrExist):
			return notFolder(err)
		}
		if _, err := s.b.look(name); errors.Is(err, errFolder) {
			return s.b.alone(ctx, func() error { return s.b.taken(name) })
		}
		return s.b.taken(name)
	}
	s.b.step(StepLinked, name)
	return nil
}

// taken is the error of a name that is in use. A folder that holds no object is not: its
// name is given back, and fs.ErrNotExist asks to try again; then the caller has the bucket's
// lock, so that nobody else turns the folder into an object meanwhile.
func (b *Bucket) taken(name string) error {
	switch _, err := b.look(name); {
	case err == nil:
		return blob.ErrExists
	case errors.Is(err, errFolder) && b.prune(name), errors.Is(err, blob.ErrNotFound):
		return fmt.Errorf("it was in use an instant ago: %w", fs.ErrNotExist)
	default:
		return err
	}
}

// prune removes a folder in which there are none but empty folders. Who was about to put an
// object there makes it again.
func (b *Bucket) prune(name string) bool {
	f, err := b.root.Open(name)
	if err != nil {
		return false
	}
	all, err := f.ReadDir(-1)
	if errors.Join(err, f.Close()) != nil {
		return false
	}
	for _, e := range all {
		if !e.IsDir() || !b.prune(path.Join(name, e.Name())) {
			return false
		}
	}
	removed := b.root.Remove(name) == nil
	b.forget(name) // behind it, since others may have noted it until then
	return removed
}

// rename gives the file its name if nobody has it, on a file system without links.
func (s *staged) rename(ctx context.Context, name string) error {
	return s.b.alone(ctx, func() error {
		_, err := s.b.root.Lstat(name)
		if err == nil {
			return s.b.taken(name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return notFolder(err)
		}
		if err := s.close(); err != nil { // not everywhere can an open file be renamed
			return err
		}
		if err := s.b.root.Rename(s.temp, name); err != nil {
			return err
		}
		s.b.step(StepLinked, name)
		return nil
	})
}

// Create implements blob.Bucket.
func (b *Bucket) Create(ctx context.Context, name string, data []byte) (blob.Version, error) {
	if err := b.ready(ctx, name); err != nil {
		return "", err
	}
	s, err := b.hold(data)
	if err == nil {
		err = s.publish(ctx, name)
	}
	if err != nil {
		return "", b.failed("create", name, err)
	}
	return version(data), nil
}

// hold is a staged file that holds data, synced.
func (b *Bucket) hold(data []byte) (*staged, error) {
	s, err := b.stage()
	if err != nil {
		return nil, err
	}
	if _, err = s.file.Write(data); err == nil {
		err = s.sync()
	}
	if err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

// Replace implements blob.Bucket.
func (b *Bucket) Replace(ctx context.Context, name string, seen blob.Version, data []byte) (blob.Version, error) {
	if err := b.ready(ctx, name); err != nil {
		return "", err
	}
	if len(data) > blob.MaxWhole {
		return "", b.failed("replace", name, blob.ErrTooLarge)
	}
	err := b.alone(ctx, func() error {
		have, err := b.read(name)
		if err != nil {
			return err
		}
		if version(have) != seen {
			return errors.Join(blob.ErrChanged, b.settle(name))
		}
		s, err := b.hold(data)
		if err != nil {
			return err
		}
		if err := s.close(); err != nil {
			return errors.Join(err, s.drop())
		}
		if err := b.root.Rename(s.temp, name); err != nil {
			return errors.Join(err, s.drop())
		}
		b.step(StepRenamed, name)
		return b.syncFolder(path.Dir(name))
	})
	if err != nil {
		return "", b.failed("replace", name, err)
	}
	return version(data), nil
}

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := b.ready(ctx, name); err != nil {
			return err
		}
	}
	return b.alone(ctx, func() error {
		changed := map[string]bool{}
		for _, name := range names {
			if _, err := b.look(name); errors.Is(err, errFolder) {
				continue
			}
			switch err := b.root.Remove(name); {
			case err == nil:
				b.step(StepRemoved, name)
				changed[path.Dir(name)] = true
			case errors.Is(err, fs.ErrNotExist): // perhaps since an instant ago
				changed[path.Dir(name)] = true
			case !missing(err):
				return b.failed("delete", name, err)
			}
		}
		for folder := range changed {
			if err := b.syncFolder(folder); err != nil && !missing(err) {
				return b.failed("delete from", folder, err)
			}
		}
		return nil
	})
}

// Sweep implements blob.Bucket. It needs no time: the lock of a staged file tells whether its
// writer lives.
func (b *Bucket) Sweep(ctx context.Context, _ time.Time) error {
	f, err := b.root.Open(b.staging)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return b.failed("list what a crash may have left in", b.staging, err)
	}
	left, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return b.failed("list what a crash may have left in", b.staging, err)
	}
	if len(left) == 0 {
		return nil
	}
	return b.alone(ctx, func() error {
		for _, e := range left {
			name := path.Join(b.staging, e.Name())
			if !e.Type().IsRegular() {
				continue
			}
			if err := b.sweep(name); err != nil {
				return b.failed("remove what a crash has left:", name, err)
			}
		}
		return nil
	})
}

// sweep removes a staged file if nobody holds it.
func (b *Bucket) sweep(name string) error {
	f, err := b.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = tryLock(f)
	if err == nil {
		err = b.root.Remove(name)
	}
	closeErr := f.Close()
	if errors.Is(err, ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, closeErr)
}

// folder makes a folder and those above it, so that they survive power loss. "." is the root.
func (b *Bucket) folder(name string) error {
	if name == "." {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.folders[name] {
		return nil
	}
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		above := at
		at = path.Join(at, part)
		if err := b.root.Mkdir(at, 0o750); err == nil {
			b.step(StepFolder, at)
		} else if !errors.Is(err, fs.ErrExist) {
			return notFolder(err)
		}
		// Who made it may not have synced it yet.
		if err := b.syncFolder(above); err != nil {
			return notFolder(err)
		}
	}
	if len(b.folders) >= mostFolders {
		clear(b.folders)
	}
	b.folders[name] = true
	return nil
}

// notFolder explains that an object is where a folder should be.
func notFolder(err error) error {
	if missing(err) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is %w: a folder of it is a file: %w", blob.ErrName, err)
	}
	return err
}

// forget has the folder, those above it and those in it made again.
func (b *Bucket) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for have := range b.folders {
		if have == name || strings.HasPrefix(have, name+"/") {
			delete(b.folders, have)
		}
	}
}

// syncFolder makes the names in a folder survive power loss.
func (b *Bucket) syncFolder(name string) error {
	if err := syncFolder(b.root, name); err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	b.step(StepDurable, name)
	return nil
}

// writer is an object that is being written.
type writer struct {
	b      *Bucket
	ctx    context.Context
	name   string
	staged *staged // nil when the writer has ended
	buffer *bufio.Writer
}

const bufferSize = 256 << 10

// Writer implements blob.Bucket.
func (b *Bucket) Writer(ctx context.Context, name string) (blob.Writer, error) {
	if err := b.ready(ctx, name); err != nil {
		return nil, err
	}
	s, err := b.stage()
	if err != nil {
		return nil, b.failed("create", name, err)
	}
	return &writer{b, ctx, name, s, bufio.NewWriterSize(s.file, bufferSize)}, nil
}

var errEnded = errors.New("the writer has ended")

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.staged == nil {
		return 0, w.b.failed("write", w.name, errEnded)
	}
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.buffer.Write(p)
	return n, w.b.failed("write", w.name, err)
}

// Commit implements blob.Writer.
func (w *writer) Commit(ctx context.Context) error {
	s := w.staged
	if s == nil {
		return w.b.failed("create", w.name, errEnded)
	}
	w.staged = nil
	err := w.buffer.Flush()
	if err == nil {
		err = s.sync()
	}
	if err != nil {
		return w.b.failed("create", w.name, errors.Join(err, s.drop()))
	}
	return w.b.failed("create", w.name, s.publish(ctx, w.name))
}

// Abort implements blob.Writer.
func (w *writer) Abort() error {
	s := w.staged
	if s == nil {
		return nil
	}
	w.staged = nil
	return w.b.failed("abort", w.name, s.drop())
}
