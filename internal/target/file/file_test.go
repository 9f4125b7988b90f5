package file

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// childEnv makes the test binary one of the processes below.
const childEnv = "FILE_TARGET_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "writer":
		childWriter(os.Args[1])
	case "full":
		childFull(os.Args[1])
	case "lock":
		childLock(os.Args[1])
	default:
		goleak.VerifyTestMain(m)
	}
}

func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], path)
	c.Env = append(os.Environ(), childEnv+"="+role)
	c.Stderr = os.Stderr
	return c
}

func at(path string, change func(*Config)) *Target {
	c := *Entry.Default().(*Config)
	c.Path = path
	if change != nil {
		change(&c)
	}
	return &Target{config: c, log: slog.New(slog.DiscardHandler)}
}

func opened(t testing.TB, target *Target) *Target {
	t.Helper()
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close(context.Background()) })
	return target
}

func batch(payloads ...string) event.Batch {
	b := make(event.Batch, len(payloads))
	for i, p := range payloads {
		b[i] = event.New([]byte(p))
	}
	return b
}

func wantFile(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s has %q, want %q (%v)", filepath.Base(path), got, want, err)
	}
}

func writes(t testing.TB, target *Target, payloads ...string) {
	t.Helper()
	if err := target.Write(t.Context(), batch(payloads...)); err != nil {
		t.Error(err)
	}
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Examples(t, conntest.One(Entry), "../../..")
	for _, newlines := range []bool{false, true} {
		t.Run(fmt.Sprintf("allow_newlines=%t", newlines), func(t *testing.T) {
			c := conntest.TargetCase{
				Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
					path := filepath.Join(t.TempDir(), "out")
					open := func() connector.Target {
						return at(path, func(c *Config) { c.AllowNewlines = newlines })
					}
					return open, func() [][]byte {
						content, err := os.ReadFile(path)
						if err != nil {
							t.Fatal(err)
						}
						var lines [][]byte
						for l := range bytes.Lines(content) {
							lines = append(lines, bytes.TrimSuffix(l, []byte("\n")))
						}
						return lines
					}
				},
				Broken:   func(t *testing.T) connector.Target { return at(filepath.Join(t.TempDir(), "no", "out"), nil) },
				Want:     fault.Setup,
				Features: conntest.TargetFeatures{Empty: true, Ordered: true},
			}
			if !newlines {
				c.Refused = [][]byte{[]byte("two\nlines"), []byte("\n"), []byte("end\n")}
			}
			conntest.Target(t, c)
		})
	}
}

func TestAppends(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deep", "er", "out")
	target := opened(t, at(path, func(c *Config) { c.CreateDirectories = true }))
	writes(t, target, "a", "", "b")
	if err := target.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	target = opened(t, at(path, nil))
	writes(t, target, "c")
	wantFile(t, path, "a\n\nb\nc\n")
	_ = target.Close(t.Context())
	target = opened(t, at(path, func(c *Config) { c.Append = false }))
	writes(t, target, "new")
	wantFile(t, path, "new\n")
}

func TestNewlines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	target := opened(t, at(path, nil))
	err := target.Write(t.Context(), batch("a", "two\nlines", "b"))
	want := "the payload has a line end at byte 3 and would be read as several lines; take it out with a transform, or set allow_newlines = true"
	var p *connector.Partial
	if !errors.As(err, &p) || len(p.Failed) != 1 || p.Failed[1].Error() != want || fault.Of(p.Failed[1]) != fault.Invalid {
		t.Errorf("error %v", err)
	}
	allowed := opened(t, at(path, func(c *Config) { c.AllowNewlines = true }))
	writes(t, allowed, "two\nlines")
	wantFile(t, path, "a\nb\ntwo\nlines\n")
}

func TestErrorsOfOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for want, path := range map[string]string{
		"create the directory " + dir + "/no or set create_directories = true": filepath.Join(dir, "no", "out"),
		"it is not a regular file":  dir,
		"not a directory; correct":  filepath.Join(dir, "file", "out"),
		"use the stdout target for": "/dev/full",
	} {
		err := at(path, nil).Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.Setup {
			t.Errorf("Open %s: %v (%s), want %s", path, err, fault.Of(err), want)
		}
	}
}

func TestCheckWritesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	if err := at(path, nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Check has made the file: %v", err)
	}
	if err := at(filepath.Join(path, "no", "out"), nil).Check(t.Context()); fault.Of(err) != fault.Setup {
		t.Errorf("Check without the directory: %v", err)
	}
}

// A line that a crash has torn is ended, and nothing is deleted.
func TestTornLineIsEnded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("whole\nto"), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	target := at(path, nil)
	target.log = slog.New(slog.NewTextHandler(&log, nil))
	writes(t, opened(t, target), "next")
	wantFile(t, path, "whole\nto\nnext\n")
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), path) {
		t.Errorf("logged %q", log.String())
	}
}

// Rotation: the file is renamed or removed between two writes.
func TestRenamedFileIsMadeAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	target := opened(t, at(path, nil))
	writes(t, target, "a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	writes(t, target, "b")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writes(t, target, "c")
	wantFile(t, path+".1", "a\n")
	wantFile(t, path, "c\n")
	second := opened(t, at(path, nil))
	if err := os.Truncate(path, 0); err != nil { // emptied in place by somebody else
		t.Fatal(err)
	}
	writes(t, second, "d")
	wantFile(t, path, "d\n")
}

// Many targets of one process share one handle, also through a link.
func TestTargetsOfOneProcessShareTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "out"), filepath.Join(dir, "link")
	first := opened(t, at(path, nil))
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		p := path
		if w%2 == 0 {
			p = link
		}
		wg.Go(func() {
			target := at(p, func(c *Config) { c.Append = w%3 > 0 }) // the others do not empty it
			if err := target.Open(t.Context()); err != nil {
				t.Error(err)
				return
			}
			for i := range 20 {
				long := strings.Repeat(strconv.Itoa(w), 5000)
				writes(t, target, fmt.Sprintf("%d.%d.%s", w, i, long))
			}
			if err := target.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	writes(t, first, "still open")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	if len(lines) != 161 {
		t.Errorf("%d lines, want 161", len(lines))
	}
	for _, l := range lines[:len(lines)-1] {
		parts := strings.Split(l, ".")
		if len(parts) != 3 || parts[2] != strings.Repeat(parts[0], 5000) {
			t.Fatalf("a line is mixed: %.40s", l)
		}
	}
	_ = first.Close(t.Context())
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	owned.Lock()
	defer owned.Unlock()
	if owned.names[path] != nil || owned.names[link] != nil || slices.ContainsFunc(owned.files, func(h *handle) bool { return os.SameFile(h.info, info) }) {
		t.Error("the handle is kept after the last target was closed")
	}
}

// Two processes must not write one file.
func TestLockBetweenProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	target := opened(t, at(path, nil))
	out, err := child(t, "lock", path).Output()
	if err != nil || !strings.Contains(string(out), "setup: open "+path+": another process writes it") || !strings.Contains(string(out), "give each its own path") {
		t.Errorf("the other process says %q, %v", out, err)
	}
	_ = target.Close(t.Context())
	if out, err := child(t, "lock", path).Output(); err != nil || string(out) != "open" {
		t.Errorf("after Close the other process says %q, %v", out, err)
	}
}

func childLock(path string) {
	if err := at(path, nil).Open(context.Background()); err != nil {
		fmt.Fprintf(os.Stdout, "%s: %v", fault.Of(err), err)
		return
	}
	fmt.Fprint(os.Stdout, "open")
}

