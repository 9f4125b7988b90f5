package object

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// compressor compresses into out. Equal texts become equal bytes: there is no time in them.
func compressor(how string, out *bytes.Buffer, name string) (io.WriteCloser, error) {
	switch how {
	case gzipped:
		return gzip.NewWriter(out), nil
	case zstandard:
		return zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	case zipped:
		z := zip.NewWriter(out)
		w, err := z.CreateHeader(&zip.FileHeader{Name: strings.TrimSuffix(path.Base(name), ".zip"), Method: zip.Deflate})
		return archive{w, z}, err
	case snappy:
		out.Write(javaHeader)
		return &frames{out: out, size: javaBlock}, nil
	case hadoopSnappy:
		return &frames{out: out, size: hadoopBlock, whole: true}, nil
	}
	return nopCloser{out}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// archive is the one file of a zip archive.
type archive struct {
	io.Writer
	z *zip.Writer
}

func (a archive) Close() error { return a.z.Close() }

// frames are blocks of Snappy, each behind its length in four bytes, the highest first. Those of
// Hadoop have the length of what was compressed before that.
type frames struct {
	out   *bytes.Buffer
	size  int
	whole bool
	block []byte
}

// javaHeader is how the stream of snappy-java begins: its name, its version, and the oldest one that
// can read it.
var javaHeader = []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")

const (
	javaBlock   = 32 << 10
	hadoopBlock = 200 << 10 // what compresses to less than the 256 KiB of Hadoop's buffer in any case
)

func (f *frames) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		room := min(f.size-len(f.block), len(b))
		f.block, b = append(f.block, b[:room]...), b[room:]
		if len(f.block) == f.size {
			f.flush()
		}
	}
	return n, nil
}

func (f *frames) flush() {
	if len(f.block) == 0 {
		return
	}
	packed := s2.EncodeSnappy(nil, f.block)
	if f.whole {
		f.length(len(f.block))
	}
	f.length(len(packed))
	f.out.Write(packed)
	f.block = f.block[:0]
}

func (f *frames) length(n int) {
	f.out.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
}

func (f *frames) Close() error {
	f.flush()
	return nil
}
