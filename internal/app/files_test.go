package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// followed is a pipeline that follows files. LINE is another line of its source.
const followed = quickly + `
source {
  use "file" {
    path   = "DIR/in*"
    follow = true
    LINE
  }
}
target {
  use "file" {
    path = "DIR/out"
  }
}
`

// TestReloadFollows reloads a pipeline that follows a file that is written and renamed
// meanwhile: every line comes once, with a position file, without one, and when one is added or
// left out.
func TestReloadFollows(t *testing.T) {
	t.Parallel()
	const positions = `position_file = "DIR/position"`
	for name, lines := range map[string][]string{
		"without positions": {"", "", ""},
		"with positions":    {positions, positions, positions},
		"added":             {"", positions, positions},
		"moved":             {positions, `position_file = "DIR/elsewhere"`, positions + "\n max_batch_messages = 3"},
		"left out":          {positions, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := func(line string) string {
				return strings.ReplaceAll(strings.ReplaceAll(followed, "LINE", line), "DIR", dir)
			}
			in := filepath.Join(dir, "in")
			f, err := os.Create(in)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			n := 0
			write := func(lines int) {
				t.Helper()
				for range lines {
					if _, err := fmt.Fprintf(f, "line %d\n", n); err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
			write(50)
			p, _ := startIn(t, dir, config(lines[0]))
			arrived(t, dir, &n)
			for i, line := range lines[1:] {
				write(7)
				if i == 0 {
					if err := os.Rename(in, in+".1"); err != nil {
						t.Fatal(err)
					}
				}
				write(7)
				if err := p.Reload(t.Context(), built(t, p.Builder, config(line))); err != nil {
					t.Fatal(err)
				}
				write(7)
				arrived(t, dir, &n)
			}
			p.stop()
			if err := p.result(t); err != nil {
				t.Error(err)
			}
			out, err := os.ReadFile(filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSpace(string(out)), "\n")
			for i := range max(len(got), n) {
				if i >= len(got) || i >= n || got[i] != fmt.Sprint("line ", i) {
					t.Fatalf("%d lines, want %d; from line %d on: %q", len(got), n, i, got[min(i, len(got)):min(i+10, len(got))])
				}
			}
		})
	}
}

// arrived waits for the last of n lines.
func arrived(t *testing.T, dir string, n *int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, _ := os.ReadFile(filepath.Join(dir, "out"))
		if strings.Contains(string(out), fmt.Sprintf("line %d\n", *n-1)) {
			return
		}
	}
	t.Fatalf("line %d has not arrived", *n-1)
}
