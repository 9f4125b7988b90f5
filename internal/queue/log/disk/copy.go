package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Copy writes the log, as it is while others append to it, into the directory dir, which is
// there. The mark is read first: what was acknowledged when Copy began is in the copy, and of
// what came later any first part. Segments that are written no more are linked where the file
// system can. No segment may be trimmed meanwhile. progress is told the bytes that are done.
func (l *Log) Copy(ctx context.Context, dir string, progress func(bytes int64)) error {
	m, err := l.stillMark()
	if err != nil {
		return err
	}
	to := l.fs.PathJoin(dir, LogDir)
	if err := l.fs.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("create %s: %w", to, err)
	}
	numbers := l.numbers()
	for i, n := range numbers {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, into := l.segmentPath(n), segmentPath(l.fs, dir, n)
		if i == len(numbers)-1 || l.fs.Link(from, into) != nil {
			if err := vfs.Copy(l.fs, from, into); err != nil {
				return fmt.Errorf("copy segment %s: %w", from, err)
			}
		}
		info, err := l.fs.Stat(into)
		if err != nil {
			return fmt.Errorf("look at %s: %w", into, err)
		}
		progress(info.Size())
	}
	if err := l.copyMark(dir, m); err != nil {
		return err
	}
	if err := vfs.Copy(l.fs, l.path(FormatName), l.fs.PathJoin(dir, FormatName)); err != nil {
		return fmt.Errorf("copy %s: %w", l.path(FormatName), err)
	}
	return errors.Join(syncDir(l.fs, to), syncDir(l.fs, dir))
}

// stillMark reads the mark while it is written: of its two slots one is whole, unless both were
// written during one reading.
func (l *Log) stillMark() (m mark, err error) {
	for range 100 {
		if m, _, err = readMark(l.fs, l.path(MarkName)); err == nil {
			return m, nil
		}
	}
	return m, err
}

func (l *Log) copyMark(dir string, m mark) error {
	path := l.fs.PathJoin(dir, MarkName)
	f, err := l.fs.Create(path, "queue-mark")
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	for range 2 {
		err = errors.Join(err, writeMark(f, &m))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
