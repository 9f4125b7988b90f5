package workspace

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/weirdata/weir/internal/fault"
)

// CheckPeriod is how often at most a file is looked at for changes.
const CheckPeriod = 5 * time.Second

// MaxFile is the largest file, in bytes, that is read.
const MaxFile = 256 << 20

// File is a workspace configuration on disk. All that use one path in a process share
// one File, and so see the same state. Its methods may be called by many goroutines.
type File struct {
	path    string
	now     atomic.Pointer[Workspace]
	checked atomic.Int64 // when the file was looked at last, in nanoseconds

	mu   sync.Mutex // held while the file is read again
	data []byte     // what the state was made of
	stat stamp      // of the file at the last look
	log  *slog.Logger
	err  error // why the last look changed nothing
}

// stamp tells versions of a file apart without reading it.
type stamp struct {
	size  int64
	mtime time.Time
}

// files are the Files in use, by absolute path.
var files = struct {
	sync.Mutex
	byPath map[string]weak.Pointer[File]
}{byPath: map[string]weak.Pointer[File]{}}

// Open reads the file at path, or returns the File that others in this process have of it
// already, after a look whether it has changed. log hears of warnings and of later changes
// that cannot be used; it may be nil. The error is a Setup fault.
func Open(path string, log *slog.Logger) (*File, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("find workspace config %s: %w", path, err))
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(real, filepath.Base(abs))
	}
	files.Lock()
	defer files.Unlock()
	if f := files.byPath[abs].Value(); f != nil {
		err := f.Reload()
		return f, err
	}
	f := &File{path: abs, log: log}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	files.byPath[abs] = weak.Make(f)
	runtime.AddCleanup(f, forget, abs)
	return f, nil
}

// forget drops the entry of a File that nobody uses any more.
func forget(path string) {
	files.Lock()
	defer files.Unlock()
	if files.byPath[path].Value() == nil {
		delete(files.byPath, path)
	}
}

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Current is the state that counts now. Every five seconds at most it looks whether the
// file has changed, and then reads it; callers that come meanwhile get the last state.
func (f *File) Current(now time.Time) *Workspace {
	t, last := now.UnixNano(), f.checked.Load()
	if t-last >= int64(CheckPeriod) && f.checked.CompareAndSwap(last, t) && f.mu.TryLock() {
		_ = f.look(false, now) // logged, and kept for Err
		f.mu.Unlock()
	}
	return f.now.Load()
}

// Reload reads the file now, as after SIGHUP. With an error the last state stays.
func (f *File) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.checked.Store(now.UnixNano())
	return f.look(true, now)
}

// Err is why the last look at the file changed nothing; nil when it is as it should be.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// look reads the file if it is another than at the last look, or in any case. f.mu is held.
func (f *File) look(always bool, now time.Time) error {
	info, err := os.Stat(f.path)
	if err == nil {
		s := stamp{info.Size(), info.ModTime()}
		if !always && s == f.stat {
			return f.err
		}
		f.stat = s
		err = f.read(now)
	} else {
		err = fmt.Errorf("read workspace config: %w", err)
	}
	if err != nil {
		err = fault.New(fault.Setup, err)
		if f.now.Load() != nil && (f.err == nil || f.err.Error() != err.Error()) {
			f.log.Error("the workspace config cannot be used; the last good one stays in force", "error", err)
		}
	}
	f.err = err
	return err
}

func (f *File) read(now time.Time) error {
	if f.stat.size > MaxFile {
		return fmt.Errorf("read workspace config %s: it has %d bytes, more than the limit of %d", f.path, f.stat.size, MaxFile)
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read workspace config: %w", err)
	}
	if f.now.Load() != nil && f.err == nil && bytes.Equal(data, f.data) {
		return nil
	}
	w, err := Parse(f.path, data, now)
	if err != nil {
		return err
	}
	for _, text := range w.Warnings {
		f.log.Warn("workspace config: " + text)
	}
	again := f.now.Load() != nil
	f.data = data
	f.now.Store(w)
	if again {
		f.log.Info("workspace config read again", "path", f.path, "sources", len(w.Sources), "destinations", w.Destinations())
	}
	return nil
}
