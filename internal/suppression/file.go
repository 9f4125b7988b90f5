package suppression

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A file has an item on each line: an object, or the text of a userId of whom nothing is kept in any
// workspace. White space around it does not count, nor do empty lines. The users are those of the
// file as it is: it counts from its first line to its last, and one with a line that cannot be read
// does not count at all.

// How often a file is looked at, how many of its lines are applied together, and the longest of them.
const (
	lookEvery = 5 * time.Second
	linesEach = 5000
	maxLine   = 1 << 20
)

// watch reads the file whenever it changes, until ctx ends.
func (s *Set) watch(ctx context.Context) {
	for {
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.tell(err.Error())
		} else if err == nil {
			s.over()
		}
		if !sleep(ctx, lookEvery) {
			return
		}
	}
}

// look reads the file if it is not what was read last.
func (s *Set) look(ctx context.Context) error {
	f, err := os.Open(s.o.File)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	is, err := stateOf(f)
	if err != nil {
		return err
	}
	s.gate.RLock()
	was, err := get(s.db, []byte("f"))
	s.gate.RUnlock()
	if err != nil {
		return err
	}
	if !bytes.Equal(was, is) {
		if err := s.read(ctx, f, is); err != nil {
			return err
		}
	}
	s.whole.Store(true)
	s.synced.Store(time.Now().UnixNano())
	return nil
}

// stateOf is what changes when a file does.
func stateOf(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(info.Size())), uint64(info.ModTime().UnixNano())), nil
}

// read has the users of a file count in the place of those that do.
func (s *Set) read(ctx context.Context, f *os.File, is []byte) error {
	if err := each(ctx, f, func([]Item) error { return nil }); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	round := uint64(0)
	if err := s.change(func(c *change) error {
		last, err := get(c.b, []byte("r"))
		if err != nil {
			return err
		}
		if len(last) == 8 {
			round = binary.BigEndian.Uint64(last)
		}
		round++
		return c.b.Set([]byte("r"), binary.BigEndian.AppendUint64(nil, round), nil)
	}); err != nil {
		return err
	}
	if err := each(ctx, f, func(items []Item) error {
		return s.change(func(c *change) error {
			for i := range items {
				if err := c.apply(&items[i], round); err != nil {
					return err
				}
			}
			return nil
		})
	}); err != nil {
		return err
	}
	now, err := stateOf(f)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, is) {
		return errors.New("the file was changed while it was read: it is read again; put a new one in its place whole, by renaming it")
	}
	return s.forget(ctx, round, is)
}

// forget takes away who was not found in a reading, which is complete then.
func (s *Set) forget(ctx context.Context, round uint64, is []byte) error {
	for from := []byte("u"); ; {
		done := false
		if err := s.change(func(c *change) error {
			it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte("v")})
			if err != nil {
				return err
			}
			defer func() { _ = it.Close() }() // what it says, Error has said
			n := 0
			ok := it.First()
			for ; ok && n < linesEach; ok = it.Next() {
				if found, _ := readUser(it.Value()); found != round {
					if err := c.b.Delete(bytes.Clone(it.Key()), nil); err != nil {
						return err
					}
					c.delta--
				}
				from = append(append(from[:0], it.Key()...), 0)
				n++
			}
			if err := it.Error(); err != nil {
				return err
			}
			if done = !ok; done {
				return c.b.Set([]byte("f"), is, nil)
			}
			return nil
		}); err != nil || done {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// each reads the items of a file in groups.
func each(ctx context.Context, f *os.File, fn func([]Item) error) error {
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	items := make([]Item, 0, linesEach)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		i := Item{User: string(line)}
		if line[0] == '{' {
			i = Item{}
			if err := json.Unmarshal(line, &i); err != nil {
				return fmt.Errorf("%s:%d: %w", f.Name(), n, err)
			}
			if i.User == "" {
				return fmt.Errorf("%s:%d: it has no userId", f.Name(), n)
			}
		}
		if items = append(items, i); len(items) == linesEach {
			if err := errors.Join(ctx.Err(), fn(items)); err != nil {
				return err
			}
			items = items[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", f.Name(), n+1, err)
	}
	return fn(items)
}
