package iceberg

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	ice "github.com/apache/iceberg-go"
	"github.com/google/uuid"
)

// metadata is a table as its metadata file has it. What this package does not know of it, such as
// statistics and sort orders, is kept as it is.
type metadata struct {
	all map[string]json.RawMessage

	version       int
	uuid          string
	location      string
	sequence      int64
	updated       int64 // ms since 1970
	lastColumn    int
	schemas       []json.RawMessage
	schemaID      int
	schema        *ice.Schema // the current one
	specs         []json.RawMessage
	specID        int
	spec          ice.PartitionSpec // the default one
	lastPartition int
	properties    map[string]string
	snapshots     []snapshot
	current       int64 // id of the snapshot; none when it is negative
	snapshotLog   []logged
	metadataLog   []logged
	refs          map[string]ref
}

// snapshot is one version of the table's files.
type snapshot struct {
	ID       int64             `json:"snapshot-id"`
	Parent   *int64            `json:"parent-snapshot-id,omitempty"`
	Sequence int64             `json:"sequence-number"`
	At       int64             `json:"timestamp-ms"`
	List     string            `json:"manifest-list"`
	Summary  map[string]string `json:"summary"`
	Schema   *int              `json:"schema-id,omitempty"`

	text json.RawMessage // as it was read; nil of a new one
}

// ref is a branch or a tag.
type ref struct {
	ID   int64  `json:"snapshot-id"`
	Type string `json:"type"`

	text json.RawMessage
}

// logged is an entry of one of the logs.
type logged struct {
	Snapshot int64  `json:"snapshot-id,omitempty"`
	File     string `json:"metadata-file,omitempty"`
	At       int64  `json:"timestamp-ms"`
}

// field is a member of the JSON object of metadata.
type field struct {
	name string
	to   any
}

func (m *metadata) fields() []field {
	return []field{
		{"format-version", &m.version}, {"table-uuid", &m.uuid}, {"location", &m.location}, {"last-sequence-number", &m.sequence},
		{"last-updated-ms", &m.updated}, {"last-column-id", &m.lastColumn}, {"schemas", &m.schemas}, {"current-schema-id", &m.schemaID},
		{"partition-specs", &m.specs}, {"default-spec-id", &m.specID}, {"last-partition-id", &m.lastPartition}, {"properties", &m.properties},
		{"current-snapshot-id", &m.current}, {"snapshot-log", &m.snapshotLog}, {"metadata-log", &m.metadataLog},
	}
}

// parseMetadata reads a metadata file.
func parseMetadata(text []byte) (*metadata, error) {
	m := &metadata{current: -1, properties: map[string]string{}, snapshotLog: []logged{}, metadataLog: []logged{}}
	if err := json.Unmarshal(text, &m.all); err != nil {
		return nil, err
	}
	for _, f := range m.fields() {
		if raw, ok := m.all[f.name]; ok && string(raw) != "null" {
			if err := json.Unmarshal(raw, f.to); err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	var snapshots []json.RawMessage
	refs := map[string]json.RawMessage{}
	if err := errors.Join(optional(m.all["snapshots"], &snapshots), optional(m.all["refs"], &refs)); err != nil {
		return nil, err
	}
	for _, raw := range snapshots {
		s := snapshot{text: raw}
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("snapshots: %w", err)
		}
		m.snapshots = append(m.snapshots, s)
	}
	m.refs = map[string]ref{}
	for name, raw := range refs {
		r := ref{text: raw}
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("refs: %w", err)
		}
		m.refs[name] = r
	}
	if m.version != 2 {
		return m, nil // whoever loads it refuses it
	}
	err := m.resolve()
	return m, err
}

func optional(raw json.RawMessage, to any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, to)
}

// resolve finds the current schema and the default partitioning.
func (m *metadata) resolve() error {
	for _, raw := range m.schemas {
		s := &ice.Schema{}
		if err := json.Unmarshal(raw, s); err != nil {
			return fmt.Errorf("schemas: %w", err)
		}
		if s.ID == m.schemaID {
			m.schema = s
		}
	}
	found := false
	for _, raw := range m.specs {
		var s ice.PartitionSpec
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("partition-specs: %w", err)
		}
		if s.ID() == m.specID {
			m.spec, found = s, true
		}
	}
	if m.schema == nil || !found {
		return fmt.Errorf("it has no schema %d or no partitioning %d", m.schemaID, m.specID)
	}
	return nil
}

