package lines_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/weirdata/weir/internal/lines"
)

// all reads to the end, limit lines at once, and checks that what was returned earlier
// stays as it was.
func all(t testing.TB, r *lines.Reader, limit int) ([]string, error) {
	t.Helper()
	var kept [][]byte
	var then []string
	for {
		var err error
		before := len(kept)
		kept, err = r.Next(kept, limit, 0)
		if got := len(kept) - before; got > limit || (err == nil) != (got > 0) {
			t.Fatalf("%d lines of at most %d, error %v", got, limit, err)
		}
		for _, l := range kept[before:] {
			then = append(then, string(l))
		}
		if err != nil {
			for i, l := range kept {
				if string(l) != then[i] {
					t.Fatalf("line %d was overwritten", i+1)
				}
				if len(l) != cap(l) {
					t.Fatalf("line %d can be appended to without a copy", i+1)
				}
			}
			return then, err
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"\n", "[]"},
		{"\n\n", "[][]"},
		{"a", "[a]"},
		{"a\n", "[a]"},
		{"a\nb", "[a][b]"},
		{"a\r\nb\r\n", "[a][b]"},
		{"a\r", "[a]"},
		{"a\r\r\n", "[a\r]"},
		{"a\rb\n", "[a\rb]"},
		{"\r\n", "[]"},
		{"nul \x00 and \xff\xfe\n", "[nul \x00 and \xff\xfe]"},
		{"ü\n\u2028\n", "[ü][\u2028]"},
	} {
		got, err := all(t, lines.NewReader(strings.NewReader(c.in), 100), 3)
		if err != io.EOF {
			t.Errorf("%q: %v", c.in, err)
		}
		s := ""
		for _, l := range got {
			s += "[" + l + "]"
		}
		if s != c.want {
			t.Errorf("%q: lines %q, want %q", c.in, s, c.want)
		}
	}
}

func TestLimitOfALine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, want string
		bad      bool
	}{
		{"12345\n", "12345", false},
		{"12345\r\n", "12345", false},
		{"12345", "12345", false},
		{"12345\r", "12345", false},
		{"123456\n", "", true},
		{"123456\r\n", "", true},
		{"123456", "", true},
		{"12345\r\r\n", "", true},
		{"a\nb\n123456\nc\n", "a b", true},
		{"a\nb\n123456", "a b", true},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with the end": iotest.DataErrReader,
		} {
			r := lines.NewReader(wrap(strings.NewReader(c.in)), 5)
			got, err := all(t, r, 10)
			if strings.Join(got, " ") != c.want || errors.Is(err, lines.ErrTooLong) != c.bad {
				t.Errorf("%s, %q: %q, %v", name, c.in, got, err)
			}
			if !c.bad {
				continue
			}
			if want := fmt.Sprintf("line %d has more than 5 bytes: line too long", len(got)+1); err.Error() != want {
				t.Errorf("%s, %q: error %q, want %q", name, c.in, err, want)
			}
			if _, again := r.Next(nil, 10, 0); !errors.Is(again, lines.ErrTooLong) {
				t.Errorf("%s, %q: the line was skipped: %v", name, c.in, again)
			}
		}
	}
}

func TestLongLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 1<<20)
	in := "short\n" + long + "\nshort\n"
	got, err := all(t, lines.NewReader(iotest.HalfReader(strings.NewReader(in)), 10<<20), 1000)
	if err != io.EOF || !slices.Equal(got, []string{"short", long, "short"}) {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

func TestOffset(t *testing.T) {
	t.Parallel()
	in := "a\r\n\nlonger line\nlast"
	r := lines.NewReader(strings.NewReader(in), 100)
	for _, want := range []int64{3, 4, 16, 20} {
		if _, err := r.Next(nil, 1, 0); err != nil || r.Offset() != want {
			t.Errorf("offset %d, want %d (%v)", r.Offset(), want, err)
		}
	}
	if r.Line() != 4 {
		t.Errorf("%d lines", r.Line())
	}
}

// TestRoom: no more lines are returned than there is room for, but at least one, and each
// with the offset at which it begins.
func TestRoom(t *testing.T) {
	t.Parallel()
	const in = "aaaa\r\nbb\n\n\nccccccc\nd\nlast"
	for bytes := range 12 {
		r := lines.NewReader(strings.NewReader(in), 100)
		for at := int64(0); ; {
			got, err := r.Next(nil, 3, bytes)
			if err == io.EOF {
				if at != int64(len(in)) {
					t.Errorf("room for %d: ended at %d", bytes, at)
				}
				break
			}
			size := 0
			for i, l := range got {
				size += len(l)
				begin := r.Begins()[i]
				if begin != at || !strings.HasPrefix(in[begin:], string(l)) {
					t.Errorf("room for %d: line %q begins at %d, want %d", bytes, l, begin, at)
				}
				at = begin + int64(len(l))
				at += int64(len(in[at:]) - len(strings.TrimPrefix(strings.TrimPrefix(in[at:], "\r"), "\n")))
			}
			if err != nil || len(got) > 3 || len(got) != len(r.Begins()) || bytes > 0 && size > bytes && len(got) > 1 {
				t.Errorf("room for %d: %q, %v", bytes, got, err)
			}
		}
	}
}

func TestErrorsOfTheStream(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := lines.NewReader(io.MultiReader(strings.NewReader("whole\npart"), iotest.ErrReader(broken)), 100)
	got, err := all(t, r, 10)
	if !slices.Equal(got, []string{"whole"}) || !errors.Is(err, broken) {
		t.Errorf("%q, %v: half a line is none", got, err)
	}
	if _, err := lines.NewReader(stalled{}, 10).Next(nil, 1, 0); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a stream without progress: %v", err)
	}
}

type stalled struct{}

func (stalled) Read([]byte) (int, error) { return 0, nil }

// TestNextReadsOnce: what is there is returned before the stream is asked again.
func TestNextReadsOnce(t *testing.T) {
	t.Parallel()
	pr, pw := io.Pipe()
	go pw.Write([]byte("a\nb\nc"))
	r := lines.NewReader(pr, 100)
	got, err := r.Next(nil, 100, 0)
	if err != nil || len(got) != 2 {
		t.Errorf("%d lines, %v", len(got), err)
	}
	go pw.Close()
	if got, err := r.Next(nil, 100, 0); err != nil || string(got[0]) != "c" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzLines compares with bufio.Scanner, however the stream is cut.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "a", "a\n", "\r\n\r\n", "a\r\nb", "\x00\n\xff", "aaaaaaaaaaaaaaaaaaaaaaaa\nb"} {
		f.Add([]byte(s), uint8(3), uint8(20), false)
		f.Add([]byte(s), uint8(1), uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, limit, longest uint8, slow bool) {
		var want []string
		long := false
		s := bufio.NewScanner(bytes.NewReader(in))
		s.Buffer(nil, len(in)+10)
		for s.Scan() {
			if len(s.Bytes()) > int(longest) {
				long = true
				break
			}
			want = append(want, s.Text())
		}
		var stream io.Reader = bytes.NewReader(in)
		if slow {
			stream = iotest.DataErrReader(iotest.OneByteReader(stream))
		}
		r := lines.NewReader(stream, int(longest))
		got, err := all(t, r, max(int(limit), 1))
		if !slices.Equal(got, want) {
			t.Fatalf("lines %q, want %q", got, want)
		}
		if long != errors.Is(err, lines.ErrTooLong) || (!long && err != io.EOF) {
			t.Fatalf("ended with %v, a line is too long: %t", err, long)
		}
		if !long && r.Offset() != int64(len(in)) {
			t.Fatalf("offset %d at the end of %d bytes", r.Offset(), len(in))
		}
	})
}

func BenchmarkLines(b *testing.B) {
	in := bytes.Repeat([]byte(strings.Repeat("x", 511)+"\n"), 10_000)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	var batch [][]byte
	for b.Loop() {
		r := lines.NewReader(bytes.NewReader(in), 1<<20)
		for {
			var err error
			if batch, err = r.Next(batch[:0], 1000, 0); err != nil {
				break
			}
		}
	}
}
