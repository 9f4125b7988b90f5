package iceberg

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/blob"
)

// files is the bucket of a table during one commit: names are URIs below the address. It notes
// what it created.
type files struct {
	ctx     context.Context
	bucket  blob.Bucket
	address string
	created []string
}

func (t *Table) files(ctx context.Context) *files {
	return &files{ctx: ctx, bucket: t.bucket, address: t.o.Address}
}

// name is the object that a URI means.
func (f *files) name(uri string) (string, error) {
	name, ok := strings.CutPrefix(uri, f.address+"/")
	if !ok {
		return "", fmt.Errorf("%s is not in %s, where this table is", uri, f.address)
	}
	return name, nil
}

func (f *files) uri(name string) string { return f.address + "/" + name }

func (f *files) get(name string) ([]byte, error) {
	data, _, err := f.bucket.Get(f.ctx, name)
	return data, err
}

// read reads the object that a URI means.
func (f *files) read(uri string) ([]byte, error) {
	name, err := f.name(uri)
	if err != nil {
		return nil, err
	}
	return f.get(name)
}

// remove removes the object that a URI means.
func (f *files) remove(uri string) error {
	name, err := f.name(uri)
	if err != nil {
		return err
	}
	return f.bucket.Delete(f.ctx, name)
}

// write creates an object, whose name nobody else can have.
func (f *files) write(name string, data []byte) error {
	if len(data) > blob.MaxWhole {
		return fmt.Errorf("write %s: %w", name, blob.ErrTooLarge)
	}
	if err := blob.Ensure(f.ctx, f.bucket, name, data); err != nil {
		return err
	}
	f.created = append(f.created, name)
	return nil
}

// forget removes what was created for this commit, and what nothing speaks of any more.
func (f *files) forget(uri string) {
	name, err := f.name(uri)
	if i := slices.Index(f.created, name); err == nil && i >= 0 {
		_ = f.bucket.Delete(f.ctx, name)
		f.created = slices.Delete(f.created, i, i+1)
	}
}

// discard removes what was created for a commit that was refused.
func (f *files) discard() {
	if len(f.created) > 0 {
		_ = f.bucket.Delete(f.ctx, f.created...) // nothing speaks of them
		f.created = nil
	}
}
