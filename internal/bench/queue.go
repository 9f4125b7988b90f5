package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// queueGroup is what the stores can do, by the benchmarks of their packages.
func queueGroup() group {
	return group{
		name:  "queue",
		title: "What the durable queue can do",
		intro: `Jobs of 500 bytes. Everything appended or settled is on the disk when the call returns, in
the embedded store by fdatasync and in PostgreSQL by its synchronous commit. The raw log of
the first table is a loop that writes what waits, calls fdatasync once and answers all of
it: the least that a durable append can cost; it writes the same bytes with as many writers
on the same disk, in turn with the store.`,
		notes: `Events per second and latencies are those of a machine that others may use at the same time;
the ratios and the CPU per event are what to compare. A backlog of ten million:
` + "`go run ./internal/bench -backlog 10000000 queue`" + `.`,
		run: queueSections,
	}
}

// figure is one figure of a benchmark: what it is called on the page, and where it is from.
type figure struct {
	what   string
	bench  string // name of the benchmark, without the number of CPUs
	metric string
	format string
	aim    string
}

func queueSections(b *bench) ([]section, error) {
	embedded := []figure{
		{"append, batches of 100, 8 writers: speed by that of the raw log", "BenchmarkAppend", "ratio", "%.2f", ">= 0.5"},
		{"append: events/s", "BenchmarkAppend", "events/s", "%.0f", ""},
		{"raw log: events/s", "BenchmarkAppend", "raw-events/s", "%.0f", ""},
		{"append: us CPU/event", "BenchmarkReadSettle", "append-us-cpu/event", "%.2f", ""},
		{"lease and settle, 8 workers: us CPU/event", "BenchmarkReadSettle", "settle-us-cpu/event", "%.2f", ""},
		{"lease and settle: CPU by that of append", "BenchmarkReadSettle", "dearer-cpu", "%.2f", "<= 1"},
		{"lease and settle: time by that of append", "BenchmarkReadSettle", "dearer", "%.2f", "<= 1"},
		{"the same of a store opened anew, all of it from the log: CPU by that of append", "BenchmarkReadSettle", "cold-dearer-cpu", "%.2f", ""},
		{"the same: time by that of append", "BenchmarkReadSettle", "cold-dearer", "%.2f", "<= 1"},
		{"append to lease, quiet: p50 us", "BenchmarkLatency", "p50-us", "%.0f", ""},
		{"append to lease, quiet: p99 us", "BenchmarkLatency", "p99-us", "%.0f", "< 5000"},
		{"backlog: CPU of its last tenth by that of its first", "BenchmarkBacklog", "cost-last-by-first", "%.2f", "<= 1.2"},
		{"of that, in our own code (user time)", "BenchmarkBacklog", "user-last-by-first", "%.2f", ""},
		{"of that, in the kernel (system time)", "BenchmarkBacklog", "sys-last-by-first", "%.2f", ""},
		{"backlog: CPU of the last tenth of a bare log of the same size, written in turn", "BenchmarkBacklog", "bare-log-cost-last-by-first", "%.2f", ""},
		{"backlog: user time of its first tenth, us/event", "BenchmarkBacklog", "first-us-user/event", "%.2f", ""},
		{"backlog: user time of its last tenth, us/event", "BenchmarkBacklog", "last-us-user/event", "%.2f", ""},
		{"backlog: system time of its first tenth, us/event", "BenchmarkBacklog", "first-us-sys/event", "%.2f", ""},
		{"backlog: system time of its last tenth, us/event", "BenchmarkBacklog", "last-us-sys/event", "%.2f", ""},
		{"backlog: lease and settle of all of it, events/s", "BenchmarkBacklog", "settle-events/s", "%.0f", ""},
		{"backlog: restart after close, s", "BenchmarkBacklog", "restart-s-after-close", "%.2f", "< 5"},
		{"backlog: restart after kill -9, s", "BenchmarkBacklog", "restart-s-after-kill", "%.2f", "< 5"},
		{"backlog: memory at the most, MB", "BenchmarkBacklog", "MB", "%.0f", "< 300"},
	}
	const move = "BenchmarkMove/cached=%v/waiting=%d"
	postgres := []figure{
		{"append, batches of 500, 8 writers: events/s", "BenchmarkAppend", "events/s", "%.0f", ""},
		{"move to the next queue, 8 workers: events/s", fmt.Sprintf(move, true, 0), "events/s", "%.0f", ">= 80,000"},
		{"the same beside 500,000 that wait: events/s", fmt.Sprintf(move, true, 500_000), "events/s", "%.0f", ">= 80,000"},
		{"the same without a cache of what was written: events/s", fmt.Sprintf(move, false, 500_000), "events/s", "%.0f", ""},
	}
	var sections []section
	for _, t := range []struct {
		store, title, text string
		figures            []figure
		runs               [][]string // arguments of go test
	}{
		{"embedded", "Embedded store", fmt.Sprintf(`The backlog has %d jobs that nobody takes. "By that of append" is beside
the append of the same run: 80,000 jobs are appended by 8 writers and then leased and settled by
8 workers. The figures of the bare log are what the kernel itself asks more of a program the more
it has written: it needs new memory for each page that it keeps of a file. The store has it forget
what is far behind the end of its log; the bare log does not.`, b.backlog), embedded, [][]string{
			{"-bench", "^(BenchmarkAppend|BenchmarkReadSettle)$", "-benchtime", "1x", "-count", strconv.Itoa(b.rounds)},
			{"-bench", "^BenchmarkLatency$", "-benchtime", "2000x", "-count", strconv.Itoa(b.rounds)},
			{"-bench", "^BenchmarkBacklog$", "-benchtime", "1x"},
		}},
		{"postgres", "PostgreSQL", "The server is on the same machine, and its CPU is not counted.", postgres, [][]string{
			{"-bench", "^(BenchmarkAppend|BenchmarkMove)$", "-benchtime", "1s", "-count", strconv.Itoa(b.rounds)},
		}},
	} {
		s := section{title: t.title, text: t.text, head: []string{"figure", "measured", "aim"}}
		if b.wanted(t.store) {
			got := map[string][]float64{}
			for _, args := range t.runs {
				if err := b.goTest("./internal/queue/"+t.store, args, got); err != nil {
					return nil, err
				}
			}
			for _, f := range t.figures {
				values := got[f.bench+" "+f.metric]
				if len(values) == 0 {
					return nil, fmt.Errorf("%s of internal/queue/%s reports no %s", f.bench, t.store, f.metric)
				}
				s.rows = append(s.rows, []string{f.what, fmt.Sprintf(f.format, median(values, func(v float64) float64 { return v })), cmp.Or(f.aim, "-")})
			}
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// goTest runs benchmarks of a package, with the engines they need, and adds what they
// report under "Benchmark/case metric".
func (b *bench) goTest(pkg string, args []string, into map[string][]float64) error {
	args = slices.Concat([]string{"run", "./internal/testrun", "-run", "^$", "-timeout", "60m"}, args, []string{pkg})
	b.say("go %s", strings.Join(args, " "))
	c := b.command("", "go", args...)
	c.Env = append(os.Environ(), "WEIR_BENCH_DIR="+b.dir, "WEIR_BACKLOG="+strconv.Itoa(b.backlog))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("benchmarks of %s: %w\n%s%s", pkg, err, out, stderr.Bytes())
	} else if err != nil {
		return err
	}
	return metrics(string(out), into)
}

// metrics reads the lines of benchmarks: the name with the number of CPUs, the number of
// rounds, and pairs of value and unit.
func metrics(out string, into map[string][]float64) error {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return fmt.Errorf("read %q: %w", line, err)
			}
			key := name + " " + f[i+1]
			into[key] = append(into[key], v)
		}
	}
	return nil
}
