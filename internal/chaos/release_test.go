//go:build unix

package chaos

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/enginetest"
)

// lastRelease is the commit of the last release. What it reads of this one's data, and this one of
// its data, docs/compatibility.md says.
const lastRelease = "ac18384"

// release builds the last release once, from the history of the repository; empty where that is
// not there, as in a shallow clone.
var release = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return "", err
	}
	if exec.Command("git", "-C", root, "cat-file", "-e", lastRelease+"^{commit}").Run() != nil {
		return "", nil
	}
	path, err := binary() // its folder is removed in the end
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(path)
	source, path := filepath.Join(dir, "release"), filepath.Join(dir, "weir-"+lastRelease)
	if err := os.Mkdir(source, 0o750); err != nil {
		return "", err
	}
	script := `git -C "$1" archive "$2" | tar -x -C "$3" && cd "$3" && GOWORK=off go build -o "$4" ./cmd/weir`
	out, err := exec.Command("bash", "-euo", "pipefail", "-c", script, "build", root, lastRelease, source, path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w: %s", lastRelease, err, out)
	}
	return path, nil
})

// upgrade is the two programs on one config.
type upgrade struct {
	t        *testing.T
	dir      string
	old, now string
	env      []string
}

const (
	upgradeIn = `
pipeline "collect" {
  target {
    use "queue" {
      name = "events"
    }
  }
}
`
	upgradeOut = `
pipeline "deliver" {
  source {
    use "queue" {
      name            = "events"
      stop_when_empty = true
    }
  }
  target {
    use "file" {
      path = env.DELIVERED
    }
  }
}
`
	// Every message is tried once, and waits for its next attempt when the process has ended.
	upgradeTried = `
pipeline "deliver" {
  source {
    use "queue" {
      name = "events"
    }
  }
  retry {
    transient {
      delay_ms     = 600000
      max_attempts = 0
    }
  }
  target {
    use "http" {
      url = "http://127.0.0.1:1/"
    }
  }
}
`
)

func newUpgrade(t *testing.T, store string, env ...string) *upgrade {
	t.Helper()
	old, err := release()
	if err != nil {
		t.Fatal(err)
	}
	if old == "" {
		t.Skipf("the history does not reach the last release, %s: this is a shallow clone", lastRelease)
	}
	now, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	u := &upgrade{t: t, dir: t.TempDir(), old: old, now: now}
	u.env = append(append(os.Environ(), "DELIVERED="+u.path("delivered")), env...)
	for name, text := range map[string]string{"store.hcl": store + "queue \"events\" {}\n", "in.hcl": upgradeIn, "out.hcl": upgradeOut, "tried.hcl": upgradeTried} {
		if err := os.WriteFile(u.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (u *upgrade) path(name string) string { return filepath.Join(u.dir, name) }

// spoken is what a program prints.
type spoken struct {
	mu  sync.Mutex
	all []byte
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, b...)
	return len(b), nil
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.all)
}

func (u *upgrade) command(program string, input string, args ...string) (*exec.Cmd, *spoken) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	u.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, program, args...)
	said := &spoken{}
	c.Dir, c.Env, c.Stdin, c.Stdout, c.Stderr = u.dir, u.env, strings.NewReader(input), said, said
	return c, said
}

// run runs a program to its end.
func (u *upgrade) run(program, input string, args ...string) string {
	u.t.Helper()
	c, said := u.command(program, input, args...)
	if err := c.Run(); err != nil {
		u.t.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, said)
	}
	return said.String()
}

// refuses checks that a program ends with an error that says why.
func (u *upgrade) refuses(program, why, input string, args ...string) {
	u.t.Helper()
	c, said := u.command(program, input, args...)
	if err := c.Run(); err == nil || !strings.Contains(said.String(), why) {
		u.t.Errorf("%s %v: %v\n%s\nwant it to be refused: %s", filepath.Base(program), args, err, said, why)
	}
}

func (u *upgrade) put(program string, lines ...string) {
	u.t.Helper()
	u.run(program, strings.Join(lines, "\n")+"\n", "run", "store.hcl", "in.hcl")
}

