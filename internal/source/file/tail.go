package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/lines"
)

// errAtEnd says that a followed file has nothing more now.
var errAtEnd = errors.New("no more for now")

// errUndecided says that a file is too short to tell whether it is compressed.
var errUndecided = errors.New("too short to tell")

// tail is one file being read.
type tail struct {
	path   string
	id     fileID
	raw    *growing
	format format
	reader *lines.Reader // nil until the format is known
	unzip  io.Closer     // of the decompressor, if it has one
	base   int64         // offset in the content where reader began
	start  int64         // offset in the content to begin at
	prefix prefix

	generation int64  // when its content was replaced, in unix ns; 0: never
	partition  string // its name; made when first asked for

	size   int64     // when last looked at
	time   time.Time // when it was changed last, as of then
	grew   bool      // since it was last examined
	atEnd  bool      // everything there was has been read
	gone   time.Time // when it was last seen to grow after its name was gone; zero: still there
	again  bool      // was truncated: read from the beginning after the rest
	follow bool      // the file may grow
	short  bool      // is compressed and incomplete: read on when it has grown
	done   bool      // nothing more will be read
}

// format is how a file is compressed.
type format int

const (
	plain format = iota
	gzipped
	zstandard
)

// magics are the first bytes of what is compressed.
var magics = [...]struct {
	format format
	bytes  []byte
}{{gzipped, []byte{0x1f, 0x8b, 0x08}}, {zstandard, []byte{0x28, 0xb5, 0x2f, 0xfd}}}

// growing reads a file that others append to.
type growing struct {
	f      *os.File
	offset int64
	follow bool
	ended  bool // whatever is appended now is not read
}

func (g *growing) Read(p []byte) (int, error) {
	if g.ended {
		return 0, io.EOF
	}
	n, err := g.f.ReadAt(p, g.offset)
	g.offset += int64(n)
	switch {
	case err == io.EOF && n > 0:
		err = nil
	case err == io.EOF && g.follow:
		err = errAtEnd
	}
	return n, err
}

