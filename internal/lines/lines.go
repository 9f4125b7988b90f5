// Package lines cuts a byte stream into lines, many at a time and without copying them.
//
// A line ends at "\n" or at the end of the stream; one "\r" before the "\n" is dropped.
// The lines of one call share a buffer that is never written again, so they may be kept
// and handed to other goroutines.
package lines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// chunk is how much is asked of the stream at once.
const chunk = 256 << 10

// ErrTooLong says that a line is longer than the reader's limit.
var ErrTooLong = errors.New("line too long")

// Reader reads lines from a stream.
type Reader struct {
	r     io.Reader
	max   int // longest line, in bytes
	buf   []byte
	start int // of what is not returned yet
	end   int // of what was read
	seen  int // bytes from start known to hold no line end
	line  int64
	read  int64   // bytes returned as lines, terminators included
	begin []int64 // where the lines of the last Next begin
	raw   []byte  // what the lines of the last Next took up
	err   error   // what the stream ended with

	skipping bool   // the line that begins at read is being passed over
	head     []byte // its first bytes
	skipped  int64  // its bytes that are not in buf any more
}

// NewReader reads lines of at most maxLine bytes from r.
func NewReader(r io.Reader, maxLine int) *Reader { return &Reader{r: r, max: maxLine} }

// Offset is the number of bytes of the stream that the lines returned took up, line ends
// included: where the next line begins.
func (r *Reader) Offset() int64 { return r.read }

// Begins are the offsets at which the lines begin that the last Next returned. They are valid
// until the next one.
func (r *Reader) Begins() []int64 { return r.begin }

// Raw is what the lines took up that the last Next returned, line ends included. It is never
// written again.
func (r *Reader) Raw() []byte { return r.raw }

// Line is the number of lines returned.
func (r *Reader) Line() int64 { return r.line }

// Next appends to dst the lines that can be had with at most one blocking read beyond
// what is buffered: at least one, at most limit (one at least), and no more than bytes in
// all but for the first; 0 is no bound. At the end of the stream
// it returns io.EOF with no lines. A line that is too long is an error naming it, after
// the lines before it were returned; every later call says the same, until it is passed over
// with Skip.
func (r *Reader) Next(dst [][]byte, limit, bytes int) ([][]byte, error) {
	limit = max(limit, 1)
	if bytes <= 0 {
		bytes = math.MaxInt
	}
	r.begin = r.begin[:0]
	for before := len(dst); ; {
		var err error
		start := r.start
		dst, err = r.cut(dst, before+limit, bytes)
		r.raw = r.buf[start:r.start:r.start]
		switch {
		case len(dst) > before:
			return dst, nil
		case err != nil:
			return dst, err
		case r.err != nil:
			return r.last(dst)
		}
		r.fill()
	}
}

// cut takes complete lines out of the buffer until dst has limit, or a line does not fit
// into the room that is left.
func (r *Reader) cut(dst [][]byte, limit, room int) ([][]byte, error) {
	for len(dst) < limit {
		rest := r.buf[r.start:r.end]
		i := bytes.IndexByte(rest[r.seen:], '\n')
		if i < 0 {
			r.seen = len(rest)
			// The last byte may be the carriage return of a line end that is to come.
			return dst, r.tooLong(len(strip(rest)))
		}
		i += r.seen
		line := strip(rest[:i:i])
		if err := r.tooLong(len(line)); err != nil {
			return dst, err
		}
		if len(line) > room && len(r.begin) > 0 {
			return dst, nil
		}
		room -= len(line)
		r.start, r.seen = r.start+i+1, 0
		dst = append(dst, r.take(line, i+1))
	}
	return dst, nil
}

// last takes what is left when the stream has ended.
func (r *Reader) last(dst [][]byte) ([][]byte, error) {
	if !errors.Is(r.err, io.EOF) || r.start == r.end {
		return dst, r.err
	}
	rest := r.buf[r.start:r.end:r.end]
	line := strip(rest)
	if err := r.tooLong(len(line)); err != nil {
		return dst, err
	}
	r.start, r.seen, r.raw = r.end, 0, rest
	return append(dst, r.take(line, len(rest))), nil
}

// Skip passes over the line that was too long, in bounded memory. It returns the first bytes
// of it, as many as a line may have, and its length with its end. An error is what the stream
// says before the line has ended: after Resume, Skip goes on where it was.
func (r *Reader) Skip() (head []byte, size int64, err error) {
	if !r.skipping {
		r.skipping, r.skipped = true, 0
		r.head = bytes.Clone(r.buf[r.start:min(r.start+r.max, r.end)])
	}
	for {
		rest := r.buf[r.start:r.end]
		i := bytes.IndexByte(rest, '\n')
		ended := i >= 0
		if !ended {
			i = len(rest) - 1
			ended = errors.Is(r.err, io.EOF)
		}
		r.start, r.seen, r.skipped = r.start+i+1, 0, r.skipped+int64(i)+1
		if ended {
			head, size = r.head, r.skipped
			r.skipping, r.head = false, nil
			r.line++
			r.read += size
			return head, size, nil
		}
		if r.err != nil {
			return nil, 0, r.err
		}
		r.fill()
	}
}

// Skipping reports whether a Skip has begun and not come to the end of the line.
func (r *Reader) Skipping() bool { return r.skipping }

func (r *Reader) tooLong(n int) error {
	if n <= r.max {
		return nil
	}
	return fmt.Errorf("line %d has more than %d bytes: %w", r.line+1, r.max, ErrTooLong)
}

// strip drops one carriage return from the end of line.
func strip(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[: n-1 : n-1]
	}
	return line
}

// take counts a line that took up size bytes of the stream.
func (r *Reader) take(line []byte, size int) []byte {
	r.line++
	r.begin = append(r.begin, r.read)
	r.read += int64(size)
	return line
}

// Resume forgets what the stream ended with, so that Next reads on: for a stream that has
// grown since. What was read of an incomplete line is kept.
func (r *Reader) Resume() { r.err = nil }

// emptyReads is how many reads in a row may return nothing.
const emptyReads = 100

// fill reads once more. What was returned keeps its memory: an incomplete line moves to a
// fresh buffer, twice as large when the line alone nearly fills it.
func (r *Reader) fill() {
	if len(r.buf)-r.end < chunk/4 {
		rest := r.buf[r.start:r.end]
		fresh := make([]byte, max(chunk, 2*len(rest)))
		r.end = copy(fresh, rest)
		r.start, r.buf = 0, fresh
	}
	n := 0
	for try := 0; n == 0 && r.err == nil; try++ {
		if try == emptyReads {
			r.err = io.ErrNoProgress
			return
		}
		n, r.err = r.r.Read(r.buf[r.end:])
		r.end += n
	}
}

// Rest is what was read of a line that has no end yet. It is valid until the next Next.
func (r *Reader) Rest() []byte { return r.buf[r.start:r.end] }