// encode is the metadata file.
func (m *metadata) encode() ([]byte, error) {
	all := maps.Clone(m.all)
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	put := func(name string, v any) error {
		raw, err := json.Marshal(v)
		all[name] = raw
		return err
	}
	var errs []error
	for _, f := range m.fields() {
		errs = append(errs, put(f.name, f.to))
	}
	snapshots, refs := make([]json.RawMessage, len(m.snapshots)), map[string]json.RawMessage{}
	for i, s := range m.snapshots {
		raw, err := s.encode()
		snapshots[i] = raw
		errs = append(errs, err)
	}
	for name, r := range m.refs {
		raw, err := r.encode()
		refs[name] = raw
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, put("snapshots", snapshots), put("refs", refs))...); err != nil {
		return nil, fmt.Errorf("write the metadata: %w", err)
	}
	return json.Marshal(all)
}

func (s snapshot) encode() (json.RawMessage, error) {
	if s.text != nil {
		return s.text, nil
	}
	return json.Marshal(s)
}

func (r ref) encode() (json.RawMessage, error) {
	if r.text != nil {
		return r.text, nil
	}
	return json.Marshal(r)
}

// definition is what a table is made from.
type definition struct {
	schema     *ice.Schema
	spec       ice.PartitionSpec
	location   string
	properties map[string]string
}

// newMetadata is that of a table without snapshots.
func newMetadata(d definition, now time.Time) (*metadata, error) {
	schema, err := json.Marshal(d.schema)
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(d.spec)
	if err != nil {
		return nil, err
	}
	m := &metadata{
		version: 2, uuid: uuid.NewString(), location: d.location, updated: now.UnixMilli(), lastColumn: d.schema.HighestFieldID(),
		schemas: []json.RawMessage{schema}, schemaID: d.schema.ID, schema: d.schema, specs: []json.RawMessage{spec}, specID: d.spec.ID(), spec: d.spec,
		lastPartition: max(d.spec.LastAssignedFieldID(), firstPartition-1), properties: d.properties, current: -1,
		snapshotLog: []logged{}, metadataLog: []logged{}, refs: map[string]ref{},
	}
	m.all = map[string]json.RawMessage{
		"sort-orders": json.RawMessage(`[{"order-id":0,"fields":[]}]`), "default-sort-order-id": json.RawMessage(`0`),
		"statistics": json.RawMessage(`[]`), "partition-statistics": json.RawMessage(`[]`),
	}
	return m, nil
}

// snapshotOf is the snapshot with the id; nil for none.
func (m *metadata) snapshotOf(id int64) *snapshot {
	for i := range m.snapshots {
		if m.snapshots[i].ID == id {
			return &m.snapshots[i]
		}
	}
	return nil
}

// newSnapshotID is an id that no snapshot has.
func (m *metadata) newSnapshotID() int64 {
	for {
		if id := rand.Int64(); id > 0 && m.snapshotOf(id) == nil {
			return id
		}
	}
}

// change is what a commit changes. A catalog makes it only of the version that was seen.
type change struct {
	schema     *ice.Schema // that becomes the current one, with new columns; nil for none
	lastColumn int
	properties map[string]string // that are set
	snapshot   *snapshot         // that becomes the current one of the branch main
	expire     []int64           // snapshots that are dropped
}

