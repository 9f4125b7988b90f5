package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/log/disk"
	"github.com/weirdata/weir/internal/queue/rows"
)

// salvageSuffix ends the directory in which a store is salvaged; damagedSuffix that of the
// damaged one, with a number when there is one already.
const (
	salvageSuffix = ".salvage"
	damagedSuffix = ".damaged"
)

// Salvage makes of a store that cannot be opened, or whose check fails, one with
// everything that can still be read, and puts it in its place. It works on a copy whose
// segments are links, so it takes little disk space, and the damaged store is kept, as it
// was, beside the new one. Frames, values and records whose checksum does not match are
// left out, and so is what needs them; nothing is invented. The store must not be open.
// It fails with ErrCorrupt, and changes nothing, when the state is damaged in a way that
// the log cannot make good. progress is told how many bytes of how many were read.
func Salvage(ctx context.Context, dir string, opt Options, progress func(done, total int64)) (Salvaged, error) {
	opt = opt.WithDefaults()
	r, err := salvage(ctx, dir, opt, progress)
	if err != nil {
		return r, fmt.Errorf("salvage the queue store %s: %w", dir, err)
	}
	return r, nil
}

func salvage(ctx context.Context, dir string, opt Options, progress func(done, total int64)) (r Salvaged, err error) {
	fs := opt.FS
	if _, err := fs.Stat(fs.PathJoin(dir, disk.LogDir)); err != nil {
		return r, fmt.Errorf("there is no store: %w", err)
	}
	lock, err := disk.Lock(fs, dir)
	if err != nil {
		return r, fmt.Errorf("%w: stop the other process first", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	clone := dir + salvageSuffix
	r, err = repair(ctx, dir, clone, false, opt, progress)
	if errors.Is(err, queue.ErrCorrupt) {
		// The state is damaged. A log that is whole from its start holds all of it.
		opt.Log.Error("the state of the queue store is made again from its log", "dir", dir, "error", err)
		var again error
		if r, again = repair(ctx, dir, clone, true, opt, progress); again != nil {
			err = fmt.Errorf("%w; and without the state: %w", err, again)
		} else {
			err = nil
		}
	}
	if err != nil {
		return Salvaged{}, errors.Join(err, fs.RemoveAll(clone))
	}
	if r.Damaged, err = free(fs, dir+damagedSuffix); err != nil {
		return r, err
	}
	if err := fs.Rename(dir, r.Damaged); err != nil {
		return r, fmt.Errorf("the salvaged store is complete in %s, but cannot take the place of %s: %w", clone, dir, err)
	}
	if err := fs.Rename(clone, dir); err != nil {
		return r, fmt.Errorf("the salvaged store is complete in %s, and the damaged one now in %s, but it cannot take its place: %w", clone, r.Damaged, err)
	}
	return r, disk.SyncParent(fs, dir)
}

// free is the first name that nothing has: the path, or the path and a number.
func free(fs vfs.FS, path string) (string, error) {
	for n := 1; ; n++ {
		name := path
		if n > 1 {
			name = fmt.Sprintf("%s.%d", path, n)
		}
		if _, err := fs.Stat(name); errors.Is(err, os.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", fmt.Errorf("look for a name for the damaged store: %w", err)
		}
	}
}

// linkDir copies a store. Files that are never written again once they are complete are
// linked where the file system can.
func linkDir(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("create %s: %w", to, err)
	}
	names, err := fs.List(from)
	if err != nil {
		return fmt.Errorf("list %s: %w", from, err)
	}
	for _, name := range names {
		a, b := fs.PathJoin(from, name), fs.PathJoin(to, name)
		info, err := fs.Stat(a)
		switch {
		case err != nil:
		case info.IsDir():
			err = linkDir(fs, a, b)
		case name == disk.LockName:
		case strings.HasSuffix(name, disk.SegmentExt) && fs.Link(a, b) == nil:
		default:
			err = vfs.Copy(fs, a, b)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", a, err)
		}
	}
	return nil
}

// repair copies a damaged store, with or without its state, opens the copy, leaves out
// what cannot be read, and checks the rest.
func repair(ctx context.Context, dir, clone string, stateless bool, opt Options, progress func(done, total int64)) (r Salvaged, err error) {
	if err := opt.FS.RemoveAll(clone); err != nil {
		return r, fmt.Errorf("remove %s, which an earlier salvage left: %w", clone, err)
	}
	if err := linkDir(opt.FS, dir, clone); err != nil {
		return r, err
	}
	if stateless {
		if err := opt.FS.RemoveAll(opt.FS.PathJoin(clone, rows.StateDir)); err != nil {
			return r, fmt.Errorf("remove the state from %s: %w", clone, err)
		}
	}
	lost := &log.Lost{}
	l, err := openLog(clone, opt, lost)
	if err != nil {
		return r, err
	}
	return rows.Salvage(ctx, l, lost, clone, opt, progress)
}
