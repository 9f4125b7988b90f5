package examples

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// TestPages does what the pages say, in their order, and compares what they say is printed;
// three dots stand for anything in a line.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"lake"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../docs/" + page + ".md")
			if err != nil {
				t.Fatal(err)
			}
			dir, bin := t.TempDir(), t.TempDir()
			lay(t, filepath.Join(bin, "duckdb"), strings.Replace(duck, "%s", enginetest.DuckDB(t).Python(), 1), 0o755)
			path, err := weir()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(bin, "weir")); err != nil {
				t.Fatal(err)
			}
			ran := 0
			for _, s := range steps(string(text)) {
				if s.file != "" {
					lay(t, filepath.Join(dir, filepath.FromSlash(s.file)), s.text, 0o644)
					continue
				}
				ran++
				c := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", s.commands)
				c.Dir, c.Env = dir, append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
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
		})
	}
}

// printed is the pattern of what a page says is printed.
func printed(text string) *regexp.Regexp {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(l, " ")), `\.\.\.`, ".*")
	}
	return regexp.MustCompile(`\A` + strings.Join(lines, ` *\n`) + ` *\n*\z`)
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
