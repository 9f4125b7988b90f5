package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/order"
)

// This file is the commands that decide about open messages, and about the work of a queue. Each
// counts first what it is about.

// sureFlags say that a person is sure.
type sureFlags struct{ yes bool }

func (f *sureFlags) add(c *cobra.Command) { c.Flags().BoolVar(&f.yes, "yes", false, "do not ask") }

// decision is what a person is asked about.
type decision struct {
	queue string
	sel   admin.Selection
	words string // the selection
	state string // of the messages: "open", "dead"
	// what is to be done: "Pause %s of queue %q?"
	what string
	// again is the command to repeat, with --yes.
	again []string
}

// sure counts and asks. Without a terminal it says how many messages are meant, and with which
// command to repeat it.
func (f *sureFlags) sure(ctx context.Context, s Streams, o admin.Operator, d decision) (bool, error) {
	p := begin(s, "counting messages")
	n, err := o.Count(ctx, d.queue, d.sel)
	p.stop()
	if err != nil {
		return false, err
	}
	words := d.words
	if words != "" {
		words = " " + words
	}
	many := strings.Replace(plural(n), "message", d.state+" message", 1) + words
	if f.yes {
		fmt.Fprintf(s.Err, "%s of queue %q\n", many, d.queue)
		return true, nil
	}
	if !s.interactive() {
		for i := range d.again {
			d.again[i] = outage.Quote(d.again[i])
		}
		return false, fmt.Errorf("%s of queue %q: nothing is done without --yes. Repeat it with:\n  weir queue %s --yes", many, d.queue, strings.Join(d.again, " "))
	}
	fmt.Fprintf(s.Err, d.what+" [y/N] ", many, d.queue)
	line, err := bufio.NewReader(s.input()).ReadString('\n')
	if err != nil && line == "" {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(s.Err, "nothing was changed")
	return false, errReported
}

// given is a command line as it was given, for one to be repeated.
func given(c *cobra.Command, args []string, flags *storeFlags) []string {
	words := append([]string{c.Name()}, args...)
	for _, name := range []string{"all", "open", "cause", "older-than", "workspace", "source", "destination", "to", "to-workspace", "to-source", "to-destination", "why", "json"} {
		switch f := c.Flags().Lookup(name); {
		case f == nil || !f.Changed || f.Value.String() == "false" && f.Value.Type() == "bool":
		case f.Value.Type() == "bool":
			words = append(words, "--"+name)
		default:
			words = append(words, "--"+name, f.Value.String())
		}
	}
	for _, path := range flags.config {
		words = append(words, "--config", path)
	}
	return words
}

// rest is the part of a queue that the flags name.
func (f *selectFlags) rest(c *cobra.Command) (admin.Rest, admin.Selection, string, error) {
	sel, words, err := f.selection(c, nil)
	return admin.Rest{By: sel.By, Value: admin.Text(sel.Value)}, sel, words, err
}

func (f *selectFlags) addScope(c *cobra.Command) {
	c.Flags().StringVar(&f.workspace, "workspace", "", "messages of this workspace")
	c.Flags().StringVar(&f.source, "source", "", "messages of this source")
	c.Flags().StringVar(&f.destination, "destination", "", "messages of this destination")
}

func queuePause(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	var sure sureFlags
	why := ""
	c := &cobra.Command{
		Use:   "pause QUEUE",
		Short: "Have the messages of a queue, or of one workspace, source or destination, rest",
		Long: `Have the open messages of a queue, or of one workspace, source or destination, rest: they are
not handed out until weir queue resume. New messages are taken, and wait with the others. What a
pipeline has in hand already is finished.

The pause is kept in the store: it holds over restarts, and in every process that shares the
store, about a second later. weir queue ls, the metrics and /readyz tell of it.`,
		Example: "  weir queue pause deliveries --destination warehouse --why \"maintenance until 6\" --config pipeline.hcl",
		Args:    oneQueue(false),
		RunE: func(c *cobra.Command, args []string) error {
			rest, sel, words, err := choose.rest(c)
			if err != nil {
				return err
			}
			rest.Why = why
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				d := decision{args[0], sel, words, "open", "Pause the work on %s of queue %q?", given(c, args, flags)}
				if ok, err := sure.sure(c.Context(), s, o, d); err != nil || !ok {
					return err
				}
				if err := o.Pause(c.Context(), args[0], rest); err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "queue %q is paused (%s): weir queue resume ends that\n", args[0], rest)
				return nil
			})
		},
	}
	choose.addScope(c)
	sure.add(c)
	c.Flags().StringVar(&why, "why", "", "a reason, for those who see the pause")
	return c
}

