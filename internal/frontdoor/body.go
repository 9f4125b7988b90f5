package frontdoor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

const (
	firstRead = 8 << 10 // the memory, in bytes, a body of unknown length starts with
	// maxFirstRead bounds what a request gets for the length it only claims to have, and
	// the memory that waits for another body.
	maxFirstRead = 256 << 10
	// maxWindow is the largest zstd window, the size every decoder must support.
	maxWindow = 8 << 20
)

// Why a body was not read.
var (
	ErrCrowded  = errors.New("there is no room for the body")
	ErrTooLarge = errors.New("the body is too large")
	ErrLate     = errors.New("the body did not arrive in time")
	ErrBroken   = errors.New("the body broke off")
	// ErrMalformed is a body that has arrived and is not divided as HTTP says.
	ErrMalformed = errors.New("the body is not divided as HTTP says")
	// ErrEncoding is a body that is not what its Content-Encoding says.
	ErrEncoding = errors.New("the body cannot be unpacked")
)

// Body is the bytes of a request, whose memory is taken from a budget as it grows.
type Body struct {
	Data   []byte
	budget *Budget
	held   int64 // bytes taken from budget: at least len(Data)
	pooled bool  // the memory is for another body when this one is released
}

var bodies = sync.Pool{New: func() any { return &Body{Data: make([]byte, 0, firstRead)} }}

// NewBody is an empty body with memory that Release keeps for another one.
func NewBody(from *Budget) *Body {
	b := bodies.Get().(*Body)
	b.budget, b.pooled = from, true
	return b
}

// BodyOf is a body in memory of somebody else, which holds nothing.
func BodyOf(data []byte) *Body { return &Body{Data: data} }

// Take takes n bytes from the budget, and sees to it that as many fit into Data.
func (b *Body) Take(n int64) error {
	if !b.budget.Grow(n) {
		return ErrCrowded
	}
	b.held += n
	if int64(cap(b.Data)) < b.held {
		data := make([]byte, len(b.Data), b.held)
		copy(data, b.Data)
		b.Data = data
	}
	return nil
}

// Release gives the bytes and the memory back. Nobody may use Data any more.
func (b *Body) Release() {
	if b.budget != nil {
		b.budget.Shrink(b.held)
	}
	b.held, b.budget = 0, nil
	if b.pooled && cap(b.Data) <= maxFirstRead {
		b.Data, b.pooled = b.Data[:0], false
		bodies.Put(b)
	}
}

// Keep leaves Data to the caller, who gives back the bytes held.
func (b *Body) Keep() (held int64) {
	held, b.held, b.pooled = b.held, 0, false
	return held
}