// tried has every message that waits tried once, in vain.
func (u *upgrade) tried(program string, n int) {
	u.t.Helper()
	c, said := u.command(program, "", "run", "store.hcl", "tried.hcl")
	if err := c.Start(); err != nil {
		u.t.Fatal(err)
	}
	for until := time.Now().Add(patience); strings.Count(said.String(), "due again") == 0 && time.Now().Before(until); {
		time.Sleep(50 * time.Millisecond)
	}
	_ = c.Process.Signal(os.Interrupt)
	_ = c.Wait()
	if ls := u.run(program, "", "queue", "show", "events", "--config", "store.hcl", "--json"); strings.Count(ls, `"attempts"`) != n {
		u.t.Fatalf("%d messages were to be tried:\n%s\n%s", n, ls, said)
	}
}

// delivered has all that is open delivered, and compares it with what was put in: each line once.
func (u *upgrade) delivered(program string, want ...string) {
	u.t.Helper()
	if err := os.RemoveAll(u.path("delivered")); err != nil {
		u.t.Fatal(err)
	}
	u.run(program, "", "run", "store.hcl", "out.hcl")
	b, err := os.ReadFile(u.path("delivered"))
	if err != nil {
		u.t.Fatal(err)
	}
	got := strings.Fields(string(b))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		u.t.Errorf("%s delivered %q, want %q", filepath.Base(program), got, want)
	}
}

// contents are the digests of the files of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

const embeddedStore = `
store {
  use "embedded" {
    path = "data"
  }
}
`

// TestReleaseEmbedded has the last release and this one work on one embedded store.
func TestReleaseEmbedded(t *testing.T) {
	t.Parallel()
	u := newUpgrade(t, embeddedStore)
	// What the last release has written is delivered by this one, tried before or not, and what
	// this one only looked at still by that one.
	u.put(u.old, `{"id":1}`, `{"id":2}`)
	u.run(u.now, "", "store", "check", "--config", "store.hcl")
	u.run(u.now, "", "queue", "ls", "--config", "store.hcl")
	u.delivered(u.old, `{"id":1}`, `{"id":2}`)
	u.put(u.old, `{"id":3}`, `{"id":4}`)
	u.delivered(u.now, `{"id":3}`, `{"id":4}`)
	// What this one has written is refused by the last release, whatever it is told to do, and
	// nothing is changed by that.
	u.put(u.now, `{"id":5}`)
	u.tried(u.now, 1)
	u.put(u.now, `{"id":6}`)
	before := contents(t, u.path("data"))
	const why = `says "format 2", this program reads format 1`
	u.refuses(u.old, why, `{"id":7}`, "run", "store.hcl", "in.hcl")
	u.refuses(u.old, why, "", "run", "store.hcl", "out.hcl")
	for _, args := range [][]string{{"store", "check"}, {"store", "stats"}, {"store", "compact"}, {"store", "salvage"}, {"queue", "ls"}, {"queue", "export", "events"}} {
		u.refuses(u.old, why, "", append(args, "--config", "store.hcl")...)
	}
	if after := contents(t, u.path("data")); !maps.Equal(before, after) {
		t.Errorf("the last release has changed the store:\n%v\n%v", before, after)
	}
	u.run(u.now, "", "store", "check", "--config", "store.hcl")
	if out := u.run(u.now, "", "queue", "export", "events", "--config", "store.hcl"); !strings.Contains(out, `"payload":"{\"id\":5}"`) || !strings.Contains(out, `"payload":"{\"id\":6}"`) {
		t.Errorf("this one exports %s", out)
	}
}

const postgresStore = `
store {
  use "postgres" {
    dsn           = env.WEIR_STORE_DSN
    lease_seconds = 2
  }
}
`

// TestReleasePostgres has the last release and this one work on one store in PostgreSQL.
func TestReleasePostgres(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	u := newUpgrade(t, postgresStore, "WEIR_STORE_DSN="+dsn)
	u.put(u.old, `{"id":1}`, `{"id":2}`)
	// Beside the last release this one does not start; that one goes on.
	stay := strings.Replace(upgradeOut, "stop_when_empty = true", "", 1)
	if err := os.WriteFile(u.path("stay.hcl"), []byte(stay), 0o600); err != nil {
		t.Fatal(err)
	}
	c, said := u.command(u.old, "", "run", "store.hcl", "stay.hcl")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if b, _ := os.ReadFile(u.path("delivered")); bytes.Count(b, []byte("\n")) == 2 {
			break
		}
	}
	u.refuses(u.now, "processes of an earlier release have it open", `{"id":9}`, "run", "store.hcl", "in.hcl")
	if v := version(t, dsn); v != 1 {
		t.Errorf("the schema has version %d", v)
	}
	if err := cmp.Or(c.Process.Signal(os.Interrupt), c.Wait()); err != nil {
		t.Errorf("the last release, beside which this one was started: %v\n%s", err, said)
	}
	u.put(u.old, `{"id":3}`)
	u.delivered(u.now, `{"id":3}`)
	if v := version(t, dsn); v != 2 {
		t.Errorf("the schema has version %d", v)
	}
	u.put(u.now, `{"id":5}`, `{"id":6}`)
	const why = "has version 2, this program knows versions up to 1: run a newer release"
	u.refuses(u.old, why, `{"id":7}`, "run", "store.hcl", "in.hcl")
	u.refuses(u.old, why, "", "run", "store.hcl", "out.hcl")
	u.refuses(u.old, why, "", "queue", "ls", "--config", "store.hcl")
	u.delivered(u.now, `{"id":5}`, `{"id":6}`)
}