func queueResume(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	var sure sureFlags
	c := &cobra.Command{
		Use:   "resume QUEUE",
		Short: "End the pause of a queue, or of one workspace, source or destination",
		Long: `End the pause of a queue, or of one workspace, source or destination: name the same as with weir
queue pause. Other pauses of the queue go on.`,
		Example: "  weir queue resume deliveries --destination warehouse --config pipeline.hcl",
		Args:    oneQueue(false),
		RunE: func(c *cobra.Command, args []string) error {
			rest, sel, words, err := choose.rest(c)
			if err != nil {
				return err
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				d := decision{args[0], sel, words, "open", "Resume the work on %s of queue %q?", given(c, args, flags)}
				if ok, err := sure.sure(c.Context(), s, o, d); err != nil || !ok {
					return err
				}
				was, err := o.Resume(c.Context(), args[0], rest)
				if err != nil {
					return err
				}
				if !was {
					return fmt.Errorf("queue %q is not paused (%s): weir queue ls lists what is", args[0], rest)
				}
				fmt.Fprintf(s.Out, "queue %q is resumed (%s)\n", args[0], rest)
				return nil
			})
		},
	}
	choose.addScope(c)
	sure.add(c)
	return c
}

// open is the selection of a command that decides about open messages.
func (f *selectFlags) open(c *cobra.Command, ids []string) (admin.Selection, string, error) {
	sel, words, err := f.selection(c, ids)
	if err == nil && sel.Empty() && !sel.All {
		err = usagef("nothing says which open messages: name IDs, give a filter (--cause, --older-than, --workspace, --source, --destination), or --all")
	}
	return sel, words, err
}

// command carries a decision out, once a person is sure.
func (f *sureFlags) command(c *cobra.Command, s Streams, o admin.Operator, d decision, do admin.Command, asJSON bool, done, then string) error {
	if ok, err := f.sure(c.Context(), s, o, d); err != nil || !ok {
		return err
	}
	p := begin(s, done)
	out, err := o.Command(c.Context(), d.queue, do, func(n int) { p.say("%s %s", done, plural(n)) })
	p.stop()
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(s.Out, out)
	}
	fmt.Fprintf(s.Out, "%s %s: %s\n", plural(out.Jobs), done, then)
	if out.Left {
		fmt.Fprintln(s.Err, "some are in hand of a pipeline, or behind a message of their key that was not chosen: the running process goes on with the order when they come back")
	}
	return nil
}

