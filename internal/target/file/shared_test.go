package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGenerations has the targets of one generation after another write to the same paths, by
// several names, while the files are rotated and renamed to one another: every line that was
// delivered is there once, whole, and where its path led when it was written.
func TestGenerations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"now", "moved"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "now"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	names := []string{"now/a", "link/a", "now/b"} // the second is the first by another name
	const generations, batches = 8, 12
	var delivered atomic.Int64
	var old []*Target
	var all sync.WaitGroup
	rotations := make(chan struct{})
	all.Go(func() {
		n := 0
		for range rotations {
			n++
			from := filepath.Join(dir, "now", string('a'+byte(n%2)))
			to := filepath.Join(dir, "moved", fmt.Sprint(n))
			if n%5 == 0 { // to the name that another target writes to: its file is replaced
				to = filepath.Join(dir, "now", string('a'+byte((n+1)%2)))
				if os.Link(to, filepath.Join(dir, "moved", fmt.Sprint("kept", n))) != nil {
					continue // it may not be there just now
				}
			}
			_ = os.Rename(from, to) // nor may this
		}
	})
	for g := range generations {
		var next []*Target
		for i, name := range names {
			target := at(filepath.Join(dir, name), func(c *Config) { c.Sync, c.Append = false, i != 2 || g > 0 })
			if err := target.Open(t.Context()); err != nil {
				t.Fatalf("generation %d, %s: %v", g, name, err)
			}
			next = append(next, target)
		}
		var writing sync.WaitGroup
		for i, target := range append(old[:len(old):len(old)], next...) {
			writing.Go(func() {
				for n := range batches {
					line := fmt.Sprintf("%d.%d.%d.", g, i, n)
					if err := target.Write(t.Context(), batch(line+strings.Repeat("x", 3000), line+strings.Repeat("y", 3000))); err != nil {
						t.Errorf("write: %v", err)
						continue
					}
					delivered.Add(2)
					if i == 0 {
						rotations <- struct{}{}
					}
				}
			})
		}
		writing.Wait()
		for _, target := range old {
			if err := target.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		old = next
	}
	close(rotations)
	all.Wait()
	for _, target := range old {
		if err := target.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	seen := map[string]string{}
	var infos []os.FileInfo
	for _, name := range glob(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		known := false
		for _, other := range infos {
			known = known || os.SameFile(info, other)
		}
		if infos = append(infos, info); known {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			end := strings.LastIndexByte(line, '.')
			if end < 0 || line[end+1:] != strings.Repeat(line[end+1:end+2], 3000)+"\n" {
				t.Fatalf("%s: a line is torn: %.40q, %d bytes", name, line, len(line))
			}
			key := line[:end+2]
			if before, twice := seen[key]; twice {
				t.Errorf("%s is in %s and in %s", key, before, name)
			}
			seen[key] = name
		}
	}
	if int64(len(seen)) != delivered.Load() {
		t.Errorf("%d lines are there of %d that were delivered", len(seen), delivered.Load())
	}
}

func glob(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, d := range []string{"now", "moved"} {
		found, err := filepath.Glob(filepath.Join(dir, d, "*"))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

// TestRenamedToTheOther: a config that follows a file to its new name writes there, while the
// one that it replaces makes the old name anew.
func TestRenamedToTheOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before, after := filepath.Join(dir, "before"), filepath.Join(dir, "after")
	old := opened(t, at(before, nil))
	writes(t, old, "1")
	if err := os.Rename(before, after); err != nil {
		t.Fatal(err)
	}
	next := opened(t, at(after, nil))
	writes(t, next, "2")
	writes(t, old, "3")
	writes(t, next, "4")
	_ = old.Close(t.Context())
	writes(t, next, "5")
	wantFile(t, after, "1\n2\n4\n5\n")
	wantFile(t, before, "3\n")
}

// TestEmptiedOnce: a target that is closed and opened again, or replaced by one of a new
// config, keeps what was delivered.
func TestEmptiedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("of an earlier process\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	anew := func(c *Config) { c.Append = false }
	target := opened(t, at(path, anew))
	writes(t, target, "1")
	_ = target.Close(t.Context())
	writes(t, opened(t, target), "2")
	_ = target.Close(t.Context())
	writes(t, opened(t, at(path, anew)), "3")
	wantFile(t, path, "1\n2\n3\n")
}

// TestLateWrite: a write that outlives its target holds no file, and stands in nobody's way.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	n, err := share(at(path, nil).config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.release(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.append(batch("late"), nil, true); err == nil || !strings.Contains(err.Error(), "not open") {
		t.Errorf("a late write: %v", err)
	}
	writes(t, opened(t, at(path, nil)), "1")
	wantFile(t, path, "1\n")
}
