package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/order"
)

func queueCommand(s Streams) *cobra.Command {
	var flags storeFlags
	c := &cobra.Command{
		Use:   "queue",
		Short: "See what waits in queues, and decide what becomes of it",
		Long: `See what waits in queues, and decide what becomes of it.

The queues are found through the config that declares them. While a process has the store
open, its admin server is asked, so its config needs an admin block.

A message is open until it is delivered: it waits, is leased to a pipeline, or waits for its
next attempt. When its attempts are used up it is dead: kept, whole and with the reason,
until it is retried or dropped.

Work can be paused and resumed, and what is open moved elsewhere, drained (given up: it is dead
then) or dropped. Such a decision is kept in the store before anything is done: one that is cut
short, as by a crash, is gone on with by whoever has the store open next.`,
		Example: `  weir queue ls --config pipeline.hcl
  weir queue show deliveries --dead --cause "400 Bad Request" --config pipeline.hcl
  weir queue retry deliveries --destination warehouse --config pipeline.hcl`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	flags.add(c)
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(queueLs(s, &flags), queueShow(s, &flags), queueRetry(s, &flags), queueDrop(s, &flags), queueExport(s, &flags), queueImport(s, &flags),
		queuePause(s, &flags), queueResume(s, &flags), queueDrain(s, &flags), queueMove(s, &flags), queueRename(s, &flags))
	return c
}

// writeJSON prints v for programs.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func queueLs(s Streams, flags *storeFlags) *cobra.Command {
	by, asJSON := "", false
	c := &cobra.Command{
		Use:   "ls [FILE|DIRECTORY...]",
		Short: "List the queues and how many messages are in each",
		Long: `List the queues and how many messages are in each. OPEN is WAITING, LEASED (being
delivered) and RETRYING (waiting for the next attempt) together; BYTES is what open and dead
messages hold on disk.

Lines below say what needs attention: what is paused, queues that no pipeline or machine reads
though they have open messages, and those that the config does not declare.`,
		Example: "  weir queue ls pipeline.hcl\n  weir queue ls --config pipeline.hcl --by destination",
		RunE: func(c *cobra.Command, args []string) error {
			flags.config = append(flags.config, args...)
			switch queue.Axis(by) {
			case "", queue.ByWorkspace, queue.BySource, queue.ByDestination:
			default:
				return usagef("--by is workspace, source or destination, not %q", by)
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				p := begin(s, "counting messages")
				all, err := o.Queues(c.Context(), queue.Axis(by))
				p.stop()
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(s.Out, all)
				}
				return printQueues(s, all, by)
			})
		},
	}
	c.Flags().StringVar(&by, "by", "", "count each workspace, source or destination too")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printQueues(s Streams, all admin.Overview, by string) error {
	t := newTable(s.Out)
	head := "QUEUE\t"
	if by != "" {
		head += strings.ToUpper(by) + "\t"
	}
	fmt.Fprintln(t, head+"OPEN\tWAITING\tLEASED\tRETRYING\tDEAD\tBYTES")
	undeclared := false
	for _, q := range all.Queues {
		name := shorten(q.Name, 64)
		if q.Undeclared {
			name, undeclared = name+" *", true
		}
		row := func(value string, n admin.Counts) {
			fmt.Fprintf(t, "%s\t", name)
			if by != "" {
				fmt.Fprintf(t, "%s\t", value)
			}
			fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%s\n", n.Open, n.Waiting, n.Leased, n.Retrying, n.Dead, size(n.Bytes))
		}
		row("(all)", q.Counts)
		for _, v := range q.Values {
			value := shorten(string(v.Value), 40)
			if value == "" {
				value = "(none)"
			}
			row(value, v.Counts)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if undeclared {
		fmt.Fprintln(s.Out, "* not declared by this config: no pipeline of it works on these messages")
	}
	for _, q := range all.Queues {
		for _, line := range notes(q) {
			fmt.Fprintln(s.Out, line)
		}
	}
	if all.Incomplete {
		fmt.Fprintln(s.Err, "there are too many parts of queues to look through all: queues that are not declared, and values that have dead messages only, may be missing")
	}
	return nil
}

// selectFlags choose messages.
type selectFlags struct {
	cause, workspace, source, destination string
	olderThan                             time.Duration
	all                                   bool
}

func (f *selectFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.cause, "cause", "", "messages whose cause contains this text")
	c.Flags().DurationVar(&f.olderThan, "older-than", 0, "messages that were appended, or died, longer ago than this, such as 90m or 24h")
	c.Flags().StringVar(&f.workspace, "workspace", "", "messages of this workspace")
	c.Flags().StringVar(&f.source, "source", "", "messages of this source")
	c.Flags().StringVar(&f.destination, "destination", "", "messages of this destination")
}

// selection is what the flags and IDs choose, and the same in words.
func (f *selectFlags) selection(c *cobra.Command, ids []string) (admin.Selection, string, error) {
	s := admin.Selection{Cause: f.cause, IDs: ids, All: f.all}
	var words []string
	for _, id := range ids {
		if _, err := queue.ParseID(id); err != nil {
			return s, "", usagef("%w", err)
		}
	}
	if len(ids) > 0 {
		words = append(words, "with the given IDs")
	}
	if f.cause != "" {
		words = append(words, fmt.Sprintf("whose cause contains %q", f.cause))
	}
	if f.olderThan < 0 {
		return s, "", usagef("--older-than must not be negative")
	}
	if f.olderThan > 0 {
		s.OlderThan = f.olderThan
		words = append(words, fmt.Sprintf("older than %s", f.olderThan))
	}
	for _, x := range []struct {
		by    queue.Axis
		value string
	}{{queue.ByWorkspace, f.workspace}, {queue.BySource, f.source}, {queue.ByDestination, f.destination}} {
		if !c.Flags().Changed(string(x.by)) {
			continue
		}
		if s.By != "" {
			return s, "", usagef("give one of --workspace, --source and --destination, not --%s and --%s", s.By, x.by)
		}
		s.By, s.Value = x.by, x.value
		words = append(words, fmt.Sprintf("of %s %q", x.by, x.value))
	}
	if f.all && !s.Empty() {
		return s, "", usagef("--all is every dead message: leave it out to choose some")
	}
	return s, strings.Join(words, " and "), nil
}

// oneQueue takes the name of the queue, and IDs where they are allowed, from the arguments.
func oneQueue(ids bool) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usagef("%s takes the name of a queue; see %q", c.CommandPath(), c.CommandPath()+" --help")
		case len(args) > 1 && !ids:
			return usagef("%s takes one queue; see %q", c.CommandPath(), c.CommandPath()+" --help")
		}
		return nil
	}
}