func version(t *testing.T, dsn string) (v int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if err := c.QueryRow(t.Context(), "SELECT version FROM weir.meta").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// inputs is a config of a file whose bad lines fail into a file.
const inputs = `
source {
  use "file" {
    path          = "in.log"
    position_file = "positions.json"
  }
}
transform {
  use "js" {
    script = "function main(e) { const d = JSON.parse(e.Data); if (d.bad) { throw new Error('bad') }; return e }"
  }
}
failure_target {
  use "file" {
    path = "failed"
  }
}
target {
  use TARGET
}
`

// config writes a config with a target.
func (u *upgrade) config(target string) {
	u.t.Helper()
	if err := os.WriteFile(u.path("files.hcl"), []byte(strings.Replace(inputs, "TARGET", target, 1)), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// write appends a good line and a bad one.
func (u *upgrade) write(n int) {
	u.t.Helper()
	f, err := os.OpenFile(u.path("in.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "{\"id\":%d}\n{\"bad\":%d}\n", n, n+1)
		err = cmp.Or(err, f.Close())
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

// TestReleaseFiles has the last release and this one take turns with a position file and a file of
// failures: each goes on where the other has stopped.
func TestReleaseFiles(t *testing.T) {
	t.Parallel()
	u := newUpgrade(t, embeddedStore)
	u.config("\"file\" {\n    path = \"good\"\n  }")
	for n, program := range []string{u.old, u.now, u.old, u.now, u.now, u.old} {
		u.write(n)
		u.run(program, "", "run", "files.hcl")
		for _, name := range []string{"good", "failed"} {
			b, err := os.ReadFile(u.path(name))
			if err != nil || bytes.Count(b, []byte("\n")) != n+1 {
				t.Errorf("after %d turns there are %d lines in %s, %v", n+1, bytes.Count(b, []byte("\n")), name, err)
			}
		}
	}
	for _, program := range []string{u.old, u.now} {
		if out := u.run(program, "", "failures", "ls", "files.hcl"); !strings.Contains(out, "6  in all") {
			t.Errorf("%s finds of the failures of both: %s", filepath.Base(program), out)
		}
	}
}

// TestReleaseLake: a lake of the last release is read and gone on with, each event once; what this
// one has written into is refused by the last, and stays as it was.
func TestReleaseLake(t *testing.T) {
	t.Parallel()
	u := newUpgrade(t, embeddedStore)
	u.config("\"lake\" {\n    path = \"lake/events\"\n  }")
	for n, program := range []string{u.old, u.old, u.now, u.now} {
		u.write(n)
		u.run(program, "", "run", "files.hcl")
		got := strings.Fields(u.run(u.now, "", "lake", "head", "lake/events", "--rows", "100"))
		slices.Sort(got)
		if len(slices.Compact(slices.Clone(got))) != len(got) || len(got) != n+1 {
			t.Errorf("after %d turns the lake has %q", n+1, got)
		}
	}
	before := contents(t, u.path("lake"))
	const why = "format 2 is not one this version of weir knows (1); use a newer one"
	u.refuses(u.old, why, "", "lake", "head", "lake/events")
	u.write(4)
	u.refuses(u.old, why, "", "run", "files.hcl")
	if !maps.Equal(before, contents(t, u.path("lake"))) {
		t.Error("the lake that was refused was changed")
	}
	u.run(u.now, "", "run", "files.hcl")
	if got := strings.Fields(u.run(u.now, "", "lake", "head", "lake/events", "--rows", "100")); len(got) != 5 {
		t.Errorf("in the end the lake has %q", got)
	}
}
