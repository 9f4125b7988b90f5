package examples

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
)

// step is what a page has a reader do: a file to write, or commands with what they print.
type step struct {
	line       int
	file, text string // of a file
	commands   string
	how        string // of commands, see steps
	prints     string
	printed    bool
}

// How commands are run that do not simply end and print: one that runs on, in a terminal of its
// own; some that only look, and are repeated until what they print is there; and some before which
// what runs on is stopped.
const (
	running    = "running"
	eventually = "eventually"
	stopped    = "stopped"
)

var fence = regexp.MustCompile("(?ms)(?:^)```([a-z]*)(?: ([^\n]+))?\n(.*?)\n```$")

// steps are those of a page: blocks whose opening names a file, blocks of commands (sh, with how
// they are run behind it), and the blocks of text behind them.
func steps(page string) []step {
	var all []step
	for _, m := range fence.FindAllStringSubmatchIndex(page, -1) {
		kind, text := page[m[2]:m[3]], page[m[6]:m[7]]+"\n"
		s := step{line: strings.Count(page[:m[0]], "\n") + 1}
		var with string
		if m[4] >= 0 {
			with = page[m[4]:m[5]]
		}
		switch {
		case kind == "sh":
			s.commands, s.how = text, with
		case with != "":
			s.file, s.text = with, text
		case kind == "text" && len(all) > 0 && all[len(all)-1].commands != "":
			last := &all[len(all)-1]
			last.prints, last.printed = text, true
			continue
		default:
			continue
		}
		all = append(all, s)
	}
	return all
}

// duck is the command duckdb as far as the pages use it: statements on standard input, the rows
// of the last one as CSV.
const duck = `#!%s
import sys, csv, duckdb
c = duckdb.connect()
r = c.execute(sys.stdin.read())
w = csv.writer(sys.stdout, lineterminator="\n")
w.writerow([d[0] for d in r.description])
w.writerows(r.fetchall())
`

// pip is the command pip as far as the pages use it: what would be installed is there.
const pip = `#!/bin/sh
test "$*" = "install --target $3 awslambdaric" && cp -r %s/. "$3"
`

// reader does what a page says, in a folder of its own.
type reader struct {
	t        *testing.T
	dir, bin string
	env      []string
	// places are what the page says of the machine, folders and ports, and what they are for this
	// reader: pairs of old and new.
	places []string
}

// newReader is one that has weir on its path, and the variables env.
func newReader(t *testing.T, env ...string) *reader {
	t.Helper()
	r := &reader{t: t, dir: t.TempDir(), bin: t.TempDir()}
	r.env = append(append(os.Environ(), "PATH="+r.bin+string(os.PathListSeparator)+os.Getenv("PATH")), env...)
	path, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	r.program("weir", path)
	return r
}

// program puts one on the path.
func (r *reader) program(name, path string) {
	r.t.Helper()
	if err := os.Symlink(path, filepath.Join(r.bin, name)); err != nil {
		r.t.Fatal(err)
	}
}

// duckdb puts the command duckdb on the path.
func (r *reader) duckdb() {
	r.t.Helper()
	lay(r.t, filepath.Join(r.bin, "duckdb"), strings.Replace(duck, "%s", enginetest.DuckDB(r.t).Python(), 1), 0o755)
}

func (r *reader) command(s step) (*exec.Cmd, *locked, *locked) {
	commands := s.commands
	if s.how == running {
		commands = "exec " + commands // so that it is the process that is stopped
	}
	c := exec.CommandContext(r.t.Context(), "bash", "-euo", "pipefail", "-c", commands)
	out, stderr := &locked{}, &locked{}
	c.Dir, c.Env, c.Stdout, c.Stderr = r.dir, r.env, out, stderr
	return c, out, stderr
}

// follow does what the page says, in its order, and compares what it says is printed; three dots
// stand for anything in a line, and in a line of their own for any lines. What runs on is ended in
// the end, and has to end well.
func (r *reader) follow(page string) {
	t := r.t
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	var ends []func()
	end := func() {
		for _, one := range ends {
			one()
		}
		ends = nil
	}
	defer func() { end() }()
	for _, s := range steps(strings.NewReplacer(r.places...).Replace(string(text))) {
		if s.file != "" {
			lay(t, filepath.Join(r.dir, filepath.FromSlash(s.file)), s.text, 0o644)
			continue
		}
		ran++
		switch s.how {
		case "", stopped:
			if s.how == stopped {
				end()
			}
			c, out, stderr := r.command(s)
			if err := c.Run(); err != nil {
				t.Fatalf("line %d: %v\n%s%s", s.line, err, out, stderr)
			}
			if s.printed && !printed(s.prints).MatchString(out.String()) {
				t.Errorf("line %d prints\n%s\nand not\n%s\n%s", s.line, out, s.prints, stderr)
			}
		case running:
			ends = append(ends, r.run(s))
		case eventually:
			r.until(s)
		default:
			t.Fatalf("line %d: commands are run %q, which nobody knows", s.line, s.how)
		}
	}
	if ran == 0 {
		t.Error("no command was found on the page")
	}
}

// run starts what runs on, and returns what ends it.
func (r *reader) run(s step) func() {
	r.t.Helper()
	c, out, stderr := r.command(s)
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		_ = c.Process.Signal(os.Interrupt) // one that has ended already is an error of Wait
		if err := c.Wait(); err != nil {
			r.t.Errorf("line %d did not end cleanly: %v\n%s", s.line, err, stderr)
		}
		if r.t.Failed() {
			r.t.Logf("line %d said\n%s%s", s.line, out, stderr)
		}
	}
}

