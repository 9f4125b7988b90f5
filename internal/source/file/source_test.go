package file

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a source of the files that match path in dir.
func source(dir, path string, change func(*Config)) *Source {
	c := *Entry.Default().(*Config)
	c.Path = filepath.Join(dir, path)
	if change != nil {
		change(&c)
	}
	return &Source{config: c, log: logger(connector.Deps{}), poll: 200 * time.Millisecond, grace: 5 * time.Second}
}

func following(dir string) func(*Config) {
	return func(c *Config) { c.Follow, c.PositionFile = true, filepath.Join(dir, "position") }
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t testing.TB, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func compressed(t testing.TB, kind, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if kind == "zstd" {
		w, _ = zstd.NewWriter(&out)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// all reads until the end, or when s follows its files for a second without anything, and
// acknowledges everything. Where it follows, time is virtual.
func all(t testing.TB, s *Source) string {
	t.Helper()
	text, err := untilError(t, s)
	if err != io.EOF && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
	return text
}

func untilError(t testing.TB, s *Source) (string, error) {
	t.Helper()
	var got []string
	for {
		ctx, stop := t.Context(), context.CancelFunc(func() {})
		if s.config.Follow {
			ctx, stop = context.WithTimeout(ctx, time.Second)
		}
		b, ack, err := s.Read(ctx, connector.Room{})
		stop()
		for _, m := range b {
			got = append(got, string(m.Data))
		}
		if ack != nil {
			if err := ack(t.Context(), nil); err != nil {
				t.Errorf("ack: %v", err)
			}
		}
		if err != nil {
			return strings.Join(got, " "), err
		}
	}
}

func opened(t testing.TB, s *Source) *Source {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s *Source) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func wantLines(t testing.TB, when, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: read [%s], want [%s]", when, got, want)
	}
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Examples(t, conntest.One(Entry), "../../..")
	for _, c := range []struct {
		name             string
		follow, remember bool
	}{{"once", false, false}, {"once with positions", false, true}, {"follow", true, false}, {"follow with positions", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			setup := func(t *testing.T, payloads [][]byte) (func() connector.Source, func()) {
				dir := t.TempDir()
				var lines []byte
				for i, p := range payloads { // over two files
					lines = append(append(lines, p...), '\n')
					if i == len(payloads)/2 {
						write(t, filepath.Join(dir, "1.log"), string(lines))
						lines = nil
					}
				}
				write(t, filepath.Join(dir, "2.log"), string(lines))
				restart := func() connector.Source {
					return source(dir, "*.log", func(x *Config) {
						x.Follow = c.follow
						if c.remember {
							x.PositionFile = filepath.Join(dir, "position")
						}
					})
				}
				return restart, func() { // one is another now, and one is gone
					write(t, filepath.Join(dir, "1.log"), "another content\n")
					if err := os.Remove(filepath.Join(dir, "2.log")); err != nil {
						t.Fatal(err)
					}
				}
			}
			conntest.Source(t, conntest.SourceCase{
				Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
					restart, _ := setup(t, payloads)
					return restart
				},
				Losing:   setup,
				Features: conntest.SourceFeatures{Ends: !c.follow, Ordered: !c.follow, Empty: true, Acknowledges: true, Resumes: true, Remembers: c.remember, Positions: true, Seeks: true},
			})
		})
	}
}

func TestFilesInTheOrderOfTheirNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "c.log"), "c1\nc2")
	write(t, filepath.Join(dir, "a.log"), "a1\na2\n")
	write(t, filepath.Join(dir, "b.log"), "")
	write(t, filepath.Join(dir, "d.txt"), "no\n")
	s := opened(t, source(dir, "*.log", nil))
	wantLines(t, "all", all(t, s), "a1 a2 c1 c2")
	closed(t, s)
}

func TestCompressedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := strings.Repeat("x", 300_000)
	write(t, filepath.Join(dir, "1"), string(compressed(t, "gzip", "a\nb\n")))
	write(t, filepath.Join(dir, "2"), string(compressed(t, "zstd", "c\n"+long+"\nd")))
	write(t, filepath.Join(dir, "3"), string(compressed(t, "gzip", "e\n"))+string(compressed(t, "gzip", "f\n"))) // two members
	write(t, filepath.Join(dir, "4"), "plain\n")
	s := opened(t, source(dir, "[1-4]", func(c *Config) { c.PositionFile = filepath.Join(dir, "position"); c.MaxBatchMessages = 1 }))
	b, ack, err := s.Read(t.Context(), connector.Room{})
	if err != nil || string(b[0].Data) != "a" {
		t.Fatalf("%v, %v", b, err)
	}
	if err := ack(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	s = opened(t, source(dir, "[1-4]", func(c *Config) { c.PositionFile = filepath.Join(dir, "position") }))
	wantLines(t, "the rest", all(t, s), "b c "+long+" d e f plain")
	closed(t, s)
}

func TestBrokenCompression(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := compressed(t, "gzip", strings.Repeat("line\n", 10_000)+fmt.Sprint(rand.Perm(5000)))
	write(t, filepath.Join(dir, "cut.gz"), string(whole[:len(whole)-9]))
	s := opened(t, source(dir, "cut.gz", nil))
	_, err := untilError(t, s)
	if fault.Of(err) != fault.Fatal || !strings.Contains(err.Error(), "repair the file or move it away") || !strings.Contains(err.Error(), "cut.gz") {
		t.Errorf("error %v (%s)", err, fault.Of(err))
	}
	closed(t, s)
}

func TestErrorsOfOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad-position"), "not json")
	write(t, filepath.Join(dir, "file"), "x\n")
	for want, s := range map[string]*Source{
		"no file matches path":                source(dir, "none*", nil),
		"it is a directory":                   source(filepath.Dir(dir), filepath.Base(dir), nil),
		"delete the file to read everything":  source(dir, "file", func(c *Config) { c.PositionFile = filepath.Join(dir, "bad-position") }),
		"create the directory " + dir + "/no": source(dir, "file", func(c *Config) { c.PositionFile = filepath.Join(dir, "no", "position") }),
	} {
		err := s.Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.Setup {
			t.Errorf("Open: %v (%s), want %s", err, fault.Of(err), want)
		}
		closed(t, s)
	}
}

// TestLineThatIsTooLong: its beginning is a message that is refused, and everything after it is
// read.
func TestLineThatIsTooLong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1.log"), "short\nfar too long\nnext\n"+strings.Repeat("x", 1<<20)+"\r\nlast\nno end of it")
	write(t, filepath.Join(dir, "2.log"), "other\n")
	change := func(c *Config) { c.MaxLineBytes, c.PositionFile = 5, filepath.Join(dir, "position") }
	s := opened(t, source(dir, "*.log", change))
	var got []string
	for {
		b, ack, err := s.Read(t.Context(), connector.Room{})
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range b {
			text := string(m.Data)
			if why := m.Refused(); why != nil {
				if fault.Of(why) != fault.Invalid || !strings.Contains(why.Error(), "1.log: the line at byte "+fmt.Sprint(binary.BigEndian.Uint64(m.Meta.Origin.Position))+" has ") || !strings.Contains(why.Error(), "raise max_line_bytes") {
					t.Errorf("refused: %v", why)
				}
				text = "(" + text + ")"
			}
			got = append(got, text)
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	wantLines(t, "all", strings.Join(got, " "), "short (far t) next (xxxxx) last (no en) other")
	closed(t, s)
	s = opened(t, source(dir, "*.log", change))
	wantLines(t, "again", all(t, s), "")
	closed(t, s)
}

func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := filepath.Join(dir, "app.log")
		s := opened(t, source(dir, "app.log", following(dir))) // there is no file yet
		wantLines(t, "no file", all(t, s), "")
		appendTo(t, log, "one\ntw")
		wantLines(t, "half a line", all(t, s), "one")
		appendTo(t, log, "o\nthree\n")
		wantLines(t, "the other half", all(t, s), "two three")

		appendTo(t, log, "old1\n")
		rename(t, log, log+".1")
		appendTo(t, log+".1", "old2\n")
		appendTo(t, log, "new1\n")
		wantLines(t, "rotated", all(t, s), "old1 old2 new1")
		appendTo(t, log+".1", "late\nno end")
		appendTo(t, log, "new2\n")
		wantLines(t, "a late write to the rotated file", all(t, s), "late new2")
		time.Sleep(10 * time.Second)
		wantLines(t, "the rotated file is let go", all(t, s), "no end")
		if len(s.tails) != 1 {
			t.Errorf("%d files are open, want 1", len(s.tails))
		}

		write(t, log, "") // truncated in place
		wantLines(t, "truncated", all(t, s), "")
		appendTo(t, log, "after\n")
		wantLines(t, "after the truncation", all(t, s), "after")
		write(t, log, "rewritten, and longer than before\n")
		wantLines(t, "truncated and rewritten between two looks", all(t, s), "rewritten, and longer than before")
		write(t, log, "rewritten, and exactly the same size\n"[:len("rewritten, and longer than before")]+"\n")
		wantLines(t, "rewritten with the same size", all(t, s), "rewritten, and exactly the same s")
		closed(t, s)

		s = opened(t, source(dir, "app.log", following(dir)))
		wantLines(t, "restarted", all(t, s), "")
		appendTo(t, log, "more\n")
		wantLines(t, "restarted and grown", all(t, s), "more")
		closed(t, s)
		if n := len(s.book.all()); n != 2 { // the rotated file may still grow
			t.Errorf("%d positions are kept, want 2", n)
		}
	})
}

