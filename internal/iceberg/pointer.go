package iceberg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Catalog says which metadata a table has. Its methods are called by one goroutine at a time.
type Catalog interface {
	// load reads a table; ErrNoTable when there is none.
	load(ctx context.Context, n Name, f *files) (*metadata, error)
	// create makes a table; ErrConflict when there is one.
	create(ctx context.Context, n Name, f *files, d definition) error
	// commit changes the version of a table that was seen. ErrConflict says that nothing
	// happened, since it is another one by now; another error leaves that open.
	commit(ctx context.Context, n Name, f *files, seen *metadata, c change) error
	Close() error
}

// Ref is where a pointer points: the metadata's address, and what the catalog calls this version
// of its entry, if it has a name for that.
type Ref struct{ Location, Version string }

// Entry is what a catalog is told of a table: where its metadata is, and for those who look at
// the catalog only where the table is, and its columns, by their types in Hive.
type Entry struct {
	Location string // of the metadata
	Table    string
	Columns  []Column
}

// Column is one column at the top.
type Column struct {
	Name, Type string
	ID         int
}

// Pointer is a catalog that keeps the address of a table's metadata, and nothing else of it.
type Pointer interface {
	// Get is where the table's metadata is; ErrNoTable when there is none.
	Get(ctx context.Context, n Name) (Ref, error)
	// Create enters a table; ErrConflict when it is there.
	Create(ctx context.Context, n Name, e Entry) error
	// Swap points the table from where it was seen to another metadata; ErrConflict when it
	// is not there any more.
	Swap(ctx context.Context, n Name, seen Ref, e Entry) error
	Close() error
}

// Pointing is a catalog that keeps the metadata of tables beside their files.
func Pointing(p Pointer) Catalog { return &pointing{pointer: p} }

type pointing struct {
	pointer Pointer

	mu   sync.Mutex
	last *metadata // that was read or written last, and is at
	at   Ref
}

func (p *pointing) Close() error { return p.pointer.Close() }

func (p *pointing) load(ctx context.Context, n Name, f *files) (*metadata, error) {
	at, err := p.pointer.Get(ctx, n)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || p.at.Location != at.Location {
		text, err := f.read(at.Location)
		if err != nil {
			return nil, fmt.Errorf("read the metadata that the catalog names: %w", err)
		}
		if p.last, err = parseMetadata(text); err != nil {
			p.last = nil
			return nil, fmt.Errorf("read the metadata %s: %w", at.Location, err)
		}
	}
	p.at = at
	return p.last, nil
}

func (p *pointing) create(ctx context.Context, n Name, f *files, d definition) error {
	m, err := newMetadata(d, time.Now())
	if err != nil {
		return err
	}
	location, err := m.write(f, 0)
	if err != nil {
		return err
	}
	return p.settle(ctx, n, location, p.pointer.Create(ctx, n, m.entry(location)))
}

func (p *pointing) commit(ctx context.Context, n Name, f *files, seen *metadata, c change) error {
	p.mu.Lock()
	at, same := p.at, p.last == seen
	p.mu.Unlock()
	if !same {
		return ErrConflict // somebody has looked at another one since
	}
	next, err := seen.apply(c, at.Location, time.Now())
	if err != nil {
		return fmt.Errorf("change the metadata: %w", err)
	}
	location, err := next.write(f, versionOf(at.Location)+1)
	if err != nil {
		return err
	}
	if err := p.settle(ctx, n, location, p.pointer.Swap(ctx, n, at, next.entry(location))); err != nil {
		return err
	}
	p.mu.Lock()
	p.last, p.at = next, Ref{Location: location}
	p.mu.Unlock()
	for i := range len(seen.metadataLog) + 1 - len(next.metadataLog) {
		_ = f.remove(seen.metadataLog[i].File) // nobody asks for it any more
	}
	return nil
}

// settle looks whether the table is at the location although the pointer said that it failed: an
// answer may have been lost, and the request repeated.
func (p *pointing) settle(ctx context.Context, n Name, location string, err error) error {
	if err == nil {
		return nil
	}
	at, getErr := p.pointer.Get(ctx, n)
	switch {
	case getErr == nil && at.Location == location:
		return nil
	case errors.Is(err, ErrConflict) && getErr != nil:
		return fmt.Errorf("%s; look what became of it: %w", err.Error(), getErr)
	}
	return err
}

// write writes the metadata to an object of its own.
func (m *metadata) write(f *files, version int) (location string, err error) {
	text, err := m.encode()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s/%05d-%s%s", folder, version, uuid.New(), metadataSuffix)
	if err := f.write(name, text); err != nil {
		return "", fmt.Errorf("write the metadata: %w", err)
	}
	return f.uri(name), nil
}

// entry is what a catalog is told of metadata.
func (m *metadata) entry(location string) Entry {
	e := Entry{Location: location, Table: m.location}
	for _, f := range m.schema.Fields() {
		e.Columns = append(e.Columns, Column{f.Name, hiveType(f.Type), f.ID})
	}
	return e
}
