package connector_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// TestRelativePaths holds where names lead against the one rule: the directory of the config
// file, whatever there is in the working directory.
func TestRelativePaths(t *testing.T) {
	work, conf := t.TempDir(), t.TempDir()
	t.Chdir(work)
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(work, "both"))
	write(filepath.Join(conf, "both"))
	write(filepath.Join(work, "here.only"))
	write(filepath.Join(conf, "there.only"))
	abs := filepath.Join(work, "here.only")
	for _, tt := range []struct {
		dir, name, want string
		misplaced       bool
	}{
		{conf, "both", filepath.Join(conf, "both"), false},
		{conf, "there.only", filepath.Join(conf, "there.only"), false},
		{conf, "there.*", filepath.Join(conf, "there.*"), false},
		{conf, "neither", filepath.Join(conf, "neither"), false},
		{conf, "here.only", filepath.Join(conf, "here.only"), true},
		{conf, "here.*", filepath.Join(conf, "here.*"), true},
		{conf, abs, abs, false},
		{"", "here.only", "here.only", false},
		{".", "here.only", "here.only", false},
		{work, "here.only", filepath.Join(work, "here.only"), false},
		{conf, "", "", false},
	} {
		d := connector.Deps{Dir: tt.dir}
		got, err := d.File("block.path", tt.name)
		if got != tt.want || d.Path(tt.name) != tt.want || (err != nil) != tt.misplaced {
			t.Errorf("%q from %q leads to %q (%v), want %q", tt.name, tt.dir, got, err, tt.want)
		}
		if err == nil {
			continue
		}
		m, ok := errors.AsType[*connector.Misconfigured](err)
		if !ok || m.Field != "block.path" || !strings.Contains(m.Fix, `path = "`+filepath.Join(work, tt.name)) || fault.Of(err) != fault.Setup {
			t.Errorf("%q: %#v", tt.name, err)
		}
		if _, err := d.ReadFile("path", tt.name); err == nil {
			t.Errorf("%q is read", tt.name)
		}
	}
	if err := os.Mkdir(filepath.Join(work, "conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(work, "conf", "script.js"))
	_, err := connector.File("conf", "script_path", "conf/script.js")
	if m, ok := errors.AsType[*connector.Misconfigured](err); !ok || !strings.Contains(m.Fix, `script_path = "script.js"`) {
		t.Errorf("the fix is not the path from the config: %#v", err)
	}
	if text, err := connector.ReadFile(conf, "path", "both"); err != nil || string(text) != filepath.Join(conf, "both") {
		t.Errorf("read %q, %v", text, err)
	}
}

// TestBlameIsKept asserts that what is known first about a mistake is what is said of it.
func TestBlameIsKept(t *testing.T) {
	t.Parallel()
	inner := connector.Blame("path", "move it", errors.New("not there"))
	outer := connector.Blame("script", "correct it", errors.Join(errors.New("read"), inner))
	if m, ok := errors.AsType[*connector.Misconfigured](outer); !ok || m.Field != "path" || m.Fix != "move it" || !strings.Contains(outer.Error(), "read") {
		t.Errorf("%#v", outer)
	}
}

// TestTryFolder: what is tried leaves nothing, and a place that is no folder is refused.
func TestTryFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := connector.TryFolder(dir, false); err != nil {
		t.Error(err)
	}
	if err := connector.TryFolder(filepath.Join(dir, "a", "b"), true); err != nil {
		t.Error(err)
	}
	if err := connector.TryFolder(filepath.Join(dir, "a"), false); err == nil {
		t.Error("a folder that is not there and is not made is taken")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := connector.TryFolder(filepath.Join(file, "below"), true); err == nil {
		t.Error("a folder below a file is taken")
	}
}
