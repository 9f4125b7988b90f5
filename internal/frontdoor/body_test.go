package frontdoor

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func pack(t *testing.T, encoding, text string) string {
	t.Helper()
	var out bytes.Buffer
	var z io.WriteCloser
	switch encoding {
	case "":
		return text
	case "gzip":
		z = gzip.NewWriter(&out)
	case "zstd":
		z, _ = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	case "deflate":
		z = zlib.NewWriter(&out)
	case "bare deflate":
		z, _ = flate.NewWriter(&out, flate.DefaultCompression)
	}
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestReader: bodies of every size, of known length or not, are read as they are, hold at
// least their size while they are in use, and give everything back.
func TestReader(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		b := NewBudget(1, 1<<20)
		rd := &Reader{Budget: b, Limit: 300 << 10, Own: own}
		for _, encoding := range []string{"", "gzip", "zstd", "deflate", "bare deflate"} {
			for _, size := range []int{0, 1, firstRead - 1, firstRead, firstRead + 1, maxFirstRead - 1, maxFirstRead, 300 << 10} {
				for _, known := range []bool{true, false} {
					text := strings.Repeat("x", size)
					var in io.Reader = strings.NewReader(pack(t, encoding, text))
					if !known {
						in = io.MultiReader(in)
					}
					body, err := rd.Read(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", in), strings.TrimPrefix(encoding, "bare "))
					if err != nil || string(body.Data) != text {
						t.Fatalf("%s, %d bytes, known %t: %v", encoding, size, known, err)
					}
					if _, held := b.Used(); held < int64(size) {
						t.Errorf("%d bytes are held for %d", held, size)
					}
					if own {
						b.Shrink(body.Keep())
					}
					body.Release()
					free(t, b)
				}
			}
		}
	}
}

// TestReaderRefuses: what is refused holds nothing.
func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	b := NewBudget(1, 64<<10)
	rd := &Reader{Budget: b, Limit: 100 << 10}
	long := strings.Repeat("x", 100<<10+1)
	for name, row := range map[string]struct {
		in       io.Reader
		encoding string
		want     error
	}{
		"too large":         {strings.NewReader(long), "", ErrTooLarge},
		"crowded":           {strings.NewReader(long[:90<<10]), "", ErrCrowded},
		"crowded, unpacked": {strings.NewReader(pack(t, "gzip", long[:90<<10])), "gzip", ErrCrowded},
		"a bomb":            {strings.NewReader(pack(t, "zstd", strings.Repeat("x", 1<<20))), "zstd", ErrCrowded},
		"not gzip":          {strings.NewReader("x"), "gzip", ErrEncoding},
		"not zstd":          {strings.NewReader("x"), "zstd", ErrEncoding},
		"not deflate":       {strings.NewReader("{}"), "deflate", ErrEncoding},
		"half of a deflate": {strings.NewReader(pack(t, "deflate", "abc")[:8]), "deflate", ErrEncoding},
		"torn":              {strings.NewReader(pack(t, "gzip", "abc")[:20]), "gzip", ErrEncoding},
		"broken off":        {io.MultiReader(strings.NewReader("x"), broken{}), "", ErrBroken},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", row.in)
		if body, err := rd.Read(httptest.NewRecorder(), r, row.encoding); body != nil || !errors.Is(err, row.want) {
			t.Errorf("%s: %v", name, err)
		}
		free(t, b)
	}
	rd.Budget = NewBudget(1, 1<<20)
	for _, encoding := range []string{"gzip", "zstd", "deflate"} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(pack(t, encoding, long)))
		if _, err := rd.Read(httptest.NewRecorder(), r, encoding); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", encoding, err)
		}
		free(t, rd.Budget)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("gone") }

// TestEncoding: names in any case and with spaces, and what is none.
func TestEncoding(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{"": "", " GZip ": "gzip", "x-gzip": "gzip", "identity": "", "zstd": "zstd", "Deflate": "deflate", "br": "-", "gzip, gzip": "-", "utf-8": "-"} {
		got, ok := Encoding(header)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}
