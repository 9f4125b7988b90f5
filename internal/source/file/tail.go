package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/weirdata/weir/internal/lines"
)

// tail is one file being read.
type tail struct {
	path   string
	id     fileID
	birth  int64
	f      *os.File
	st     *state // of its content; nil until it is known which one that is
	format format
	raw    *growing
	reader *lines.Reader // nil until reading has begun
	unzip  io.Closer     // of the decompressor, if it has one
	base   int64         // offset in the content where reader began
	start  int64         // offset in the content to begin at
	behind []byte        // the content before what is read next, as far as a digest goes
	want   digest        // of the content before start
	hole   int64         // how many NULs were passed over at the beginning; 0 when that is noted
	most   int           // longest line, in bytes

	size    int64     // when last looked at
	time    time.Time // when it was changed last, as of then
	grew    bool      // since it was last examined
	atEnd   bool      // everything there was has been read
	gone    time.Time // when it was last seen to grow after its name was gone; zero: still there
	follow  bool      // the file may grow
	short   bool      // is compressed and incomplete: read on when it has grown
	shortAt time.Time // since when; zero: that is said, or not so
	done    bool      // nothing more will be read
	opened  time.Time
	rest    time.Time // not to be read before, after an error
	errors  int       // in a row
}

var (
	// errAtEnd says that a followed file has nothing more now.
	errAtEnd = errors.New("no more for now")
	// errUndecided says that a file is too short to tell what it is.
	errUndecided = errors.New("too short to tell")
	// errReplaced says that the content is not the one that was being read.
	errReplaced = errors.New("the content was replaced")
)

// broken is the error of a compressed file that cannot be restored on.
type broken struct {
	err  error
	at   int64  // where the line begins that cannot be restored
	rest []byte // what there is of it
}

