package directory_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/target/directory"
)

func build(t *testing.T, dir string, change func(*directory.Config)) connector.Target {
	t.Helper()
	target, err := directory.Entry.Build(t.Context(), connector.Deps{Dir: dir}, func(into any) error {
		c := into.(*directory.Config)
		c.Path = "out"
		if change != nil {
			change(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// files is the payloads in the directory by name; what is hidden is not there.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "out"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left over", e.Name())
			continue
		}
		if got[e.Name()], err = os.ReadFile(filepath.Join(dir, "out", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestConformance(t *testing.T) {
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			dir := t.TempDir()
			return func() connector.Target { return build(t, dir, nil) }, func() [][]byte {
				var ps [][]byte
				for _, p := range files(t, dir) {
					ps = append(ps, p)
				}
				return ps
			}
		},
		Broken: func(t *testing.T) connector.Target {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "out"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return build(t, dir, nil)
		},
		Want:     fault.Setup,
		Features: conntest.TargetFeatures{Binary: true, Empty: true},
	})
}

func write(t *testing.T, target connector.Target, payloads ...string) map[int]error {
	t.Helper()
	b := make(event.Batch, len(payloads))
	for i, p := range payloads {
		b[i] = event.New([]byte(p))
	}
	err := target.Write(t.Context(), b)
	if partial, ok := errors.AsType[*connector.Partial](err); ok {
		return partial.Failed
	}
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

// TestNames: the field names the file, whatever it says, and a second message of the name
// replaces the first.
func TestNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := build(t, dir, func(c *directory.Config) { c.NameField = "order.id" })
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := write(t, target,
		`{"order":{"id":"a-1"},"n":1}`, `{"order":{"id":"../../etc/passwd"}}`, `{"order":{"id":".."}}`, `{"order":{"id":42}}`, `{"order":{"id":"ü x"}}`,
		`{"order":{"id":"a-1"},"n":2}`, `{"order":{"id":""}}`, `{"order":{}}`, `no JSON`, `{"order":{"id":"`+strings.Repeat("x", 300)+`"}}`, `{"order":{"id":"cut"}`)
	for i := 6; i <= 10; i++ {
		if fault.Of(failed[i]) != fault.Invalid {
			t.Errorf("message %d: %v", i, failed[i])
		}
	}
	if len(failed) != 5 {
		t.Errorf("%d failed: %v", len(failed), failed)
	}
	got := files(t, dir)
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"%2E.%2F..%2Fetc%2Fpasswd.json", "%2E..json", "%C3%BC%20x.json", "42.json", "a-1.json"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	if !bytes.Contains(got["a-1.json"], []byte(`"n":2`)) {
		t.Errorf("a-1 is %s, want the later one", got["a-1.json"])
	}
}

// TestLeftOver: what a killed process left is removed when it is old, and only then.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{".weir-old": 2 * time.Hour, ".weir-new": time.Minute, ".keep": 2 * time.Hour} {
		if err := os.WriteFile(filepath.Join(out, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(out, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := build(t, dir, nil).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v: want .keep and .weir-new", entries, err)
	}
}

// TestMissing: without create_directories a missing directory needs somebody.
func TestMissing(t *testing.T) {
	t.Parallel()
	target := build(t, t.TempDir(), func(c *directory.Config) { c.CreateDirectories = false })
	if err := target.Open(t.Context()); fault.Of(err) != fault.Setup {
		t.Errorf("open: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	c := *directory.Entry.Default().(*directory.Config)
	c.Path = "x"
	if ps := c.Validate(); len(ps) != 0 {
		t.Errorf("the default is refused: %v", ps)
	}
	for _, extension := range []string{"/x", ".j/son", "%", strings.Repeat("x", 31)} {
		if c.Extension = extension; len(c.Validate()) != 1 {
			t.Errorf("extension %q: %v", extension, c.Validate())
		}
	}
	if c = (directory.Config{Batching: c.Batching}); len(c.Validate()) != 1 {
		t.Errorf("no path: %v", c.Validate())
	}
}
