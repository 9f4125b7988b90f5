package workspace

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/weirdata/weir/internal/fault"
)

// CheckPeriod is how often [Watch] looks at files for changes.
const CheckPeriod = 5 * time.Second

// MaxFile is the largest file, in bytes, that is read.
const MaxFile = 256 << 20

// File is a workspace configuration on disk. All that use one path in a process share
// one File, and so see the same state. Its methods may be called by many goroutines. Who asks
// it for its state never waits for the disk: the file is read by Open, Reload and [Watch].
type File struct {
	State
	path string

	mu   sync.Mutex // held while the file is read again
	data sum        // of what the state was made of
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

// Reload reads the file now, as after SIGHUP. With an error the last state stays.
func (f *File) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.look(true, time.Now())
}

// Watch looks each [CheckPeriod] whether files in use have changed, until ctx ends, and reads
// those that have: one look for a process, however many use a file. A file that is wrong changes
// nothing, and the log that it was opened with says so, once.
func Watch(ctx context.Context) {
	tick := time.NewTicker(CheckPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, f := range inUse() {
			f.mu.Lock()
			_ = f.look(false, time.Now()) // logged, and kept for Err
			f.mu.Unlock()
		}
	}
}

// inUse are the files that somebody uses.
func inUse() (all []*File) {
	files.Lock()
	defer files.Unlock()
	for _, p := range files.byPath {
		if f := p.Value(); f != nil {
			all = append(all, f)
		}
	}
	return all
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
			f.log.Error("the workspace config cannot be used; the last good one stays in force: mend the file, it is read again by itself", "error", err)
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
	before, key := f.now.Load(), sum(sha256.Sum256(data))
	if before != nil && f.err == nil && key == f.data {
		return nil
	}
	w, err := ParseAfter(before, f.path, data, now)
	if err != nil {
		return err
	}
	w.Tell(f.log, before)
	f.data = key
	f.Set(w)
	if before != nil {
		f.log.Info("workspace config read again", "path", f.path, "sources", len(w.Sources), "destinations", w.Destinations())
	}
	return nil
}
