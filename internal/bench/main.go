// Command bench measures what an event costs: CPU time, and memory, of the whole process,
// beside a limit that is measured in the same run.
//
//	go run ./internal/bench            all cases, three rounds each
//	go run ./internal/bench -write     and write docs/bench/engine.md
//	go run ./internal/bench js         cases whose name contains "js"
//
// Every case runs as a child process that reads a generated file on standard input and
// writes to /dev/null, round by round, limit and Weir in turn, so that both see the same
// machine. The figure is user plus system time from the kernel's accounting of the child,
// divided by the number of events; the median of the rounds counts, and the ratio is made
// of medians. Peers' figures in the notes are from one measurement on a machine of the
// same size and are for scale only.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "limit" {
		if err := limit(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 3, "rounds of each case")
	write := flag.Bool("write", false, "write docs/bench/engine.md")
	scale := flag.Float64("scale", 1, "multiplies the number of events")
	flag.Parse()
	if err := run(*rounds, *scale, *write, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// benchmark is one case: a config for Weir, and the limit to hold it against.
type benchmark struct {
	name   string
	config string
	input  func(path string, events int) error
	events int
	limit  []string // arguments of the limit's child
	says   string   // what the limit is
	aim    string
}

// cost is what one run cost.
type cost struct {
	cpu, wall time.Duration
	rss       int64 // KiB
}

// result is a case's medians.
type result struct {
	benchmark
	weir, limit cost
}

func run(rounds int, scale float64, write bool, only []string) error {
	dir, err := os.MkdirTemp("", "weir-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	weir := filepath.Join(dir, "weir")
	build := exec.Command("go", "build", "-trimpath", "-o", weir, "github.com/weirdata/weir/cmd/weir")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build weir: %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var results []result
	for _, b := range benchmarks() {
		if len(only) > 0 && !slices.ContainsFunc(only, func(s string) bool { return strings.Contains(b.name, s) }) {
			continue
		}
		b.events = max(int(float64(b.events)*scale), 1)
		r, err := measure(b, dir, weir, self, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		results = append(results, r)
		fmt.Fprintf(os.Stderr, "%s: %.2f us CPU an event, %.2f times the limit\n", b.name, r.perEvent(r.weir), r.ratio())
	}
	text := table(results)
	fmt.Print(text)
	if !write {
		return nil
	}
	return os.WriteFile(filepath.Join("docs", "bench", "engine.md"), []byte(page(text, rounds)), 0o644)
}

func measure(b benchmark, dir, weir, self string, rounds int) (result, error) {
	input := filepath.Join(dir, "input")
	if err := b.input(input, b.events); err != nil {
		return result{}, err
	}
	config := filepath.Join(dir, "bench.hcl")
	if err := os.WriteFile(config, []byte(b.config), 0o600); err != nil {
		return result{}, err
	}
	var ours, limits []cost
	for range rounds {
		l, err := child(input, self, append([]string{"limit"}, b.limit...)...)
		if err != nil {
			return result{}, err
		}
		w, err := child(input, weir, "run", "--no-progress", config)
		if err != nil {
			return result{}, err
		}
		limits, ours = append(limits, l), append(ours, w)
	}
	return result{b, median(ours), median(limits)}, nil
}

// child runs a program on the input and returns what it cost.
func child(input, program string, args ...string) (cost, error) {
	in, err := os.Open(input)
	if err != nil {
		return cost{}, err
	}
	defer in.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return cost{}, err
	}
	defer null.Close()
	var stderr strings.Builder
	c := exec.Command(program, args...)
	c.Stdin, c.Stdout, c.Stderr = in, null, &stderr
	begin := time.Now()
	if err := c.Run(); err != nil {
		return cost{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, stderr.String())
	}
	usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return cost{}, fmt.Errorf("no accounting of child processes on %s", runtime.GOOS)
	}
	return cost{c.ProcessState.UserTime() + c.ProcessState.SystemTime(), time.Since(begin), usage.Maxrss}, nil
}

// median is the run with the median CPU time.
func median(cs []cost) cost {
	cs = slices.SortedFunc(slices.Values(cs), func(a, b cost) int { return int(a.cpu - b.cpu) })
	return cs[len(cs)/2]
}

func (r result) perEvent(c cost) float64 {
	return float64(c.cpu.Nanoseconds()) / 1e3 / float64(r.events)
}
func (r result) ratio() float64 { return float64(r.weir.cpu) / float64(r.limit.cpu) }

func table(rs []result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| case\t| us CPU/event\t| limit\t| ratio\t| events/s\t| peak MB\t| the limit is\t| aim\t|")
	fmt.Fprintln(w, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range rs {
		fmt.Fprintf(w, "| %s\t| %.2f\t| %.2f\t| %.2f\t| %.0f\t| %d\t| %s\t| %s\t|\n", r.name, r.perEvent(r.weir), r.perEvent(r.limit), r.ratio(),
			float64(r.events)/r.weir.wall.Seconds(), r.weir.rss/1024, r.says, r.aim)
	}
	w.Flush()
	return b.String()
}

// page is docs/bench/engine.md.
func page(table string, rounds int) string {
	commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	return fmt.Sprintf(`# What an event costs

Made by %s: %d rounds, medians, Weir and the limit in turn.
CPU is user plus system time of the whole process, start-up included.

Machine: %s, %d CPUs, %s, %s/%s. Commit: %s. Date: %s.

%s
Peers on a machine of the same size, measured once, for scale: standard input to standard
output 12.4 us an event (Snowbridge 5.1; 4.0 with batches of 500) and 7.5 us (Benthos);
parse, change and stringify in JavaScript 76 us (Snowbridge) and 58 us (Redpanda Connect);
enriched TSV to JSON 351 us (Snowbridge), filter and TSV to JSON of a mix 128 us.
`, "`make bench`", rounds, cpu(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		strings.TrimSpace(string(commit)), time.Now().UTC().Format(time.DateOnly), table)
}

func cpu() string {
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