func (b *broken) Error() string { return b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

// openTail opens the file at path.
func openTail(path string, follow bool, maxLine int) (*tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && irregular(fi) != "" {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New(irregular(fi))} // it was another one just now
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t := &tail{path: path, id: identify(path, fi), birth: born(f), f: f, size: fi.Size(), time: fi.ModTime(), follow: follow, most: maxLine, opened: time.Now()}
	t.raw = &growing{f: f, follow: follow}
	return t, nil
}

// begin makes the reader, at offset t.start of the content.
func (t *tail) begin() error {
	var err error
	if t.format, err = detect(t.f, t.follow); err != nil {
		return err
	}
	t.raw = &growing{f: t.f, follow: t.follow}
	if t.format == plain {
		if t.start == 0 {
			if t.start, err = t.holeBefore(); err != nil {
				return err
			}
			t.hole = t.start
		}
		t.raw.offset, t.raw.behind = t.start, t.behind
		t.base, t.reader = t.start, lines.NewReader(t.raw, t.most)
		return nil
	}
	t.raw.follow, t.raw.packed = false, true
	content, unzip, err := unpack(t.raw, t.format)
	if err != nil {
		return err
	}
	t.unzip = unzip
	if t.behind, err = discard(content, t.start); err != nil {
		return err
	}
	if !t.want.ends(t.behind) {
		return errReplaced
	}
	if t.start == 0 {
		if content, t.hole, err = withoutHole(content); err != nil {
			return err
		}
		t.start = t.hole
	}
	t.base, t.reader = t.start, lines.NewReader(content, t.most)
	return nil
}

// holeBefore is where the content of a plain file begins behind what is left of a hole, which a
// writer makes that does not append when its file is truncated.
func (t *tail) holeBefore() (int64, error) {
	at, some, err := firstByte(t.f, 0)
	if err == nil && !some && t.follow && t.size > 0 {
		return 0, errUndecided // it may be filled yet
	}
	if !some {
		at = 0
	}
	return at, err
}

// next appends to dst the lines that are there, at most limit and in bytes; none is nothing
// for now, or never again when t.done is set. errReplaced and lines.ErrTooLong are for the
// source to handle, and a *broken one.
func (t *tail) next(dst [][]byte, limit, bytes int) ([][]byte, error) {
	if t.short || t.done {
		return dst, nil
	}
	if t.atEnd {
		changed, err := t.changed()
		if err != nil || !changed {
			return dst, err
		}
		t.atEnd = false
	}
	if t.reader == nil {
		if err := t.begin(); err != nil {
			if errors.Is(err, errUndecided) || errors.Is(err, errReplaced) {
				return dst, ignore(err, errUndecided)
			}
			return dst, t.fails(err)
		}
	}
	if t.reader.Skipping() {
		return dst, lines.ErrTooLong
	}
	dst, err := t.reader.Next(dst, limit, bytes)
	switch {
	case err == nil, errors.Is(err, lines.ErrTooLong):
		return dst, err
	}
	return dst, t.stopped(err)
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// stopped is what it means that the stream has nothing more.
func (t *tail) stopped(err error) error {
	switch {
	case errors.Is(err, errAtEnd):
		t.reader.Resume()
		t.atEnd = true
		return nil
	case errors.Is(err, io.EOF) && t.raw.replaced:
		return errReplaced
	case errors.Is(err, io.EOF):
		t.done = true
		return nil
	}
	return t.fails(err)
}

// fails is what it means that reading has failed; nil for a file that is still being written.
func (t *tail) fails(err error) error {
	b := &broken{at: t.offset()}
	if t.reader != nil {
		b.rest = t.reader.Rest()
	}
	t.again()
	cut := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
	if t.follow && t.format != plain && t.gone.IsZero() && cut {
		t.short, t.shortAt = true, time.Now()
		return nil
	}
	var path *os.PathError
	if t.format == plain || errors.As(err, &path) {
		return fmt.Errorf("read %s: %w", t.path, err)
	}
	t.done = true
	b.err = fmt.Errorf("read %s: what it was compressed from cannot be restored after byte %d: %w; repair the file or move it away", t.path, b.at, err)
	return b
}

// offset is where the next line begins in the content.
func (t *tail) offset() int64 {
	if t.reader == nil {
		return t.start
	}
	return t.base + t.reader.Offset()
}

// again has reading begin anew where it was.
func (t *tail) again() {
	t.stopUnzip()
	if t.reader != nil {
		t.want = digestOf(t.behind)
	}
	t.start, t.reader = t.offset(), nil
}

// restart reads the file from its beginning, as the content of st.
func (t *tail) restart(st *state) {
	t.stopUnzip()
	t.st, t.reader, t.start, t.behind, t.want = st, nil, 0, nil, digest{}
	t.raw = &growing{f: t.f, follow: t.follow}
	t.atEnd, t.short, t.done = false, false, false
}

// changed finds out whether there can be more than there was at the last look, or something
// else. What was changed just now may be changed again without showing it.
func (t *tail) changed() (bool, error) {
	fi, err := t.f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", t.path, err)
	}
	grown := fi.Size() != t.size || !fi.ModTime().Equal(t.time)
	t.size, t.time, t.grew, t.atEnd = fi.Size(), fi.ModTime(), t.grew || grown, t.atEnd && !grown
	if d := time.Since(t.time); !grown && d > 2*time.Second {
		return false, nil
	}
	if grown && t.st != nil && !t.st.Prefix.begins(t.f) {
		t.raw.replaced, t.raw.ended = true, true // first what is left of the last line
	}
	return true, nil
}

// look notes whether the file has grown. A compressed one that was read as far as it went is
// read on, or anew.
func (t *tail) look() error {
	before := t.grew
	t.grew = false
	_, err := t.changed()
	if t.grew && t.format != plain && (t.short || t.done) {
		t.again()
		t.short, t.done = false, false
	}
	t.grew = t.grew || before
	return err
}

// end says that what the file has is all: an incomplete line is one.
func (t *tail) end() {
	t.follow, t.raw.follow, t.raw.ended, t.short, t.atEnd = false, false, t.raw.ended || t.format == plain, false, false
	if t.reader != nil {
		t.reader.Resume()
	}
}

func (t *tail) stopUnzip() {
	if t.unzip != nil {
		_ = t.unzip.Close()
		t.unzip = nil
	}
}

func (t *tail) close() {
	t.stopUnzip()
	_ = t.f.Close()
}
