package embedded

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// frameReader reads the frames of a segment in order.
type frameReader struct {
	f    vfs.File
	path string
	at   int64 // where the next frame starts
	end  int64 // where the segment ends
	buf  []byte
	off  int64 // of buf in the file

	frameAt int64 // where the frame starts that resume found
}

const readAhead = 4 << 20

// newFrameReader reads from offset from to end, or to the end of the file when that
// comes first and end is not known (math.MaxInt64).
func newFrameReader(fs vfs.FS, path string, from, end int64) (*frameReader, error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", path, errors.Join(err, f.Close()))
	}
	return &frameReader{f: f, path: path, at: from, end: min(end, max(info.Size(), from)), off: from}, nil
}

func (r *frameReader) close() { _ = r.f.Close() } // only read

// fill returns n bytes from r.at on, or fewer at the end. They stay valid: a value may
// be kept.
func (r *frameReader) fill(n int64) ([]byte, error) {
	have := r.off + int64(len(r.buf)) - r.at
	if have < n && r.at+have < r.end {
		size := min(max(n, readAhead), r.end-r.at)
		buf := make([]byte, size)
		k, err := r.f.ReadAt(buf, r.at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read segment %s: %w", r.path, err)
		}
		r.buf, r.off = buf[:k], r.at
	}
	b := r.buf[r.at-r.off:]
	return b[:min(n, int64(len(b)))], nil
}

// next returns the next frame and where it starts; io.EOF at the end, and errFrame when
// there is something that is not a frame.
func (r *frameReader) next() (*frame, int64, error) {
	at := r.at
	if at >= r.end {
		return nil, at, io.EOF
	}
	b, err := r.fill(frameHeader)
	if err != nil {
		return nil, at, err
	}
	size, _, ok := frameSize(b)
	if !ok {
		return nil, at, errFrame{"no frame starts here"}
	}
	if size > r.end-at {
		return nil, at, errFrame{"the frame goes on beyond the end of the segment"}
	}
	if b, err = r.fill(size); err != nil {
		return nil, at, err
	}
	f, size, err := decodeFrame(b, at)
	if err != nil {
		return nil, at, err
	}
	r.at += size
	return f, at, nil
}

// follows reports whether there is, behind a place where the valid frame of the commit
// want should start, a frame of a later group. A group is written only when the one
// before is on disk, so then want was there, and is damaged; frames of the same group may
// stand behind a gap when the power failed before they were synced.
func (r *frameReader) follows(want uint64) bool {
	for at := r.at + 1; at+frameHeader <= r.end; at++ {
		r.at = at
		b, err := r.fill(frameHeader)
		if err != nil || len(b) < frameHeader {
			return false
		}
		size, commit, ok := frameSize(b)
		if !ok || commit <= want || size > r.end-at {
			continue
		}
		if b, err = r.fill(size); err != nil {
			return false
		}
		if f, _, err := decodeFrame(b, at); err == nil && f.group > want {
			return true
		}
	}
	return false
}
