package directory

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/blobtest"
	"github.com/weirdata/weir/internal/fault"
)

// TestMain is also the child that is killed; see TestKilled.
func TestMain(m *testing.M) {
	was, err := blobtest.Child(func(path string, step func()) (blob.Bucket, error) {
		return Make(path, Options{Step: func(string, string) { step() }})
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !was {
		os.Exit(m.Run())
	}
}

func opened(t testing.TB, path string, o Options) *Bucket {
	t.Helper()
	b, err := Make(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		path := filepath.Join(t.TempDir(), "made", "here")
		return func() blob.Bucket { return opened(t, path, Options{}) }
	})
}

// TestConformanceWithoutLinks is the same on a file system that has no links.
func TestConformanceWithoutLinks(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t testing.TB) func() blob.Bucket {
		path := t.TempDir()
		return func() blob.Bucket {
			b := opened(t, path, Options{})
			b.system.link = func(_ *os.Root, from, to string) error {
				return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM}
			}
			return b
		}
	})
}

func TestKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bucket")
	blobtest.Kill(t, path, func() blob.Bucket { return opened(t, path, Options{}) }, func() { wantStaged(t, path) })
}

// wantStaged asserts that nothing is in staging.
func wantStaged(t testing.TB, path string, want ...string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(path, ".staging"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("staging holds %v, want %v", names, want)
	}
}

// power is what a power failure would leave of a bucket, by its steps: a name survives when
// its folder was synced behind it, a content when the file was.
type power struct {
	t  testing.TB
	mu sync.Mutex
	// The names in each folder: true when they are durable.
	names  map[string]map[string]bool
	synced map[string]bool // staged files
}

func (p *power) step(step, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := func(folder string) map[string]bool {
		if p.names[folder] == nil {
			p.names[folder] = map[string]bool{}
		}
		return p.names[folder]
	}
	switch step {
	case StepSynced:
		p.synced[name] = true
	case StepLinked, StepRenamed, StepFolder:
		if step != StepFolder && len(p.synced) == 0 {
			p.t.Errorf("%s: %s has its name, and no content was synced", step, name)
		}
		in(path.Dir(name))[path.Base(name)] = false
	case StepRemoved:
		in(path.Dir(name))[path.Base(name)] = false
	case StepTidied:
		delete(p.synced, name)
	case StepDurable:
		for n := range in(name) {
			in(name)[n] = true
		}
	}
}

// wantDurable asserts that the name, and the folders above it, survive.
func (p *power) wantDurable(name string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := name; at != "."; at = path.Dir(at) {
		durable, changed := p.names[path.Dir(at)][path.Base(at)]
		if changed && !durable || at == name && !changed {
			p.t.Errorf("of %s, %s would not survive a power failure", name, at)
		}
	}
}

