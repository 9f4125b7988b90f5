package rows

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// copied is a log that can be copied into a directory while it is appended to.
type copied interface {
	Copy(ctx context.Context, dir string, progress func(bytes int64)) error
}

// backupSuffix ends the name of a backup that is not complete.
const backupSuffix = ".part"

// Backup writes the store, while it is used, into the directory dir, which it makes: a store
// that opens as this one would after its process had been killed at some instant between the
// call and the answer. So all that was acknowledged before the call is in it. dir is there when
// it is complete, and not before. progress, when it is not nil, is told how many bytes of how
// many were copied. A store whose log is elsewhere cannot do it.
func (s *Store) Backup(ctx context.Context, dir string, progress func(done, total int64)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.backup(ctx, dir, progress); err != nil {
		return fmt.Errorf("back up the queue store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) backup(ctx context.Context, dir string, progress func(done, total int64)) error {
	l, ok := s.log.(copied)
	if !ok {
		return fmt.Errorf("its log is not in files: %w", errors.ErrUnsupported)
	}
	if _, err := s.fs.Stat(dir); err == nil {
		return fmt.Errorf("%s is there already: name a folder that is not", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for %s: %w", dir, err)
	}
	if err := s.flush(); err != nil { // so that little is to be replayed
		return err
	}
	s.maintain.Lock() // no segment is trimmed between the state and the log
	defer s.maintain.Unlock()
	part := dir + backupSuffix
	if err := s.fs.RemoveAll(part); err != nil {
		return fmt.Errorf("remove %s, which an earlier backup left: %w", part, err)
	}
	err := s.copyTo(ctx, l, part, progress)
	if err == nil {
		err = s.fs.Rename(part, dir)
	}
	if err != nil {
		return errors.Join(err, s.fs.RemoveAll(part))
	}
	return syncFolder(s.fs, s.fs.PathDir(dir))
}

// copyTo copies the state first: the log that is copied after it has all that the state stands on.
func (s *Store) copyTo(ctx context.Context, l copied, dir string, progress func(done, total int64)) error {
	if err := s.fs.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	u, err := s.Usage()
	if err != nil {
		return err
	}
	done, total := int64(0), u.State+u.Log
	tell := func(n int64) {
		done = min(done+n, total)
		if progress != nil {
			progress(done, total)
		}
	}
	if err := s.db.Checkpoint(s.fs.PathJoin(dir, StateDir)); err != nil {
		return stateError("copy", err)
	}
	tell(u.State)
	if err := vfs.Copy(s.fs, s.clockPath(), s.fs.PathJoin(dir, clockName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("copy %s: %w", s.clockPath(), err)
	}
	return l.Copy(ctx, dir, tell)
}

func syncFolder(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", path, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
