package cli_test

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal is a pseudo-terminal: what is written to its user's side is read from ours.
func openTerminal(t *testing.T) (ours, users *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(ours.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if users, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return ours, users
}

// TestLiveLine: on a terminal one line is repainted and ends as a summary; logs are text with
// colours. Nobody who reads standard error from a file or a pipe sees any of it.
func TestLiveLine(t *testing.T) {
	t.Parallel()
	const filter = "transform {\n  use \"jqFilter\" {\n    jq_command = \".n < 5\"\n    timeout_ms = 60000\n  }\n}\n"
	config := filter + toFiles
	onTerminal := func(config string, both bool, args ...string) (*process, *output) {
		ours, users := openTerminal(t)
		shown := newOutput()
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			_, _ = io.Copy(shown, ours) // ends with an error when nobody has the other side open
		}()
		c := weir(t, files(t, "p.hcl", config), append([]string{"run", "p.hcl"}, args...)...)
		c.Stderr = users
		if both {
			c.Stdout = users
		}
		p := launch(t, c)
		_ = users.Close()
		t.Cleanup(func() { <-p.ended; <-copied; _ = ours.Close() })
		if _, err := io.WriteString(p.in, strings.Join(append(crowd(20), "bad"), "\n")+"\n"); err != nil {
			t.Fatal(err)
		}
		return p, shown
	}

	p, shown := onTerminal(config, false)
	p.until(shown, `\r\x1b\[K\x1b\[\?7lin \d+/s  out \d+/s  filtered \d+/s  failed 1  in flight 0  lag \S+  total 21 in \d+s`)
	p.until(shown, `(?s)(\r\x1b\[K\x1b\[\?7lin .*){3}`)
	introduced, live, _ := strings.Cut(shown.String(), "\r\x1b[K")
	if !regexp.MustCompile(`weir starts \S*version=\S+ \S*config=\S*p\.hcl\r\n`).MatchString(introduced) || !strings.Contains(introduced, `"stdin -> jqFilter -> file"`) {
		t.Errorf("what starts is not told: %q", introduced)
	}
	if strings.Contains(live, "\n") {
		t.Errorf("the live line has scrolled: %q", live)
	}
	_ = p.in.Close()
	p.exits(0)
	p.until(shown, `\r\x1b\[Kin \S+  out \S+  filtered \S+  failed 1  in flight 0  lag \S+  total 21 in \d+s\r\n$`)
	widest := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(shown.String(), introduced), "\r\x1b[K") {
		widest = max(widest, len(strings.TrimSpace(line)))
	}
	if widest > 120 {
		t.Errorf("the live line has %d characters", widest)
	}

	for name, plain := range map[string]func() (*process, *output){
		"wanted by a flag":       func() (*process, *output) { return onTerminal(config, false, "--no-progress") },
		"events on the terminal": func() (*process, *output) { return onTerminal(filter, true) },
		"standard error in a pipe": func() (*process, *output) {
			p := run(t, files(t, "p.hcl", config), strings.Join(crowd(20), "\n"), "run", "p.hcl")
			return p, p.err
		},
	} {
		p, shown := plain()
		if p.in != nil {
			_ = p.in.Close()
		}
		p.exits(0)
		if text := shown.String(); regexp.MustCompile(`in flight|\x1b\[K`).MatchString(text) {
			t.Errorf("%s: %q", name, text)
		}
	}

	// Failures that are printed where the live line is take its place, and it comes back.
	p, shown = onTerminal(filter+"target {\n  use \"file\" {\n    path = \"out\"\n  }\n}\n", true)
	p.until(shown, `\r\x1b\[K[^\r\n]*"payload":"bad"[^\r\n]*\r\n`)
	p.until(shown, `"payload":"bad"[^\r\n]*\r\n(?s:.*)\r\x1b\[K\x1b\[\?7lin `)
	_ = p.in.Close()
	p.exits(0)

	// A line of the log does not run into the live line.
	p, shown = onTerminal("admin {\n  address = \"127.0.0.1:0\"\n}\n"+config, false)
	p.until(shown, `INF.*admin server listens`)
	p.until(shown, `\r\x1b\[K\x1b\[\?7lin `)
	p.signal(os.Interrupt)
	p.exits(0)
	p.until(shown, `\x1b\[\?7h\r\x1b\[K[^\r]*INF[^\r]*stopping: reading has ended`)
	if m := regexp.MustCompile(`total \d+ in \d+s[^\r\n]*INF`).FindString(shown.String()); m != "" {
		t.Errorf("a line runs into another: %q", m)
	}
}
