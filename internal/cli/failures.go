package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/queue"
)

func failuresCommand(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "failures",
		Short: "See whatever has failed or died, and send it again",
		Long: `See whatever has failed or died, wherever it rests, and send it again.

The config says where that is. Failed events are in the failure target of a pipeline (a file or
a queue), or in the store, where they wait for a failure target that spills. Messages that were
given up, or that a pipeline keeps, are dead in the queue that they come from. The inputs of
executions that failed are dead in the queue of their machine. While a process has the store
open, it is asked, so its config needs an admin block.

A file written by something else, such as standard output that was kept, is named with --from;
it may be compressed. Rows that Snowbridge wrote are read as well.`,
		Example: `  weir failures ls pipeline.hcl
  weir failures show pipeline.hcl --id 4711-9f86d081884c7d65
  weir failures replay pipeline.hcl --cause "400 Bad Request" --since 24h`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(failuresLs(s), failuresShow(s), failuresExport(s), failuresReplay(s))
	return c
}

// failureFlags choose failed events.
type failureFlags struct {
	pipeline, machine          string
	from, journal              string
	scope                      [3]string
	cause, since, until        string
	minSize, maxSize, limit    int
	ids                        []string
	asJSON, again, dry         bool
	through, payload, failedTo string
}

func (f *failureFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.pipeline, "pipeline", "", "failed events of this pipeline")
	c.Flags().StringVar(&f.machine, "machine", "", "executions of this machine")
	for i, axis := range scopeAxes {
		c.Flags().StringVar(&f.scope[i], string(axis), "", "events of this "+string(axis))
	}
	c.Flags().StringVar(&f.from, "from", "", "file with failed events to read instead of the failure target; - is standard input")
	c.Flags().StringVar(&f.journal, "journal", "", "file that notes what was replayed of a file (default: the file's name with .replayed)")
	c.Flags().StringVar(&f.cause, "cause", "", "events whose error or error code contains this text, or matches it when it is /a regular expression/")
	c.Flags().StringVar(&f.since, "since", "", "events read at or after this time: RFC 3339, or a duration ago such as 90m, 24h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "events read before this time, written like --since")
	c.Flags().IntVar(&f.minSize, "min-size", 0, "events whose payload has at least this many bytes")
	c.Flags().IntVar(&f.maxSize, "max-size", 0, "events whose payload has at most this many bytes; 0 means no bound")
	c.Flags().StringArrayVar(&f.ids, "id", nil, "the event with this ID; repeat it for several")
}

// scopeAxes are the parts of a scope, in the order of failureFlags.scope.
var scopeAxes = [3]queue.Axis{queue.ByWorkspace, queue.BySource, queue.ByDestination}

// selection is what the flags choose.
func (f *failureFlags) selection(now time.Time) (sel failures.Selection, err error) {
	if f.minSize < 0 || f.maxSize < 0 || f.limit < 0 {
		return sel, usagef("--min-size, --max-size and --limit must not be negative")
	}
	sel = failures.Selection{MinSize: f.minSize, MaxSize: f.maxSize}
	if sel.Cause, err = failures.ParseCause(f.cause); err != nil {
		return sel, usagef("--cause: %w", err)
	}
	if sel.Since, err = instant("--since", f.since, now); err != nil {
		return sel, err
	}
	if sel.Until, err = instant("--until", f.until, now); err != nil {
		return sel, err
	}
	for i, axis := range scopeAxes {
		if f.scope[i] != "" {
			if sel.Scope == nil {
				sel.Scope = make(map[queue.Axis]string, len(scopeAxes))
			}
			sel.Scope[axis] = f.scope[i]
		}
	}
	for _, id := range f.ids {
		if sel.IDs == nil {
			sel.IDs = map[string]bool{}
		}
		sel.IDs[id] = true
	}
	return sel, nil
}

// instant reads a time: RFC 3339, or a duration before now.
func instant(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usagef("%s is a time such as 2026-11-20T10:00:00Z, or a duration ago such as 90m, 24h or 7d, not %q", flag, text)
}

// tell says what was left out.
func (r *failureReader) tell(s failures.Skipped) {
	if s.Other > 0 && r.flags.from == "" {
		fmt.Fprintf(r.s.Err, "%s left out: no failed events\n", plural(s.Other))
	}
	if s.Damaged > 0 {
		fmt.Fprintf(r.s.Err, "%s left out: damaged, the first is %v\n", plural(s.Damaged), s.First)
	}
	if r.unasked != nil {
		fmt.Fprintf(r.s.Err, "weir: dead messages of queues, which may be there, are left out: %v\n", r.unasked)
	}
}

// causes counts failed events by cause.
type causes struct {
	counts map[string]int
	other  int // of causes that are too many
}

const (
	mostCauses  = 1000
	shownCauses = 20
)

func (c *causes) add(cause string) {
	cause = middle(cause, 100)
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	if _, known := c.counts[cause]; !known && len(c.counts) >= mostCauses {
		c.other++
		return
	}
	c.counts[cause]++
}

// sorted is the causes, the most frequent first.
func (c *causes) sorted() []string {
	names := make([]string, 0, len(c.counts))
	for name := range c.counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := c.counts[b] - c.counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

func (c *causes) print(w io.Writer) {
	names := c.sorted()
	fmt.Fprintln(w, "COUNT  CAUSE")
	rest := c.other
	for i, name := range names {
		if i >= shownCauses {
			rest += c.counts[name]
			continue
		}
		fmt.Fprintf(w, "%5d  %s\n", c.counts[name], dash(name))
	}
	if rest > 0 {
		fmt.Fprintf(w, "%5d  (other causes)\n", rest)
	}
}
