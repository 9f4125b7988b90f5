package httpsource

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	firstRead = 32 << 10 // the buffer a body starts with when its length is not known
	// maxFirstRead bounds what a request gets for the length it only claims to have.
	maxFirstRead = 256 << 10
	// maxWindow is the largest zstd window, the size every decoder must support.
	maxWindow = 8 << 20
)

// split cuts body into its lines without blank ones. A line ends at a newline, or a
// carriage return and a newline. The payloads share body's memory.
func split(body []byte, limit, maxLine int) ([][]byte, *refusal) {
	payloads := make([][]byte, 0, min(bytes.Count(body, []byte{'\n'})+1, limit))
	for number := 1; len(body) > 0; number++ {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(line) > maxLine {
			return nil, refuse(http.StatusBadRequest, "line %d has %d bytes, more than the limit of %d: nothing was accepted", number, len(line), maxLine)
		}
		if len(payloads) == limit {
			return nil, refuse(http.StatusBadRequest, "the request has more than %d lines: nothing was accepted", limit)
		}
		// The capacity ends with the line, so that appending to it cannot reach the next.
		payloads = append(payloads, slices.Clip(line))
	}
	return payloads, nil
}

// body reads and unpacks the body of r. reserved is what it holds of the budget, to be
// given back with the request's place, whether or not there is a refusal.
func (s *Source) body(w http.ResponseWriter, r *http.Request) (body []byte, reserved int64, no *refusal) {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	switch encoding {
	case "", "identity", "gzip", "x-gzip", "zstd":
	default:
		return nil, 0, refuse(http.StatusUnsupportedMediaType, "content encoding %q is not known: use gzip, zstd or none", clip(encoding))
	}
	limit := int64(s.c.MaxBodyBytes)
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes: nothing was accepted", limit)
	if r.ContentLength > limit {
		return nil, 0, tooLarge
	}
	sink := &sink{budget: &s.budget}
	err := sink.fill(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	switch {
	case errors.Is(err, errCrowded):
		return nil, sink.reserved, crowded
	case isTooLarge(err):
		return nil, sink.reserved, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, sink.reserved, refuse(http.StatusRequestTimeout, "the body did not arrive in time: nothing was accepted")
	case err != nil:
		return nil, sink.reserved, refuse(http.StatusBadRequest, "the body could not be read: nothing was accepted")
	}
	// The deadline goes with a body that has arrived: left in place, it would cancel the
	// request while it waits for its events.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if encoding == "" || encoding == "identity" {
		return sink.data, sink.reserved, nil
	}
	unpacked, err := s.unpacker.unpack(encoding, sink.data, limit, &s.budget)
	s.budget.shrink(sink.reserved)
	switch {
	case errors.Is(err, errCrowded):
		no = crowded
	case isTooLarge(err):
		no = tooLarge
	case err != nil:
		no = refuse(http.StatusBadRequest, "the body is not valid %s: nothing was accepted", encoding)
	}
	return unpacked.data, unpacked.reserved, no
}

func clip(s string) string { return s[:min(len(s), 40)] }

var errCrowded = errors.New("no room for the body")

func isTooLarge(err error) bool {
	_, ok := errors.AsType[*http.MaxBytesError](err)
	return ok
}

// sink collects a body, taking its memory from the budget as it grows.
type sink struct {
	budget   *budget
	data     []byte
	reserved int64
}

// fill reads all of r; size is its length, or negative when it is not known.
func (s *sink) fill(r io.Reader, size int64) error {
	first := int64(firstRead)
	if size >= 0 {
		first = min(size+1, maxFirstRead) // one more than needed, to see the end without growing
	}
	if err := s.grow(first); err != nil {
		return err
	}
	for {
		n, err := r.Read(s.data[len(s.data):cap(s.data)])
		s.data = s.data[:len(s.data)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(s.data) == cap(s.data) {
			more := int64(cap(s.data))
			if left := size + 1 - int64(cap(s.data)); size >= 0 && left > 0 {
				more = min(more, left)
			}
			if err := s.grow(more); err != nil {
				return err
			}
		}
	}
}

func (s *sink) grow(n int64) error {
	if !s.budget.grow(n) {
		return errCrowded
	}
	s.reserved += n
	data := make([]byte, len(s.data), int64(cap(s.data))+n)
	copy(data, s.data)
	s.data = data
	return nil
}

// unpacker decompresses bodies that have arrived whole, a few at a time: decompression
// never waits for a client, and the memory of decoders is bounded by the number of CPUs.
type unpacker struct {
	turn chan struct{}
	gzip sync.Pool
	zstd sync.Pool
}

func newUnpacker() *unpacker { return &unpacker{turn: make(chan struct{}, runtime.GOMAXPROCS(0))} }

func (u *unpacker) unpack(encoding string, packed []byte, limit int64, b *budget) (*sink, error) {
	u.turn <- struct{}{}
	defer func() { <-u.turn }()
	out := &sink{budget: b}
	in := bytes.NewReader(packed)
	if encoding == "zstd" {
		d, _ := u.zstd.Get().(*zstd.Decoder)
		if d == nil {
			var err error
			// One goroutine's worth of concurrency decodes on the caller's, and starts none.
			if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
				return out, fmt.Errorf("make a zstd decoder: %w", err)
			}
		}
		defer u.zstd.Put(d)
		if err := d.Reset(in); err != nil {
			return out, err
		}
		err := out.fill(http.MaxBytesReader(nil, io.NopCloser(d), limit), -1)
		return out, err
	}
	z, _ := u.gzip.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer u.gzip.Put(z)
	if err := z.Reset(in); err != nil {
		return out, err
	}
	err := out.fill(http.MaxBytesReader(nil, io.NopCloser(z), limit), -1)
	return out, err
}
