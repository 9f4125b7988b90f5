package rows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The steady clock of a store goes on while the store is open, whatever the wall clock is
// set to, and goes on after it was closed with the time that has passed since. The file CLOCK
// holds what the next opening needs for that, as one line:
//
//	weir clock 1 SET STEADY CHECKSUM
//
// SET is by how many nanoseconds the wall clock is ahead of the steady one, STEADY what that
// showed last. When the wall clock is behind both together at the next opening, it was set
// back in between, and the steady clock goes on where it was. It is written when the wall
// clock was set, once a minute, and by Close. A store without one has the time of the wall
// clock.
const clockName = "CLOCK"

const (
	clockCheck = time.Second // how often the clocks are compared
	clockSave  = time.Minute
	clockSet   = time.Second // a difference below is drift

	// clockLost is how far a clock whose file is damaged is put ahead: waits end at once, where
	// otherwise some might not end for long.
	clockLost = 365 * 24 * time.Hour
)

// clock is the steady clock of a store.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration // since the store was opened, by a clock that is never set
	from    int64                // what the clock showed then

	// What is in the file. Of the goroutine that compares the clocks, and of opening and closing.
	set, saved int64
	stored     bool
}

// now is what the clock shows.
func (c *clock) now() int64 { return c.from + int64(c.elapsed()) }

// openClock begins to count.
func (s *Store) openClock() error {
	c := &s.clock
	c.wall, c.elapsed = s.opt.Now, s.opt.Steady
	wall := c.wall()
	if c.elapsed == nil {
		c.elapsed = func() time.Duration { return c.wall().Sub(wall) } // monotonic with time.Now
	} else {
		since, began := c.elapsed, c.elapsed()
		c.elapsed = func() time.Duration { return since() - began }
	}
	c.from = wall.UnixNano()
	b, err := readFile(s.fs, s.clockPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !c.decode(b) {
		s.opt.Log.Warn("the file with the clock of the queue store is damaged: what waits for a next attempt is tried at once", "file", s.clockPath())
		c.from += int64(clockLost)
		c.set = -int64(clockLost)
		return nil
	}
	c.from = max(wall.UnixNano()-c.set, c.saved)
	s.noteSet()
	return nil
}

func (c *clock) encode() []byte {
	line := fmt.Sprintf("weir clock 1 %d %d", c.set, c.saved)
	return fmt.Appendf(nil, "%s %08x\n", line, checksum([]byte(line)))
}

func (c *clock) decode(b []byte) bool {
	var set, saved int64
	var sum uint32
	if _, err := fmt.Sscanf(string(b), "weir clock 1 %d %d %x\n", &set, &saved, &sum); err != nil {
		return false
	}
	c.set, c.saved, c.stored = set, saved, true
	return bytes.Equal(b, c.encode())
}

// noteSet compares the clocks, and reports whether the wall clock was set since.
func (s *Store) noteSet() bool {
	c := &s.clock
	set := c.wall().UnixNano() - c.now()
	by := time.Duration(set - c.set)
	if by.Abs() < clockSet {
		return false
	}
	c.set = set
	s.opt.Log.Warn("the time of the machine was set: waits for a next attempt go on as they were, and times that were named come earlier or later", "by", by)
	return true
}

// compareClocks has what has come due handed out when the wall clock was set, and saves what
// the next opening needs.
func (s *Store) compareClocks() error {
	c := &s.clock
	set := s.noteSet()
	if set {
		s.part.Stepped()
	}
	if !set && c.stored && c.now()-c.saved < int64(clockSave) {
		return nil
	}
	return s.saveClock()
}

func (s *Store) saveClock() error {
	c := &s.clock
	c.saved = c.now()
	if err := s.replaceFile(s.clockPath(), c.encode()); err != nil {
		return err
	}
	c.stored = true
	return nil
}

func (s *Store) clockPath() string { return s.fs.PathJoin(s.dir, clockName) }

// replaceFile writes a file such that it is there as a whole, or as it was.
func (s *Store) replaceFile(path string, b []byte) error {
	f, err := s.fs.Create(path+".new", "queue-clock")
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = s.fs.Rename(path+".new", path)
	}
	if err == nil {
		err = s.syncDir()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (s *Store) syncDir() error {
	return syncFolder(s.fs, s.dir)
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}