// until repeats commands that only look.
func (r *reader) until(s step) {
	r.t.Helper()
	tick, patience := time.NewTicker(200*time.Millisecond), time.After(3*time.Minute)
	defer tick.Stop()
	for {
		c, out, stderr := r.command(s)
		if err := c.Run(); err == nil && printed(s.prints).MatchString(out.String()) {
			return
		}
		select {
		case <-tick.C:
		case <-patience:
			r.t.Fatalf("line %d prints\n%s\nand not\n%s\n%s", s.line, out, s.prints, stderr)
		}
	}
}

// pages are the documents that are followed, and what a reader has to have for them beside weir
// and a shell.
var pages = []struct {
	name    string
	prepare func(r *reader)
}{
	{"README.md", func(*reader) { /* weir is enough */ }},
	{"docs/lake.md", (*reader).duckdb},
	{"docs/firehose.md", func(r *reader) {
		lay(r.t, filepath.Join(r.bin, "pip"), strings.Replace(pip, "%s", enginetest.LambdaRuntime(r.t), 1), 0o755)
	}},
	{"docs/iceberg.md", func(r *reader) {
		r.program("python3", enginetest.PyIcebergPython(r.t))
		r.ports("8181")
	}},
	{"docs/scripts.md", func(*reader) { /* likewise */ }},
	{"docs/delivery.md", func(*reader) { /* likewise */ }},
	{"docs/functions.md", func(r *reader) {
		lay(r.t, filepath.Join(r.bin, "pip"), strings.Replace(pip, "%s", enginetest.LambdaRuntime(r.t), 1), 0o755)
		r.env = append(r.env, "GOFLAGS=-mod=mod")
	}},
	{"docs/workspace-config.md", func(r *reader) { r.ports("8080", "8082") }},
	{"docs/webhooks.md", func(r *reader) { r.ports("8080") }},
	{"docs/production.md", func(r *reader) {
		if _, err := exec.LookPath("systemd-analyze"); err != nil {
			r.t.Log("there is no systemd-analyze: the unit is not verified")
			lay(r.t, filepath.Join(r.bin, "systemd-analyze"), "#!/bin/sh\n", 0o755)
		}
		data := filepath.Join(r.dir, "data")
		if err := os.MkdirAll(data, 0o755); err != nil {
			r.t.Fatal(err)
		}
		r.env = append(r.env, "WEIR_STORE_DSN="+enginetest.Postgres(r.t))
		r.places = []string{"/var/lib/weir", data, "/etc/weir", filepath.Join(r.dir, "etc", "weir"), "/usr/bin/weir", filepath.Join(r.bin, "weir")}
		r.ports("8080", "8081")
	}},
	{"docs/operations.md", func(*reader) { /* likewise */ }},
	{"docs/compatibility.md", func(r *reader) {
		r.env = append(r.env, "WEIR_STORE_DSN="+enginetest.Postgres(r.t))
		for _, name := range []string{"pg_dump", "pg_restore", "psql"} {
			r.program(name, enginetest.PostgresProgram(r.t, name))
		}
		r.ports("8080", "8081")
	}},
}

// TestPages follows the pages.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, page := range pages {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			r := newReader(t)
			page.prepare(r)
			r.follow(filepath.Join("..", filepath.FromSlash(page.name)))
		})
	}
}

// claim is how a page says that its commands are run.
var claim = regexp.MustCompile(`command on this\s+page\s+is\s+run\s+by\s+a\s+test`)

// TestPagesThatClaimTo: a page that says that its commands are run is one of those that are, and the
// other way round.
func TestPagesThatClaimTo(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	followed := map[string]bool{}
	for _, p := range pages {
		followed[p.name] = true
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := "docs/" + filepath.Base(path)
		if says := claim.Match(text); says != followed[name] {
			t.Errorf("%s says that its commands are run: %t, and they are: %t", name, says, followed[name])
		}
	}
}

// ports gives the page's ports to nobody else. They are none of those that a system gives out by
// itself, so that nobody has them meanwhile who has not chosen them.
func (r *reader) ports(said ...string) {
	r.t.Helper()
	for range 1000 {
		if len(said) == 0 {
			return
		}
		p := strconv.Itoa(20000 + rand.IntN(10000))
		var lc net.ListenConfig
		l, err := lc.Listen(r.t.Context(), "tcp", "127.0.0.1:"+p)
		if err != nil || slices.Contains(r.places, ":"+p) {
			continue
		}
		if err := l.Close(); err != nil {
			r.t.Fatal(err)
		}
		r.places, said = append(r.places, ":"+said[0], ":"+p), said[1:]
	}
	r.t.Fatal("there are no free ports")
}

// printed is the pattern of what a page says is printed.
func printed(text string) *regexp.Regexp {
	var p strings.Builder
	p.WriteString(`\A`)
	for l := range strings.Lines(strings.TrimRight(text, "\n")) {
		if l = strings.TrimRight(l, " \n"); l == "..." {
			p.WriteString(`(?:.*\n)*?`)
			continue
		}
		p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(l), `\.\.\.`, ".*") + ` *\n`)
	}
	return regexp.MustCompile(strings.TrimSuffix(p.String(), `\n`) + `\n*\z`)
}

func lay(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
