package disk

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/log/logtest"
)

// directory is a place in a file system that can be left as a power failure would.
type directory struct{ fs *vfs.MemFS }

// Open implements logtest.Place.
func (d directory) Open(testing.TB) (log.Log, error) {
	l, err := Open("store", options(d.fs))
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Crash implements logtest.Place.
func (d directory) Crash(_ testing.TB, rng *rand.Rand) logtest.Place {
	return directory{d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})}
}

func TestLog(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(testing.TB) logtest.Place { return directory{vfs.NewCrashableMem()} })
}

// stepping is a file system that calls a function before everything that changes it.
type stepping struct {
	vfs.FS
	step func()
}

type steppingFile struct {
	vfs.File
	step func()
}

func (s stepping) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return steppingFile{f, s.step}, nil
}

func (s stepping) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	s.step()
	return s.wrap(s.FS.Create(name, c))
}

func (s stepping) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	s.step()
	return s.wrap(s.FS.OpenReadWrite(name, c, o...))
}

func (s stepping) OpenDir(name string) (vfs.File, error) { return s.wrap(s.FS.OpenDir(name)) }

func (s stepping) Remove(name string) error {
	s.step()
	return s.FS.Remove(name)
}

func (s stepping) Rename(from, to string) error {
	s.step()
	return s.FS.Rename(from, to)
}

func (f steppingFile) Write(b []byte) (int, error) {
	f.step()
	n, err := f.File.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	f.step()
	m, err := f.File.Write(b[len(b)/2:])
	return n + m, err
}

func (f steppingFile) WriteAt(b []byte, at int64) (int, error) {
	f.step()
	return f.File.WriteAt(b, at)
}

func (f steppingFile) Sync() error {
	f.step()
	return f.File.Sync()
}

func (f steppingFile) SyncData() error {
	f.step()
	return f.File.SyncData()
}

// TestEveryStep ends the machine before each thing that a log does to its files, from the
// first on: what was acknowledged by then is there, and the log goes on. kept is how much
// of what was not synced is left: all of it, as after kill -9, none, or any.
func TestEveryStep(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(1, 1))
	acknowledged, begun, steps := 0, 0, 0
	check := func() {
		steps++
		for _, kept := range []int{100, 0, rng.IntN(101)} {
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng})
			for range 2 { // the first may have ended what was half done
				l, numbers := open(t, options(clone))
				if len(numbers) < acknowledged || len(numbers) > begun {
					t.Fatalf("step %d, with %d%% of what was not synced: %d entries, acknowledged were %d of %d", steps, kept, len(numbers), acknowledged, begun)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for range 3 {
		l, _ := open(t, options(stepping{fs, check}))
		for range 6 {
			begun += 3
			add(t, l, 3, 200)
			acknowledged = begun
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 100 {
		t.Errorf("%d steps only", steps)
	}
}

// failing is a file system whose segments get half of what is written to them.
type failing struct {
	vfs.FS
	mu sync.Mutex
	on bool
}

type failingFile struct {
	vfs.File
	fs *failing
}

func (f *failing) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

func (f *failing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return failingFile{file, f}, err
}

func (f failingFile) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.fs.on {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)*3/4])
	if err != nil {
		return n, err
	}
	return n, &os.PathError{Op: "write", Err: syscall.ENOSPC}
}

// TestRefusedIsNeverThere refuses a group of which whole frames were written: neither the
// same process nor the next finds one, whether it salvages or not.
func TestRefusedIsNeverThere(t *testing.T) {
	t.Parallel()
	for _, salvage := range []bool{false, true} {
		for _, more := range []bool{false, true} {
			mem := vfs.NewMem()
			fs := &failing{FS: mem}
			l, _ := open(t, options(fs))
			add(t, l, 2, 50)
			fs.set(true)
			group := []*log.Entry{{Head: []byte("a")}, {Head: []byte("b")}, {Head: []byte("c")}, {Head: []byte("d")}}
			if err := l.Append(group); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, log.ErrBroken) {
				t.Fatalf("append = %v", err)
			}
			fs.set(false)
			want := 2
			if more {
				add(t, l, 2, 50)
				want = 4
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			opt := options(mem)
			if salvage {
				opt.Lost = &log.Lost{}
			}
			if _, numbers := open(t, opt); len(numbers) != want {
				t.Errorf("salvage %v, appended to afterwards %v: entries %v, want %d", salvage, more, numbers, want)
			}
			if salvage && opt.Lost.Entries != 0 {
				t.Errorf("entries are said to be lost: %+v", *opt.Lost)
			}
		}
	}
}

// TestLost passes over what is damaged and says how much that was; without Lost it is
// refused.
func TestLost(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	l, _ := open(t, options(fs))
	all := add(t, l, 4, 100)
	for range 3 {
		all = append(all, add(t, l, 4, 300)...)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenReadWrite(segmentPath(fs, "store", all[2].End.Segment), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, all[2].At.Offset-1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open("store", options(fs)); err != nil {
		t.Fatal(err)
	}
	if err := l.Replay(t.Context(), log.Position{}, 0, func(*log.Entry) error { return nil }); !errors.Is(err, queue.ErrCorrupt) {
		t.Errorf("replay = %v, want ErrCorrupt", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opt := options(fs)
	opt.Lost = &log.Lost{}
	_, numbers := open(t, opt)
	if len(numbers) != len(all)-1 || *opt.Lost != (log.Lost{Entries: 1, Bytes: frameHeader + 1 + 100}) {
		t.Errorf("found %v, %+v", numbers, *opt.Lost)
	}
}