// TestDurable: when a call has returned, the content was synced before it got its name, and
// all folders were synced behind that; and a second process that finds it says so only then.
func TestDurable(t *testing.T) {
	t.Parallel()
	p := &power{t: t, names: map[string]map[string]bool{}, synced: map[string]bool{}}
	dir := t.TempDir()
	b := opened(t, dir, Options{Step: p.step})
	v, err := b.Create(t.Context(), "a/b/c/n", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	p.wantDurable("a/b/c/n")
	if _, err := b.Replace(t.Context(), "a/b/c/n", v, []byte("y")); err != nil {
		t.Fatal(err)
	}
	p.wantDurable("a/b/c/n")
	w, err := b.Writer(t.Context(), "a/d/w")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "z"); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.wantDurable("a/d/w")
	if err := b.Delete(t.Context(), "a/d/w"); err != nil {
		t.Fatal(err)
	}
	p.wantDurable("a/d/w")

	// As the one who died between the link and the sync leaves it.
	if err := os.MkdirAll(filepath.Join(dir, "late", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, find := range []func(name string) error{
		func(name string) error { return second(b.Create(t.Context(), name, nil)) },
		func(name string) error { return second(b.Head(t.Context(), name)) },
		func(name string) error { return second(b.Replace(t.Context(), name, "other", nil)) },
		func(string) error { return second(b.List(t.Context(), blob.Query{Prefix: "late/x/", Durable: true})) },
	} {
		name := fmt.Sprintf("late/x/%d", i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("there"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.step(StepFolder, "late")
		p.step(StepFolder, "late/x")
		p.step(StepLinked, name)
		b.forget("late")
		if err := find(name); err != nil && !errors.Is(err, blob.ErrExists) && !errors.Is(err, blob.ErrChanged) {
			t.Fatal(err)
		}
		p.wantDurable(name)
	}
}

func second[T any](_ T, err error) error { return err }

// TestFailedSync: a content that could not be synced never gets its name.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := opened(t, dir, Options{})
	v, err := b.Create(t.Context(), "n", []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	b.system.syncFile = func(*os.File) error { return syscall.EIO }
	for what, err := range map[string]error{
		"Create":  second(b.Create(t.Context(), "new", []byte("x"))),
		"Replace": second(b.Replace(t.Context(), "n", v, []byte("x"))),
		"Commit": func() error {
			w, err := b.Writer(t.Context(), "w")
			if err != nil {
				return err
			}
			return w.Commit(t.Context())
		}(),
	} {
		if !errors.Is(err, syscall.EIO) || fault.Of(err) != fault.Transient {
			t.Errorf("%s: %v", what, err)
		}
	}
	got, err := b.List(t.Context(), blob.Query{})
	if err != nil || len(got) != 1 || got[0].Name != "n" || got[0].Size != 3 {
		t.Errorf("the bucket holds %+v, %v", got, err)
	}
	wantStaged(t, dir)
}

// TestLostAnswer: a link that says it failed, and did not.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	b := opened(t, t.TempDir(), Options{})
	b.system.link = func(root *os.Root, from, to string) error {
		if err := root.Link(from, to); err != nil {
			return err
		}
		return root.Link(from, to)
	}
	if _, err := b.Create(t.Context(), "n", []byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := b.Create(t.Context(), "n", []byte("x")); !errors.Is(err, blob.ErrExists) {
		t.Error(err)
	}
}

// TestSweep removes what the dead have left, and only that.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, other := opened(t, dir, Options{}), opened(t, dir, Options{})
	w, err := b.Writer(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	alive := filepath.Base(w.(*writer).staged.temp)
	for _, name := range []string{"dead" + tempSuffix, "text"} {
		if err := os.WriteFile(filepath.Join(dir, ".staging", name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, sweeper := range []*Bucket{b, other} {
		if err := sweeper.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil { // a clock that is wrong
			t.Fatal(err)
		}
		wantStaged(t, dir, alive)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wantStaged(t, dir)
}

// TestFoldersComeAndGo: somebody removes folders beneath a bucket that remembers them.
func TestFoldersComeAndGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := opened(t, dir, Options{})
	for i := range 3 {
		for _, gone := range []string{"a", ".staging"} {
			if _, err := b.Create(t.Context(), fmt.Sprintf("a/b/%d", i), nil); err != nil && !errors.Is(err, blob.ErrExists) {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
				t.Fatal(err)
			}
			if err := b.Sweep(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestForeign: what others put into the folder is listed where its name allows it, leads
// nowhere else, and is no trouble.
func TestForeign(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	b := opened(t, dir, Options{})
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), "in/n", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out": outside, "out-file": filepath.Join(outside, "secret"), "up": "../..", "loop": ".", "none": "nowhere", "near": "in/n"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	for _, name := range []string{"ok file.parquet", "bad\nname", "bad\\name", "\xff"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.Command("mkfifo", filepath.Join(dir, "pipe")).Run(); err != nil {
		t.Log("without a named pipe:", err)
	}
	var names []string
	for info, err := range blob.All(t.Context(), b, blob.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if want := []string{"in/n", "near", "ok file.parquet"}; !slices.Equal(names, want) {
		t.Errorf("listed are %q, want %q", names, want)
	}
	for _, name := range []string{"out/secret", "out-file", "up/etc/passwd", "pipe"} {
		if _, err := os.Lstat(filepath.Join(dir, "pipe")); name == "pipe" && err != nil {
			continue
		}
		if data, _, err := b.Get(t.Context(), name); err == nil {
			t.Errorf("Get(%q) reads %q", name, data)
		}
		if _, err := b.Create(t.Context(), name, []byte("x")); err == nil {
			t.Errorf("Create(%q) is done", name)
		}
	}
	if _, err := b.Create(t.Context(), "out/new", []byte("x")); err == nil {
		t.Error("an object was created behind a symbolic link that leads out")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("outside is %v, %v", left, err)
	}
}

func TestNamesInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := opened(t, dir, Options{Staging: "meta/tmp"})
	for _, name := range []string{"a/b/n", "meta/tmpx", "meta/other", "file"} {
		if _, err := b.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "a/b", "file/below", "file/below/it", "meta/tmp", "meta/tmp/x", "META/TMP/x", "meta/tmp.lock"} {
		if _, err := b.Create(t.Context(), name, nil); !errors.Is(err, blob.ErrName) || fault.Of(err) != fault.Setup {
			t.Errorf("Create(%q): %v", name, err)
		}
	}
	for _, staging := range []string{"../x", "/x", "a//b"} {
		if _, err := Open(dir, Options{Staging: staging}); !errors.Is(err, blob.ErrName) {
			t.Errorf("staging in %q: %v", staging, err)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, filepath.Join(file, "below")} {
		if _, err := Make(p, Options{}); fault.Of(err) != fault.Setup {
			t.Errorf("Make(%s): %v", p, err)
		}
		if _, err := Open(p, Options{}); fault.Of(err) != fault.Setup {
			t.Errorf("Open(%s): %v", p, err)
		}
		if err := Check(p); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), file+" is a file") {
			t.Errorf("Check(%s): %v", p, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing: %v", err)
	}
	if err := errors.Join(Check(dir), Check(filepath.Join(dir, "not", "yet"))); err != nil {
		t.Error(err)
	}
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.List(t.Context(), blob.Query{}); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("reading has left %v, %v", left, err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, other := opened(t, dir, Options{}), opened(t, dir, Options{})
	l, err := b.Lock("x/lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lock("x/lock"); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	l, err = other.Lock("x/lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}
