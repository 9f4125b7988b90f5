package iceberg

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	ice "github.com/apache/iceberg-go"
	"github.com/google/uuid"
)

// addition is files on their way into a table.
type addition struct {
	meta    *metadata
	files   *files
	entries []ice.DataFile
	rows    int64
	bytes   int64
}

func (a *addition) add(f File, address string) error {
	d, err := dataFile(a.meta, f, address)
	if err != nil {
		return err
	}
	a.entries = append(a.entries, d)
	a.rows += f.Summary.Rows
	a.bytes += f.Size
	return nil
}

// A manifest is merged with others of its size: as soon as so many have a number of files with
// the same count of digits, to the base tier. So an entry is written again a few times, however
// large the table becomes, and manifests are few.
const (
	tier        = 16
	largestTier = 4 // manifests of tier^4 files and more stay as they are
)

// snapshot writes the snapshot that has the files too.
func (a *addition) snapshot(said map[string]string) (*snapshot, error) {
	m := a.meta
	s := &snapshot{ID: m.newSnapshotID(), Sequence: m.sequence + 1, Summary: maps.Clone(said), Schema: &m.schema.ID}
	var all []ice.ManifestFile
	before := m.snapshotOf(m.current)
	if before != nil {
		s.Parent = &before.ID
		var err error
		if all, err = a.files.manifests(before); err != nil {
			return nil, err
		}
	}
	if len(a.entries) > 0 {
		fresh, err := a.manifest(s.ID, func(w *ice.ManifestWriter) error {
			for _, d := range a.entries {
				if err := w.Add(ice.NewManifestEntry(ice.EntryStatusADDED, &s.ID, nil, nil, d)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		all = append([]ice.ManifestFile{fresh}, all...)
	}
	all, err := a.merged(s.ID, all)
	if err != nil {
		return nil, err
	}
	var list bytes.Buffer
	if err := ice.WriteManifestList(2, &list, s.ID, s.Parent, &s.Sequence, 0, all); err != nil {
		return nil, fmt.Errorf("write the list of manifests: %w", err)
	}
	name := fmt.Sprintf("%s/snap-%d-0-%s.avro", folder, s.ID, uuid.New())
	if err := a.files.write(name, list.Bytes()); err != nil {
		return nil, fmt.Errorf("write the list of manifests: %w", err)
	}
	s.List = a.files.uri(name)
	a.sum(s.Summary, before)
	return s, nil
}

// sum says what the snapshot adds, and what there is then.
func (a *addition) sum(said map[string]string, before *snapshot) {
	said["operation"] = "append"
	put := func(name string, n int64) { said[name] = strconv.FormatInt(n, 10) }
	added := map[string]int64{"data-files": int64(len(a.entries)), "records": a.rows, "files-size": a.bytes, "delete-files": 0, "position-deletes": 0, "equality-deletes": 0}
	for name, n := range added {
		if n > 0 {
			put("added-"+name, n)
		}
		had := int64(0)
		if before != nil {
			text, ok := before.Summary["total-"+name]
			if had, _ = strconv.ParseInt(text, 10, 64); !ok {
				continue // whoever wrote it did not say
			}
		}
		put("total-"+name, had+n)
	}
}

// manifest writes a manifest.
func (a *addition) manifest(snapshot int64, fill func(*ice.ManifestWriter) error) (ice.ManifestFile, error) {
	var buf bytes.Buffer
	w, err := ice.NewManifestWriter(2, &buf, a.meta.spec, a.meta.schema, snapshot)
	if err == nil {
		if err = fill(w); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write a manifest: %w", err)
	}
	name := fmt.Sprintf("%s/%s-m0.avro", folder, uuid.New())
	if err := a.files.write(name, buf.Bytes()); err != nil {
		return nil, fmt.Errorf("write a manifest: %w", err)
	}
	return w.ToManifestFile(a.files.uri(name), int64(buf.Len()))
}

// merged is the manifests with those of one tier merged where there are enough.
func (a *addition) merged(snapshot int64, all []ice.ManifestFile) ([]ice.ManifestFile, error) {
	for level := range largestTier {
		var small []ice.ManifestFile
		for _, m := range all {
			if _, err := a.files.name(m.FilePath()); err == nil && m.ManifestContent() == ice.ManifestContentData && int(m.PartitionSpecID()) == a.meta.spec.ID() && levelOf(m) == level {
				small = append(small, m)
			}
		}
		if len(small) < tier {
			continue
		}
		one, err := a.manifest(snapshot, func(w *ice.ManifestWriter) error {
			for _, m := range small {
				if err := a.copy(w, m, snapshot); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, m := range small {
			a.files.forget(m.FilePath())
		}
		all = append([]ice.ManifestFile{one}, slices.DeleteFunc(all, func(m ice.ManifestFile) bool { return slices.Contains(small, m) })...)
	}
	return all, nil
}

// copy puts the files of a manifest into another one. Those that this snapshot adds are new there
// too; those that another one has deleted are gone.
func (a *addition) copy(w *ice.ManifestWriter, m ice.ManifestFile, snapshot int64) error {
	name, err := a.files.name(m.FilePath())
	if err != nil {
		return err
	}
	data, err := a.files.get(name)
	if err != nil {
		return err
	}
	entries, err := ice.ReadManifest(m, bytes.NewReader(data), true)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for _, e := range entries {
		if e.Status() == ice.EntryStatusADDED && e.SnapshotID() == snapshot {
			err = w.Add(ice.NewManifestEntry(ice.EntryStatusADDED, &snapshot, nil, nil, e.DataFile()))
		} else {
			err = w.Existing(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// levelOf is the tier of a manifest.
func levelOf(m ice.ManifestFile) int {
	level := 0
	for n := cmp.Or(int(m.AddedDataFiles()+m.ExistingDataFiles()), 1); n >= tier; n /= tier {
		level++
	}
	return level
}

// manifests are those of a snapshot.
func (f *files) manifests(s *snapshot) ([]ice.ManifestFile, error) {
	data, err := f.read(s.List)
	if err != nil {
		return nil, fmt.Errorf("read the list of manifests: %w", err)
	}
	all, err := ice.ReadManifestList(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read the list of manifests %s: %w", s.List, err)
	}
	return all, nil
}
