package catalog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
)

// mostSeen is how many partitions are remembered, however few ids they have.
const mostSeen = 4096

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
func (d *Dataset) Seen(ctx context.Context, partition string) (*Seen, error) {
	d.seen.clock++
	if s := d.seen.partitions[partition]; s != nil {
		s.used = d.seen.clock
		return s, nil
	}
	s := &Seen{used: d.seen.clock, half: max(d.seen.limit/2, 1)}
	if err := d.loadSeen(ctx, s, partition); err != nil {
		return nil, fmt.Errorf("read which events %s has: %w", at(d.path, partition), err)
	}
	if d.seen.partitions == nil {
		d.seen.partitions = map[string]*Seen{}
	}
	d.seen.partitions[partition] = s
	return s, nil
}

// Unsure says that a commit to the partition has failed. Its file may be there all the same:
// Seen looks again, and knows only what survives power loss. The caller has the dataset for
// itself, and uses no Seen of the partition any more.
func (d *Dataset) Unsure(partition string) { delete(d.seen.partitions, partition) }

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
	for len(d.seen.partitions) > mostSeen { // many partitions with few ids each
		for name := range d.seen.partitions {
			delete(d.seen.partitions, name)
			break
		}
	}
}

// errMoved says that files of a partition were replaced while their ids were read.
var errMoved = errors.New("files of the partition were replaced all the time")

// loadSeen reads the ids of a partition, again where a compaction replaces its files meanwhile.
func (d *Dataset) loadSeen(ctx context.Context, s *Seen, partition string) error {
	for range mostLooks {
		*s = Seen{used: s.used, half: s.half}
		if err := d.loadSeenOnce(ctx, s, partition); !errors.Is(err, errMoved) {
			return err
		}
	}
	return errMoved
}

func (d *Dataset) loadSeenOnce(ctx context.Context, s *Seen, partition string) error {
	recs, err := d.records(ctx, partition)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if rec.name == "" {
			s.Unknown++
			continue
		}
		r, ids, err := readRecord(ctx, d.bucket, rec.name, at(d.path, rec.name), true)
		if errors.Is(err, blob.ErrNotFound) {
			return errMoved
		}
		if err != nil {
			return fmt.Errorf("%w; restore the file, or remove it to go on without knowing the events of %s", err, at(d.path, rec.data))
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

// recordOf is a data file and its record; name is empty when it has none.
type recordOf struct {
	data, name string
	at         time.Time
}

// records lists the files of a partition, the newest first, and removes records whose file
// was never committed.
func (d *Dataset) records(ctx context.Context, partition string) ([]recordOf, error) {
	found := map[string]*recordOf{}
	files := within(partition)
	files.Durable = true // an event that is found there is not written again
	for e, err := range objects(ctx, d.bucket, files) {
		if err != nil {
			return nil, err
		}
		if name, ok := strings.CutSuffix(path.Base(e.Name), suffix); ok && !d.dropped(e.Name) {
			found[name] = &recordOf{data: e.Name}
		}
	}
	for e, err := range objects(ctx, d.bucket, within(path.Join(records, partition))) {
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutSuffix(path.Base(e.Name), recSuffix)
		if !ok {
			continue
		}
		if f := found[name]; f != nil {
			f.name, f.at = e.Name, e.Modified
		} else if err := d.forgetRecord(ctx, fileName(partition, name), e.Name); err != nil {
			return nil, err
		}
	}
	out := make([]recordOf, 0, len(found))
	for _, f := range found {
		if f.name == "" {
			if _, err := d.bucket.Head(ctx, f.data); errors.Is(err, blob.ErrNotFound) {
				return nil, errMoved
			} else if err != nil {
				return nil, err
			}
		}
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b recordOf) int { return cmp.Or(b.at.Compare(a.at), strings.Compare(a.data, b.data)) })
	return out, nil
}

// forgetRecord removes the record of a file that was never committed. The file may be about
// to be, or have been since the files were listed, by another writer in this process.
func (d *Dataset) forgetRecord(ctx context.Context, data, rec string) error {
	done, other := d.tryClaim(data)
	if other != nil {
		return nil
	}
	defer done()
	if _, err := d.bucket.Head(ctx, data); !errors.Is(err, blob.ErrNotFound) {
		if err == nil && !d.dropped(data) {
			return errMoved // it is there since the files were listed
		}
		return err
	}
	return d.bucket.Delete(ctx, rec)
}
