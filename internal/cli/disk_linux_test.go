package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullStandardOutput: a write that can never succeed is tried as often as the config
// says, and then the exit code is 1.
func TestFullStandardOutput(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	c := weir(t, files(t, "p.hcl", "retry {\n  transient {\n    delay_ms     = 10\n    max_attempts = 3\n  }\n}\n"), "run", "p.hcl")
	c.Stdin, c.Stdout = strings.NewReader("one\n"), full
	p := launch(t, c)
	p.exits(1)
	p.until(p.err, `gave up after 3 attempts \(transient\): write to standard output: write /dev/stdout: no space left on device`)
}

// TestFullDisk: while there is no space, writes are tried again; when there is, delivery goes
// on where it stopped, and no line is torn, lost or there twice. The shell's limit of the
// size of files stands for the disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := files(t, "p.hcl", `
source {
  use "stdin" {}
}
target {
  use "file" {
    path = "out"
  }
}
retry {
  transient {
    delay_ms     = 50
    max_delay_ms = 50
    max_attempts = 0
  }
}
`)
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&want, "message %d, long enough to be cut somewhere\n", i)
	}
	path, err := exec.LookPath("weir")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", `ulimit -S -f 40; exec "$0" run p.hcl`, path)
	c.Dir, c.Stdin = dir, strings.NewReader(want.String())
	c.Env = append(os.Environ(), "SNOWBRIDGE_CONFIG_FILE=")
	p := launch(t, c)
	p.until(p.err, `(?s)write failed, trying again.*file too large.*write failed, trying again`)
	out := filepath.Join(dir, "out")
	part := read(t, out)
	if part == "" || !strings.HasPrefix(want.String(), part) || !strings.HasSuffix(part, "\n") {
		t.Errorf("a full disk has %d bytes, ending in %q", len(part), part[max(0, len(part)-60):])
	}
	makeRoom(t, c.Process.Pid)
	p.exits(0)
	if got := read(t, out); got != want.String() {
		t.Errorf("%d lines are there, of %d", strings.Count(got, "\n"), strings.Count(want.String(), "\n"))
	}
}

// makeRoom lets a process write files of any size again.
func makeRoom(t *testing.T, pid int) {
	t.Helper()
	var now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = now.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &now, nil); err != nil {
		t.Fatal(err)
	}
}
