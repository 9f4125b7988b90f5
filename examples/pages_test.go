package examples

import (
	"bytes"
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

	"github.com/weirdata/weir/internal/enginetest"
)

// step is what a page has a reader do: a file to write, or commands with what they print.
type step struct {
	line       int
	file, text string // of a file
	commands   string
	prints     string
	printed    bool
}

var fence = regexp.MustCompile("(?ms)(?:^)```([a-z]*)(?: ([^\n]+))?\n(.*?)\n```$")

// steps are those of a page: blocks whose opening names a file, blocks of commands (sh), and
// the blocks of text behind them.
func steps(page string) []step {
	var all []step
	for _, m := range fence.FindAllStringSubmatchIndex(page, -1) {
		kind, text := page[m[2]:m[3]], page[m[6]:m[7]]+"\n"
		s := step{line: strings.Count(page[:m[0]], "\n") + 1}
		switch {
		case m[4] >= 0:
			s.file, s.text = page[m[4]:m[5]], text
		case kind == "sh":
			s.commands = text
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

// page is a document whose commands are run. What has to be there for it beside weir and a shell,
// needs puts into the folder bin, or into the environment that it returns. What the page says of
// the machine (folders, ports) is what places names for this run, in pairs of old and new.
type page struct {
	name   string
	needs  func(t *testing.T, bin string) (env []string)
	places func(t *testing.T, dir, bin string) []string
}

// pages are the documents whose commands are run.
var pages = []page{
	{name: "docs/lake.md", needs: func(t *testing.T, bin string) []string {
		lay(t, filepath.Join(bin, "duckdb"), strings.Replace(duck, "%s", enginetest.DuckDB(t).Python(), 1), 0o755)
		return nil
	}},
	{name: "docs/scripts.md"},
	{name: "docs/delivery.md"},
	{name: "docs/functions.md", needs: func(t *testing.T, bin string) []string {
		lay(t, filepath.Join(bin, "pip"), strings.Replace(pip, "%s", enginetest.LambdaRuntime(t), 1), 0o755)
		return []string{"GOFLAGS=-mod=mod"}
	}},
	{
		name: "docs/production.md",
		needs: func(t *testing.T, bin string) []string {
			if _, err := exec.LookPath("systemd-analyze"); err != nil {
				t.Log("there is no systemd-analyze: the unit is not verified")
				lay(t, filepath.Join(bin, "systemd-analyze"), "#!/bin/sh\n", 0o755)
			}
			return []string{"WEIR_STORE_DSN=" + enginetest.Postgres(t)}
		},
		places: func(t *testing.T, dir, bin string) []string {
			data := filepath.Join(dir, "data")
			if err := os.MkdirAll(data, 0o755); err != nil {
				t.Fatal(err)
			}
			return []string{"/var/lib/weir", data, "/etc/weir", filepath.Join(dir, "etc", "weir"), "/usr/bin/weir", filepath.Join(bin, "weir"),
				":8080", ":" + port(t), ":8081", ":" + port(t)}
		},
	},
}

// port is one that nobody listens on. It is none of those that systems give out by themselves, so
// that nobody gets it meanwhile who has not chosen it.
func port(t *testing.T) string {
	t.Helper()
	for range 100 {
		p := strconv.Itoa(20000 + rand.IntN(10000))
		var lc net.ListenConfig
		if l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:"+p); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// runsItself is how a page says that its commands are run.
var runsItself = regexp.MustCompile(`command on this\s+page\s+is\s+run\s+by\s+a\s+test`)

// TestPages does what the pages say, in their order, and compares what they say is printed;
// three dots stand for anything in a line, and in a line of their own for any lines.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, page := range pages {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(page.name)))
			if err != nil {
				t.Fatal(err)
			}
			dir, bin := t.TempDir(), t.TempDir()
			path, err := weir()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(bin, "weir")); err != nil {
				t.Fatal(err)
			}
			env := append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			if page.needs != nil {
				env = append(env, page.needs(t, bin)...)
			}
			read := string(text)
			if page.places != nil {
				read = strings.NewReplacer(page.places(t, dir, bin)...).Replace(read)
			}
			follow(t, dir, env, steps(read))
		})
	}
}

// TestPagesThatClaimTo finds every page that says its commands are run among those that are.
func TestPagesThatClaimTo(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := "docs/" + filepath.Base(path)
		run := slices.ContainsFunc(pages, func(p page) bool { return p.name == name })
		if says := runsItself.Match(text); says != run {
			t.Errorf("%s: it says that its commands are run: %t; they are: %t", name, says, run)
		}
	}
}

// follow does the steps of a page.
func follow(t *testing.T, dir string, env []string, steps []step) {
	t.Helper()
	ran := 0
	for _, s := range steps {
		if s.file != "" {
			lay(t, filepath.Join(dir, filepath.FromSlash(s.file)), s.text, 0o644)
			continue
		}
		ran++
		c := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", s.commands)
		c.Dir, c.Env = dir, env
		var out, stderr bytes.Buffer
		c.Stdout, c.Stderr = &out, &stderr
		if err := c.Run(); err != nil {
			t.Fatalf("line %d: %v\n%s%s", s.line, err, &out, &stderr)
		}
		if s.printed && !printed(s.prints).MatchString(out.String()) {
			t.Errorf("line %d prints\n%s\nand not\n%s\n%s", s.line, &out, s.prints, &stderr)
		}
	}
	if ran == 0 {
		t.Error("no command was found on the page")
	}
}

// printed is the pattern of what a page says is printed.
func printed(text string) *regexp.Regexp {
	var p strings.Builder
	p.WriteString(`\A`)
	for l := range strings.Lines(strings.TrimRight(text, "\n")) {
		switch l = strings.TrimRight(l, " \n"); l {
		case "...":
			p.WriteString(`(?:.*\n)*?`)
		default:
			p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(l), `\.\.\.`, ".*") + ` *\n`)
		}
	}
	return regexp.MustCompile(p.String() + `\n*\z`)
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
