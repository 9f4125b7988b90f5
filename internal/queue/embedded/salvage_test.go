package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log/disk"
)

// files are the contents of the files of a store, but for its lock.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "LOCK" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// salvaged salvages the damaged store in dir and compares what it has then with want,
// which maps jobs to where they are: what is missing must be reported, and nothing may be
// there that never was. A refusal changes nothing.
func salvaged(t *testing.T, dir string, want map[string]string, record int, what string) (r Salvaged, refused bool) {
	t.Helper()
	before := files(t, dir)
	r, err := Salvage(t.Context(), dir, Options{SegmentBytes: 32 << 10}, nil)
	if err != nil {
		if !errors.Is(err, queue.ErrCorrupt) && !errors.Is(err, queue.ErrVersion) {
			t.Fatalf("%s: salvage: %v", what, err)
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s: a refused salvage changed the store", what)
		}
		if _, err := os.Stat(dir + salvageSuffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a refused salvage left its copy behind: %v", what, err)
		}
		return r, true
	}
	if diff := cmp.Diff(before, files(t, r.Damaged)); diff != "" {
		t.Errorf("%s: the damaged store in %s is not as it was", what, r.Damaged)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatalf("%s: open what was salvaged: %v", what, err)
	}
	defer s.Close()
	got, _ := inventory(t, s)
	missing := 0
	for id := range want {
		if got[id] == "" {
			missing++
		}
	}
	for id := range got {
		if n, err := strconv.Atoi(id); err != nil || n < 1 || n > record {
			t.Errorf("%s: job %q was never appended", what, id)
		}
	}
	if missing > 0 && !r.Lost() {
		t.Errorf("%s: %d jobs are missing, but the report is %+v", what, missing, r)
	}
	if int(r.Open+r.Dead) != len(got) {
		t.Errorf("%s: %d jobs are there, the report is %+v", what, len(got), r)
	}
	for {
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}})
		if err != nil {
			t.Fatalf("%s: lease from what was salvaged: %v", what, err)
		}
		if len(jobs) == 0 {
			break
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			for i := range jobs {
				if err := tx.Settle(jobs[i].Done()); err != nil {
					return err
				}
			}
			return tx.Append(queue.Job{Queue: "after", Msg: event.New([]byte("new"))})
		}); err != nil {
			t.Fatalf("%s: settle in what was salvaged: %v", what, err)
		}
	}
	if _, err := s.Check(t.Context(), nil); err != nil {
		t.Errorf("%s: check what was salvaged: %v", what, err)
	}
	return r, false
}

// TestSalvage flips bytes of each file, cuts it short and removes it.
func TestSalvage(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			t.Parallel()
			dir, want, record := sample(t, killed)
			rng := rand.New(rand.NewPCG(8, 9))
			done, lost := map[string]int{}, map[string]int{}
			try := func(rel string, content []byte, what string) {
				to := cloneOf(t, dir)
				path := filepath.Join(to, rel)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if content != nil {
					if err := os.WriteFile(path, content, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				r, refused := salvaged(t, to, want, record, rel+" "+what)
				if !refused {
					done[kindOf(rel)]++
				}
				if r.Lost() {
					lost[kindOf(rel)]++
				}
				if err := os.RemoveAll(filepath.Dir(to)); err != nil {
					t.Fatal(err)
				}
			}
			for rel, whole := range files(t, dir) {
				if len(whole) == 0 {
					continue
				}
				for range envInt(t, "WEIR_FLIP_RUNS", 1) {
					at := rng.IntN(len(whole))
					damaged := []byte(whole)
					damaged[at] ^= 1 << rng.IntN(8)
					try(rel, damaged, fmt.Sprintf("byte %d of %d flipped", at, len(whole)))
				}
				// Of the many files of the state, a part will do.
				if cut := rng.IntN(len(whole)); kindOf(rel) != ".sst" || cut%4 == 0 {
					try(rel, []byte(whole[:cut]), fmt.Sprintf("cut at %d of %d", cut, len(whole)))
					try(rel, nil, "removed")
				}
			}
			for _, kind := range []string{disk.SegmentExt, disk.MarkName, disk.FormatName} {
				if done[kind] == 0 {
					t.Errorf("nothing was salvaged after damage to a file of kind %s", kind)
				}
			}
			if lost[disk.SegmentExt] == 0 {
				t.Error("no damage to a segment lost anything")
			}
			t.Logf("salvaged by kind of file: %v, with a loss: %v", done, lost)
		})
	}
}

// TestSalvageKeepsTheRest loses the batch that is damaged, and nothing else.
func TestSalvageKeepsTheRest(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"1 first", "2 second", "3 third"} {
		j := queue.Job{Queue: "a", Msg: event.New([]byte(payload))}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(j, j) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, disk.LogDir, "000000001"+disk.SegmentExt)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for i := range b {
		if string(b[i:min(i+6, len(b))]) == "second" {
			at = i
		}
	}
	if at < 0 {
		t.Fatal("the payload is not in the segment")
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(t.Context(), nil); !errors.Is(err, queue.ErrCorrupt) {
		t.Fatalf("Check of a damaged batch = %v, want ErrCorrupt", err)
	}
	if _, err := Salvage(t.Context(), dir, Options{}, nil); !errors.Is(err, queue.ErrInUse) {
		t.Errorf("salvage of an open store = %v, want ErrInUse", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Salvage(t.Context(), dir, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Salvaged{Damaged: dir + ".damaged", Open: 4, LostBatches: 1, LostJobs: 2}); r != want {
		t.Errorf("report %+v, want %+v", r, want)
	}
	if r, err = Salvage(t.Context(), dir, Options{}, nil); err != nil || r.Lost() || r.Damaged != dir+".damaged.2" || r.Open != 4 {
		t.Errorf("salvage of a store that is whole: %+v, %v", r, err)
	}
	if _, err := Salvage(t.Context(), filepath.Join(dir, "nothing"), Options{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("salvage of nothing = %v", err)
	}
}

// TestCheckProgress is told of every byte, never goes back and ends with all of them.
func TestCheckProgress(t *testing.T) {
	t.Parallel()
	dir, _, _ := sample(t, true)
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	var last, total int64
	calls := 0
	if _, err := s.Check(t.Context(), func(done, of int64) {
		calls++
		if done < last || done > of || total != 0 && of != total {
			t.Fatalf("progress went from %d of %d to %d of %d", last, total, done, of)
		}
		last, total = done, of
	}); err != nil {
		t.Fatal(err)
	}
	if least := u.Log + u.Open; total < least || last != total || calls < 100 {
		t.Errorf("progress ended with %d of %d after %d calls, want all of at least %d", last, total, calls, least)
	}
}
