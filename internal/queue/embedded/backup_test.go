package embedded

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log/disk"
)

// TestBackup copies a store that is worked on, again and again, and opens each copy: it holds what
// was acknowledged before the copy began, nothing that was not asked for until it ended, and is
// whole; where the file system has links, and where it has none.
func TestBackup(t *testing.T) {
	t.Parallel()
	for name, fs := range map[string]vfs.FS{"linked": vfs.NewMem(), "copied": linkless{vfs.NewMem()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{FS: fs, SegmentBytes: 128 << 10}
			s, err := Open("store", o)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			l := newLedger()
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- toil(ctx, s, 0, 20_000, func(verb string, ids ...string) {
					mu.Lock()
					defer mu.Unlock()
					for _, id := range ids {
						l.line(verb + " " + id)
					}
				})
			}()
			for run := range envInt(t, "WEIR_CHAOS_RUNS", 3) {
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
				if run%3 == 2 {
					if err := s.Compact(t.Context()); err != nil {
						t.Error(err)
					}
				}
				dir := fmt.Sprint("copy", run)
				var done, total int64
				before := l.copy(&mu)
				err := s.Backup(t.Context(), dir, func(d, of int64) { done, total = d, of })
				after := l.copy(&mu)
				if err != nil || done == 0 || done > total {
					t.Errorf("backup %d: %v; %d of %d bytes", run, err, done, total)
					break
				}
				again, err := Open(dir, o)
				if err != nil {
					t.Errorf("backup %d: %v", run, err)
					break
				}
				if _, err := again.Check(t.Context(), nil); err != nil {
					t.Errorf("backup %d: %v", run, err)
				}
				found, n := inventory(t, again)
				between(t, before, after, found)
				record(t, n, -1, before.low, after.high)
				if err := again.Close(); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					break
				}
			}
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			// Working on copies that share segments with it has not harmed the store.
			if _, err := s.Check(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func openTemp(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// linkless is a file system without links.
type linkless struct{ vfs.FS }

func (linkless) Link(_, _ string) error { return errors.ErrUnsupported }

// TestBackupFails leaves nothing behind where a backup cannot be completed, and touches nothing
// that is there.
func TestBackupFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTemp(t, filepath.Join(dir, "store"))
	into := filepath.Join(dir, "there")
	if err := os.Mkdir(into, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), into, nil); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("into a folder that is there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, filepath.Join(dir, "new"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("there are %v, %v; want the store and the folder", names, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "new"), nil); err == nil {
		t.Error("a store that is closed was backed up")
	}
}

// TestFormatRises opens a store of format 1: looking leaves it one, and the first entry makes it
// one of format 2, before anything else.
func TestFormatRises(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	copyDir(t, "testdata/store-format-1", dir)
	format := func() string {
		b, err := os.ReadFile(filepath.Join(dir, disk.FormatName))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	s := openTemp(t, dir)
	if _, err := s.Check(t.Context(), nil); err != nil {
		t.Error(err)
	}
	holds(t, s)
	if got := format(); got != "weir queue store\nformat 1\n" {
		t.Errorf("a look made it %q", got)
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte("x"))})
	}); err != nil {
		t.Fatal(err)
	}
	if got := format(); got != "weir queue store\nformat 2\n" {
		t.Errorf("after an append it is %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, disk.FormatName), []byte("weir queue store\nformat 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	untouched := func() string { // but for the lock, which is held for a moment
		return regexp.MustCompile(`(?m)^.*LOCK .*$`).ReplaceAllString(listing(t, dir), "")
	}
	before := untouched()
	_, err := Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), `"format 3"`) || !strings.Contains(err.Error(), "a newer one") {
		t.Errorf("format 3: %v", err)
	}
	if after := untouched(); after != before {
		t.Errorf("it was changed: %s, then %s", before, after)
	}
}
