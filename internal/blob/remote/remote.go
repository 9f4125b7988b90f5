// Package remote is a bucket in a store that is reached by requests: what is the same for all
// of them, above the few requests of each ([Store]).
//
// # Answers that are lost
//
// A request that failed in a way that passes is sent again, a few times ([Patience]). A write
// that is repeated may meet its own object, and the store then says that the name is taken or
// that the object is another one. So every write has a mark of its own, a random text that is
// stored beside the object: when the store refuses a write, the mark of what is there decides
// whose it is. Who has written it has succeeded, and no two ever believe that of one object.
// Where the mark cannot be read the error leaves open what happened, as package blob has it.
//
// # Names
//
// A name is the key, behind the bucket's prefix. Keys that are no names (folders that a console
// makes, names with two slashes) are not listed, and not touched.
//
// # Writers
//
// What fits into a part is one conditional request. More becomes an upload of parts, one on its
// way while the next is filled, whose completion has the condition. An upload that fails is
// aborted; what dies with its process is aborted by [Bucket.Sweep], or by the store after days.
// A writer holds at most two parts.
//
// # Readers
//
// A reader whose answer is cut goes on where it was, of the same version; when there is another
// one by then it says so.
package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// Errors of a Store beside blob.ErrNotFound.
var (
	// ErrCondition says that the condition of a write does not hold: there is an object, or
	// there is not this version of it.
	ErrCondition = errors.New("the condition does not hold")
	// ErrNoUpload says that an upload has ended, or was aborted.
	ErrNoUpload = errors.New("the upload has ended, or was aborted")
)

// MaxPrefix is how many bytes of a key the prefix of a bucket may have; see blob.MaxName.
const MaxPrefix = 1024 - blob.MaxName - 1

// Stat is what a store knows of an object. Mark is what its writer gave it.
type Stat struct {
	Size     int64
	Modified time.Time
	Version  blob.Version
	Mark     string
}

// Page is a part of a list. Its names are keys; that of a folder ends in a slash.
type Page struct {
	Entries []blob.Info
	Next    string // a cursor of the store; empty at the end
}

// Store is what has to be asked of a store. Errors have their kind and say what was asked, and
// wrap one of the errors above where those fit. Nothing is repeated by a Store.
type Store interface {
	// Put writes an object: where none is when seen is empty, else in place of that version.
	Put(ctx context.Context, key, mark string, seen blob.Version, data []byte) (blob.Version, error)
	// Get reads length bytes from offset, or all behind it when length is negative; of the
	// version, if one is given (ErrCondition). A place behind the end has no bytes.
	Get(ctx context.Context, key string, offset, length int64, version blob.Version) (io.ReadCloser, Stat, error)
	// Head is blob.ErrNotFound where there is no object.
	Head(ctx context.Context, key string) (Stat, error)
	// List is those behind the key after, as far as the store can begin there, or from the
	// cursor next of a page before.
	List(ctx context.Context, prefix, after, next string, folders bool, limit int) (Page, error)
	// Delete removes objects; those that are not there are no error.
	Delete(ctx context.Context, keys []string) error
	// Begin begins an upload.
	Begin(ctx context.Context, key, mark string) (Upload, error)
	// Sweep aborts uploads below the prefix that began before a time.
	Sweep(ctx context.Context, prefix string, before time.Time) error
	// Close closes connections.
	Close() error
}

// Upload is an object in parts. Part and Complete may be called again.
type Upload interface {
	// Part writes part number n, from 1; all but the last have the size of Options.Part.
	Part(ctx context.Context, n int, data []byte, last bool) error
	// Complete makes the object be there, if there is none.
	Complete(ctx context.Context) error
	Abort(ctx context.Context) error
}

// Properties are those of every object that a bucket writes, which package blob knows nothing of.
type Properties struct {
	ContentType, ContentEncoding string
	Metadata                     map[string]string
}

// Patience is how a request is repeated.
type Patience struct {
	Tries int           // at all
	First time.Duration // before the second, doubled each time
	Most  time.Duration
}

// Options are how a store is used.
type Options struct {
	// Name is the address of the bucket, for errors.
	Name string
	// Prefix stands before every name, with a slash between.
	Prefix string
	// Part is the size of a part.
	Part int
	// MostParts is how many parts an object may have.
	MostParts int
	// Patience has a default.
	Patience Patience
	// Check refuses names that the store does not take; nil takes all.
	Check func(name string) error
}

// patience is for what passes within seconds; an outage is the caller's to wait for.
var patience = Patience{Tries: 5, First: 100 * time.Millisecond, Most: 3 * time.Second}

// Bucket is a bucket in a store.
type Bucket struct {
	store  Store
	o      Options
	prefix string // with a slash at its end, or empty
	close  sync.Once
	closed error
}

var (
	_ blob.Bucket       = (*Bucket)(nil)
	_ connector.Checker = (*Bucket)(nil)
)