func queueRetry(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	asJSON := false
	c := &cobra.Command{
		Use:     "retry QUEUE [ID...]",
		Short:   "Have dead messages delivered again",
		Long:    "Have dead messages delivered again: they wait in their queue like new ones, without attempts.\nChoose them by ID, by filters, or all.",
		Example: "  weir queue retry deliveries --cause timeout --config pipeline.hcl\n  weir queue retry deliveries 7-4211-0 --config pipeline.hcl\n  weir queue retry deliveries --all --config pipeline.hcl",
		Args:    oneQueue(true),
		RunE: func(c *cobra.Command, args []string) error {
			sel, _, err := choose.dead(c, args)
			if err != nil {
				return err
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				n, err := decide(c.Context(), s, args[0], "retrying", sel, o.Retry)
				return decided(s, n, err, asJSON, "retried", "they wait to be delivered again")
			})
		},
	}
	choose.add(c)
	c.Flags().BoolVar(&choose.all, "all", false, "every dead message of the queue")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// dead is the selection of a command that changes dead messages.
func (f *selectFlags) dead(c *cobra.Command, args []string) (admin.Selection, string, error) {
	sel, words, err := f.selection(c, args[1:])
	if err == nil && sel.Empty() && !sel.All {
		err = usagef("nothing says which dead messages: name IDs, give a filter (--cause, --older-than, --workspace, --source, --destination), or --all")
	}
	sel.Dead = true
	return sel, words, err
}

// decide runs an operation on dead messages and shows meanwhile that it does.
func decide(ctx context.Context, s Streams, name, what string, sel admin.Selection, do func(context.Context, string, admin.Selection) (int, error)) (int, error) {
	p := begin(s, what)
	defer p.stop()
	return do(ctx, name, sel)
}

// decided says how an operation on dead messages ended. Some of it may be done when it
// failed.
func decided(s Streams, n int, err error, asJSON bool, done, then string) error {
	if err != nil {
		if n > 0 {
			return fmt.Errorf("%s were %s before: %w", plural(n), done, err)
		}
		return err
	}
	if asJSON {
		return writeJSON(s.Out, map[string]int{"jobs": n})
	}
	if n == 0 {
		then = "no dead message was chosen"
	}
	fmt.Fprintf(s.Out, "%s %s: %s\n", plural(n), done, then)
	return nil
}

func queueDrop(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	var sure sureFlags
	open, asJSON := false, false
	c := &cobra.Command{
		Use:   "drop QUEUE [ID...]",
		Short: "Remove dead messages, or open ones, for good",
		Long: `Remove dead messages for good, or with --open those that wait to be delivered. Choose them by ID,
by filters, or all. On a terminal the command asks before it removes anything; elsewhere it needs
--yes. weir queue export, with --dead or without, keeps a copy.

The open messages of machine/NAME/steps are what executions wait for: with them their executions
are removed. What a pipeline has in hand is waited for.`,
		Example: "  weir queue drop deliveries --older-than 720h --config pipeline.hcl",
		Args:    oneQueue(true),
		RunE: func(c *cobra.Command, args []string) error {
			if open {
				sel, words, err := choose.open(c, args[1:])
				if err != nil {
					return err
				}
				return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
					d := decision{args[0], sel, words, "open", "Remove for good %s from queue %q?", given(c, args, flags)}
					return sure.command(c, s, o, d, admin.Command{Kind: order.Drop, Selection: sel}, asJSON, "dropped", "they are gone")
				})
			}
			sel, words, err := choose.dead(c, args)
			if err != nil {
				return err
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				d := decision{args[0], sel, words, "dead", "Remove for good %s from queue %q?", given(c, args, flags)}
				if ok, err := sure.sure(c.Context(), s, o, d); err != nil || !ok {
					return err
				}
				n, err := decide(c.Context(), s, args[0], "dropping", sel, o.Drop)
				return decided(s, n, err, asJSON, "dropped", "they are gone")
			})
		},
	}
	choose.add(c)
	c.Flags().BoolVar(&choose.all, "all", false, "every dead message of the queue, or with --open every open one")
	c.Flags().BoolVar(&open, "open", false, "the open messages instead of the dead ones")
	sure.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// interactive reports whether a person can be asked.
func (s Streams) interactive() bool {
	f, ok := s.input().(*os.File)
	return ok && isatty.IsTerminal(f.Fd()) && terminal(s.Err)
}