// TestPositionsOfReplacedContent: a line of a file whose content was replaced is not at the
// place of one that was there before, now and after a restart.
func TestPositionsOfReplacedContent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := filepath.Join(dir, "app.log")
		s := opened(t, source(dir, "*.log", following(dir)))
		seen := map[string]string{}
		reads := func(want string) (partition string) {
			t.Helper()
			b, ack, err := s.Read(t.Context(), connector.Room{})
			if err != nil || len(b) != 1 || string(b[0].Data) != want {
				t.Fatalf("read %d messages, %v; want %q", len(b), err, want)
			}
			if err := ack(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			o := b[0].Meta.Origin
			at := fmt.Sprintf("%s %s % x", o.Stream, o.Partition, o.Position)
			if before := seen[at]; before != "" {
				t.Errorf("%q is at %s, where %q was", want, at, before)
			}
			seen[at] = want
			return o.Partition
		}
		appendTo(t, log, "one\n")
		first := reads("one")
		appendTo(t, log, "two\n")
		if reads("two") != first {
			t.Error("a file that grew is another partition")
		}
		time.Sleep(time.Second)
		write(t, log, "new\n")
		second := reads("new")
		closed(t, s)
		s = opened(t, source(dir, "*.log", following(dir)))
		appendTo(t, log, "more\n")
		if reads("more") != second {
			t.Error("a file is another partition after a restart")
		}
		closed(t, s)
		write(t, log, "0\n")
		s = opened(t, source(dir, "*.log", following(dir)))
		if third := reads("0"); third == first || third == second {
			t.Error("a file that was replaced while nothing read it is the same partition")
		}
		closed(t, s)
	})
}

// TestLag: the bytes that were not read, of files that are open, that are not opened yet and
// that grow while nobody reads.
func TestLag(t *testing.T) {
	t.Parallel()
	for _, follow := range []bool{false, true} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "1.log"), "one\ntwo\n")
		write(t, filepath.Join(dir, "2.log"), "three\n")
		s := opened(t, source(dir, "*.log", func(c *Config) { c.Follow, c.MaxBatchMessages = follow, 1 }))
		behind := func() (n int64, partitions int) {
			t.Helper()
			lags, err := s.Lag(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, l := range lags {
				if l.Stream != s.config.Path || l.Messages != connector.Unknown || l.Age != connector.Unknown {
					t.Errorf("lag %+v", l)
				}
				n += l.Bytes
				seen[l.Partition] = true
			}
			return n, len(seen)
		}
		read := func() {
			t.Helper()
			if _, _, err := s.Read(t.Context(), connector.Room{}); err != nil {
				t.Fatal(err)
			}
		}
		if n, files := behind(); n != 14 || files != 2 {
			t.Errorf("follow %t: %d bytes in %d files before the first read, want 14 in 2", follow, n, files)
		}
		read()
		read()
		read()
		if n, _ := behind(); n != 0 {
			t.Errorf("follow %t: %d bytes when all is read", follow, n)
		}
		if follow {
			appendTo(t, filepath.Join(dir, "1.log"), "more\n")
			if n, _ := behind(); n != 5 {
				t.Errorf("%d bytes after 5 were appended", n)
			}
		}
		closed(t, s)
		if n, files := behind(); n != 0 || files != 0 {
			t.Errorf("follow %t: %d bytes of %d files after the end", follow, n, files)
		}
	}
}

func TestFollowManyFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		busy, quiet := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")
		appendTo(t, busy, strings.Repeat("busy\n", 100))
		s := opened(t, source(dir, "*.log", func(c *Config) { following(dir)(c); c.MaxBatchMessages = 10 }))
		appendTo(t, quiet, "quiet\n")
		time.Sleep(time.Second)
		var order []string
		for range 5 {
			b, _, err := s.Read(t.Context(), connector.Room{})
			if err != nil {
				t.Fatal(err)
			}
			order = append(order, string(b[0].Data))
		}
		if !slices.Contains(order[:3], "quiet") {
			t.Errorf("a busy file keeps another waiting: %v", order)
		}
		// A file that is renamed to a name that matches is not read again.
		all(t, s)
		rename(t, quiet, filepath.Join(dir, "c.log"))
		appendTo(t, filepath.Join(dir, "c.log"), "renamed\n")
		wantLines(t, "renamed", all(t, s), "renamed")
		closed(t, s)
	})
}

func TestRenamedWhileNothingWasRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := filepath.Join(dir, "app.log")
		appendTo(t, log, "one\n")
		s := opened(t, source(dir, "app.log", following(dir)))
		wantLines(t, "first run", all(t, s), "one")
		closed(t, s)
		appendTo(t, log, "two\n")
		rename(t, log, log+".1")
		appendTo(t, log, "three\n")
		s = opened(t, source(dir, "app.log", following(dir)))
		wantLines(t, "second run", all(t, s), "two three")
		closed(t, s)
	})
}

// A new file that was given the inode of one that was read is read from its beginning.
func TestInodeThatIsUsedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "app.log")
	write(t, log, "one\ntwo\nthree\n")
	change := func(c *Config) { c.PositionFile = filepath.Join(dir, "position") }
	s := opened(t, source(dir, "app.log", change))
	wantLines(t, "first run", all(t, s), "one two three")
	closed(t, s)
	write(t, log, "uno\ndos\ntres\ncuatro\n") // the same inode with other content
	s = opened(t, source(dir, "app.log", change))
	wantLines(t, "another file", all(t, s), "uno dos tres cuatro")
	closed(t, s)
	write(t, log, "uno\n") // truncated to what it began with
	s = opened(t, source(dir, "app.log", change))
	wantLines(t, "truncated", all(t, s), "uno")
	closed(t, s)
}

func TestFollowCompressed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		whole := string(compressed(t, "gzip", strings.Repeat("a line\n", 100)+fmt.Sprint(rand.Perm(500))+"\nlast\n"))
		path := filepath.Join(dir, "x.log")
		s := opened(t, source(dir, "*.log", following(dir)))
		var got string
		for i := 0; i < len(whole); i += 1 + len(whole)/5 { // as it is being written
			appendTo(t, path, whole[i:min(i+1+len(whole)/5, len(whole))])
			got += " " + all(t, s)
		}
		if n := strings.Count(got, "a line"); n != 100 || !strings.HasSuffix(got, " last") {
			t.Errorf("%d lines, the end is %q", n, got[max(len(got)-10, 0):])
		}
		closed(t, s)
	})
}