// New is a bucket in a store, which it closes.
func New(s Store, o Options) *Bucket {
	if o.Patience.Tries == 0 {
		o.Patience = patience
	}
	b := &Bucket{store: s, o: o}
	if o.Prefix = strings.Trim(o.Prefix, "/"); o.Prefix != "" {
		b.prefix = o.Prefix + "/"
	}
	return b
}

// CheckPrefix says why a prefix cannot stand before the names of a bucket; an empty one is none.
func CheckPrefix(prefix string) error {
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return nil
	}
	if len(prefix) > MaxPrefix {
		return fmt.Errorf("the prefix has %d bytes, more than %d", len(prefix), MaxPrefix)
	}
	return blob.CheckName(prefix)
}

// ready is what every call begins with.
func (b *Bucket) ready(ctx context.Context, names ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, name := range names {
		err := blob.CheckName(name)
		if err == nil && b.o.Check != nil {
			err = b.o.Check(name)
		}
		if err != nil {
			return fault.New(fault.Setup, err)
		}
	}
	return nil
}

// failed says what failed, and where.
func (b *Bucket) failed(ctx context.Context, doing, name string, err error) error {
	at := b.o.Name
	if name != "" {
		at += "/" + name
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(err, blob.ErrExists) && !errors.Is(err, blob.ErrChanged) && !errors.Is(err, blob.ErrNotFound):
		return fmt.Errorf("%s %s: %w", doing, at, context.Cause(ctx))
	}
	return fmt.Errorf("%s %s: %w", doing, at, err)
}

// again reports whether an error may pass.
func again(err error) bool {
	for _, known := range []error{blob.ErrNotFound, ErrCondition, ErrNoUpload, blob.ErrTooLarge, blob.ErrName} {
		if errors.Is(err, known) {
			return false
		}
	}
	k := fault.Of(err)
	return k == fault.Transient || k == fault.Throttled
}

// repeat makes a request until it has succeeded, cannot, or there is no patience left. open says
// whether one that failed may have been done.
func (b *Bucket) repeat(ctx context.Context, do func() error) (open bool, err error) {
	wait := b.o.Patience.First
	for try := 1; ; try++ {
		err = do()
		if err == nil || !again(err) || ctx.Err() != nil {
			return open, err
		}
		open = true
		if try >= b.o.Patience.Tries {
			return open, err
		}
		pause := time.NewTimer(max(wait/2+spread(wait/2), min(fault.After(err), b.o.Patience.Most)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return open, err
		case <-pause.C:
		}
		wait = min(2*wait, b.o.Patience.Most)
	}
}

// spread keeps those who failed together from coming back together.
func spread(d time.Duration) time.Duration {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return d * time.Duration(int(b[0])<<8|int(b[1])) / (1 << 16)
}

// settle finds out what a write that the store refused has come to: the object is there with the
// mark of this write, or somebody else's.
func (b *Bucket) settle(ctx context.Context, key, mark string, open bool, refused error) (blob.Version, error) {
	var have Stat
	_, err := b.repeat(ctx, func() (err error) {
		have, err = b.store.Head(ctx, key)
		return err
	})
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return "", err
	case err != nil && !open:
		return "", refused // it was not this one
	case err != nil:
		return "", fmt.Errorf("a request was not answered, and its repetition refused; look whether the object is this one: %w", err)
	case open && have.Mark == mark:
		return have.Version, nil
	}
	return "", refused
}

// Create implements blob.Bucket.
func (b *Bucket) Create(ctx context.Context, name string, data []byte) (blob.Version, error) {
	if err := b.ready(ctx, name); err != nil {
		return "", err
	}
	v, err := b.create(ctx, b.prefix+name, data)
	return v, b.failed(ctx, "create", name, err)
}

// goneTries is how often an object that was refused because of another one, which is gone when
// it is looked at, is written again.
const goneTries = 10

func (b *Bucket) create(ctx context.Context, key string, data []byte) (v blob.Version, err error) {
	mark := rand.Text()
	for range goneTries {
		var open bool
		open, err = b.repeat(ctx, func() (err error) {
			v, err = b.store.Put(ctx, key, mark, "", data)
			return err
		})
		if !errors.Is(err, ErrCondition) {
			return v, err
		}
		if v, err = b.settle(ctx, key, mark, open, blob.ErrExists); !errors.Is(err, blob.ErrNotFound) {
			return v, err
		}
		if open {
			return "", errors.New("a request was not answered, and what it may have written is gone")
		}
	}
	return "", errors.New("others create and delete it again and again")
}

