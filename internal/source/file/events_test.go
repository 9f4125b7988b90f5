package file

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
)

// everything reads until the end or for a second, acknowledges all, and returns the messages,
// those that are refused in brackets.
func everything(t *testing.T, s *Source) string {
	t.Helper()
	var got []string
	for {
		ctx, stop := t.Context(), func() {}
		if s.config.Follow {
			ctx, stop = timeout(t, time.Second)
		}
		b, ack, err := s.Read(ctx, connector.Room{})
		stop()
		if err != nil {
			return strings.Join(got, " ")
		}
		for _, m := range b {
			text := string(m.Data[:min(len(m.Data), 20)])
			if m.Refused() != nil {
				text = "(" + text + ")"
			}
			got = append(got, text)
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

// TestEvents does things to files that are followed, with and without positions, and demands
// each line once.
func TestEvents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path  string // which files; app.log* if empty
		steps []any  // what is done, and what is read after it
	}{
		"a line in pieces": {steps: []any{
			func(w *place) { w.append("app.log", "o") }, "", func(w *place) { w.append("app.log", "n") }, "", func(w *place) { w.append("app.log", "e\ntw") }, "one", func(w *place) { w.append("app.log", "o\n") }, "two"}},
		"byte order marks": {steps: []any{
			func(w *place) { w.append("app.log", "\xef\xbb") }, "", func(w *place) { w.append("app.log", "\xbfone\n\xef\xbb\xbftwo\n") }, "one \xef\xbb\xbftwo",
			func(w *place) { w.write("app.log", "\xef\xbb\xbfthree\n") }, "three", func(w *place) { w.write("app.log.1", "\xef\xbb\xbf{}\n") }, "{}"}},
		"a hole": {steps: []any{
			func(w *place) { w.append("app.log", "old\n") }, "old", func(w *place) { w.write("app.log", strings.Repeat("\x00", 3<<20)) }, "", func(w *place) { w.append("app.log", "new\nnext\n") }, "new next",
			func(w *place) { w.append("app.log", "last\n") }, "last"}},
		"a sparse hole": {steps: []any{
			func(w *place) { w.append("app.log", "old\n") }, "old", func(w *place) { w.write("app.log", ""); w.at("app.log", 1<<34, "new\n") }, "new", func(w *place) { w.append("app.log", "next\n") }, "next"}},
		"room made beforehand": {steps: []any{
			func(w *place) { w.write("app.log", strings.Repeat("\x00", 1<<20)) }, "", func(w *place) { w.at("app.log", 0, "one\n") }, "one", func(w *place) { w.at("app.log", 4, "two\nth") }, "two", func(w *place) { w.at("app.log", 10, "ree\n") }, "three"}},
		"compressed at once": {steps: []any{
			func(w *place) { w.append("app.log", "one\ntwo\n") }, "one two",
			func(w *place) {
				w.append("app.log", "three\n")
				w.compress("app.log", "app.log.1.gz")
				w.remove("app.log")
				w.append("app.log", "four\n")
			}, "three four",
			func(w *place) { w.rename("app.log.1.gz", "app.log.2.gz") }, ""}},
		"compressed beside it": {steps: []any{
			func(w *place) { w.append("app.log", "one\n") }, "one", func(w *place) { w.compress("app.log", "app.log.gz") }, "", func(w *place) { w.append("app.log", "two\n") }, "two",
			func(w *place) { w.remove("app.log") }, ""}},
		"two archives alike": {steps: []any{
			func(w *place) { w.write("app.log-a", "same\n"); w.compress("app.log-a", "app.log-b.gz") }, "same same"}},
		"copied and truncated": {steps: []any{
			func(w *place) { w.append("app.log", "one\ntwo\n") }, "one two",
			func(w *place) {
				w.append("app.log", "three\n")
				w.write("app.log.1", "one\ntwo\nthree\n")
				w.write("app.log", "")
				w.append("app.log", "four\n")
			}, "four three"}},
		"a copy of its own": {steps: []any{
			func(w *place) { w.append("app.log", "one\n") }, "one", func(w *place) { w.write("app.log-copy", "one\n") }, "", func(w *place) { time.Sleep(10 * time.Second) }, "one"}},
		"replaced by another": {path: "app.log", steps: []any{
			func(w *place) { w.append("app.log", "one\n") }, "one", func(w *place) { w.write("x", "one\nmore\n"); w.rename("x", "app.log") }, "one more"}},
		"links": {steps: []any{
			func(w *place) {
				w.append("app.log.1", "one\n")
				w.link("app.log.1", "app.log")
				w.link("nowhere", "app.log.lost")
			}, "one",
			func(w *place) {
				w.append("app.log.2", "two\n")
				w.remove("app.log")
				w.link("app.log.2", "app.log")
				w.append("app.log.1", "late\n")
			}, "late two"}},
		"a link that moves": {path: "app.log", steps: []any{
			func(w *place) { w.append("real.1", "one\n"); w.link("real.1", "app.log") }, "one",
			func(w *place) {
				w.remove("app.log")
				w.append("real.2", "two\n")
				w.link("real.2", "app.log")
				w.append("real.1", "late\n")
			}, "late two",
			func(w *place) { time.Sleep(time.Minute); w.append("real.1", "very late\n") }, "very late"}},
		"renamed into another directory": {path: "app.log", steps: []any{
			func(w *place) { w.append("app.log", "one\n") }, "one",
			func(w *place) { w.rename("app.log", "old/app.log"); w.append("old/app.log", "two\n") }, "two",
			func(w *place) { time.Sleep(time.Minute) }, "", func(w *place) { w.append("old/app.log", "three\n") }, "three"}},
		"a line too long, in pieces": {steps: []any{
			func(w *place) { w.append("app.log", "one\n"+strings.Repeat("x", 900)) }, "one", func(w *place) { w.append("app.log", strings.Repeat("y", 900)) }, "",
			func(w *place) { w.append("app.log", "\ntwo\n") }, "(xxxxxxxxxxxxxxxxxxxx) two"}},
		"a damaged archive": {steps: []any{
			func(w *place) {
				whole := compressed(w.t, "gzip", strings.Repeat("line\n", 3)+strings.Repeat("0123456789abcdef", 20))
				whole[len(whole)-6]++ // its checksum
				w.write("app.log.gz", string(whole))
				w.append("app.log.zz", "other\n")
			}, "line line line other (0123456789abcdef0123)", func(w *place) { w.append("app.log.zz", "more\n") }, "more"}},
		"an archive that grows": {steps: []any{
			func(w *place) { w.write("app.log.gz", string(compressed(w.t, "gzip", "one\n"))) }, "one",
			func(w *place) { w.append("app.log.gz", string(compressed(w.t, "gzip", "two\n"))) }, "two"}},
	} {
		for _, positions := range []bool{false, true} {
			for _, restarts := range []bool{false, true} {
				if restarts && !positions {
					continue
				}
				t.Run(fmt.Sprintf("%s, positions %t, restarts %t", name, positions, restarts), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						w := &place{t, t.TempDir()}
						if err := os.Mkdir(filepath.Join(w.dir, "old"), 0o755); err != nil {
							t.Fatal(err)
						}
						path := "app.log*"
						if c.path != "" {
							path = c.path
						}
						open := func() *Source {
							return opened(t, source(w.dir, path, func(x *Config) {
								x.Follow, x.MaxLineBytes = true, 1000
								if positions {
									x.PositionFile = filepath.Join(w.dir, "app.log.position") // which path matches
								}
							}))
						}
						s := open()
						for i, step := range c.steps {
							switch step := step.(type) {
							case func(*place):
								step(w)
							case string:
								wantLines(t, fmt.Sprint("after step ", i), everything(t, s), step)
								time.Sleep(2 * time.Second)
								if restarts {
									closed(t, s)
									s = open()
								}
							}
						}
						closed(t, s)
					})
				})
			}
		}
	}
}