// Whatever is settled in whatever order, and wherever the run ends: what the next run
// reads and what was settled together are everything, and only what was settled after a
// gap is read twice.
func TestPositionsOverRestarts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		dir := t.TempDir()
		rng := rand.New(rand.NewPCG(seed, 7))
		const n = 300
		for f := range 3 {
			var text strings.Builder
			for i := range n / 3 {
				fmt.Fprintf(&text, "%d\n", f*n/3+i)
			}
			write(t, filepath.Join(dir, fmt.Sprintf("%d.log", f)), text.String())
		}
		settled := map[string]bool{}
		for run := 0; ; run++ {
			s := opened(t, source(dir, "*.log", func(c *Config) {
				c.PositionFile, c.MaxBatchMessages = filepath.Join(dir, "position"), 1+rng.IntN(20)
			}))
			var mu sync.Mutex
			var wg sync.WaitGroup
			ended := false
			for range 1 + rng.IntN(10) {
				b, ack, err := s.Read(t.Context(), connector.Room{})
				if err == io.EOF {
					ended = true
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				fails, never := run < 20 && rng.IntN(8) == 0, run < 20 && rng.IntN(8) == 0
				wg.Go(func() {
					for range 3 {
						runtime.Gosched()
					}
					o := event.Outcomes(nil)
					if fails {
						o = make(event.Outcomes, len(b))
						o[len(b)/2] = event.ErrUnsettled
					}
					mu.Lock()
					if !never {
						for i, m := range b {
							if o == nil || o[i] == nil {
								settled[string(m.Data)] = true
							}
						}
					}
					mu.Unlock()
					if never {
						return
					}
					if err := ack(t.Context(), o); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if rng.IntN(3) > 0 { // or it is killed: nothing is closed
				closed(t, s)
			} else {
				s.letGo()
			}
			if ended && len(settled) == n {
				break
			}
			if run > 500 {
				t.Fatalf("seed %d: %d of %d lines were settled after 500 runs", seed, len(settled), n)
			}
		}
	}
}

// An ack returns when the position is on disk, and says so when it is not.
func TestAckIsDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "a\nb\n")
	sub := filepath.Join(dir, "state")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	s := opened(t, source(dir, "file", func(c *Config) { c.PositionFile, c.MaxBatchMessages = filepath.Join(sub, "position"), 1 }))
	_, ack, err := s.Read(t.Context(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(sub); err != nil {
		t.Fatal(err)
	}
	if err := ack(t.Context(), nil); err == nil {
		t.Error("an ack whose position could not be saved returned nil")
	}
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	_, second, err := s.Read(t.Context(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	if err := second(t.Context(), nil); err != nil {
		t.Error(err)
	}
	ps, err := loadBook(filepath.Join(sub, "position"))
	if err != nil || len(ps.all()) != 1 || ps.all()[0].Offset != 4 {
		t.Errorf("positions %+v, %v", ps, err)
	}
	closed(t, s)
}

func TestRelativePaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in.log"), "found\n")
	made, err := Entry.Build(t.Context(), connector.Deps{Dir: dir}, func(into any) error {
		c := into.(*Config)
		c.Path, c.PositionFile = "in.*", "pos"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*Source)
	opened(t, s)
	wantLines(t, "beside the config", all(t, s), "found")
	closed(t, s)
	if _, err := os.Stat(filepath.Join(dir, "pos")); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config{
		"path is empty":                       {MaxLineBytes: 1, MaxBatchMessages: 1},
		"path is not a valid pattern: a[":     {Path: "a[", MaxLineBytes: 1, MaxBatchMessages: 1},
		"max_line_bytes must be at least 1":   {Path: "a", MaxBatchMessages: 1},
		"max_batch_messages must be at least": {Path: "a", MaxLineBytes: 1},
	} {
		if ps := c.Validate(); len(ps) != 1 || !strings.HasPrefix(ps[0].What, want) || ps[0].Fix == "" {
			t.Errorf("problems %+v, want %s", ps, want)
		}
	}
}

func FuzzPositionFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":[{"path":"a","device":1,"inode":2,"offset":3,"prefix":{"bytes":4,"sha256":"x"}}]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"version":1,"files":[{"offset":-5,"prefix":{"bytes":-1}}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "position")
		write(t, path, string(content))
		ps, err := loadBook(path)
		if err != nil {
			return
		}
		if err := ps.prove(); err != nil {
			t.Fatal(err)
		}
		again, err := loadBook(path)
		if err != nil || !reflect.DeepEqual(again.all(), ps.all()) || !reflect.DeepEqual(again.gone, ps.gone) {
			t.Fatalf("saved %+v, loaded %+v (%v)", ps.all(), again.all(), err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	write(b, filepath.Join(dir, "file"), strings.Repeat(strings.Repeat("x", 511)+"\n", 20_000))
	b.ReportAllocs()
	b.SetBytes(20_000 * 512)
	for b.Loop() {
		s := source(dir, "file", nil)
		if err := s.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		for {
			if _, _, err := s.Read(b.Context(), connector.Room{}); err != nil {
				break
			}
		}
		_ = s.Close(b.Context())
	}
}

func timeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
