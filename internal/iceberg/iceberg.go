// Package iceberg keeps an Apache Iceberg table (format version 2) of the Parquet files of a
// dataset. The files are the dataset's own, where it has written them; a table adds what other
// engines need to read them as one: columns by ids, hidden partitions, snapshots.
//
// # Where things are
//
//	ADDRESS/year=.../NAME.parquet            data; an object of the dataset
//	ADDRESS/metadata/NNNNN-UUID.metadata.json what the table is: schema, properties, snapshots
//	ADDRESS/metadata/snap-....avro            the manifest list of a snapshot
//	ADDRESS/metadata/UUID-mN.avro             a manifest: files, with their partition and bounds
//
// A [Catalog] says which metadata is the table, and is where commits meet: one of two that change
// the same version fails with [ErrConflict]. Everything else is objects of package blob, created
// once, durably, before the catalog speaks of them.
//
// # Commit
//
// The dataset numbers what lands in it. A table has the files of all numbers up to the property
// "weir.commit", which changes in the same commit as the files: so what is appended again, after
// a lost answer, a crash, or by another process that believes the dataset is its own, is not
// appended twice ([Table.Append]). Number and positions are in the summary of the snapshot too,
// but other tools remove snapshots, and not properties.
//
// There is one committer in a process, and every commit asks the catalog where the table is. What
// metadata says that this package does not know stays in it. A conflict is
// looked into and tried again, at most a hundred times. An error that says nothing of the outcome
// is looked into before it is reported.
//
// # Columns
//
// The dataset decides which columns there are, and the table follows ([Table.Columns]): columns
// are added, 32-bit numbers of a table that somebody else made become 64-bit ones, required
// columns become optional. Other differences of type are refused by the name of the column:
// no version of the specification has long -> double or long -> string. Columns that only the
// table has stay. Files have the ids that the table gave their columns; those written before there
// was a table have none, and are read by the property "schema.name-mapping.default".
//
//	BOOLEAN boolean, INT64 long, DOUBLE double, STRING string, JSON string,
//	timestamps timestamptz, group struct, LIST list
//
// # Partitions
//
// A dataset in folders by hour of a time field is a table partitioned by hour(column), hidden:
// a query filters by the column. All rows of a file have one value of it, or none at all.
//
// # Cost
//
// Manifests of a size are merged as soon as there are sixteen, snapshots beyond [Options].Snapshots expire, and old metadata is removed,
// so that a commit costs what the first did. Expiry removes manifests and lists, never data.
package iceberg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

var (
	// ErrNoTable says that the catalog has no table of the name.
	ErrNoTable = errors.New("the catalog has no such table")
	// ErrConflict says that the table has been changed, or created, by somebody else.
	ErrConflict = errors.New("the table has been changed meanwhile")
)

// Name is the name of a table: the parts of its namespace, and its own.
type Name []string

// ParseName reads a name with dots between its parts, of which it needs two.
func ParseName(s string) (Name, error) {
	n := Name(strings.Split(s, "."))
	if len(n) < 2 {
		return nil, fmt.Errorf("%q has no namespace", s)
	}
	for _, part := range n {
		if part == "" || len(part) > 255 || strings.ContainsAny(part, "/\\\x00\x1f\"'`") || strings.TrimSpace(part) != part {
			return nil, fmt.Errorf("%q is not a name of a table: each of its parts has 1 to 255 characters, and none that need quotes", s)
		}
	}
	return n, nil
}

// String is the name with dots.
func (n Name) String() string { return strings.Join(n, ".") }

// Namespace is the name without its last part, with dots.
func (n Name) Namespace() string { return strings.Join(n[:len(n)-1], ".") }

// Table is the last part of the name.
func (n Name) Table() string { return n[len(n)-1] }

// Options are what a table is of.
type Options struct {
	Name Name
	// Address is the URI of the bucket, without a slash at its end: file:///lake/events.
	Address string
	// Unit is what the table is partitioned by: "year", "month", "day" or "hour" of the field
	// Time, or "" for nothing.
	Unit string
	// Time is a field of the dataset's events, by its keys with dots between.
	Time string
	// Snapshots is how many snapshots are kept at least; twice as many are there at most.
	Snapshots int
}

// Table is a table that this process adds files to. Its methods may be called by several
// goroutines.
type Table struct {
	o       Options
	bucket  blob.Bucket
	catalog Catalog

	mu  sync.Mutex // one commit at a time
	ids columnIDs  // of the last schema that was asked for
}

// columnIDs are the ids of the columns of a version of the dataset's schema.
type columnIDs struct {
	version int
	known   bool
	ids     map[string]int32
}

// New is the table of files in the bucket, which need not be there yet.
func New(c Catalog, b blob.Bucket, o Options) (*Table, error) {
	if i := strings.IndexAny(o.Address, "?#%"); i >= 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("the dataset %s cannot be a table: other engines read the character %q of its address as something else; use another path", o.Address, o.Address[i]))
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.Snapshots = cmp.Or(o.Snapshots, 50)
	return &Table{o: o, bucket: b, catalog: c}, nil
}

// Through is the number of the last commit of the dataset whose files the table has. known is
// false when the table is not there, or never had any.
func (t *Table) Through(ctx context.Context) (n uint64, known bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, err := t.load(ctx, t.files(ctx))
	if errors.Is(err, ErrNoTable) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return t.through(m)
}

// load reads the table as it is now, and refuses one of another dataset.
func (t *Table) load(ctx context.Context, f *files) (*metadata, error) {
	m, err := t.catalog.load(ctx, t.o.Name, f)
	if err != nil {
		return nil, fmt.Errorf("read the table %s: %w", t.o.Name, err)
	}
	if have := strings.TrimRight(m.location, "/"); have != t.o.Address {
		return nil, fault.New(fault.Setup, fmt.Errorf("the table %s is in %s, and the dataset in %s: give the dataset a table of its own, or drop this one (without its files) so that it is made anew",
			t.o.Name, have, t.o.Address))
	}
	if m.version != 2 {
		return nil, fault.New(fault.Setup, fmt.Errorf("the table %s has format version %d, and this version of weir writes 2", t.o.Name, m.version))
	}
	return m, t.checkSpec(m)
}

// Columns are the ids of the columns of s, by their full names. Columns that the table does
// not have are added to it; a table that is not there is made.
func (t *Table) Columns(ctx context.Context, s *parquet.Schema) (map[string]int32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids.known && t.ids.version == s.Version {
		return t.ids.ids, nil
	}
	ids, err := t.cover(ctx, s)
	if err != nil {
		return nil, err
	}
	t.ids = columnIDs{s.Version, true, ids}
	return ids, nil
}

// Close lets go of the catalog.
func (t *Table) Close() error { return t.catalog.Close() }
