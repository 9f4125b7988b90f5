// Package blob is the contract of a place for objects: named, immutable bytes, as a folder
// of the local file system or a bucket of an object store holds them.
//
// # Objects
//
// An object is there whole or not at all: what is being written is seen by nobody, and a
// writer that dies leaves nothing that [Bucket.List] shows. It never changes; it is
// replaced as a whole or deleted. It has no properties but its size and a time, so what must
// be known of it is in its name or in its content.
//
// # Promises
//
//   - Durable: what a call returned nil for survives kill -9 and power loss. So does the
//     object that ErrExists or ErrChanged speaks of, the one that Head found, and those of a
//     List that asks for it; what Get, Open and other lists show may be an instant away.
//   - Exclusive: of all who create one name, in any number of processes, exactly one
//     succeeds; of all who replace one version of it, at most one. There is no rename.
//   - At once: what a call returned nil for is seen by every call that begins after it,
//     List included.
//
// # A lost answer
//
// An error that is none of the sentinels leaves open what happened: the object may have been
// written, and the answer lost. Implementations may repeat a request whose answer was lost,
// so ErrExists and ErrChanged may speak of the caller's own object. Whoever needs to know
// looks: a content that nobody else can write (it holds an id of its writer, or its name is
// a hash of it) is the caller's own when it is there. [Ensure] does that for small objects.
//
// # Names
//
// A name is one or more parts with slashes between, [CheckName] says of what. It is a place
// in a tree, so that a folder of files can hold it: no name is another one with a slash and
// more behind it, and no two differ only in case or in Unicode normalisation. Who breaks
// that may be refused with ErrName or overwrite nothing, but is not detected everywhere. An
// implementation may refuse more with ErrName, such as what Windows reserves.
//
// # Versions
//
// A version stands for a content that was seen. Versions of equal contents may be equal, so
// who must tell that A was B for a while puts a number into the content.
//
// # Limits
//
// Get and Replace are for objects of up to [MaxWhole]; larger ones are written by a Writer
// and read by Open. A List answers with at most [MaxList] entries.
//
// # Fitting other stores
//
// Create is a PUT with If-None-Match: * (S3, Azure) or ifGenerationMatch=0 (GCS), Replace one
// with If-Match or ifGenerationMatch; the version is the ETag or the generation. A Writer is
// a multipart upload, a resumable upload or a list of blocks whose completion has the
// condition; up to the size of a part it is one conditional PUT. Sweep aborts uploads.
package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What became of a call; errors wrap these.
var (
	// ErrExists says that the name is taken.
	ErrExists = fmt.Errorf("the object is there already: %w", fs.ErrExist)
	// ErrNotFound says that there is no object of the name.
	ErrNotFound = fmt.Errorf("there is no such object: %w", fs.ErrNotExist)
	// ErrChanged says that the object is not, or no longer, the version that was seen.
	ErrChanged = errors.New("the object has changed since it was read")
	// ErrName says that no object can have the name.
	ErrName = errors.New("not a name of an object")
	// ErrTooLarge says that an object is larger than MaxWhole.
	ErrTooLarge = errors.New("the object is too large to be held as a whole")
)

// Limits of every implementation.
const (
	MaxWhole = 64 << 20 // bytes of an object that is read or replaced as a whole
	MaxList  = 1000     // entries of an answer to List
	MaxName  = 900      // bytes of a name; stores take 1024, the place of the bucket included
	MaxPart  = 255      // bytes between two slashes
)

// Version stands for a content of an object, as an ETag does.
type Version string

// Info is what is known of an object without reading it.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time // when it was written, by the clock of the store
}

// Folder reports whether the entry of a list stands for all objects whose names begin with
// its name, which ends in a slash.
func (i Info) Folder() bool { return strings.HasSuffix(i.Name, "/") }

// Query asks for a list.
type Query struct {
	// Prefix is what names begin with; it need not end with a part.
	Prefix string
	// After is the cursor: the name of the last entry of the list before, or any name or
	// prefix. Only entries behind it are listed.
	After string
	// Limit is the most entries; MaxList when it is 0 or more than that.
	Limit int
	// Folders gathers the objects that have a slash behind the prefix to one entry for each
	// folder.
	Folders bool
	// Durable asks that the listed objects survive power loss, as those that Head found.
	Durable bool
}

// Max is how many entries the answer has at most.
func (q Query) Max() int {
	if q.Limit <= 0 || q.Limit > MaxList {
		return MaxList
	}
	return q.Limit
}

// Bucket is a place for objects. Its methods may be called by several goroutines. Contexts
// bound waiting; an object that a cancelled call wrote may be there.
type Bucket interface {
	// Create writes an object that is not there yet; ErrExists when it is.
	Create(ctx context.Context, name string, data []byte) (Version, error)

	// Replace writes an object in place of the version of it that was seen; ErrChanged when
	// it is another one by now, ErrNotFound when it is gone.
	Replace(ctx context.Context, name string, seen Version, data []byte) (Version, error)

	// Writer begins an object of any size, in parts. The context bounds all of its writing.
	Writer(ctx context.Context, name string) (Writer, error)

	// Get reads an object as a whole.
	Get(ctx context.Context, name string) ([]byte, Version, error)

	// Open reads length bytes of an object from offset on, or all behind offset when length
	// is negative. What lies behind its end is not there: the reader just ends.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)

	// Head says whether an object is there, durably.
	Head(ctx context.Context, name string) (Info, error)

	// List is the first entries behind the cursor, in the order of the bytes of their names.
	// Fewer than q.Max() are the last.
	List(ctx context.Context, q Query) ([]Info, error)

	// Delete removes objects; those that are not there are no error. When it fails, it may
	// have removed some.
	Delete(ctx context.Context, names ...string) error

	// Sweep removes what writers have left that can no longer end: as far as a store can tell
	// them from living ones, all; else those that began before the given time, which the
	// caller chooses so that they must be dead.
	Sweep(ctx context.Context, before time.Time) error

	// Close lets go of what the bucket holds in this process. Twice is once.
	Close() error
}

