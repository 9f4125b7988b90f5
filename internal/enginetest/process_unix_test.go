//go:build unix

package enginetest

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownerDir names the environment variable that turns this test binary into a process
// that starts an engine, says where, and waits to be killed.
const ownerDir = "WEIR_TEST_OWNS_ENGINE"

func TestMain(m *testing.M) {
	if os.Getenv(ownerDir) != "" {
		own()
	}
	os.Exit(m.Run())
}

func own() {
	w, err := newWorkspace("weir-engine-")
	if err != nil {
		panic(err)
	}
	if _, err := w.start("TERM", "/bin/sh", "-c", "exec sleep 1000"); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(w.dir + "\n") // the reader notices what is missing
	select {}
}

func gone(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return
		}
		<-time.After(10 * time.Millisecond) // another process is waited for: its clock is the real one
	}
	t.Errorf("%s is still there", dir)
}

func TestEngineEndsWithItsOwner(t *testing.T) {
	t.Parallel()
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerDir+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir = strings.TrimSpace(dir)
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	if err := owner.Process.Kill(); err != nil { // SIGKILL: the owner can do nothing about it
		t.Fatal(err)
	}
	if err := owner.Wait(); err == nil {
		t.Error("the owner was not killed")
	}
	gone(t, dir)
}

func TestStop(t *testing.T) {
	t.Parallel()
	w, err := newWorkspace("weir-engine-")
	if err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(w.dir, "pid")
	r, err := w.start("TERM", "/bin/sh", "-c", `trap 'echo stopping; exit 3' TERM; echo $$ >"$0"; echo "user $(id -u)"; while :; do sleep 0.01; done`, marker)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(marker); err == nil && strings.Contains(r.said(), "user") {
			break
		}
		if r.endedWithin(10 * time.Millisecond) {
			t.Fatalf("the engine ended: %s", r.said())
		}
	}
	if strings.Contains(r.said(), "user 0") {
		t.Error("the engine runs as root")
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the engine's directory after Stop: %v", err)
	}
	if err := r.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestEngineThatEndsItself(t *testing.T) {
	t.Parallel()
	w, err := newWorkspace("weir-engine-")
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.start("TERM", "/bin/sh", "-c", "echo cannot bind; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	if !r.endedWithin(2 * time.Minute) {
		t.Error("the end of the engine was not noticed")
	}
	if got := r.said(); got != "cannot bind" {
		t.Errorf("the engine said %q", got)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	gone(t, w.dir)
}
