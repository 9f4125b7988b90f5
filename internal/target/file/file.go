// Package file is the target that appends messages to a file, one a line: the payload and
// a line end.
//
// # Invariants
//
//   - When Write returns nil, every message of the batch is in the file as a whole line,
//     and with sync on the disk.
//   - A write that fails leaves no torn line: the file is cut back to its last whole line,
//     and the lines that were written whole and are durable count as written. When even
//     that fails, the next write cuts first.
//   - A process that was killed within a write may leave a torn line. The next Open ends
//     it with a line end and logs a warning; nothing is ever deleted.
//   - One process writes a file (flock, where the system has it). All targets of that
//     process for one file share one handle, by whatever names they come to it, so their lines
//     never mix: those of a pipeline and of the one that replaces it by a reload among them.
//   - A line goes into the file that the path leads to when it is written: one that was renamed
//     or removed, by log rotation for instance, is made anew.
//   - A file is emptied once in the life of a process at most (append = false): a pipeline that
//     is started again, or replaced, goes on behind what was delivered.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Config is the HCL of the file target.
type Config struct {
	// The file to append to. A relative path means from the directory of the config file.
	Path string `hcl:"path"`
	// Bring every batch to the disk before it counts as delivered (default true). Without it
	// a power failure may lose what was delivered in the last half minute or so.
	Sync bool `hcl:"sync,optional"`
	// Keep what the file has at the start and append to it (default true). Otherwise the file
	// is emptied when the first target of the process opens it.
	Append bool `hcl:"append,optional"`
	// Make the directories on the way to the file where they are missing (default false).
	CreateDirectories bool `hcl:"create_directories,optional"`
	// Write payloads that hold a line end too (default false). Otherwise such a message is
	// invalid and goes to the failure target, because a reader would take it for several.
	AllowNewlines bool `hcl:"allow_newlines,optional"`
	// How messages are grouped into writes. A batch leaves as soon as nothing more waits to
	// join it.
	Batching *connector.Batching `hcl:"batching,block"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.Path == "" {
		ps = append(ps, connector.Problem{Field: "path", What: "path is empty", Fix: `name a file: path = "/var/lib/weir/events.jsonl"`})
	}
	return append(ps, connector.Under("batching", c.Batching.Validate())...)
}

// Entry is the file target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "file", Summary: "Appends messages to a file, one a line.", Stability: connector.Stable, Whole: true,
	Default: func() Config {
		return Config{Sync: true, Append: true,
			Batching: &connector.Batching{MaxBatchMessages: 500, MaxBatchBytes: 8 << 20, MaxMessageBytes: 1 << 20, MaxConcurrentBatches: 1, FlushPeriodMillis: 200}}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		c.Path = d.Path(c.Path)
		if d.Log == nil {
			d.Log = slog.New(slog.DiscardHandler)
		}
		return &Target{config: c, log: d.Log}, nil
	},
})

// Target appends to a file.
type Target struct {
	config Config
	log    *slog.Logger

	mu  sync.Mutex
	out *name // nil while closed
}

var (
	_ connector.Limiter = (*Target)(nil)
	_ connector.Checker = (*Target)(nil)
	_ connector.Located = (*Target)(nil)
)

// Location implements connector.Located.
func (t *Target) Location() string { return connector.FileLocation(t.config.Path) }

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits {
	l := t.config.Batching.Limits()
	l.Eager = true
	return l
}

// Open implements connector.Target.
func (t *Target) Open(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out != nil {
		return nil
	}
	out, err := share(t.config, t.log)
	if err != nil {
		return err
	}
	t.out = out
	return nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return nil
	}
	out := t.out
	t.out = nil
	return out.release()
}

// Inspect implements connector.Inspector.
func (t *Target) Inspect() error {
	if fi, err := os.Stat(t.config.Path); err == nil && !fi.Mode().IsRegular() {
		return connector.Blame("path", "name a file, or use the stdout target for pipes and terminals", fmt.Errorf("%s is not a regular file", t.config.Path))
	}
	if err := connector.LookForFolder(filepath.Dir(t.config.Path), t.config.CreateDirectories); err != nil {
		return connector.Blame("path", "create the directory, or set create_directories = true", err)
	}
	return nil
}

// Check implements connector.Checker.
func (t *Target) Check(context.Context) error {
	dir := filepath.Dir(t.config.Path)
	if _, err := os.Stat(dir); err != nil && !t.config.CreateDirectories {
		return explain(t.config.Path, fmt.Errorf("look for its directory: %w", err))
	}
	f, err := os.OpenFile(t.config.Path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := connector.TryFolder(dir, t.config.CreateDirectories); err != nil {
			return explain(t.config.Path, err)
		}
		return nil
	}
	if err != nil {
		return explain(t.config.Path, err)
	}
	return f.Close()
}

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	out := t.out
	t.mu.Unlock()
	if out == nil {
		return fmt.Errorf("write to %s: the target is not open", t.config.Path)
	}
	var failed map[int]error
	refuse := func(i int, err error) {
		if failed == nil {
			failed = map[int]error{}
		}
		failed[i] = err
	}
	if !t.config.AllowNewlines {
		for i, m := range b {
			if at := bytes.IndexByte(m.Data, '\n'); at >= 0 {
				refuse(i, newline(at))
			}
		}
	}
	if len(failed) == len(b) && len(b) > 0 {
		return &connector.Partial{Failed: failed}
	}
	written, err := out.append(b, failed, t.config.Sync)
	if err != nil {
		if written == 0 && failed == nil {
			return err
		}
		for i := written; i < len(b); i++ {
			if failed[i] == nil {
				refuse(i, err)
			}
		}
	}
	if failed != nil {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

func newline(at int) error {
	return fault.Describe(fault.Invalid,
		fmt.Errorf("the payload has a line end at byte %d and would be read as several lines; take it out with a transform, or set allow_newlines = true", at),
		fault.Detail{Type: "api", Code: "LineEnd", Safe: "the payload has a line end"})
}
