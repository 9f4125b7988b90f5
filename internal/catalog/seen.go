package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Seen is the ids of the events in one partition. When there are more than may be kept, the
// older half is forgotten at once: so those that are known are always the newest.
type Seen struct {
	young, old Index[struct{}]
	half       int // the most ids of each
	// Partial is set when the partition has more ids than may be kept: then these are the
	// newest, at least half as many as may be.
	Partial bool
	// Unknown is how many files of the partition have no ids on record: events in them are
	// not recognised.
	Unknown int
	used    uint64
}

// Has reports whether an event with the id is in a committed file.
func (s *Seen) Has(id ID) bool {
	if _, ok := s.young.Get(id); ok {
		return true
	}
	_, ok := s.old.Get(id)
	return ok
}

// Len is the number of ids.
func (s *Seen) Len() int { return s.young.Len() + s.old.Len() }

// Add notes the ids of a file that was committed.
func (s *Seen) Add(ids []ID) {
	s.young.Reserve(min(len(ids), s.half-s.young.Len()))
	for _, id := range ids {
		if s.young.Len() >= s.half {
			s.Partial = s.Partial || s.old.Len() > 0
			s.old, s.young = s.young, Index[struct{}]{}
		}
		s.young.Set(id, struct{}{})
	}
}

// addOlder notes the ids of a file that is older than all that are noted, and reports whether
// there was room for all.
func (s *Seen) addOlder(ids []ID) bool {
	for i, id := range ids {
		into := &s.young
		if s.young.Len() >= s.half {
			into = &s.old
		}
		if into.Len() >= s.half {
			return false
		}
		if i == 0 {
			into.Reserve(min(len(ids), s.half-into.Len()))
		}
		into.Set(id, struct{}{})
	}
	return true
}

// Fingerprint is the ID of an id of the given kind ('s' for a string, 'n' for a number).
func Fingerprint(kind byte, text []byte) ID {
	var buf [64]byte
	sum := sha256.Sum256(append(append(buf[:0], kind), text...))
	return ID(sum[:16])
}

// ids keeps the ids of the partitions that were used last.
type ids struct {
	limit      int
	clock      uint64
	partitions map[string]*Seen
}

// Seen is the ids of the events that are in the partition already. The caller has
// the dataset for itself, by [Dataset.Exclusive], until it has committed what it decides by them.
func (d *Dataset) Seen(partition string) (*Seen, error) {
	d.seen.clock++
	if s := d.seen.partitions[partition]; s != nil {
		s.used = d.seen.clock
		return s, nil
	}
	s := &Seen{used: d.seen.clock, half: max(d.seen.limit/2, 1)}
	if err := d.loadSeen(s, partition); err != nil {
		return nil, classify(fmt.Errorf("read which events %s has: %w", filepath.Join(d.path, partition), err))
	}
	if d.seen.partitions == nil {
		d.seen.partitions = map[string]*Seen{}
	}
	d.seen.partitions[partition] = s
	return s, nil
}

// Trim forgets the partitions that were used longest ago, until no more ids are kept than
// allowed. The caller has the dataset for itself, and uses no Seen any more.
func (d *Dataset) Trim() {
	total := 0
	for _, s := range d.seen.partitions {
		total += s.Len()
	}
	for total > d.seen.limit && len(d.seen.partitions) > 0 {
		oldest, at := "", uint64(0)
		for name, s := range d.seen.partitions {
			if at == 0 || s.used < at {
				oldest, at = name, s.used
			}
		}
		total -= d.seen.partitions[oldest].Len()
		delete(d.seen.partitions, oldest)
	}
	for len(d.seen.partitions) > maxFolders { // many partitions with few ids each
		for name := range d.seen.partitions {
			delete(d.seen.partitions, name)
			break
		}
	}
}

func (d *Dataset) loadSeen(s *Seen, partition string) error {
	recs, err := d.records(partition)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if rec.path == "" {
			s.Unknown++
			continue
		}
		r, ids, err := readRecord(rec.path, true)
		if err != nil {
			return fmt.Errorf("%w; restore the file, or remove it to go on without knowing the events of %s", err, rec.data)
		}
		if r.IDs == 0 && r.Rows > 0 {
			s.Unknown++
		}
		if !s.addOlder(ids) {
			s.Partial = true
			return nil
		}
	}
	return nil
}

// recordOf is a data file and its record; path is empty when it has none.
type recordOf struct {
	data, path string
	at         int64
}

// leftover is how long before the dataset was opened a record was written that a crash has
// left: not shorter than the file system's times are coarse.
const leftover = 10 * time.Second

// records lists the files of a partition, the newest first, and removes records whose file
// was never committed.
func (d *Dataset) records(partition string) ([]recordOf, error) {
	home := filepath.Join(d.path, filepath.FromSlash(partition))
	recs := filepath.Join(d.path, folder, records, filepath.FromSlash(partition))
	data, err := os.ReadDir(home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := os.ReadDir(recs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := map[string]*recordOf{}
	for _, e := range data {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && !e.IsDir() {
			found[name] = &recordOf{data: filepath.Join(home, e.Name())}
		}
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recSuffix)
		if !ok || e.IsDir() {
			continue
		}
		path := filepath.Join(recs, e.Name())
		f := found[name]
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if f == nil { // never committed, or about to be, by another writer in this process
			if info.ModTime().Before(d.opened.Add(-leftover)) {
				if err := os.Remove(path); err != nil {
					return nil, err
				}
			}
			continue
		}
		f.path, f.at = path, info.ModTime().UnixNano()
	}
	out := make([]recordOf, 0, len(found))
	for _, f := range found {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b recordOf) int {
		if a.at != b.at {
			return int(min(max(b.at-a.at, -1), 1))
		}
		return strings.Compare(a.data, b.data)
	})
	return out, nil
}
