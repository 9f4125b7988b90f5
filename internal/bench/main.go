// Command bench measures what an event costs: CPU time, and memory, of the whole process,
// beside a limit that is measured in the same run.
//
//	go run ./internal/bench                     everything, three rounds each
//	go run ./internal/bench -write              and write the pages of docs/bench
//	go run ./internal/bench engine lake         the groups of these names
//	go run ./internal/bench js                  cases whose name contains "js"
//	go run ./internal/bench -profile DIR full   with a CPU profile of each server
//
// The groups are the pages of docs/bench: engine (standard input to standard output),
// queue, gateway, lake, machine, isolation, console, kinesis and kafka.
//
// Every measured program is a child process: Weir with a config, or this program as the
// limit, the load or the sink of a case. Limit and Weir run in turn, round by round, so
// that both see the same machine. The figure is user plus system time from the kernel's
// accounting of the child, divided by the number of events; the median of the rounds
// counts, and a ratio is made of medians. The stores are measured by the benchmarks of
// their packages, which this program runs and reads.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		if err := role(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var b bench
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each case")
	flag.BoolVar(&b.write, "write", false, "write the pages of docs/bench; of whole groups only")
	flag.Float64Var(&b.scale, "scale", 1, "multiplies the number of events")
	flag.StringVar(&b.base, "dir", cmpEnv("WEIR_BENCH_DIR", "."), "directory on the disk to measure; a temporary one may be in memory")
	flag.StringVar(&b.weir, "weir", "", "binary to measure, instead of one built from here")
	flag.StringVar(&b.commit, "commit", "", "commit to name in the pages, instead of git's HEAD")
	flag.IntVar(&b.backlog, "backlog", 100_000, "jobs that wait in the benchmark of a backlog; ten million take 6 GB of disk and some minutes")
	flag.StringVar(&b.profile, "profile", "", "directory for CPU profiles of the servers that are measured")
	flag.Parse()
	if err := b.run(flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func cmpEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// roleVariable says which part of a benchmark this process is, where it is a child.
const roleVariable = "WEIR_BENCH_ROLE"

var roles = map[string]func(args []string) error{"limit": limit, "bare": bare, "load": load, "sink": sink, "consume": consume, "kafka": bareKafka}

// bench is one run of the program.
type bench struct {
	rounds  int
	write   bool
	scale   float64
	base    string
	weir    string
	commit  string
	backlog int
	profile string

	dir  string // scratch, on the disk to measure
	self string // this program
	only []string
}

// group is one page of docs/bench.
type group struct {
	name  string
	title string
	intro string
	notes string
	run   func(*bench) ([]section, error)
}

func groups() []group {
	return []group{engineGroup(), queueGroup(), gatewayGroup(), lakeGroup(), machineGroup(), isolationGroup(), consoleGroup(), kinesisGroup(), kafkaGroup()}
}

func (b *bench) run(only []string, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(b.base, ".weir-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if b.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.weir == "" {
		b.weir = filepath.Join(b.dir, "weir")
		build := exec.Command("go", "build", "-trimpath", "-o", b.weir, "github.com/weirdata/weir/cmd/weir")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build weir: %w\n%s", err, out)
		}
	} else if b.weir, err = filepath.Abs(b.weir); err != nil {
		return err
	}
	all := groups()
	named := func(name string) bool {
		return slices.ContainsFunc(all, func(g group) bool { return g.name == name })
	}
	parts := slices.DeleteFunc(slices.Clone(only), named)
	measured := 0
	for _, g := range all {
		whole := len(only) == 0 || slices.Contains(only, g.name)
		if !whole && len(parts) == 0 {
			continue
		}
		if b.only = nil; !whole {
			b.only = parts
		}
		p := b.begin(g)
		sections, err := g.run(b)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		for _, s := range sections {
			measured += len(s.rows)
		}
		if err := b.publish(p, sections, whole, out); err != nil {
			return err
		}
	}
	if measured == 0 {
		return fmt.Errorf("no group and no case is named %s", strings.Join(only, ", "))
	}
	return nil
}

// wanted reports whether a case of this name is to be measured.
func (b *bench) wanted(name string) bool {
	return len(b.only) == 0 || slices.ContainsFunc(b.only, func(s string) bool { return strings.Contains(name, s) })
}

// scaled is a number of events, times the scale.
func (b *bench) scaled(n int) int { return max(int(float64(n)*b.scale), 1) }

func (*bench) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
