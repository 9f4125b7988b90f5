package rows

import (
	"bytes"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// records reads committed records: partition.Lookup. The filters of the tables answer for most of
// those that are not there.
func (s *Store) records(keys [][]byte) ([][]byte, error) {
	if len(keys) == 1 {
		v, err := s.get(append([]byte{rowKV}, keys[0]...))
		return [][]byte{v}, err
	}
	slices.SortFunc(keys, bytes.Compare)
	key := append([]byte{rowKV}, keys[0]...)
	end := append(append([]byte{rowKV}, keys[len(keys)-1]...), 0)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: end, UseL6Filters: true})
	if err != nil {
		return nil, stateError("read", err)
	}
	defer it.Close()
	values := make([][]byte, len(keys))
	for i := range keys {
		key = append(key[:1], keys[i]...)
		if !it.SeekPrefixGE(key) {
			if err := it.Error(); err != nil {
				return nil, stateError("read", err)
			}
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, stateError("read", err)
		}
		values[i] = append(make([]byte, 0, len(v)), v...)
	}
	return values, nil
}

// changedAtMost bounds the marks that are remembered, at about 60 bytes each.
const changedAtMost = 1 << 16

// mark stands for the key of a record. That two keys have one costs a look at the record.
func mark(key []byte) uint64 { return xxhash.Sum64(key) }

// changed remembers which records were written last, so that what a transaction has read need not
// be looked at again when nobody has written it since. It belongs to the committer.
type changed struct {
	most  int               // marks
	at    map[uint64]uint64 // by mark: a commit after whose predecessor it was written last
	order []change          // a ring of what is remembered, from next on
	next  int
	floor uint64 // of commits up to this one not all is remembered
}

type change struct{ mark, commit uint64 }

// note notes what a commit is about to write.
func (c *changed) note(marks []uint64, commit uint64) {
	for _, m := range marks {
		c.at[m] = commit
		if len(c.order) < c.most {
			c.order = append(c.order, change{m, commit})
			continue
		}
		old := c.order[c.next]
		if c.at[old.mark] == old.commit {
			delete(c.at, old.mark)
		}
		c.floor = old.commit
		c.order[c.next] = change{m, commit}
		c.next = (c.next + 1) % c.most
	}
}

// after reports whether a record may have been written after a commit.
func (c *changed) after(mark, commit uint64) bool {
	return commit < c.floor || c.at[mark] > commit
}
