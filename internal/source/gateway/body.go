package gatewaysource

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/weirdata/weir/internal/gateway"
)

const (
	firstRead = 8 << 10 // the memory a body starts with
	// maxKept is the largest buffer that waits for another body.
	maxKept = 1 << 20
)

var (
	errCrowded  = errors.New("no room for the body")
	errTooLarge = errors.New("the body is too large")
)

// buffer is memory for a body, taken from the hall as it grows.
type buffer struct {
	data   []byte
	held   int64 // bytes taken from the hall
	pooled bool  // the memory is for the next body when it is released
}

var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, 0, firstRead), pooled: true} }}

func (b *buffer) release() {
	if b.pooled && cap(b.data) <= maxKept {
		b.data, b.held = b.data[:0], 0
		buffers.Put(b)
	}
}

// fill reads all of r, up to limit bytes.
func (b *buffer) fill(h *hall, r io.Reader, limit int64) error {
	for {
		if len(b.data) == cap(b.data) {
			b.data = append(b.data, 0)[:len(b.data)]
		}
		n, err := r.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if int64(len(b.data)) > limit {
			return errTooLarge
		}
		if need := int64(len(b.data)); need > b.held {
			// In steps that double, so that large bodies ask seldom.
			step := max(need, 2*b.held, firstRead) - b.held
			if !h.grow(step) {
				return errCrowded
			}
			b.held += step
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// gunzippers decompress bodies that have arrived whole.
var gunzippers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// body reads and unpacks the body of r. It returns the memory the body is in, whose bytes
// the caller gives back to the hall and whose memory it releases, or a refusal.
func (s *Source) body(r *http.Request) (*buffer, *gateway.Answer) {
	limit := int64(s.c.MaxBodyBytes)
	if r.ContentLength > limit {
		return nil, gateway.TooLarge
	}
	b := buffers.Get().(*buffer)
	err := b.fill(s.hall, r.Body, limit)
	packed := err == nil && strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip")
	if packed {
		in := b
		b = buffers.Get().(*buffer)
		err = b.gunzip(s.hall, in.data, limit)
		s.hall.shrink(in.held)
		in.release()
	}
	if err == nil {
		return b, nil
	}
	s.hall.shrink(b.held)
	b.release()
	switch {
	case errors.Is(err, errCrowded):
		return nil, gateway.Unavailable
	case errors.Is(err, errTooLarge):
		return nil, gateway.TooLarge
	case packed && !errors.Is(err, os.ErrDeadlineExceeded):
		return nil, gateway.BadEncoding
	}
	return nil, gateway.UnreadBody
}

func (b *buffer) gunzip(h *hall, packed []byte, limit int64) error {
	z := gunzippers.Get().(*gzip.Reader)
	defer gunzippers.Put(z)
	if err := z.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	return b.fill(h, z, limit)
}
