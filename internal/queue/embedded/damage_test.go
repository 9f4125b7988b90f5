package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log/disk"
	"github.com/weirdata/weir/internal/queue/storetest"
)

const segmentHeader = 64 // bytes in front of the first frame of a segment

// sample makes a store with something in each kind of file and returns its directory, as
// it is after a clean end or after kill -9, and what is in it.
func sample(t *testing.T, killed bool) (dir string, want map[string]string, record int) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live")
	s, err := Open(live, Options{SegmentBytes: 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	id := 0
	for range 120 {
		var jobs []queue.Job
		for range 4 {
			id++
			j := queue.Job{Queue: "a", Msg: event.New(fmt.Appendf(nil, "%d %s", id, text(rng.IntN(400))))}
			j.Scope.Source = fmt.Sprint(id % 3)
			j.Msg.Key, j.Ordered = fmt.Sprint(id%5), id%2 == 0
			jobs = append(jobs, j)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			return errors.Join(tx.Append(jobs...), tx.Put([]byte("n"), fmt.Append(nil, id)))
		}); err != nil {
			t.Fatal(err)
		}
		leased, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			for i := range leased {
				j := &leased[i]
				rs := [...]queue.Result{j.Done(), j.Dead("damage"), j.Again(time.Now().Add(time.Hour), "later")}
				if err := tx.Settle(rs[i%3]); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if id == 240 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, record = inventory(t, s)
	dir = filepath.Join(t.TempDir(), "copy")
	if killed {
		copyLive(t, live, dir)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !killed {
		copyDir(t, live, dir)
	}
	return dir, want, record
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// copyLive copies the directory of an open store as a crash would leave it. The store may
// write and remove files by itself while it is idle: a copy during which it did is of no
// moment, and is made again.
func copyLive(t *testing.T, from, to string) {
	t.Helper()
	for {
		before := listing(t, from)
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		err := os.CopyFS(to, os.DirFS(from))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err == nil && listing(t, from) == before {
			return
		}
	}
}

// listing is the files of a directory, with their sizes and times.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintln(&b, path, "is gone")
			return nil
		case err != nil:
			return err
		}
		fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// kindOf names the kind of a file of a store.
func kindOf(path string) string {
	base := filepath.Base(path)
	for _, kind := range []string{disk.SegmentExt, ".sst", "MANIFEST", "OPTIONS", "marker"} {
		if strings.Contains(base, kind) {
			return kind
		}
	}
	return base
}

// verdict opens a store whose files were changed: it must refuse to open, or to read, or
// hold exactly what it should.
func verdict(t *testing.T, dir string, want map[string]string, record int) (wrong string, refused error) {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		return "", err
	}
	defer s.Close()
	if _, err := s.Check(t.Context(), nil); err != nil {
		return "", err
	}
	got := map[string]string{}
	for where, q := range map[string]queue.Search{"a": {}, "dead": {State: queue.Buried}} {
		p, err := s.List(t.Context(), q, queue.ID{}, 1<<20)
		if err != nil {
			return "", err
		}
		for i := range p.Jobs {
			got[idOf(&p.Jobs[i])] = where
		}
	}
	for id, where := range want {
		if got[id] != where {
			return fmt.Sprintf("job %s is in %q, want %q", id, got[id], where), nil
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d jobs, want %d", len(got), len(want)), nil
	}
	rs, err := storetest.Records(t.Context(), s, []byte("n"), nil, 1)
	if err != nil {
		return "", err
	}
	if len(rs) != 1 || string(rs[0].Value) != fmt.Sprint(record) {
		return fmt.Sprintf("record is %q, want %d", rs, record), nil
	}
	return "", nil
}

// TestFlippedByte flips one byte of each file, at many places, and cuts files short.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			t.Parallel()
			dir, want, record := sample(t, killed)
			if wrong, refused := verdict(t, cloneOf(t, dir), want, record); refused != nil || wrong != "" {
				t.Fatalf("the store without damage: %v %s", refused, wrong)
			}
			var files []string
			if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if info, err := d.Info(); err == nil && d.Type().IsRegular() && info.Size() > 0 {
					files = append(files, path)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(3, 4))
			refusals := map[string]int{}
			for _, path := range files {
				rel, err := filepath.Rel(dir, path)
				if err != nil {
					t.Fatal(err)
				}
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for range envInt(t, "WEIR_FLIP_RUNS", 4) {
					at := rng.IntN(len(whole))
					damaged := append([]byte(nil), whole...)
					damaged[at] ^= 1 << rng.IntN(8)
					tryDamage(t, dir, rel, damaged, fmt.Sprintf("byte %d of %d flipped", at, len(whole)), want, record, refusals)
				}
				cut := rng.IntN(len(whole))
				tryDamage(t, dir, rel, whole[:cut], fmt.Sprintf("cut at %d of %d", cut, len(whole)), want, record, refusals)
			}
			for _, kind := range []string{disk.SegmentExt, ".sst", disk.FormatName} {
				if refusals[kind] == 0 {
					t.Errorf("no damage to a file of kind %s was noticed", kind)
				}
			}
			t.Logf("refused by kind of file: %v", refusals)
		})
	}
}

func cloneOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "clone")
	copyDir(t, dir, to)
	return to
}

