//go:build unix

package chaos

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rotated is a pipeline from files that are followed to one that is written, by way of a queue.
const rotated = `
store {
  use "embedded" { path = "store" }
}
queue "q" {}
pipeline "in" {
  source {
    use "file" {
      path          = "logs/app.log*"
      follow        = true
      position_file = "position"
    }
  }
  target {
    use "queue" { name = "q" }
  }
}
pipeline "out" {
  source {
    use "queue" { name = "q" }
  }
  target {
    use "file" { path = "out" }
  }
}
`

// TestRotatedFiles: files are written and rotated while the process that follows them is killed,
// from its first moments on, when it has no store yet, and while nobody reads its log any more.
// Every line arrives.
func TestRotatedFiles(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "p.hcl")
	for _, err := range []error{os.Mkdir(filepath.Join(dir, "logs"), 0o755), os.WriteFile(config, []byte(rotated), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	q := &quickstart{t: t, binary: path, out: dir, config: []string{config}}
	// A log of which nothing is read: a pipe holds 64 KiB and then keeps who writes waiting.
	unread, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unread.Close(), log.Close() })
	kept, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })

	app := filepath.Join(dir, "logs", "app.log")
	written, rotations := 0, 0
	write := func(lines int) {
		t.Helper()
		f, err := os.OpenFile(app, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		for range lines {
			written++
			fmt.Fprintf(f, "line-%d\n", written)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	rotate := func() {
		t.Helper()
		rotations++
		if err := os.Rename(app, fmt.Sprintf("%s.%d", app, rotations)); err != nil {
			t.Fatal(err)
		}
	}
	for kill := range 4 * runs(t) {
		q.log = kept
		if kill%3 == 2 {
			q.log = log
		}
		write(1 + rand.IntN(200))
		p := q.start()
		life := rand.N(150 * time.Millisecond) // while it starts
		if kill%2 == 1 {
			life = rand.N(shortLife)
		}
		for end := time.Now().Add(life); time.Now().Before(end); pause(t.Context(), 10*time.Millisecond) {
			write(1 + rand.IntN(20))
			if rand.IntN(10) == 0 {
				rotate()
				write(1)
			}
		}
		q.log = kept // that is shown when it has ended
		p.kill()
	}
	q.log = kept
	p := q.start()
	write(1) // it has to work before it is stopped
	for deadline := time.Now().Add(patience); ; pause(t.Context(), 50*time.Millisecond) {
		p.alive()
		missing := absent(t, filepath.Join(dir, "out"), written)
		if len(missing) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d lines have not arrived after %d rotations, the first: %v\n%s", len(missing), written, rotations, missing[:min(len(missing), 10)], q.tail())
		}
	}
	p.stop()
	t.Logf("%d lines over %d rotations", written, rotations)
}

// absent are the numbers up to a last of which a file has no line.
func absent(t *testing.T, path string, last int) (missing []int) {
	t.Helper()
	seen := make([]bool, last+1)
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var n int
			if _, err := fmt.Sscanf(lines.Text(), "line-%d", &n); err == nil && n <= last && !strings.Contains(lines.Text(), " ") {
				seen[n] = true
			}
		}
	} else if !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for n := 1; n <= last; n++ {
		if !seen[n] {
			missing = append(missing, n)
		}
	}
	return missing
}