// A disk that fills up within a line, for every place in the line: what was written whole
// counts, the rest is reported, nothing torn stays, and once there is room all of it goes.
func TestDiskThatFillsUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	if out, err := child(t, "full", path).Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// childFull sets the largest file size of its own process, which no other test may share.
func childFull(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	full := "first\nsecond\n\nfourth\n"
	for room := range len(full) {
		name := fmt.Sprintf("%s.%d", path, room)
		target := at(name, nil)
		check(target.Open(ctx), "open")
		check(target.Write(ctx, batch("before")), "write")
		limit(uint64(len("before\n") + room))
		b := batch("first", "second", "", "fourth")
		err := target.Write(ctx, b)
		limit(1 << 40)
		whole := strings.Count(full[:room], "\n")
		var p *connector.Partial
		partial := errors.As(err, &p)
		switch {
		case err == nil || fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), "free space or raise the limit"):
			die("room for %d: error %v (%s)", room, err, fault.Of(err))
		case partial != (whole > 0):
			die("room for %d: %d whole lines and error %v", room, whole, err)
		case partial && (len(p.Failed) != 4-whole || p.Failed[whole] == nil):
			die("room for %d: failed are %v", room, p.Failed)
		}
		content, _ := os.ReadFile(name)
		if want := "before\n" + full[:strings.LastIndexByte("\n"+full[:room], '\n')]; string(content) != want {
			die("room for %d: after the failure the file has %q, want %q", room, content, want)
		}
		check(target.Write(ctx, b[whole:]), "write again")
		content, _ = os.ReadFile(name)
		if string(content) != "before\n"+full {
			die("room for %d: in the end the file has %q", room, content)
		}
		check(target.Close(ctx), "close")
	}
}

func limit(n uint64) {
	var l syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l), "getrlimit")
	l.Cur = min(n, l.Max)
	check(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l), "setrlimit")
}

func check(err error, what string) {
	if err != nil {
		die("%s: %v", what, err)
	}
}

func die(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...)
	os.Exit(1)
}

// TestKilled kills a writing process again and again: every line that it was told is
// written is there and whole, and between torn lines nothing is mixed.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	acknowledged := map[string]bool{}
	for run := range 6 {
		c := child(t, "writer", path)
		c.Args = append(c.Args, strconv.Itoa(run))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == 20+run*17 {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = c.Wait()
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	there, torn := map[string]bool{}, 0
	for l := range strings.Lines(string(content)) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		if rest == childPadding {
			there[id] = true
		} else if torn++; !strings.HasPrefix(id+" "+childPadding, strings.TrimSuffix(l, "\n")) {
			t.Errorf("a line is neither whole nor the beginning of one: %.60q", l)
		}
	}
	if len(acknowledged) < 100 {
		t.Fatalf("only %d lines were acknowledged", len(acknowledged))
	}
	for id := range acknowledged {
		if !there[id] {
			t.Errorf("line %s was acknowledged and is not there", id)
		}
	}
	if torn > 6 {
		t.Errorf("%d torn lines after 6 kills", torn)
	}
}

var childPadding = strings.Repeat("payload ", 2000)

// childWriter writes batches and prints the number of each line that is acknowledged.
func childWriter(path string) {
	target := at(path, nil)
	check(target.Open(context.Background()), "open")
	for n := 0; ; n += 10 {
		var b event.Batch
		var ids []string
		for i := range 10 {
			id := fmt.Sprintf("%s-%d", os.Args[2], n+i)
			ids = append(ids, id)
			b = append(b, event.New([]byte(id+" "+childPadding)))
		}
		check(target.Write(context.Background(), b), "write")
		if _, err := os.Stdout.WriteString(strings.Join(ids, "\n") + "\n"); err != nil {
			os.Exit(1)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	c := *Entry.Default().(*Config)
	if ps := c.Validate(); len(ps) != 1 || ps[0].Field != "path" {
		t.Errorf("problems %+v", ps)
	}
	c.Path, c.Batching.MaxBatchMessages = "x", 0
	if ps := c.Validate(); len(ps) != 1 || ps[0].Field != "batching.max_batch_messages" {
		t.Errorf("problems %+v", ps)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, sync := range []bool{true, false} {
		b.Run(fmt.Sprintf("sync=%t", sync), func(b *testing.B) {
			target := opened(b, at(filepath.Join(b.TempDir(), "out"), func(c *Config) { c.Sync = sync }))
			batch := make(event.Batch, 500)
			for i := range batch {
				batch[i] = event.New(make([]byte, 512))
			}
			b.ReportAllocs()
			b.SetBytes(500 * 513)
			for b.Loop() {
				if err := target.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
