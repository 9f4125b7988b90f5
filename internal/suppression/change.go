package suppression

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/fault"
)

// change is a group of changes that is applied all or nothing. changing is held.
type change struct {
	s     *Set
	b     *pebble.Batch
	delta int64
	put   map[[16]byte]struct{}
}

// change applies what fn asks for, synced.
func (s *Set) change(fn func(*change) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.db == nil {
		return fault.New(fault.Transient, errClosed)
	}
	c := &change{s: s, b: s.db.NewIndexedBatch(), put: map[[16]byte]struct{}{}}
	defer func() { _ = c.b.Close() }() // it is committed, or is not to be
	if err := fn(c); err != nil {
		return err
	}
	count := s.count.Load() + c.delta
	if err := c.b.Set([]byte("n"), binary.AppendUvarint(nil, uint64(max(count, 0))), nil); err != nil {
		return err
	}
	// Before anybody can be told that they are there.
	f := s.filter.Load()
	for h := range c.put {
		for _, f := range []*filter{f, s.making} {
			if f != nil {
				f.add(h)
			}
		}
	}
	if err := c.b.Commit(pebble.Sync); err != nil {
		return fault.New(fault.Transient, fmt.Errorf("write the suppressed users %s: %w", s.o.Path, err))
	}
	s.count.Store(count)
	return nil
}

// apply makes an item count. round, where it is not 0, is the reading of a file that it is of.
func (c *change) apply(i *Item, round uint64) error {
	h := hash(i.Workspace, i.User)
	key := append([]byte("u"), h[:]...)
	var was []byte
	if _, here := c.put[h]; here || c.known(h) {
		var err error
		if was, err = get(c.b, key); err != nil {
			return err
		}
	}
	found, sources := readUser(was)
	if found != round {
		sources = nil // what an earlier reading has found counts no more
	}
	for _, source := range i.sources() {
		at := slices.Index(sources, source)
		switch {
		case i.Canceled && at >= 0:
			sources = slices.Delete(sources, at, at+1)
		case !i.Canceled && at < 0:
			sources = append(sources, source)
		}
	}
	switch {
	case len(sources) == 0 && was == nil:
		return nil
	case len(sources) == 0:
		c.delta--
		return c.b.Delete(key, nil)
	case was == nil:
		c.delta++
	}
	c.put[h] = struct{}{}
	return c.b.Set(key, writeUser(round, sources), nil)
}

// known reports whether a user may have been there before the change.
func (c *change) known(h [16]byte) bool {
	f := c.s.filter.Load()
	return f == nil || f.may(h)
}

// sources are those that an item is about.
func (i *Item) sources() []string {
	if len(i.Sources) == 0 {
		return []string{every}
	}
	return i.Sources
}

// note keeps a change for those who ask for changes: of each user and source the newest.
func (c *change) note(i *Item) error {
	last, err := get(c.b, []byte("s"))
	if err != nil {
		return err
	}
	n := uint64(0)
	if last != nil {
		n = binary.BigEndian.Uint64(last)
	}
	for _, source := range i.sources() {
		h := hash(i.Workspace, i.User, source)
		at := append([]byte("k"), h[:]...)
		old, err := get(c.b, at)
		if err != nil {
			return err
		}
		if old != nil {
			if err := c.b.Delete(changeKey(i.Workspace, binary.BigEndian.Uint64(old)), nil); err != nil {
				return err
			}
		}
		one := *i
		if one.Sources = []string{}; source != every {
			one.Sources = []string{source}
		}
		text, err := json.Marshal(one)
		if err != nil {
			return err
		}
		n++
		number := binary.BigEndian.AppendUint64(nil, n)
		if err := c.b.Set(at, number, nil); err != nil {
			return err
		}
		if err := c.b.Set(changeKey(i.Workspace, n), text, nil); err != nil {
			return err
		}
	}
	return c.b.Set([]byte("s"), binary.BigEndian.AppendUint64(nil, n), nil)
}

func changeKey(workspace string, n uint64) []byte {
	key := append(binary.AppendUvarint([]byte("c"), uint64(len(workspace))), workspace...)
	return binary.BigEndian.AppendUint64(key, n)
}

// remake makes the filter anew whenever there is none or it has become too small for its users.
func (s *Set) remake(ctx context.Context) {
	for wait := false; ; wait = true {
		if wait && !sleep(ctx, refill) {
			return
		}
		if f := s.filter.Load(); f != nil && s.count.Load() <= f.room {
			continue
		}
		if err := s.fill(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("the filter of the suppressed users cannot be made; each event asks the disk until it can", "path", s.o.Path, "error", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// fill makes a filter of all users; who is put meanwhile goes into it too.
func (s *Set) fill(ctx context.Context) error {
	s.changing.Lock()
	f := newFilter(s.count.Load())
	s.making = f
	db := s.db // remake ends before it is closed
	snapshot := db.NewSnapshot()
	s.changing.Unlock()
	defer func() {
		s.changing.Lock()
		s.making = nil
		s.changing.Unlock()
		_ = snapshot.Close() // nothing was written to it
	}()
	it, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte("u"), UpperBound: []byte("v")})
	if err != nil {
		return err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			break
		}
		f.add([16]byte(it.Key()[1:]))
	}
	if err := it.Close(); err != nil || ctx.Err() != nil {
		return err
	}
	s.changing.Lock()
	s.filter.Store(f)
	s.changing.Unlock()
	return nil
}
