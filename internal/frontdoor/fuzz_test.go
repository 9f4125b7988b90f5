package frontdoor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzReader: a body, however it is divided and packed, is read as other readers have it, or
// refused for one of the reasons there are; it is never longer than the limit, and what it holds
// of the budget is given back.
func FuzzReader(f *testing.F) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(bytes.Repeat([]byte("line\n"), 3000))
	_ = w.Close()
	e, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	f.Add(uint8(0), []byte("Content-Length: 3\r\n\r\nabcd"), uint16(100), uint16(60000))
	f.Add(uint8(0), []byte("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), uint16(100), uint16(60000))
	f.Add(uint8(0), []byte("Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"), uint16(2), uint16(60000))
	f.Add(uint8(0), []byte("Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"), uint16(100), uint16(60000))
	f.Add(uint8(1), append([]byte("Content-Length: 97\r\n\r\n"), z.Bytes()...), uint16(20000), uint16(60000))
	f.Add(uint8(2), append([]byte("Content-Length: 30\r\n\r\n"), e.EncodeAll(bytes.Repeat([]byte("line\n"), 3000), nil)...), uint16(20000), uint16(9000))
	f.Fuzz(func(t *testing.T, packing uint8, data []byte, limit, room uint16) {
		request := func() *http.Request {
			r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\n"), bytes.NewReader(data))))
			if err != nil {
				return nil
			}
			return r
		}
		encoding := []string{"", "gzip", "zstd"}[packing%3]
		for _, own := range []bool{false, true} {
			r := request()
			if r == nil {
				return
			}
			b := NewBudget(1, int(room))
			rd := &Reader{Budget: b, Limit: int64(limit), Own: own}
			body, err := rd.Read(httptest.NewRecorder(), r, encoding)
			if err != nil {
				known := false
				for _, is := range []error{ErrCrowded, ErrTooLarge, ErrBroken, ErrMalformed, ErrEncoding} {
					known = known || errors.Is(err, is)
				}
				if body != nil || !known || encoding == "" && errors.Is(err, ErrEncoding) {
					t.Fatalf("%s: %v", encoding, err)
				}
			} else {
				if want := plain(t, encoding, request().Body); !bytes.Equal(body.Data, want) {
					t.Fatalf("%s: read %q, others read %q", encoding, body.Data, want)
				}
				if len(body.Data) > int(limit) {
					t.Fatalf("%d bytes, and the limit is %d", len(body.Data), limit)
				}
				if _, held := b.Used(); held < int64(len(body.Data)) {
					t.Fatalf("%d bytes hold %d", len(body.Data), held)
				}
				body.Release()
			}
			if _, held := b.Used(); held != 0 {
				t.Fatalf("%s, %v: %d bytes are held at the end", encoding, err, held)
			}
		}
	})
}

// plain is what other readers make of a body.
func plain(t *testing.T, encoding string, body io.Reader) []byte {
	t.Helper()
	var err error
	switch encoding {
	case "gzip":
		body, err = gzip.NewReader(body)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			body = d
		}
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(body)
	}
	if err != nil {
		t.Fatalf("%s: others cannot read it: %v", encoding, err)
	}
	return data
}
