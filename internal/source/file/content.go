package file

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

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

// detect finds the format of a file by its first bytes.
func detect(f *os.File, follow bool) (format, error) {
	var buf [4]byte
	n, err := readFullAt(f, buf[:])
	if err != nil {
		return plain, err
	}
	for _, magic := range magics {
		if n >= len(magic.bytes) && bytes.HasPrefix(buf[:n], magic.bytes) {
			return magic.format, nil
		}
		if follow && n < len(magic.bytes) && bytes.HasPrefix(magic.bytes, buf[:n]) {
			return plain, errUndecided
		}
	}
	return plain, nil
}

// unpack is the content of what is compressed, and what is to be closed after it.
func unpack(raw io.Reader, f format) (io.Reader, io.Closer, error) {
	switch f {
	case gzipped:
		z, err := gzip.NewReader(raw)
		return z, nil, err
	case zstandard:
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		closer := z.IOReadCloser()
		return z, closer, nil
	}
	return raw, nil, nil
}

// withoutHole is a content without the NULs that it begins with, and how many they are.
func withoutHole(content io.Reader) (io.Reader, int64, error) {
	buf := make([]byte, 4096)
	for hole := int64(0); ; {
		n, err := content.Read(buf)
		rest := bytes.TrimLeft(buf[:n], "\x00")
		hole += int64(n - len(rest))
		switch {
		case len(rest) > 0:
			return io.MultiReader(bytes.NewReader(rest), content), hole, nil
		case err == io.EOF:
			return content, hole, nil
		case err != nil:
			return nil, 0, err
		}
	}
}

// discard reads n bytes, and returns the last of them, as far as a digest goes. A content that
// ends before is another one.
func discard(content io.Reader, n int64) (behind []byte, err error) {
	if n > digestBytes {
		if _, err = io.CopyN(io.Discard, content, n-digestBytes); err == nil {
			n = digestBytes
		}
	}
	if err == nil && n > 0 {
		behind = make([]byte, n)
		_, err = io.ReadFull(content, behind)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && len(behind) > 0 && ended(content) {
		return nil, errReplaced
	}
	return behind, err
}

// ended reports whether a content has come to its end, and not only what it is compressed to.
func ended(content io.Reader) bool {
	n, err := content.Read(make([]byte, 1))
	return n == 0 && err == io.EOF
}

// growing reads a file that others append to. What it has read last must still be there: a
// content that is not the one that was begun ends.
type growing struct {
	f        *os.File
	offset   int64
	behind   []byte // the last bytes before offset, as far as a digest goes
	scratch  []byte
	follow   bool
	packed   bool // a compressed file: another content shows by what it restores to
	ended    bool // whatever is appended now is not read
	replaced bool // the content is another one
}

func (g *growing) Read(p []byte) (int, error) {
	if g.ended {
		return 0, io.EOF
	}
	if g.packed {
		n, err := g.f.ReadAt(p, g.offset)
		g.offset += int64(n)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	before := len(g.behind)
	g.scratch = append(g.scratch[:0], g.behind...)
	n, err := readBehind(g.f, g.scratch, p, g.offset)
	if err != nil {
		return 0, err
	}
	if n < before || !bytes.Equal(g.scratch, g.behind) {
		g.replaced, g.ended = true, true
		return 0, io.EOF
	}
	n -= before
	if n > 0 && g.follow && p[n-1] == 0 {
		if n, err = g.written(p[:n]); err != nil {
			return 0, err
		}
	}
	g.offset += int64(n)
	g.behind = last(g.behind, p[:n])
	switch {
	case n > 0:
		return n, nil
	case g.follow:
		return 0, errAtEnd
	}
	return 0, io.EOF
}

// written is how much of what was read somebody has written: NULs at the end of a file are
// space that was made beforehand.
func (g *growing) written(p []byte) (int, error) {
	_, more, err := firstByte(g.f, g.offset+int64(len(p)))
	if more || err != nil {
		return len(p), err
	}
	return len(bytes.TrimRight(p, "\x00")), nil
}

// last is the end of a and b, as far as a digest goes, in memory of its own.
func last(a, b []byte) []byte {
	if len(b) >= digestBytes {
		return bytes.Clone(b[len(b)-digestBytes:])
	}
	a = a[max(len(a)+len(b)-digestBytes, 0):]
	return append(append(make([]byte, 0, len(a)+len(b)), a...), b...)
}

// firstByte is where the first byte is that is no NUL, from an offset on; false when there is
// none.
func firstByte(f *os.File, offset int64) (int64, bool, error) {
	buf := make([]byte, 512)
	for {
		n, err := f.ReadAt(buf, offset)
		for i, c := range buf[:n] {
			if c != 0 {
				return offset + int64(i), true, nil
			}
		}
		offset += int64(n)
		if err == io.EOF {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		if len(buf) < 64<<10 {
			buf = make([]byte, 64<<10)
		}
		data, some := dataFrom(f, offset)
		if !some {
			return 0, false, nil
		}
		offset = data
	}
}

func readFullAt(f *os.File, buf []byte) (int, error) {
	n, err := f.ReadAt(buf, 0)
	if err == io.EOF {
		err = nil
	}
	return n, err
}