// fill reads all of r, up to limit bytes; size is its length, or negative when it is not
// known.
func (b *Body) fill(r io.Reader, size, limit int64) error {
	first := int64(firstRead)
	if size >= 0 {
		first = min(size+1, maxFirstRead) // one more than needed, to see the end without growing
	}
	if err := b.Take(first); err != nil {
		return err
	}
	for {
		n, err := r.Read(b.Data[len(b.Data):min(int64(cap(b.Data)), b.held)])
		b.Data = b.Data[:len(b.Data)+n]
		if int64(len(b.Data)) > limit {
			return ErrTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if int64(len(b.Data)) == b.held {
			more := b.held
			if left := size + 1 - b.held; size >= 0 && left > 0 {
				more = min(more, left)
			}
			if err := b.Take(more); err != nil {
				return err
			}
		}
	}
}

// Reader reads the bodies of requests.
type Reader struct {
	Budget *Budget
	// Limit is the most bytes of a body, before and after it is unpacked.
	Limit int64
	// Own says that Data stays in use after its body is released: no memory is shared.
	Own bool
}

func (rd *Reader) body() *Body {
	if rd.Own {
		return &Body{budget: rd.Budget}
	}
	return NewBody(rd.Budget)
}

// Encoding is what a Content-Encoding says of a body, as Read and Unpack take it: "gzip", "zstd",
// "deflate", or empty for a body that is as it is. false: it is none of these.
func Encoding(header string) (encoding string, ok bool) {
	switch encoding = strings.ToLower(strings.TrimSpace(header)); encoding {
	case "", "gzip", "zstd", "deflate":
		return encoding, true
	case "identity":
		return "", true
	case "x-gzip":
		return "gzip", true
	}
	return encoding, false
}

// Read reads the body of r and unpacks it; encoding is one of [Encoding]. The deadline
// for reading goes with a body that has arrived: left in place, it would cancel the request
// while it waits for its events. After an error, one of those above, nothing is held.
func (rd *Reader) Read(w http.ResponseWriter, r *http.Request, encoding string) (*Body, error) {
	if r.ContentLength > rd.Limit {
		return nil, ErrTooLarge
	}
	b := rd.body()
	if encoding != "" && rd.Own {
		b = NewBody(rd.Budget) // what is packed is not kept
	}
	if err := b.fill(r.Body, r.ContentLength, rd.Limit); err != nil {
		b.Release()
		switch {
		case errors.Is(err, ErrCrowded) || errors.Is(err, ErrTooLarge):
			return nil, err
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, ErrLate
		}
		return nil, fmt.Errorf("%w: %w", lost(err), err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if encoding == "" {
		return b, nil
	}
	defer b.Release()
	return rd.Unpack(encoding, b.Data)
}

// divided are what net/http says of a body that is divided wrongly; it has no errors for that which
// could be told apart otherwise.
var divided = []string{"chunk", "header line too long", "long trailer"}

// lost tells a body that did not arrive, which its client may send again, from one whose client
// would divide it wrongly again.
func lost(err error) error {
	_, network := errors.AsType[net.Error](err)
	_, trailer := errors.AsType[textproto.ProtocolError](err)
	wrong := slices.ContainsFunc(divided, func(text string) bool { return strings.Contains(err.Error(), text) })
	if !network && !errors.Is(err, io.ErrUnexpectedEOF) && (trailer || wrong) {
		return ErrMalformed
	}
	return ErrBroken
}

// Unpacking happens for bodies that have arrived whole, a few at a time: it never waits for a
// client, and the memory of decoders is bounded by the number of CPUs.
var unpacking = struct {
	turn                       chan struct{}
	gzip, zstd, zlib, deflated sync.Pool
}{turn: make(chan struct{}, runtime.GOMAXPROCS(0))}

// Unpack decompresses a body that has arrived.
func (rd *Reader) Unpack(encoding string, packed []byte) (*Body, error) {
	unpacking.turn <- struct{}{}
	defer func() { <-unpacking.turn }()
	b := rd.body()
	var err error
	switch encoding {
	case "zstd":
		err = b.zstd(packed, rd.Limit)
	case "deflate":
		err = b.deflate(packed, rd.Limit)
	default:
		err = b.gzip(packed, rd.Limit)
	}
	if err == nil {
		return b, nil
	}
	b.Release()
	if errors.Is(err, ErrCrowded) || errors.Is(err, ErrTooLarge) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
}

func (b *Body) gzip(packed []byte, limit int64) error {
	z, _ := unpacking.gzip.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer unpacking.gzip.Put(z)
	if err := z.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	return b.fill(z, -1, limit)
}

func (b *Body) zstd(packed []byte, limit int64) error {
	d, _ := unpacking.zstd.Get().(*zstd.Decoder)
	if d == nil {
		var err error
		// One goroutine's worth of concurrency decodes on the caller's, and starts none.
		if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
			return fmt.Errorf("make a zstd decoder: %w", err)
		}
	}
	defer unpacking.zstd.Put(d)
	if err := d.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	return b.fill(d, -1, limit)
}

// deflate unpacks what HTTP calls by that name, the form of zlib, and the bare one, which some
// clients take the name for.
func (b *Body) deflate(packed []byte, limit int64) error {
	if len(packed) < 2 || packed[0]&0x0f != 8 || (int(packed[0])<<8|int(packed[1]))%31 != 0 {
		return b.inflate(packed, limit)
	}
	z, _ := unpacking.zlib.Get().(io.ReadCloser)
	var err error
	if z == nil {
		z, err = zlib.NewReader(bytes.NewReader(packed))
	} else {
		err = z.(zlib.Resetter).Reset(bytes.NewReader(packed), nil)
	}
	if err != nil {
		return err
	}
	defer unpacking.zlib.Put(z)
	return b.fill(z, -1, limit)
}

func (b *Body) inflate(packed []byte, limit int64) error {
	f, _ := unpacking.deflated.Get().(io.ReadCloser)
	if f == nil {
		f = flate.NewReader(bytes.NewReader(packed))
	} else if err := f.(flate.Resetter).Reset(bytes.NewReader(packed), nil); err != nil {
		return err
	}
	defer unpacking.deflated.Put(f)
	return b.fill(f, -1, limit)
}