func tryDamage(t *testing.T, dir, rel string, content []byte, what string, want map[string]string, record int, refusals map[string]int) {
	t.Helper()
	to := cloneOf(t, dir)
	if err := os.WriteFile(filepath.Join(to, rel), content, 0o644); err != nil {
		t.Fatal(err)
	}
	wrong, refused := verdict(t, to, want, record)
	if wrong != "" {
		t.Errorf("%s, %s: the store opened, and %s", rel, what, wrong)
	}
	if refused != nil {
		refusals[kindOf(rel)]++
		if !errors.Is(refused, queue.ErrCorrupt) && !errors.Is(refused, queue.ErrVersion) {
			t.Errorf("%s, %s: refused with %v, which is not ErrCorrupt", rel, what, refused)
		}
	}
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
}

// TestMissingFile removes each file in turn.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	dir, want, record := sample(t, true)
	for _, rel := range []string{disk.MarkName, disk.FormatName} {
		to := cloneOf(t, dir)
		if err := os.RemoveAll(filepath.Join(to, rel)); err != nil {
			t.Fatal(err)
		}
		if wrong, refused := verdict(t, to, want, record); refused == nil {
			t.Errorf("without %s the store opened; %s", rel, wrong)
		}
	}
	// As long as the log begins at its first commit, the state can be made again.
	to := cloneOf(t, dir)
	if err := os.RemoveAll(filepath.Join(to, "state")); err != nil {
		t.Fatal(err)
	}
	if wrong, _ := verdict(t, to, want, record); wrong != "" {
		t.Errorf("without the state the store opened, and %s", wrong)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*"+disk.SegmentExt))
	if err != nil || len(segments) < 3 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	for _, path := range segments {
		to := cloneOf(t, dir)
		if err := os.Remove(filepath.Join(to, "log", filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
		wrong, refused := verdict(t, to, want, record)
		if wrong != "" {
			t.Errorf("without %s the store opened, and %s", filepath.Base(path), wrong)
		}
		if refused != nil && !errors.Is(refused, queue.ErrCorrupt) {
			t.Errorf("without %s: %v, which is not ErrCorrupt", filepath.Base(path), refused)
		}
	}
}

// TestTornTail cuts the last segment at every commit and between: what was acknowledged
// is missed; after salvage the rest is served.
func TestTornTail(t *testing.T) {
	t.Parallel()
	dir, _, _ := sample(t, true)
	segments, err := filepath.Glob(filepath.Join(dir, disk.LogDir, "*"+disk.SegmentExt))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	last := segments[len(segments)-1]
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	all := func(dir string) map[string]string {
		t.Helper()
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("open %s: %v", dir, err)
		}
		found, _ := inventory(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return found
	}
	uncut := all(cloneOf(t, dir))
	rng := rand.New(rand.NewPCG(5, 6))
	for range 12 {
		cut := segmentHeader + rng.IntN(len(whole)-segmentHeader)
		to := cloneOf(t, dir)
		if err := os.WriteFile(filepath.Join(to, "log", filepath.Base(last)), whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(to, Options{}); !errors.Is(err, queue.ErrCorrupt) {
			t.Fatalf("open with the log cut at %d of %d = %v, want ErrCorrupt", cut, len(whole), err)
		}
		r, err := Salvage(t.Context(), to, Options{}, nil)
		if err != nil {
			t.Fatalf("salvage with the log cut at %d: %v", cut, err)
		}
		if !r.Lost() { // the state may have had all that was cut off
			if d := cmp.Diff(uncut, all(to)); d != "" {
				t.Fatalf("salvage with the log cut at %d tells of no loss: %+v\n%s", cut, r, d)
			}
		}
		s, err := Open(to, Options{})
		if err != nil {
			t.Fatalf("open what was salvaged with the log cut at %d: %v", cut, err)
		}
		inventory(t, s)
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "new", Msg: event.New(nil)}) }); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(to, Options{}); err != nil {
			t.Fatalf("open after salvage: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Garbage beyond the mark was never acknowledged.
	if err := os.WriteFile(last, append(whole, make([]byte, 1000)...), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatalf("open with a tail that was never acknowledged: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A log that was cut after a clean close is refused when it is opened, not when somebody
// reads what is gone.
func TestCutAfterClose(t *testing.T) {
	t.Parallel()
	dir, _, _ := sample(t, false)
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	refused := 0
	for i, segment := range segments {
		clone := cloneOf(t, dir)
		path := filepath.Join(clone, "log", filepath.Base(segment))
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, segmentHeader+(info.Size()-segmentHeader)/2); err != nil {
			t.Fatal(err)
		}
		s, err := Open(clone, Options{})
		switch {
		case err == nil:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if info.Size() > segmentHeader && i == 0 {
				t.Errorf("%s was cut to half of %d bytes, and the store opens", filepath.Base(segment), info.Size())
			}
		case !errors.Is(err, queue.ErrCorrupt):
			t.Errorf("cut: %v", err)
		default:
			refused++
		}
	}
	if refused == 0 {
		t.Error("no cut was refused")
	}
}

func TestOpenedTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, queue.ErrInUse) {
		t.Errorf("open twice = %v, want ErrInUse", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, disk.FormatName), []byte("weir queue store\nformat 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, queue.ErrVersion) {
		t.Errorf("open format 3 = %v, want ErrVersion", err)
	}
}