func readFullAt(f *os.File, buf []byte) (int, error) {
	n, err := f.ReadAt(buf, 0)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// openTail opens the file at path, to be read from offset start of its content.
func openTail(path string, follow bool) (*tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &tail{path: path, id: identify(path, fi), raw: &growing{f: f, follow: follow}, size: fi.Size(), follow: follow}, nil
}

// detect finds the format of the file by its first bytes.
func (t *tail) detect() (format, error) {
	var buf [4]byte
	n, err := readFullAt(t.raw.f, buf[:])
	if err != nil {
		return plain, err
	}
	for _, magic := range magics {
		if n >= len(magic.bytes) && bytes.HasPrefix(buf[:n], magic.bytes) {
			return magic.format, nil
		}
		if t.follow && n < len(magic.bytes) && bytes.HasPrefix(magic.bytes, buf[:n]) {
			return plain, errUndecided
		}
	}
	return plain, nil
}

// begin makes the reader, at offset t.start of the content.
func (t *tail) begin(maxLine int) error {
	f, err := t.detect()
	if err != nil {
		return err
	}
	t.format, t.base, t.raw.offset, t.raw.ended = f, t.start, 0, false
	var content io.Reader = t.raw
	switch f {
	case plain:
		t.raw.offset = t.start
		t.reader = lines.NewReader(content, maxLine)
		return nil
	case gzipped:
		t.raw.follow = false
		z, err := gzip.NewReader(t.raw)
		if err != nil {
			return err
		}
		content = z
	case zstandard:
		t.raw.follow = false
		z, err := zstd.NewReader(t.raw, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		t.unzip, content = z.IOReadCloser(), z
	}
	if _, err := io.CopyN(io.Discard, content, t.start); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	t.reader = lines.NewReader(content, maxLine)
	return nil
}

// next appends to dst the lines that are there, at most limit and in bytes; none is nothing
// for now, or never again when t.done is set.
func (t *tail) next(dst [][]byte, limit, bytes, maxLine int) ([][]byte, error) {
	if t.short {
		return dst, nil
	}
	if t.atEnd { // what is there now may be another content
		t.atEnd = false
		if err := t.look(); err != nil {
			return dst, err
		}
	}
	if t.reader == nil {
		err := t.begin(maxLine)
		if errors.Is(err, errUndecided) {
			return dst, nil
		}
		if err != nil {
			return dst, t.broken(err)
		}
	}
	dst, err := t.reader.Next(dst, limit, bytes)
	switch {
	case err == nil:
		return dst, nil
	case errors.Is(err, errAtEnd):
		t.reader.Resume()
		t.atEnd = true
		return dst, nil
	case errors.Is(err, io.EOF) && t.again:
		t.restart()
		return dst, nil
	case errors.Is(err, io.EOF):
		t.done = true
		return dst, nil
	case errors.Is(err, lines.ErrTooLong):
		return dst, fault.New(fault.Setup, fmt.Errorf("read %s: the line at byte %d has more than max_line_bytes (%d); raise max_line_bytes of the file source", t.path, t.offset(), maxLine))
	}
	return dst, t.broken(err)
}

// broken is the error of a file that cannot be read on; nil for one that is still being
// written.
func (t *tail) broken(err error) error {
	t.stopUnzip()
	t.start, t.reader = t.offset(), nil
	if t.follow && t.format != plain && t.gone.IsZero() && errors.Is(err, io.ErrUnexpectedEOF) {
		t.short = true
		return nil
	}
	var path *os.PathError
	if t.format == plain || errors.As(err, &path) {
		return fmt.Errorf("read %s: %w", t.path, err)
	}
	return fault.New(fault.Setup, fmt.Errorf("read %s: what it was compressed from cannot be restored after byte %d: %w; repair the file or move it away", t.path, t.start, err))
}

// offset is where the next line begins in the content.
func (t *tail) offset() int64 {
	if t.reader == nil {
		return t.start
	}
	return t.base + t.reader.Offset()
}

// restart reads the file from its beginning.
func (t *tail) restart() {
	t.stopUnzip()
	if t.offset() > 0 {
		t.renew()
	}
	t.reader, t.start, t.again, t.prefix = nil, 0, false, prefix{}
	t.raw.offset, t.raw.ended = 0, false
}

// renew notes that the file begins anew with other content: positions in it are of another
// partition than those before.
func (t *tail) renew() {
	t.generation = max(time.Now().UnixNano(), t.generation+1)
	t.partition = ""
}

// name is the partition of what t reads now: the file and, when its content was replaced, when.
func (t *tail) name() string {
	if t.partition == "" {
		t.partition = fmt.Sprintf("%d-%d", t.id.Device, t.id.Inode)
		if t.generation != 0 {
			t.partition += fmt.Sprintf("-%d", t.generation)
		}
	}
	return t.partition
}

// place says of each message of b, which are the lines that next returned, where it was read.
func (t *tail) place(b event.Batch, stream string) {
	begins := t.reader.Begins()
	event.Origins(b, stream, t.name(), func(i int) uint64 { return uint64(t.base + begins[i]) })
}

// look finds out whether the file was truncated or rewritten, and whether it has grown.
func (t *tail) look() error {
	fi, err := t.raw.f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", t.path, err)
	}
	size := fi.Size()
	grown := size != t.size || !fi.ModTime().Equal(t.time)
	t.time = fi.ModTime()
	t.size, t.short, t.grew = size, t.short && !grown, t.grew || grown
	if t.format != plain || t.again || !grown {
		return nil
	}
	if size < t.raw.offset || !t.prefix.still(t.raw.f) {
		t.again, t.raw.ended = true, true // first what is left of the last line
		if t.reader != nil {
			t.reader.Resume()
		} else {
			t.restart()
		}
	}
	return nil
}

// where is t's position as it is kept, and updates the prefix while the file is short.
func (t *tail) where() position {
	if t.prefix.Bytes < prefixBytes && !t.again {
		if p, err := prefixOf(t.raw.f, prefixBytes); err == nil {
			t.prefix = p
		}
	}
	return position{Path: t.path, fileID: t.id, Offset: t.offset(), Prefix: t.prefix, Generation: t.generation}
}

func (t *tail) stopUnzip() {
	if t.unzip != nil {
		_ = t.unzip.Close()
		t.unzip = nil
	}
}

func (t *tail) close() {
	t.stopUnzip()
	_ = t.raw.f.Close()
}
