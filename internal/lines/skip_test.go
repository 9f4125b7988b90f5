package lines_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/weirdata/weir/internal/lines"
)

// pausing is a stream that has nothing for now before every read that has something.
type pausing struct {
	r      io.Reader
	paused bool
}

var errPause = errors.New("nothing for now")

func (p *pausing) Read(b []byte) (int, error) {
	if p.paused = !p.paused; p.paused {
		return 0, errPause
	}
	return p.r.Read(b)
}

// TestSkip passes over the lines that are too long, wherever the stream is cut and however
// often it pauses: the others come whole, and each has its place.
func TestSkip(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 7))
	for range 300 {
		var in strings.Builder
		type line struct {
			text string
			at   int64
			long bool
		}
		var want []line
		for range rng.IntN(8) {
			n := rng.IntN(9)
			if rng.IntN(5) == 0 {
				n = rng.IntN(1 << 20)
			}
			l := line{strings.Repeat("x", n), int64(in.Len()), n > 5}
			want = append(want, l)
			in.WriteString(l.text + "\n")
		}
		whole := in.String()
		if n := len(whole); n > 0 && rng.IntN(2) == 0 && want[len(want)-1].text != "" {
			whole = whole[:n-1] // the last line has no end
		}
		var stream io.Reader = strings.NewReader(whole)
		if rng.IntN(3) == 0 && len(whole) < 1<<16 {
			stream = iotest.OneByteReader(stream)
		}
		r := lines.NewReader(&pausing{r: stream}, 5)
		var got []line
		var raw strings.Builder
		for {
			if !r.Skipping() {
				some, err := r.Next(nil, 3, 0)
				for i, l := range some {
					got = append(got, line{string(l), r.Begins()[i], false})
				}
				raw.Write(r.Raw())
				if err == io.EOF {
					break
				}
				if errors.Is(err, errPause) {
					r.Resume()
				}
				if !errors.Is(err, lines.ErrTooLong) {
					continue
				}
			}
			at := r.Offset()
			head, size, err := r.Skip()
			if errors.Is(err, errPause) {
				r.Resume()
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(head) != "xxxxx" {
				t.Errorf("the head is %q", head)
			}
			l := line{strings.Repeat("x", int(size)), at, true}
			if int(at+size) < len(whole) || strings.HasSuffix(whole, "\n") {
				l.text = l.text[1:] // its end
			}
			raw.WriteString(whole[at : at+size])
			got = append(got, l)
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("line %d: %d bytes at %d (%t), want %d at %d (%t)", i, len(got[i].text), got[i].at, got[i].long, len(want[i].text), want[i].at, want[i].long)
			}
		}
		if raw.String() != whole {
			t.Error("what the lines took up is not the stream")
		}
	}
}
