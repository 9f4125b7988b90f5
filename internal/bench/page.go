package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// section is one table of a page.
type section struct {
	title string // empty for the only one
	text  string // before the table
	head  []string
	rows  [][]string
}

func (s section) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	line := func(cells []string) { _, _ = fmt.Fprintf(w, "| %s\t|\n", strings.Join(cells, "\t| ")) } // to memory
	rule := make([]string, len(s.head))
	for i := range rule {
		rule[i] = "---"
	}
	line(s.head)
	line(rule)
	for _, r := range s.rows {
		line(r)
	}
	_ = w.Flush()
	return b.String()
}

// page is a group that is being measured.
type page struct {
	group
	began time.Time
	load  string // of the machine, before
}

func (*bench) begin(g group) page { return page{g, time.Now().UTC(), loadAverage()} }

// publish prints what was measured, and writes the page when the group is whole.
func (b *bench) publish(p page, sections []section, whole bool, out io.Writer) error {
	var text strings.Builder
	for _, s := range sections {
		if len(s.rows) == 0 {
			continue
		}
		if s.title != "" {
			fmt.Fprintf(&text, "## %s\n\n", s.title)
		}
		if s.text != "" {
			fmt.Fprintf(&text, "%s\n\n", s.text)
		}
		fmt.Fprintf(&text, "%s\n", s.table())
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return err
	}
	if !b.write || !whole {
		return nil
	}
	name := filepath.Join("docs", "bench", p.name+".md")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(b.text(p, text.String())), 0o644)
}

func (b *bench) text(p page, tables string) string {
	scaled := ""
	if b.scale != 1 {
		scaled = fmt.Sprintf(", with %g times the usual number of events", b.scale)
	}
	notes := p.notes
	if notes != "" {
		notes = "\n" + notes + "\n"
	}
	return fmt.Sprintf(`<!-- Written by make bench. Do not edit. -->

# %s

%s

Machine: %s, %d CPUs, %s, %s/%s. Commit: %s. Date: %s. Rounds: %d, medians%s.
Load average before and after, of one, five and fifteen minutes: %s and %s.

%s%s`, p.title, p.intro, cpuModel(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		b.head(), p.began.Format(time.DateOnly), b.rounds, scaled, p.load, loadAverage(), strings.TrimSuffix(tables, "\n"), notes)
}

// head is the commit that is measured.
func (b *bench) head() string {
	if b.commit != "" {
		return b.commit
	}
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	text := strings.TrimSpace(string(commit))
	if changes, err := exec.Command("git", "status", "--porcelain", "--", "*.go", "go.mod").Output(); err != nil || len(changes) > 0 {
		text += " with changes"
	}
	return text
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return "unknown CPU"
}

func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(data)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return "unknown"
}
