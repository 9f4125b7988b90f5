// Package directory is a bucket in a folder of the local file system: an object is a file at
// its name, as every other program sees it.
//
// # How an object comes to be there
//
//	create STAGING/RANDOM.tmp, locked ──▶ write ──▶ fsync ──▶ link(2) to its name ──▶ fsync the folder ──▶ remove the .tmp
//
// The link is the instant of creation, and fails when the name is taken: so it is exclusive
// among threads, processes and machines that share the file system, and what is half written
// never has the name. Creating the file under its own name (O_EXCL) would show it while it
// grows, to readers that know nothing of lengths or marks, and leave half of it there after a
// crash. A rename would replace what somebody else created meanwhile.
// Where the system says that a link failed, the file at the name tells whether it did: some
// network file systems lose the answer.
//
// On a file system without links (FAT, some shared folders of virtual machines) the file is
// renamed, if the name is free, while the bucket's lock is held, which has the same outcome
// among processes that use this package.
//
// Replace and Delete hold the lock too, on the file STAGING.lock. Replace compares, stages, fsyncs
// and renames over; so a reader finds the old or the new object, whole. A version is the
// SHA-256 of the content.
//
// # Crashes
//
// A writer holds a lock on its .tmp, which ends with its process. [Bucket.Sweep] removes
// those that nobody holds, and needs no clock. A .tmp that has been linked already is just a
// second name of the object. An error of fsync is an error of the call: before the link
// nothing is there, behind it nobody knows (see package blob).
//
// # Names
//
// A name is the path, unchanged; package blob says which there are. The folder is opened
// once as an [os.Root], so no name and no symbolic link leads out of it. STAGING, what is in
// it and STAGING.lock are no names, and not listed. Files that somebody else put there are objects when their names
// are some; symbolic links to files are followed within the folder, to folders not at all.
// Folders are made when they are needed, with fsync up to the root, and stay when they are
// empty, but they are not listed then, and give their name to an object that wants it.
package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// Options are how a folder is used.
type Options struct {
	// Staging is the folder, relative to the bucket, for what is being written;
	// ".staging" by default. It must be on the same file system as the objects.
	Staging string
	// Step, if set, is called after each step of writing, with what it was done to; tests
	// crash there.
	Step func(step, name string)
}

// The steps of writing.
const (
	StepStaged   = "staged"  // the .tmp is there, and locked
	StepWritten  = "written" // it holds the data
	StepSynced   = "synced"  // the data survives power loss
	StepFolder   = "folder"  // a folder is there
	StepLinked   = "linked"  // the object has its name
	StepRenamed  = "renamed" // the same, in place of another one
	StepRemoved  = "removed" // an object is gone
	StepDurable  = "durable" // the names in a folder survive power loss
	StepTidied   = "tidied"  // the .tmp is gone
	lockSuffix   = ".lock"
	tempSuffix   = ".tmp"
	mostFolders  = 4096 // that are remembered as synced
	stagingTries = 10
)

// Bucket is a folder. Its zero value is not usable; see [Make] and [Open].
type Bucket struct {
	root    *os.Root
	path    string
	staging string
	step    func(step, name string)
	system  system
	turn    chan struct{} // holds one element while nobody in this process has the bucket's lock

	mu      sync.Mutex
	folders map[string]bool // that are there and synced up to the root
}

// system is what may go wrong in ways that a test cannot bring about otherwise.
type system struct {
	syncFile func(*os.File) error
	link     func(root *os.Root, from, to string) error
}

var _ blob.Bucket = (*Bucket)(nil)

// Make opens the folder at path as a bucket, and makes it when it is not there.
func Make(path string, o Options) (*Bucket, error) {
	if err := makeRoot(path); err != nil {
		return nil, classify(fmt.Errorf("make the folder %s: %w", path, err))
	}
	return Open(path, o)
}

// Open opens the folder at path as a bucket. Nothing is written before the first object is.
func Open(path string, o Options) (*Bucket, error) {
	if o.Staging == "" {
		o.Staging = ".staging"
	}
	if err := blob.CheckName(o.Staging); err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("open the folder %s: the folder for what is being written: %w", path, err))
	}
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, classify(fmt.Errorf("open the folder %s: %w", path, err))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, classify(fmt.Errorf("open the folder %s: %w", path, err))
	}
	b := &Bucket{
		root: root, path: path, staging: o.Staging, step: o.Step, turn: make(chan struct{}, 1), folders: map[string]bool{},
		system: system{syncFile: (*os.File).Sync, link: (*os.Root).Link},
	}
	if b.step == nil {
		b.step = func(string, string) {}
	}
	b.turn <- struct{}{}
	return b, nil
}

// makeRoot makes a folder and those above it, so that they survive power loss.
func makeRoot(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	above := filepath.Dir(path)
	if above == path {
		return err
	}
	if err := makeRoot(above); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(above)
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(root, "."), root.Close())
}

