package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
)

func queueShow(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	dead, asJSON, limit := false, false, 20
	c := &cobra.Command{
		Use:   "show QUEUE [ID...]",
		Short: "Show the open or dead messages of a queue",
		Long: `Show the open messages of a queue, or with --dead the dead ones, in the order they came
within each workspace, source and destination. AGE counts from when the message was
appended, or died. --json prints them whole.`,
		Example: "  weir queue show events --config pipeline.hcl\n  weir queue show events --dead --cause timeout --limit 100 --config pipeline.hcl",
		Args:    oneQueue(true),
		RunE: func(c *cobra.Command, args []string) error {
			sel, _, err := choose.selection(c, args[1:])
			if err != nil {
				return err
			}
			if limit < 1 {
				return usagef("--limit must be at least 1")
			}
			sel.Dead = dead
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				return show(c, s, o, args[0], sel, limit, asJSON)
			})
		},
	}
	choose.add(c)
	c.Flags().BoolVar(&dead, "dead", false, "the dead messages instead of the open ones")
	c.Flags().IntVar(&limit, "limit", limit, "most messages to show")
	c.Flags().BoolVar(&asJSON, "json", false, "print the whole messages as JSON")
	return c
}

func show(c *cobra.Command, s Streams, o admin.Operator, name string, sel admin.Selection, limit int, asJSON bool) error {
	p := begin(s, "reading the queue")
	var all admin.Page
	all.Jobs = []admin.Job{}
	for {
		page, err := o.Jobs(c.Context(), name, sel, all.Next, limit-len(all.Jobs))
		if err != nil {
			p.stop()
			return err
		}
		all.Jobs, all.Next = append(all.Jobs, page.Jobs...), page.Next
		if all.Next == "" || len(all.Jobs) >= limit {
			break
		}
		p.say("reading the queue: %s found", plural(len(all.Jobs)))
	}
	p.stop()
	if asJSON {
		return writeJSON(s.Out, all)
	}
	if len(all.Jobs) == 0 {
		what := "open"
		if sel.Dead {
			what = "dead"
		}
		if !sel.Empty() {
			what += " message is chosen in queue"
		} else {
			what += " message is in queue"
		}
		fmt.Fprintf(s.Out, "no %s %q\n", what, name)
		return nil
	}
	if err := printJobs(s, all.Jobs, time.Now()); err != nil {
		return err
	}
	if all.Next != "" {
		fmt.Fprintf(s.Out, "there are more: raise --limit (%d)\n", limit)
	}
	return nil
}

func printJobs(s Streams, jobs []admin.Job, now time.Time) error {
	scoped := false
	for i := range jobs {
		scoped = scoped || scopeOf(&jobs[i]) != ""
	}
	t := newTable(s.Out)
	head := "ID\tAGE\tATTEMPTS\tNEXT TRY\tCAUSE\tKEY\tPAYLOAD"
	if scoped {
		head = "ID\tSCOPE\tAGE\tATTEMPTS\tNEXT TRY\tCAUSE\tKEY\tPAYLOAD"
	}
	fmt.Fprintln(t, head)
	for i := range jobs {
		j := &jobs[i]
		fmt.Fprintf(t, "%s\t", j.ID)
		if scoped {
			fmt.Fprintf(t, "%s\t", dash(shorten(scopeOf(j), 40)))
		}
		payload := "(none)"
		if j.Hidden {
			payload = "(hidden: this token may not see it)"
		}
		if j.Payload != nil {
			payload = shorten(string(*j.Payload), 48)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", age(now.Sub(j.At)), j.Attempts, nextTry(j, now),
			dash(middle(string(j.Cause), 72)), dash(shorten(string(j.Key), 24)), payload)
	}
	return t.Flush()
}

// scopeOf is workspace/source/destination, empty when none is set.
func scopeOf(j *admin.Job) string {
	if j.Workspace == "" && j.Source == "" && j.Destination == "" {
		return ""
	}
	return dash(string(j.Workspace)) + "/" + dash(string(j.Source)) + "/" + dash(string(j.Destination))
}

func nextTry(j *admin.Job, now time.Time) string {
	switch {
	case j.State == admin.StateDead:
		return "never"
	case j.NotBefore.After(now):
		return "in " + age(j.NotBefore.Sub(now)+time.Second-1)
	}
	return "now"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func queueExport(s Streams, flags *storeFlags) *cobra.Command {
	var choose selectFlags
	dead := false
	c := &cobra.Command{
		Use:   "export QUEUE [ID...]",
		Short: "Write messages of a queue to standard output, as lines of JSON",
		Long: `Write the open messages of a queue, or with --dead the dead ones, to standard output as lines
of JSON, which weir queue import reads. Nothing is removed. Texts that are not UTF-8 are
written as {"base64": "..."}. While pipelines work on the queue, messages that move meanwhile
may be missed or written twice.`,
		Example: "  weir queue export deliveries --dead --config pipeline.hcl > dead.jsonl",
		Args:    oneQueue(true),
		RunE: func(c *cobra.Command, args []string) error {
			sel, _, err := choose.selection(c, args[1:])
			if err != nil {
				return err
			}
			sel.Dead = dead
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				p := begin(s, "exporting")
				n, err := o.Export(c.Context(), args[0], sel, s.Out, func(n int) { p.say("exporting: %s", plural(n)) })
				p.stop()
				if err != nil {
					return err
				}
				fmt.Fprintf(s.Err, "%s exported\n", plural(n))
				return nil
			})
		},
	}
	choose.add(c)
	c.Flags().BoolVar(&dead, "dead", false, "the dead messages instead of the open ones")
	return c
}

func queueImport(s Streams, flags *storeFlags) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "import QUEUE",
		Short: "Append messages from standard input, lines of JSON of an export",
		Long: `Append messages from standard input, lines of JSON as weir queue export writes them. Payload,
key, headers, message id, times and workspace, source and destination are kept; id, attempts
and cause are not: an imported message is a new one. The queue of a line may be another.

The messages are appended in transactions of up to 1000. When a line is wrong, everything
before it is imported, and the error says with which line to go on.`,
		Example: "  weir queue import deliveries --config pipeline.hcl < dead.jsonl",
		Args:    oneQueue(false),
		RunE: func(c *cobra.Command, args []string) error {
			return flags.operate(c.Context(), s, mayBeMade, func(o admin.Operator) error {
				p := begin(s, "importing")
				n, err := o.Import(c.Context(), args[0], s.input(), func(n int) { p.say("importing: %s", plural(n)) })
				p.stop()
				if err != nil {
					return fmt.Errorf("import into queue %q: %w", args[0], err)
				}
				if asJSON {
					return writeJSON(s.Out, map[string]int{"jobs": n})
				}
				fmt.Fprintf(s.Out, "%s imported\n", plural(n))
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
