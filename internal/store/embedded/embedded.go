// Package embeddedstore is the store "embedded": the durable store in a directory of this
// machine, for one process at a time. Nothing else need be installed.
package embeddedstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// Config is the HCL of the embedded store.
type Config struct {
	// Directory that holds the store; it is made when it is not there. A relative path means
	// from the directory of the config file, and so does the default, "weir-data".
	Path string `hcl:"path,optional"`
	// Most disk space the store may take, in bytes, before it refuses new messages; 0
	// means that only min_free_bytes bounds it. At least 1048576, which is 1 MiB.
	MaxBytes int64 `hcl:"max_bytes,optional"`
	// Free disk space, in bytes, below which the store refuses new messages; 0 means
	// 1 GiB, or a tenth of the disk where that is less.
	MinFreeBytes int64 `hcl:"min_free_bytes,optional"`
	// Days that dead messages are kept; 0 means until somebody drops them.
	DeadRetentionDays int `hcl:"dead_retention_days,optional"`
}

// leastBytes is the smallest limit that leaves room for messages beside the store's own state.
const leastBytes = 1 << 20

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	for _, x := range []struct {
		field string
		v     int64
	}{{"max_bytes", c.MaxBytes}, {"min_free_bytes", c.MinFreeBytes}, {"dead_retention_days", int64(c.DeadRetentionDays)}} {
		if x.v < 0 {
			ps = append(ps, connector.Problem{Field: x.field, What: fmt.Sprintf("%s must not be negative", x.field), Fix: "write 0, or leave it out"})
		}
	}
	if c.MaxBytes > 0 && c.MaxBytes < leastBytes {
		ps = append(ps, connector.Problem{Field: "max_bytes", What: fmt.Sprintf("max_bytes must be at least %d, which is 1 MiB, not %d", leastBytes, c.MaxBytes), Fix: "raise it, or write 0"})
	}
	if c.Path == "" {
		ps = append(ps, connector.Problem{Field: "path", What: "path is empty", Fix: `name a directory, or leave it out for "weir-data"`})
	}
	return ps
}

// Entry is the embedded store.
var Entry = connector.Of(connector.Spec[Config, connector.StoreOpener]{
	Name: "embedded", Summary: "Keeps queues in a directory of this machine, for one process.", Stability: connector.Stable,
	Default: func() Config { return Config{Path: "weir-data"} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.StoreOpener, error) {
		var err error
		if c.Path, err = d.File("path", c.Path); err != nil {
			return nil, err
		}
		return opener{c, d}, nil
	},
})

type opener struct {
	config Config
	deps   connector.Deps
}

// Identity implements connector.StoreOpener.
func (o opener) Identity() string {
	path, err := filepath.Abs(o.config.Path)
	if err != nil {
		path = o.config.Path
	}
	return "embedded " + path
}

// Inspect implements connector.Inspector.
func (o opener) Inspect() error {
	if err := connector.LookForFolder(o.config.Path, true); err != nil {
		return connector.Blame("path", "name a directory, or one that can be made", err)
	}
	return nil
}

// Check implements connector.Checker.
func (o opener) Check(context.Context) error { return connector.TryFolder(o.config.Path, true) }

// Open implements connector.StoreOpener.
func (o opener) Open(context.Context) (queue.Store, error) {
	s, err := embedded.Open(o.config.Path, o.options())
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// Renew implements connector.StoreOpener: every option but the path may change while the store is open.
func (o opener) Renew(_ context.Context, open queue.Store) (adopt func() ([]string, error), err error) {
	s, ok := open.(*Store)
	if !ok {
		return nil, fmt.Errorf("renew the options of the queue store: a %T is open", open)
	}
	return func() ([]string, error) { return nil, s.Retune(o.options()) }, nil
}

func (o opener) options() embedded.Options {
	return embedded.Options{
		Log: o.deps.Log, MaxBytes: o.config.MaxBytes, MinFree: o.config.MinFreeBytes,
		DeadRetention: time.Duration(o.config.DeadRetentionDays) * 24 * time.Hour,
	}
}

// Salvage makes of the damaged store one with everything that can still be read, in its
// place. It returns in a sentence how that ended, and what is kept and lost in plain
// numbers.
func (o opener) Salvage(ctx context.Context, progress func(done, total int64)) (summary string, figures map[string]int64, err error) {
	opt := o.options()
	opt.DeadRetention = 0 // nothing is to go meanwhile
	r, err := embedded.Salvage(ctx, o.config.Path, opt, progress)
	if err != nil {
		return "", nil, err
	}
	summary = "nothing that was acknowledged is missing"
	switch {
	case r.Lost():
		summary = "some of what was acknowledged is lost"
	case r.MarkLost:
		summary = "its high-water mark was lost, so it is not known whether its last commits are missing"
	}
	return summary + "; the damaged store is kept in " + r.Damaged, map[string]int64{
		"open_messages": r.Open, "dead_messages": r.Dead, "lost_commits": r.LostCommits, "lost_batches": r.LostBatches,
		"lost_messages": r.LostJobs, "damaged_log_bytes": r.DamagedBytes, "damaged_segments": r.DamagedSegments,
	}, nil
}

// Exists reports whether the store was made: Open makes it where it was not.
func (o opener) Exists() (bool, error) {
	_, err := os.Stat(filepath.Join(o.config.Path, "FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the store %s: %w", o.config.Path, err)
	}
	return true, nil
}

// Store is an open embedded store, with what operators may ask of it in plain numbers.
type Store struct{ *embedded.Store }

// Measure implements meter.Measured.
func (s *Store) Measure(emit meter.Emit) {
	r := s.Room()
	emit(meter.StoreBytes, float64(r.Taken))
	if r.Limit > 0 {
		emit(meter.StoreLimit, float64(r.Limit))
	}
	if r.Known {
		emit(meter.StoreFree, float64(r.Free))
		emit(meter.StoreMinFree, float64(r.MinFree))
	}
	emit(meter.StoreFull, meter.Bool(s.Full() != nil))
}

// Usage is the disk space of the store, in bytes unless a name says otherwise.
func (s *Store) Usage(context.Context) (map[string]int64, error) {
	u, err := s.Store.Usage()
	if err != nil {
		return nil, err
	}
	return map[string]int64{
		"log_bytes": u.Log, "log_open_bytes": u.Open, "log_segments": int64(u.Segments), "state_bytes": u.State, "disk_free_bytes": u.Free,
	}, nil
}

// Verify reads the whole store, verifies every checksum, and says how much there was.
// progress is told how many bytes of how many were read.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (map[string]int64, error) {
	r, err := s.Store.Check(ctx, progress)
	if err != nil {
		return nil, err
	}
	return map[string]int64{
		"log_segments": r.Segments, "log_commits": r.Commits, "log_batches": r.Values,
		"open_batches": r.Open, "side_jobs": r.Side, "records": r.Records,
	}, nil
}