// Check says what would keep Make from opening the folder at path, as far as that can be
// known without writing. It is no error when the folder is not there yet.
func Check(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return fault.New(fault.Setup, fmt.Errorf("use the folder %s: %s is a file", path, at))
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
			return classify(fmt.Errorf("look at %s: %w", at, err))
		case filepath.Dir(at) == at:
			return nil
		}
	}
}

// Close implements blob.Bucket.
func (b *Bucket) Close() error { return b.root.Close() }

// check refuses a name that the folder cannot hold.
func (b *Bucket) check(name string) error {
	if err := blob.CheckName(name); err != nil {
		return fault.New(fault.Setup, err)
	}
	if b.staged(name) {
		return fault.New(fault.Setup, fmt.Errorf("%q is %w: %s is for what is being written", name, blob.ErrName, b.staging))
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) || reserved(name) {
		return fault.New(fault.Setup, fmt.Errorf("%q is %w on this system", name, blob.ErrName))
	}
	return nil
}

// staged reports whether a name is, or is in, the folder of what is being written, or the
// lock's. Not every file system tells cases apart.
func (b *Bucket) staged(name string) bool {
	n := len(b.staging)
	return len(name) >= n && strings.EqualFold(name[:n], b.staging) &&
		(len(name) == n || name[n] == '/' || strings.EqualFold(name[n:], lockSuffix))
}

// failed says what failed where.
func (b *Bucket) failed(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return classify(fmt.Errorf("%s %s: %w", what, filepath.Join(b.path, filepath.FromSlash(name)), err))
}

// classify gives errors of the file system their meaning: what only somebody can change is
// Setup, a full disk and the rest may pass.
func classify(err error) error {
	if err != nil && fault.Of(err) == fault.Transient &&
		(errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, blob.ErrName)) {
		return fault.New(fault.Setup, err)
	}
	return err
}

// errFolder says that there is a folder where an object should be.
var errFolder = fmt.Errorf("it is %w: a folder has the name", blob.ErrName)

// missing reports whether an error means that no file has the name.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// look finds the file of an object: ErrNotFound when no file has the name, errFolder when a
// folder has.
func (b *Bucket) look(name string) (fs.FileInfo, error) {
	info, err := b.root.Stat(name)
	switch {
	case err != nil && missing(err):
		return nil, blob.ErrNotFound
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errFolder
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("it is no file but %s", info.Mode().Type())
	}
	return info, nil
}

// open opens the file of an object for reading.
func (b *Bucket) open(name string) (*os.File, error) {
	if _, err := b.look(name); err != nil { // first: opening a pipe waits for its writer
		if errors.Is(err, errFolder) {
			err = blob.ErrNotFound
		}
		return nil, err
	}
	f, err := b.root.Open(name)
	if err != nil && missing(err) {
		err = blob.ErrNotFound
	}
	return f, err
}

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, name string) ([]byte, blob.Version, error) {
	if err := b.ready(ctx, name); err != nil {
		return nil, "", err
	}
	data, err := b.read(name)
	if err != nil {
		return nil, "", b.failed("read", name, err)
	}
	return data, version(data), nil
}

func (b *Bucket) read(name string) ([]byte, error) {
	f, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, blob.MaxWhole+1))
	if err == nil && len(data) > blob.MaxWhole {
		err = blob.ErrTooLarge
	}
	return data, err
}

func version(data []byte) blob.Version {
	sum := sha256.Sum256(data)
	return blob.Version(hex.EncodeToString(sum[:]))
}

// ready is what every call asks first.
func (b *Bucket) ready(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return b.check(name)
}

// Open implements blob.Bucket.
func (b *Bucket) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := b.ready(ctx, name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fault.New(fault.Fatal, fmt.Errorf("read %s from byte %d: an offset is not negative", name, offset))
	}
	f, err := b.open(name)
	if err != nil {
		return nil, b.failed("read", name, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, b.failed("read", name, errors.Join(err, f.Close()))
	}
	if length < 0 {
		return f, nil
	}
	return section{io.LimitReader(f, length), f}, nil
}

// section is a range of a file.
type section struct {
	io.Reader
	io.Closer
}

// Head implements blob.Bucket.
func (b *Bucket) Head(ctx context.Context, name string) (blob.Info, error) {
	if err := b.ready(ctx, name); err != nil {
		return blob.Info{}, err
	}
	info, err := b.look(name)
	if err == nil {
		err = b.settle(name)
	}
	if errors.Is(err, errFolder) || err != nil && missing(err) {
		err = blob.ErrNotFound
	}
	if err != nil {
		return blob.Info{}, b.failed("look at", name, err)
	}
	return blob.Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

// settle makes an object that is there survive power loss, whoever wrote it.
func (b *Bucket) settle(name string) error {
	if err := syncFile(b.root, name); err != nil {
		return err
	}
	if err := b.folder(path.Dir(name)); err != nil {
		return err
	}
	return b.syncFolder(path.Dir(name))
}
