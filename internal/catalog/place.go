package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/directory"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/fault"
)

// at is an object of the dataset at path as errors call it.
func at(path, name string) string {
	if blob.Scheme(path) != "" {
		return path + "/" + name
	}
	return filepath.Join(path, filepath.FromSlash(name))
}

// parse reads the address of a dataset, or of a place that has some.
func parse(path string) (place.Place, error) {
	p, err := place.Parse(path)
	if err != nil {
		return p, fault.New(fault.Setup, err)
	}
	return p, nil
}

// noStore is a store that is reached as the environment says.
var noStore = place.Options{}

// openToRead opens the bucket at path to look into it. That of a store is there whether it has a
// dataset or not.
func openToRead(ctx context.Context, path string, o place.Options) (blob.Bucket, error) {
	p, err := parse(path)
	if err != nil {
		return nil, err
	}
	o.Staging = staging
	return p.Open(ctx, o)
}

// store is o as a dataset that is written to needs it.
func (o Options) store() place.Options {
	s := o.Store
	s.Make, s.Staging = true, staging
	if step := o.Step; step != nil {
		s.Step = func(name, _ string) { step(name) }
	}
	return s
}

// open holds the datasets that this process has open, or opens or closes just now, by what
// names their place.
var open = struct {
	sync.Mutex
	datasets map[string]*opening
}{datasets: map[string]*opening{}}

// opening is a dataset that is open once done is closed and no longer in the table.
type opening struct {
	done chan struct{} // closed when it is open, or gone
	d    *Dataset      // nil until it is open
}

// enter finds the dataset of a place, which then has one user more, or makes the caller the
// one who opens it: with leave, which is called with the dataset, or with nil if it could not be.
func enter(ctx context.Context, key string) (d *Dataset, leave func(*Dataset), err error) {
	for {
		open.Lock()
		o := open.datasets[key]
		if o == nil {
			o = &opening{done: make(chan struct{})}
			open.datasets[key] = o
			open.Unlock()
			return nil, func(d *Dataset) { o.end(key, d) }, nil
		}
		if o.d != nil {
			o.d.refs++
			open.Unlock()
			return o.d, nil, nil
		}
		open.Unlock()
		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

func (o *opening) end(key string, d *Dataset) {
	open.Lock()
	defer open.Unlock()
	if o.d = d; d == nil {
		delete(open.datasets, key)
	}
	close(o.done)
}

// leave ends a use of d. The last one closes it, with what is returned, and calls gone.
func (d *Dataset) leave() (last bool, gone func()) {
	open.Lock()
	defer open.Unlock()
	if d.refs == 0 {
		return false, nil
	}
	if d.refs--; d.refs > 0 {
		return false, nil
	}
	o := &opening{done: make(chan struct{})} // who opens it meanwhile waits
	open.datasets[d.key] = o
	return true, func() { o.end(d.key, nil) }
}

// Open opens the dataset at path: a folder, which is made when it is not there, or an address
// of package place.
func Open(ctx context.Context, path string, o Options) (*Dataset, error) {
	p, err := parse(path)
	if err != nil {
		return nil, err
	}
	bucket, err := p.Open(ctx, o.store())
	if err != nil {
		return nil, fmt.Errorf("open the dataset: %w", err)
	}
	key := p.Identity(o.Store.Access)
	if p.Local() {
		real, err := filepath.EvalSymlinks(p.Path)
		if err == nil {
			key, err = filepath.Abs(real)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("find the folder of the dataset: %w", err), bucket.Close())
		}
	}
	d, leave, err := enter(ctx, key)
	if err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	if d != nil {
		if have := d.layout; !slices.Equal(have, o.Layout) {
			return nil, errors.Join(otherLayout(path, have, o.Layout), bucket.Close(), d.Close())
		}
		if n, ok := d.bucket.(*newest); ok {
			n.take(bucket)
		} else {
			_ = bucket.Close() // nothing was done with it
		}
		if err := d.agree(dataset{Table: d.follower.called()}, o.TableName); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return d, nil
	}
	if !p.Local() {
		bucket = &newest{all: []blob.Bucket{bucket}}
	}
	d, err = openAlone(ctx, bucket, path, key, o)
	leave(d)
	return d, err
}

// openAlone opens a dataset that nobody else in this process has, and closes its bucket when
// that fails.
func openAlone(ctx context.Context, bucket blob.Bucket, path, key string, o Options) (*Dataset, error) {
	guard, fenced, err := guardOf(ctx, bucket, path, key)
	if err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	d, err := openIn(ctx, bucket, path, fenced, o)
	if err != nil {
		return nil, errors.Join(err, guard.Release(), bucket.Close())
	}
	d.key, d.guard, d.distant = key, guard, !fenced
	guard.watch(d)
	return d, nil
}

// guard keeps other processes from writing to a dataset, or at least from trying to.
type guard interface {
	// watch has d told when somebody else has it.
	watch(d *Dataset)
	Release() error
}

// lock is a guard that ends with the process: nobody else has the dataset while it is held.
type lock struct{ *directory.Lock }

func (lock) watch(*Dataset) {}

// guardOf takes the guard of a dataset; fenced says that nobody else can write while it is held.
func guardOf(ctx context.Context, bucket blob.Bucket, path, key string) (g guard, fenced bool, err error) {
	folder, ok := bucket.(*directory.Bucket)
	if !ok {
		l, err := takeLease(ctx, bucket, path, key)
		if err != nil {
			return nil, false, err
		}
		return l, false, nil
	}
	l, err := folder.Lock(lockName)
	if errors.Is(err, directory.ErrLocked) {
		return nil, false, fault.New(fault.Setup, fmt.Errorf("open the dataset %s: %w (it holds %s); stop it, or give each its own path",
			path, ErrHeld, at(path, lockName)))
	}
	if err != nil {
		return nil, false, fmt.Errorf("open the dataset: %w", err)
	}
	return lock{l}, true, nil
}

// Close ends the use of the dataset. The last of those who opened it lets go of it.
func (d *Dataset) Close() error {
	last, gone := d.leave()
	if !last {
		return nil
	}
	defer gone()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return errors.Join(d.follower.end(ctx, d), d.guard.Release(), d.bucket.Close())
}

// Check reports whether the dataset at path can be opened with the layout, as far as that
// can be known without writing.
func Check(ctx context.Context, path string, layout Layout, store place.Options) error {
	p, err := parse(path)
	if err == nil && p.Local() {
		err = directory.Check(p.Path)
	}
	if err != nil {
		return err
	}
	b, err := openToRead(ctx, path, store)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // only read
	have, _, err := readDescription(ctx, b, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && have.Adopted != nil {
		return notOwn(path)
	}
	if err == nil && !slices.Equal(have.PartitionBy, layout) {
		return otherLayout(path, have.PartitionBy, layout)
	}
	return err
}
