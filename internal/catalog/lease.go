package catalog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// owner is _weir/owner.json: who writes to a dataset in a store, where no lock ends with a
// process. It is replaced by its version only, and renewed as long as its process writes.
//
// It spares writers to fight, and decides nothing: who takes the dataset too early makes
// the other one begin anew, and the log keeps both from landing anything twice. So no clocks are
// compared; an owner is dead when somebody else has seen no renewal for leaseTime, by how
// long his own process has looked.
type owner struct {
	Writer  string `json:"writer"` // an id of this opening
	Host    string `json:"host"`
	Space   string `json:"space,omitempty"` // of processes, within the host
	Process int    `json:"process"`
	Beat    uint64 `json:"beat"`            // so that each renewal is another version
	Ended   bool   `json:"ended,omitempty"` // it writes no more
}

const (
	leaseTime  = 30 * time.Second
	leaseRenew = 10 * time.Second
	// leaseAgain is when a renewal is tried again that has failed.
	leaseAgain = 2 * time.Second
	// leaseEnd bounds how long the end of a lease is tried to be told: it ends without that too.
	leaseEnd = 10 * time.Second
	// leaseTries is how often a lease is looked at that somebody else changes at that moment.
	leaseTries = 5
)

// lease is the guard of a dataset in a store.
type lease struct {
	bucket blob.Bucket
	path   string

	// Used by one goroutine at a time: that which takes it, which renews it, which ends it.
	mine    owner
	version blob.Version
	taken   func() error // tells the dataset; nil until it is watched
	lost    bool

	stop context.CancelFunc
	done chan struct{} // closed when nothing renews it any more
}

// watched is when this process has first seen the owner of a dataset that it waits for.
var watched = struct {
	sync.Mutex
	owners map[string]sighting
}{owners: map[string]sighting{}}

type sighting struct {
	version blob.Version
	since   time.Time
}

// self is who would be the owner.
func self() owner {
	host, _ := os.Hostname()                     // without a name it is nobody's neighbour
	space, _ := os.Readlink("/proc/self/ns/pid") // only where there are some
	return owner{Writer: rand.Text(), Host: host, Space: space, Process: os.Getpid(), Beat: 1}
}

// living are the ids of the leases that this process has: it may have one dataset by two addresses.
var living sync.Map

// gone reports whether o has ended for certain.
func (o owner) gone(me owner) bool {
	switch {
	case o.Ended:
		return true
	case o.Host == "" || o.Host != me.Host || o.Space != me.Space:
		return false
	case o.Process == me.Process:
		_, lives := living.Load(o.Writer)
		return !lives
	}
	p, err := os.FindProcess(o.Process)
	if err != nil {
		return true
	}
	defer func() { _ = p.Release() }() // nothing but memory
	return errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

func (o owner) encode() []byte {
	text, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("an owner has a JSON form: %v", err))
	}
	return append(text, '\n')
}

// takeLease makes this process the owner of the dataset at path, unless another one is that
// may live: then it fails with ErrHeld, and is called again after a while.
func takeLease(ctx context.Context, b blob.Bucket, path, key string) (*lease, error) {
	l := &lease{bucket: b, path: path, mine: self(), done: make(chan struct{})}
	for range leaseTries {
		ok, err := l.take(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("become the owner of the dataset %s: %w", path, err)
		}
		if ok {
			living.Store(l.mine.Writer, true)
			watched.Lock()
			delete(watched.owners, key)
			watched.Unlock()
			return l, nil
		}
	}
	return nil, fmt.Errorf("become the owner of the dataset %s: others change %s again and again", path, at(path, ownerName))
}

// take is one try; ok is false when somebody else was quicker.
func (l *lease) take(ctx context.Context, key string) (ok bool, err error) {
	text, version, err := l.bucket.Get(ctx, ownerName)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		l.version, err = l.bucket.Create(ctx, ownerName, l.mine.encode())
	case err == nil:
		var have owner
		if err := json.Unmarshal(text, &have); err != nil {
			return false, fault.New(fault.Setup, fmt.Errorf("read %s: %w; delete it while nothing writes to the dataset", at(l.path, ownerName), err))
		}
		if !have.gone(l.mine) && !dead(key, version) {
			return false, fault.New(fault.Setup, fmt.Errorf("%w (process %d of %s, as %s says); it is waited for until it has ended, or has not renewed that for %s",
				ErrHeld, have.Process, have.Host, at(l.path, ownerName), leaseTime))
		}
		l.version, err = l.bucket.Replace(ctx, ownerName, version, l.mine.encode())
	}
	if errors.Is(err, blob.ErrExists) || errors.Is(err, blob.ErrChanged) || errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// dead notes that the owner of a dataset has a version, and reports whether it has had that for
// as long as a lease lasts.
func dead(key string, version blob.Version) bool {
	watched.Lock()
	defer watched.Unlock()
	now := time.Now()
	if s, ok := watched.owners[key]; ok && s.version == version {
		return now.Sub(s.since) >= leaseTime
	}
	watched.owners[key] = sighting{version, now}
	return false
}

// watch begins to renew the lease.
func (l *lease) watch(d *Dataset) {
	ctx, stop := context.WithCancel(context.Background())
	l.stop, l.taken = stop, d.taken
	go func() {
		defer close(l.done)
		wait := time.NewTimer(leaseRenew)
		defer wait.Stop()
		failing := false
		for {
			select {
			case <-ctx.Done():
				return
			case <-wait.C:
			}
			err := l.renew(ctx, false)
			if errors.Is(err, ErrTaken) {
				return
			}
			next := leaseRenew
			if err != nil {
				next = leaseAgain
			}
			if err != nil && !failing && ctx.Err() == nil {
				d.warn("that this process writes to the dataset cannot be renewed, and is tried again: another one that waits may begin to write", err)
			}
			failing = err != nil
			wait.Reset(next)
		}
	}()
}

// renew says that this process is still, or no more, the owner. ErrTaken is that another one is.
func (l *lease) renew(ctx context.Context, ended bool) error {
	if l.lost {
		return ErrTaken
	}
	next := l.mine
	next.Beat++
	next.Ended = ended
	version, err := l.bucket.Replace(ctx, ownerName, l.version, next.encode())
	if errors.Is(err, blob.ErrChanged) {
		version, err = l.look(ctx, &next)
	} else if errors.Is(err, blob.ErrNotFound) { // somebody has removed it
		version, err = l.bucket.Create(ctx, ownerName, next.encode())
		if errors.Is(err, blob.ErrExists) {
			version, err = l.look(ctx, &next)
		}
	}
	if err != nil {
		return err
	}
	l.mine, l.version = next, version
	return nil
}

// look finds out who is the owner when this process is not the one it was: an answer was lost,
// or another process has begun.
func (l *lease) look(ctx context.Context, next *owner) (blob.Version, error) {
	text, version, err := l.bucket.Get(ctx, ownerName)
	if err != nil {
		return "", err
	}
	var have owner
	if json.Unmarshal(text, &have) == nil && have.Writer == l.mine.Writer {
		*next = have
		return version, nil
	}
	l.lost = true
	return "", l.taken()
}

// Release ends the lease, and says so where that is possible.
func (l *lease) Release() error {
	if l.stop != nil {
		l.stop()
		<-l.done
	} else {
		l.taken = func() error { return ErrTaken }
	}
	defer living.Delete(l.mine.Writer)
	ctx, cancel := context.WithTimeout(context.Background(), leaseEnd)
	defer cancel()
	// Whoever waits for it looks at the process, or waits for as long as a lease lasts.
	_ = l.renew(ctx, true)
	return nil
}
