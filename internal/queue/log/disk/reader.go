package disk

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue/log"
)

// frameReader reads the frames of a segment in order.
type frameReader struct {
	f    vfs.File
	path string
	n    uint64 // number of the segment
	at   int64  // where the next frame starts
	end  int64  // where the segment ends
	buf  []byte
	off  int64 // of buf in the file
}

const readAhead = 4 << 20

// read reads a segment from offset from to end, or to the end of the file when that
// comes first and end is not known (math.MaxInt64).
func (l *Log) read(n uint64, from, end int64) (*frameReader, error) {
	path := l.segmentPath(n)
	from = max(from, segmentHeader)
	f, err := l.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", path, errors.Join(err, f.Close()))
	}
	return &frameReader{f: f, path: path, n: n, at: from, end: min(end, max(info.Size(), from)), off: from}, nil
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

// whole returns the frame that starts at offset at, when there is a whole one.
func (r *frameReader) whole(at int64) (*frame, error) {
	r.at = at
	b, err := r.fill(frameHeader)
	if err != nil {
		return nil, err
	}
	size, _, ok := frameSize(b)
	if !ok {
		return nil, log.Unreadable{What: "no frame starts here"}
	}
	if size > r.end-at {
		return nil, log.Unreadable{What: "the frame goes on beyond the end of the segment"}
	}
	if b, err = r.fill(size); err != nil {
		return nil, err
	}
	return decode(b, log.Position{Segment: r.n, Offset: at})
}

// next returns the next frame; io.EOF at the end, and log.Unreadable when there is
// something that is not a frame. visit sees the frame first, and may find it unreadable.
// The reader stays where it is but for a frame that is returned.
func (r *frameReader) next(visit log.Visit) (*frame, error) {
	at := r.at
	if at >= r.end {
		return nil, io.EOF
	}
	f, err := r.whole(at)
	if err == nil {
		err = visit(&f.Entry)
	}
	if err != nil {
		r.at = at
		return nil, err
	}
	r.at = f.End.Offset
	return f, nil
}

// search goes on, byte by byte behind the place where the reader stands, to the first frame
// of a number greater than after for which fn answers true, and leaves the reader in front
// of it; at the end when there is none, and the frame is nil.
func (r *frameReader) search(after uint64, fn func(*frame) (bool, error)) (*frame, error) {
	for at := r.at + 1; at+frameHeader <= r.end; at++ {
		r.at = at
		b, err := r.fill(frameHeader)
		if err != nil {
			return nil, err
		}
		if _, number, ok := frameSize(b); !ok || number <= after {
			continue
		}
		f, err := r.whole(at)
		if _, no := errors.AsType[log.Unreadable](err); no {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := fn(f)
		if err != nil {
			return nil, err
		}
		if found {
			return f, nil
		}
	}
	r.at = r.end
	return nil, nil
}

// follows reports whether there is, behind a place where the valid frame of the entry
// want should start, a frame of a later group. A group is written only when the one
// before is on disk, so then want was there, and is damaged; frames of the same group may
// stand behind a gap when the power failed before they were synced.
func (r *frameReader) follows(want uint64) (bool, error) {
	f, err := r.search(want, func(f *frame) (bool, error) { return f.group > want, nil })
	return f != nil, err
}
