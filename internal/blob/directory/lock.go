package directory

import (
	"context"
	"errors"
	"os"
	"path"
	"time"
)

// ErrLocked says that somebody else holds a lock.
var ErrLocked = errors.New("locked")

// Lock is a lock that the system takes back when the process ends.
type Lock struct{ file *os.File }

// Lock locks the file of the given name, which may hold anything and is made when it is not
// there; ErrLocked when another process, or another call in this one, has it. It guards what
// its users agree on.
func (b *Bucket) Lock(name string) (*Lock, error) {
	if err := b.check(name); err != nil {
		return nil, err
	}
	if err := b.folder(path.Dir(name)); err != nil {
		return nil, b.failed("lock", name, err)
	}
	l, err := b.lock(name)
	if errors.Is(err, ErrLocked) {
		return nil, err
	}
	return l, b.failed("lock", name, err)
}

// lock locks the file that has the name: one that lost its name meanwhile guards nothing.
func (b *Bucket) lock(name string) (*Lock, error) {
	for range stagingTries {
		f, err := openLock(b.root, name)
		if err != nil {
			return nil, err
		}
		if err := tryLock(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		l := &Lock{f}
		if b.named(f, name) {
			return l, nil
		}
		if err := l.Release(); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the file of the lock is removed again and again; is another program tidying up there?")
}

// Release lets go of the lock.
func (l *Lock) Release() error { return errors.Join(unlock(l.file), l.file.Close()) }

// longestPause is between two tries to get the bucket's lock, which is held for as long as
// an object takes to be replaced.
const longestPause = 50 * time.Millisecond

// alone calls f while nobody else, in any process, holds the bucket's lock.
func (b *Bucket) alone(ctx context.Context, f func() error) error {
	select {
	case <-b.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { b.turn <- struct{}{} }()
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		l, err := b.takeTurn()
		if err == nil {
			return errors.Join(f(), l.Release())
		}
		if !errors.Is(err, ErrLocked) {
			return err
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
	}
}

func (b *Bucket) takeTurn() (*Lock, error) {
	if err := b.folder(path.Dir(b.staging)); err != nil {
		return nil, err
	}
	return b.lock(b.staging + lockSuffix)
}