// apply is the table after a change. at is where the metadata is that m was read from.
func (m *metadata) apply(c change, at string, now time.Time) (*metadata, error) {
	n := *m
	n.updated = max(m.updated+1, now.UnixMilli())
	if c.schema != nil {
		raw, err := json.Marshal(c.schema)
		if err != nil {
			return nil, err
		}
		n.schemas = append(slices.Clip(m.schemas), raw)
		n.schema, n.schemaID, n.lastColumn = c.schema, c.schema.ID, max(m.lastColumn, c.lastColumn)
	}
	n.properties = maps.Clone(m.properties)
	maps.Copy(n.properties, c.properties)
	n.snapshots = slices.DeleteFunc(slices.Clone(m.snapshots), func(s snapshot) bool { return slices.Contains(c.expire, s.ID) })
	n.snapshotLog = slices.Clone(m.snapshotLog)
	if len(c.expire) > 0 {
		// The history begins behind the last snapshot that is not there any more.
		for i, l := range slices.Backward(n.snapshotLog) {
			if slices.Contains(c.expire, l.Snapshot) {
				n.snapshotLog = n.snapshotLog[i+1:]
				break
			}
		}
		n.all = maps.Clone(m.all)
		for _, name := range []string{"statistics", "partition-statistics"} {
			if list, ok := m.all[name]; ok {
				n.all[name] = without(list, c.expire)
			}
		}
	}
	if s := c.snapshot; s != nil {
		s.At = n.updated
		n.snapshots = append(n.snapshots, *s)
		n.current, n.sequence = s.ID, s.Sequence
		n.snapshotLog = append(n.snapshotLog, logged{Snapshot: s.ID, At: s.At})
		n.refs = maps.Clone(m.refs)
		main, err := m.refs[mainBranch].moved(s.ID)
		if err != nil {
			return nil, err
		}
		n.refs[mainBranch] = main
	}
	n.metadataLog = append(slices.Clone(m.metadataLog), logged{File: at, At: m.updated})
	if extra := len(n.metadataLog) - keptMetadata; extra > 0 {
		n.metadataLog = n.metadataLog[extra:]
	}
	return &n, nil
}

// keptMetadata is how many metadata files are kept besides the newest.
const keptMetadata = 20

// without is a list of objects without those of the snapshots.
func without(list json.RawMessage, snapshots []int64) json.RawMessage {
	var all, kept []json.RawMessage
	if json.Unmarshal(list, &all) != nil {
		return list
	}
	for _, raw := range all {
		var of struct {
			ID int64 `json:"snapshot-id"`
		}
		if json.Unmarshal(raw, &of) != nil || !slices.Contains(snapshots, of.ID) {
			kept = append(kept, raw)
		}
	}
	text, err := json.Marshal(append([]json.RawMessage{}, kept...))
	if err != nil {
		return list
	}
	return text
}

// moved is the branch at another snapshot, with what else is known of it.
func (r ref) moved(id int64) (ref, error) {
	all := map[string]json.RawMessage{"type": json.RawMessage(`"branch"`)}
	if r.text != nil {
		if err := json.Unmarshal(r.text, &all); err != nil {
			return r, err
		}
	}
	all["snapshot-id"] = json.RawMessage(strconv.FormatInt(id, 10))
	text, err := json.Marshal(all)
	return ref{ID: id, Type: "branch", text: text}, err
}

// expired are the snapshots that are dropped when there are twice as many as are kept: those of
// main behind the newest, unless another branch or a tag needs them.
func (m *metadata) expired(keep int) (ids []int64) {
	if len(m.snapshots) < 2*keep {
		return nil
	}
	kept := map[int64]bool{}
	walk := func(id int64, most int) {
		for s := m.snapshotOf(id); s != nil && most > 0; s = m.snapshotOf(*s.Parent) {
			kept[s.ID] = true
			if most--; s.Parent == nil {
				break
			}
		}
	}
	walk(m.current, keep)
	for name, r := range m.refs {
		switch {
		case name == mainBranch:
		case r.Type == "tag":
			kept[r.ID] = true
		default:
			walk(r.ID, len(m.snapshots))
		}
	}
	for _, s := range m.snapshots {
		if !kept[s.ID] {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// versionOf is the number in the name of a metadata file; 0 for a name of another form.
func versionOf(location string) int {
	name := location[strings.LastIndexByte(location, '/')+1:]
	n := 0
	if _, err := fmt.Sscanf(strings.TrimPrefix(name, "v"), "%d", &n); err != nil || n < 0 {
		return 0
	}
	return n
}