// place is a directory in which things happen.
type place struct {
	t   *testing.T
	dir string
}

func (w *place) path(name string) string    { return filepath.Join(w.dir, name) }
func (w *place) write(name, content string) { write(w.t, w.path(name), content) }
func (w *place) append(name, more string)   { appendTo(w.t, w.path(name), more) }
func (w *place) rename(from, to string)     { rename(w.t, w.path(from), w.path(to)) }

func (w *place) do(err error) {
	if err != nil {
		w.t.Error(err)
	}
}

func (w *place) remove(name string)   { w.do(os.Remove(w.path(name))) }
func (w *place) link(to, name string) { w.do(os.Symlink(to, w.path(name))) }

func (w *place) at(name string, offset int64, more string) {
	f, err := os.OpenFile(w.path(name), os.O_WRONLY, 0)
	w.do(err)
	_, err = f.WriteAt([]byte(more), offset)
	w.do(err)
	w.do(f.Close())
}

func (w *place) compress(name, to string) {
	content, err := os.ReadFile(w.path(name))
	w.do(err)
	w.write(to, string(compressed(w.t, "gzip", string(content))))
}

// TestOneFileStopsNoOther reads files once of which some cannot be read: everything else is, each
// trouble is said once, and the end tells.
func TestOneFileStopsNoOther(t *testing.T) {
	t.Parallel()
	w := &place{t, t.TempDir()}
	whole := string(compressed(t, "gzip", strings.Repeat("line\n", 5)))
	w.write("a.log", "a\n")
	w.write("b.log", "\x1f\x8b\x08garbage, and no archive")
	w.write("c.log", whole[:len(whole)-3])
	w.write("d.log", "\x28\xb5\x2f\xfdgarbage too")
	w.do(os.Mkdir(w.path("e.log"), 0o755))
	w.link("nowhere", "f.log")
	w.link("a.log", "g.log")
	w.write("z.log", "z")
	var log bytes.Buffer
	s := source(w.dir, "*.log", func(c *Config) { c.PositionFile = w.path("position") })
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		log.Reset()
		opened(t, s)
		got := everything(t, s)
		_, _, err := s.Read(t.Context(), connector.Room{})
		if err == nil || err == io.EOF {
			t.Errorf("the end is %v", err)
			err = io.EOF
		}
		for _, name := range []string{"b.log", "c.log", "d.log"} {
			if n := strings.Count(log.String(), "file="+w.path(name)); n != 1 || !strings.Contains(err.Error(), name) {
				t.Errorf("%s is named %d times in the log, and the end is %v", name, n, err)
			}
		}
		if want := "a line line line line line z"; got != want && got != "" {
			t.Errorf("read %q, want %q", got, want)
		}
		closed(t, s)
	}
}