// Replace implements blob.Bucket.
func (b *Bucket) Replace(ctx context.Context, name string, seen blob.Version, data []byte) (blob.Version, error) {
	if err := b.ready(ctx, name); err != nil {
		return "", err
	}
	if len(data) > blob.MaxWhole {
		return "", b.failed(ctx, "replace", name, fault.New(fault.Setup, blob.ErrTooLarge))
	}
	v, err := b.replace(ctx, b.prefix+name, seen, data)
	return v, b.failed(ctx, "replace", name, err)
}

func (b *Bucket) replace(ctx context.Context, key string, seen blob.Version, data []byte) (v blob.Version, err error) {
	mark := rand.Text()
	if seen == "" { // a version that nobody has seen
		return b.settle(ctx, key, mark, false, blob.ErrChanged)
	}
	open, err := b.repeat(ctx, func() (err error) {
		v, err = b.store.Put(ctx, key, mark, seen, data)
		return err
	})
	if errors.Is(err, ErrCondition) || open && errors.Is(err, blob.ErrNotFound) {
		return b.settle(ctx, key, mark, open, blob.ErrChanged)
	}
	return v, err
}

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, name string) (data []byte, v blob.Version, err error) {
	if err := b.ready(ctx, name); err != nil {
		return nil, "", err
	}
	_, err = b.repeat(ctx, func() error {
		r, stat, err := b.store.Get(ctx, b.prefix+name, 0, -1, "")
		if err != nil {
			return err
		}
		defer r.Close()
		if stat.Size > blob.MaxWhole {
			return fault.New(fault.Setup, blob.ErrTooLarge)
		}
		data = make([]byte, stat.Size)
		if _, err := io.ReadFull(r, data); err != nil {
			return fmt.Errorf("its %d bytes did not come: %w", stat.Size, err)
		}
		// The checksum of an answer is compared at its end.
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return fmt.Errorf("there is more of it than its %d bytes: %w", stat.Size, errors.Join(err, io.ErrUnexpectedEOF))
		}
		v = stat.Version
		return nil
	})
	if err != nil {
		return nil, "", b.failed(ctx, "read", name, err)
	}
	return data, v, nil
}

// Head implements blob.Bucket.
func (b *Bucket) Head(ctx context.Context, name string) (blob.Info, error) {
	if err := b.ready(ctx, name); err != nil {
		return blob.Info{}, err
	}
	var stat Stat
	_, err := b.repeat(ctx, func() (err error) {
		stat, err = b.store.Head(ctx, b.prefix+name)
		return err
	})
	if err != nil {
		return blob.Info{}, b.failed(ctx, "look at", name, err)
	}
	return blob.Info{Name: name, Size: stat.Size, Modified: stat.Modified}, nil
}

// List implements blob.Bucket. What a store lists is durable.
func (b *Bucket) List(ctx context.Context, q blob.Query) ([]blob.Info, error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	if err := blob.CheckQuery(q); err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	var infos []blob.Info
	next := ""
	for {
		var page Page
		_, err := b.repeat(ctx, func() (err error) {
			page, err = b.store.List(ctx, b.prefix+q.Prefix, after(b.prefix, q), next, q.Folders, q.Max())
			return err
		})
		if err != nil {
			return nil, b.failed(ctx, "list", q.Prefix, err)
		}
		for _, info := range page.Entries {
			name, ok := strings.CutPrefix(info.Name, b.prefix)
			if !ok || name <= q.After || blob.CheckName(strings.TrimSuffix(name, "/")) != nil || !q.Folders && strings.HasSuffix(name, "/") {
				continue
			}
			info.Name = name
			if infos = append(infos, info); len(infos) == q.Max() {
				return infos, nil
			}
		}
		if next = page.Next; next == "" {
			return infos, nil
		}
	}
}

// after is the key behind which a list may begin.
func after(prefix string, q blob.Query) string {
	if q.After == "" {
		return ""
	}
	return prefix + q.After
}

// deletions is how many objects a request removes at most.
const deletions = 1000

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, names ...string) error {
	if err := b.ready(ctx, names...); err != nil {
		return err
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = b.prefix + name
	}
	for len(keys) > 0 {
		n := min(len(keys), deletions)
		_, err := b.repeat(ctx, func() error { return b.store.Delete(ctx, keys[:n]) })
		if err != nil {
			return b.failed(ctx, "delete", strings.TrimPrefix(keys[0], b.prefix), err)
		}
		keys = keys[n:]
	}
	return nil
}

// Sweep implements blob.Bucket.
func (b *Bucket) Sweep(ctx context.Context, before time.Time) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	_, err := b.repeat(ctx, func() error { return b.store.Sweep(ctx, b.prefix, before) })
	return b.failed(ctx, "abort what writers have left in", "", err)
}

// Close implements blob.Bucket.
func (b *Bucket) Close() error {
	b.close.Do(func() { b.closed = b.store.Close() })
	return b.closed
}

// Persist has requests repeated in another way. It is called before the bucket is used.
func (b *Bucket) Persist(p Patience) { b.o.Patience = p }
