package directory

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// List implements blob.Bucket.
func (b *Bucket) List(ctx context.Context, q blob.Query) ([]blob.Info, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := blob.CheckQuery(q); err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	l := listing{b: b, ctx: ctx, q: q}
	start := ""
	if i := strings.LastIndexByte(q.Prefix, '/'); i >= 0 {
		start = q.Prefix[:i+1]
	}
	if err := l.walk(start); err != nil && !errors.Is(err, errEnough) {
		return nil, b.failed("list", start, err)
	}
	return l.found, nil
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// listing is one call of List.
type listing struct {
	b     *Bucket
	ctx   context.Context
	q     blob.Query
	found []blob.Info
}

// entry is one name in a folder; that of a folder ends in a slash, which puts all in the
// order of the names of objects.
type entry struct {
	name string
	fs.DirEntry
}

// entries is what a folder, whose name ends in a slash, holds that a bucket can hold.
func (b *Bucket) entries(folder string) ([]entry, error) {
	f, err := b.root.Open(path.Join(".", folder))
	if err != nil {
		return nil, err
	}
	all, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	out := make([]entry, 0, len(all))
	for _, e := range all {
		name := folder + e.Name()
		if b.check(name) != nil {
			continue
		}
		if e.IsDir() {
			name += "/"
		}
		out = append(out, entry{name, e})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// walk lists what is in a folder.
func (l *listing) walk(folder string) error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	all, err := l.b.entries(folder)
	if err != nil {
		if missing(err) {
			return nil // or gone since
		}
		return err
	}
	if l.q.Durable { // behind reading them: now they are; their contents were before they had names
		name := path.Join(".", folder)
		if err := errors.Join(l.b.folder(name), l.b.syncFolder(name)); err != nil {
			return err
		}
	}
	for _, e := range all {
		if e.IsDir() {
			err = l.folder(e.name)
		} else if strings.HasPrefix(e.name, l.q.Prefix) && e.name > l.q.After {
			err = l.file(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) folder(name string) error {
	within := strings.HasPrefix(name, l.q.Prefix)
	switch {
	case !within && !strings.HasPrefix(l.q.Prefix, name):
		return nil
	case within && l.q.Folders && len(name) > len(l.q.Prefix):
		if name <= l.q.After {
			return nil
		}
		one := listing{b: l.b, ctx: l.ctx, q: blob.Query{Prefix: name, Limit: 1}}
		if err := one.walk(name); err != nil && !errors.Is(err, errEnough) {
			return err
		}
		if len(one.found) == 0 {
			return nil
		}
		return l.add(blob.Info{Name: name})
	case name <= l.q.After && !strings.HasPrefix(l.q.After, name):
		return nil // all in it is before the cursor
	}
	return l.walk(name)
}

func (l *listing) file(e entry) error {
	info, err := e.Info()
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if info, err = l.b.root.Stat(e.name); err != nil {
			return nil //nolint:nilerr // it leads nowhere, or out of the bucket: no object
		}
	}
	if err != nil && missing(err) {
		return nil // gone since
	}
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	return l.add(blob.Info{Name: e.name, Size: info.Size(), Modified: info.ModTime()})
}

func (l *listing) add(info blob.Info) error {
	l.found = append(l.found, info)
	if len(l.found) >= l.q.Max() {
		return errEnough
	}
	return nil
}
