package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/produce"
)

func lakeCommand(s Streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "lake",
		Short: "Look into a lake: its datasets, their columns and rows",
		Long: `Look into a lake: its datasets, their columns and rows. A dataset is in a folder, or at the address
of a store ("s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX", "azblob://CONTAINER/PREFIX"), which is reached
with the credentials and the endpoint of the environment (AWS_PROFILE, AWS_ENDPOINT_URL_S3,
GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT).`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SuggestionsMinimumDistance = 2
	asJSON := false
	ls := &cobra.Command{
		Use: "ls [DIRECTORY]", Short: "List the datasets in a directory: partitions, files, rows, bytes",
		Args: atMost(1, "at most one directory"),
		RunE: func(c *cobra.Command, args []string) error {
			root := "."
			if len(args) == 1 {
				root = args[0]
			}
			return catalog.List(c.Context(), s.Out, root, asJSON)
		},
	}
	ls.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	schema := &cobra.Command{
		Use: "schema DATASET", Short: "Print the columns of a dataset and the JSON keys they come from",
		Args: exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			return catalog.Schema(c.Context(), s.Out, args[0], asJSON)
		},
	}
	schema.Flags().BoolVar(&asJSON, "json", false, "print the newest version of the schema as JSON")
	rows := 10
	head := &cobra.Command{
		Use: "head DATASET", Short: "Print the first rows of a dataset as JSON, one a line",
		Args: exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			if rows < 1 {
				return usagef("-n must be at least 1, not %d", rows)
			}
			return catalog.Head(c.Context(), s.Out, args[0], rows)
		},
	}
	head.Flags().IntVarP(&rows, "rows", "n", rows, "number of rows")
	name, pattern := "", false
	view := &cobra.Command{
		Use: "view DATASET", Short: "Print a view for DuckDB that joins columns of one key",
		Long: `Print the statement that makes a dataset a view of DuckDB. Values that did not fit the type of
their column are in columns beside it (amount__json); in the view a key is one column again.

The view is of the files that are part of the dataset now: print it again when more have landed.
With --pattern it is of all files in the folder whenever it is asked, and so for a moment of those too
that are being landed, or compacted, and are not part of the dataset yet, or no more.`,
		Example: "  weir lake view lake | cat - query.sql | duckdb",
		Args:    exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			if name == "" {
				name = filepath.Base(filepath.Clean(args[0]))
			}
			return catalog.View(c.Context(), s.Out, args[0], name, pattern)
		},
	}
	view.Flags().BoolVar(&pattern, "pattern", false, "make it a view of all files in the folder, not of those that are part of the dataset now")
	view.Flags().StringVar(&name, "name", "", "name of the view; default: that of the directory")
	files := &cobra.Command{
		Use: "files DATASET", Short: "List the files of a dataset: rows, bytes, times of their events",
		Args: exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			return catalog.Files(c.Context(), s.Out, args[0], asJSON)
		},
	}
	files.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	snapshots := &cobra.Command{
		Use: "snapshots DATASET", Short: "List what has landed in a dataset and what was compacted, as far as its logs go back",
		Args: exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			return catalog.Snapshots(c.Context(), s.Out, args[0], asJSON)
		},
	}
	snapshots.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(ls, schema, head, files, lakeSQLCommand(s), view, lakeCompactCommand(s), lakeCrawlCommand(s), lakeRewriteCommand(s), snapshots, lakeExpireCommand(s), lakeServeCommand(s))
	return c
}

func produceCommand(s Streams) *cobra.Command {
	var o produce.Options
	start := ""
	c := &cobra.Command{
		Use:   "produce",
		Short: "Make lesson events, to try pipelines with",
		Long: `Make events of lessons and payments as JSON, one a line, on standard output: event_uuid,
event_name and created_at, and what belongs to the event. The same seed makes the same
events. Progress is shown on standard error while that is a terminal.`,
		Example: "  weir produce --rate 300 --count 100000 | weir run examples/lessons",
		Args:    exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Rate < 0 || o.Count < 0 {
				return usagef("--rate and --count must not be negative")
			}
			if start != "" {
				at, err := time.Parse(time.RFC3339, start)
				if err != nil {
					return usagef("--start must be a time such as 2026-11-20T10:00:00Z: %w", err)
				}
				o.Start = at
			}
			if terminal(s.Err) {
				o.Progress = func(p produce.Progress) {
					end := ""
					if p.Done {
						end = "\n"
					}
					fmt.Fprintf(s.Err, "\r\x1b[K%s%s", p.Line(), end)
				}
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if err := produce.Run(ctx, s.Out, o); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("produce: %w", err)
			}
			return nil
		},
	}
	c.Flags().Float64Var(&o.Rate, "rate", 0, "events in a second; 0 means as many as are taken")
	c.Flags().Int64Var(&o.Count, "count", 0, "number of events; 0 means until it is stopped")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "decides what is in the events")
	c.Flags().StringVar(&start, "start", "", "time of the first event, as RFC 3339; default: each event has the time at which it is made")
	return c
}
