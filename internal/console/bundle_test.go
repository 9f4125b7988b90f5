package console

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBundle: the script that is served is what its sources say, and the first load is small.
func TestBundle(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("console.go")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(source), "//go:generate ")
	command, _, _ = strings.Cut(command, "\n")
	bundle := filepath.Join(t.TempDir(), "app.js")
	args := strings.Fields(strings.Replace(command, "--outfile=static/app.js", "--outfile="+bundle, 1))
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	want, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("static/app.js")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("static/app.js is stale: go generate ./internal/console")
	}
	c, _ := made(t, 1)
	first := 0
	for _, a := range c.assets {
		first += len(a.packed)
	}
	if first > 60<<10 {
		t.Errorf("the first load is %d bytes compressed, more than 60 KiB", first)
	}
}