// Writer writes one object. It is used by one goroutine, and ends with Commit or Abort.
type Writer interface {
	io.Writer

	// Commit makes the object be there, with all that was written; ErrExists when there is
	// one of that name. The writer has ended, whatever the outcome.
	Commit(ctx context.Context) error

	// Abort ends the writer without a trace. After Commit or Abort it does nothing.
	Abort() error
}

// CheckName says why an object cannot have the name: by ErrName, with what is wrong.
func CheckName(name string) error {
	wrong := ""
	switch {
	case name == "":
		wrong = "it is empty"
	case len(name) > MaxName:
		wrong = fmt.Sprintf("it has %d bytes, more than %d", len(name), MaxName)
	default:
		wrong = wrongText(name)
	}
	if wrong == "" {
		for part := range strings.SplitSeq(name, "/") {
			if wrong = wrongPart(part); wrong != "" {
				break
			}
		}
	}
	return refuse(name, wrong)
}

// CheckQuery says why a list cannot be asked for.
func CheckQuery(q Query) error {
	for _, text := range []string{q.Prefix, q.After} {
		if len(text) > MaxName {
			return refuse(text[:40]+"...", fmt.Sprintf("it has more than %d bytes", MaxName))
		}
	}
	wrong := wrongText(q.Prefix)
	if above, _, ok := cutLast(q.Prefix); ok && wrong == "" {
		return CheckName(above)
	}
	return refuse(q.Prefix, wrong)
}

// cutLast cuts a prefix into the folder it names and what names in it begin with.
func cutLast(prefix string) (folder, begin string, ok bool) {
	i := strings.LastIndexByte(prefix, '/')
	if i < 0 {
		return "", prefix, false
	}
	return prefix[:i], prefix[i+1:], true
}

func wrongText(s string) string {
	if !utf8.ValidString(s) {
		return "it is not UTF-8"
	}
	for _, r := range s {
		if r == '\\' || unicode.IsControl(r) {
			return fmt.Sprintf("it has the character %q", r)
		}
	}
	return ""
}

// wrongPart finds what a folder of files, or a web address, would take for something else.
func wrongPart(part string) string {
	switch {
	case part == "":
		return "it has a slash at an end, or two in a row"
	case len(part) > MaxPart:
		return fmt.Sprintf("a part of it has %d bytes, more than %d", len(part), MaxPart)
	case strings.HasSuffix(part, "."): // also . and ..
		return fmt.Sprintf("its part %q ends with a dot", part)
	case strings.HasPrefix(part, " ") || strings.HasSuffix(part, " "):
		return fmt.Sprintf("its part %q has a space at an end", part)
	}
	return ""
}

func refuse(name, wrong string) error {
	if wrong == "" {
		return nil
	}
	return fmt.Errorf("%q is %w: %s", name, ErrName, wrong)
}

// Ensure creates an object, and counts one with the same content as its own: so it may be
// called again when an answer was lost. ErrExists means that the object is another one.
func Ensure(ctx context.Context, b Bucket, name string, data []byte) error {
	_, err := b.Create(ctx, name, data)
	if !errors.Is(err, ErrExists) {
		return err
	}
	have, _, getErr := b.Get(ctx, name)
	switch {
	case errors.Is(getErr, ErrTooLarge):
		return err
	case getErr != nil:
		return fmt.Errorf("%w; look whether it is the same: %w", err, getErr)
	case !bytes.Equal(have, data):
		return err
	}
	return nil
}

// Random is an object that is read at any place.
type Random interface {
	io.ReaderAt
	io.Closer
}

// OpenRandom opens an object for reading at any place. The context bounds all of its reading.
func OpenRandom(ctx context.Context, b Bucket, name string) (Random, error) {
	r, err := b.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	if random, ok := r.(Random); ok {
		return random, nil
	}
	return ranges{ctx, b, name}, r.Close()
}

// ranges reads an object by one request for each place.
type ranges struct {
	ctx  context.Context
	b    Bucket
	name string
}

func (r ranges) ReadAt(p []byte, at int64) (n int, err error) {
	part, err := r.b.Open(r.ctx, r.name, at, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err = io.ReadFull(part, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	if closeErr := part.Close(); err == nil {
		err = closeErr
	}
	return n, err // io.EOF as it is, as io.ReaderAt has it
}

func (ranges) Close() error { return nil }

// Scheme is the scheme of an address, such as "s3" of "s3://bucket/x"; empty for a path of
// the file system.
func Scheme(path string) string {
	scheme, _, ok := strings.Cut(path, "://")
	if !ok || !schemes.MatchString(scheme) {
		return ""
	}
	return strings.ToLower(scheme)
}

var schemes = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// All is every entry of the query's list, from its cursor on; its Limit is how many are asked
// for at a time. After an error there is no other entry.
func All(ctx context.Context, b Bucket, q Query) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for {
			page, err := b.List(ctx, q)
			if err != nil {
				yield(Info{}, err)
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			if len(page) < q.Max() {
				return
			}
			q.After = page[len(page)-1].Name
		}
	}
}