func queueDrain(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	var sure sureFlags
	asJSON := false
	c := &cobra.Command{
		Use:   "drain QUEUE [ID...]",
		Short: "Give open messages up: they are dead, and can be retried",
		Long: `Give open messages up. They are dead then: kept, whole and with the reason that they were drained,
until they are retried (weir queue retry) or dropped. It is for a backlog that is not to be
delivered now, or perhaps never; nothing is lost by it. What a pipeline has in hand is waited for,
and messages that come meanwhile are not touched: weir queue pause first, where that matters.`,
		Example: "  weir queue drain deliveries --destination warehouse --config pipeline.hcl",
		Args:    oneQueue(true),
		RunE: func(c *cobra.Command, args []string) error {
			sel, words, err := choose.open(c, args[1:])
			if err != nil {
				return err
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				d := decision{args[0], sel, words, "open", "Give up %s of queue %q?", given(c, args, flags)}
				return sure.command(c, s, o, d, admin.Command{Kind: order.Drain, Selection: sel}, asJSON, "drained", "they are dead; weir queue retry has them delivered")
			})
		},
	}
	choose.add(c)
	sure.add(c)
	c.Flags().BoolVar(&choose.all, "all", false, "every open message of the queue")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func queueMove(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	var sure sureFlags
	to := make(map[queue.Axis]*string)
	for _, by := range queue.Axes[1:] {
		to[by] = new(string)
	}
	toQueue, asJSON := "", false
	c := &cobra.Command{
		Use:   "move QUEUE [ID...]",
		Short: "Move open messages to another queue, workspace, source or destination",
		Long: `Move open messages to another queue, or to another workspace, source or destination of the same
one. Each is in one place at any time. They arrive as new messages, in their order, behind what
is there; a time that they wait for stays, attempts and causes do not.`,
		Example: "  weir queue move deliveries --destination old --to-destination new --config pipeline.hcl\n  weir queue move events --all --to archive --config pipeline.hcl",
		Args:    oneQueue(true),
		RunE: func(c *cobra.Command, args []string) error {
			sel, words, err := choose.open(c, args[1:])
			if err != nil {
				return err
			}
			do := admin.Command{Kind: order.Move, Selection: sel, To: admin.Text(toQueue)}
			for _, by := range queue.Axes[1:] {
				if !c.Flags().Changed("to-" + string(by)) {
					continue
				}
				if do.ToBy != "" {
					return usagef("give one of --to-workspace, --to-source and --to-destination")
				}
				do.ToBy, do.ToValue = by, admin.Text(*to[by])
			}
			if toQueue == "" && do.ToBy == "" {
				return usagef("nothing says where to: give --to QUEUE, or --to-destination, --to-source or --to-workspace")
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				d := decision{args[0], sel, words, "open", "Move %s of queue %q?", given(c, args, flags)}
				return sure.command(c, s, o, d, do, asJSON, "moved", "they wait where they are now")
			})
		},
	}
	choose.add(c)
	sure.add(c)
	c.Flags().StringVar(&toQueue, "to", "", "the queue to move them to, which the config declares")
	for by, value := range to {
		c.Flags().StringVar(value, "to-"+string(by), "", "the "+string(by)+" that they get")
	}
	c.Flags().BoolVar(&choose.all, "all", false, "every open message of the queue")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func queueRename(s Streams, flags *storeFlags) *cobra.Command {
	var sure sureFlags
	c := &cobra.Command{
		Use:   "rename OLD NEW",
		Short: "Move the open messages of a queue that has another name in the config now",
		Long: `Move the open messages of a queue to the queue that has taken its place in the config. Rename the
queue in the config and in its pipelines first, and reload: messages that come meanwhile go to
the new queue, and those of the old one follow behind them. Pause the new queue before where the
order of old and new messages matters.

Dead messages stay under the old name, where weir queue ls, show, retry and drop find them: a
retry has them wait there, and renaming once more takes them along.`,
		Example: "  weir queue rename deliveries shipments --config pipeline.hcl",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s takes the old and the new name; see %q", c.CommandPath(), c.CommandPath()+" --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				sel := admin.Selection{All: true}
				d := decision{args[0], sel, "", "open", fmt.Sprintf("Move %%s of queue %%q to %q?", args[1]), given(c, args, flags)}
				if err := sure.command(c, s, o, d, admin.Command{Kind: order.Move, Selection: sel, To: admin.Text(args[1])}, false, "moved", "they wait in queue "+fmt.Sprintf("%q", args[1])); err != nil {
					return err
				}
				return deadStay(c.Context(), s.Err, o, args[0])
			})
		},
	}
	sure.add(c)
	return c
}

// deadStay tells of dead messages that were not moved.
func deadStay(ctx context.Context, w io.Writer, o admin.Operator, name string) error {
	all, err := o.Queues(ctx, "")
	if err != nil {
		return err
	}
	for _, q := range all.Queues {
		if q.Name == name && q.Dead > 0 {
			fmt.Fprintf(w, "%d dead messages stay in queue %q: see weir queue show %s --dead\n", q.Dead, name, outage.Quote(name))
		}
	}
	return nil
}
