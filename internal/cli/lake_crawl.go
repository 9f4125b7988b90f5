package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/catalog"
)

func lakeCrawlCommand(s Streams) *cobra.Command {
	policy, yes, asJSON := string(catalog.Add), false, false
	c := &cobra.Command{
		Use: "crawl PATH", Short: "Adopt folders of Parquet files or JSON lines that others write",
		Long: `Find the datasets in PATH that others write, and say what is in them and how their columns differ
from those of the last crawl. Nothing is written without --yes. With it each is described in a folder
_weir beside its files, which stay as they are, and can be looked at like any other dataset: ls, schema,
head, files, sql, view. New files and folders are there without another crawl; new columns are not.

A dataset is a folder with data files in it (.parquet; .json, .jsonl or .ndjson, with .gz or .zst or
without), or with folders called KEY=VALUE, or called by numbers alone. Their values are columns; those
without a key are called partition_0 and so on. Names that begin with _ or . are passed over.

What is done about columns that are not as they were, is the policy:

  add      new columns come, those that there are stay, with their types (default)
  update   the columns are those that the files have now
  log      nothing is written, with --yes neither`,
		Example: "  weir lake crawl s3://BUCKET/events\n  weir lake crawl s3://BUCKET/events --yes --policy update",
		Args:    exactly(1, "a folder or an address"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := oneOfFlag("--policy", policy, catalog.Policies()); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			var printing error
			waiting := false
			err := catalog.CrawlAll(ctx, args[0], catalog.CrawlOptions{Policy: catalog.Policy(policy), DryRun: !yes}, func(r catalog.Crawl) {
				waiting = waiting || r.Differs() && !r.Written
				if asJSON {
					printing = errors.Join(printing, json.NewEncoder(s.Out).Encode(r))
					return
				}
				printing = errors.Join(printing, printCrawl(s.Out, r))
			})
			if waiting && !asJSON {
				why := "--yes writes it"
				if policy == string(catalog.Log) {
					why = "the policy is log"
				}
				fmt.Fprintf(s.Out, "nothing was written: %s\n", why)
			}
			return errors.Join(err, printing)
		},
	}
	c.Flags().StringVar(&policy, "policy", policy, "what becomes of columns that differ: add, update or log")
	c.Flags().BoolVar(&yes, "yes", false, "write what was found")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each dataset")
	return c
}

func printCrawl(w io.Writer, r catalog.Crawl) error {
	if r.Own {
		_, err := fmt.Fprintf(w, "%s: Weir writes it itself\n", r.Path)
		return err
	}
	state := "as before"
	switch {
	case r.New:
		state = "new"
	case r.Differs():
		state = "changed"
	}
	fmt.Fprintf(w, "%s: %s, %d %s files, %d rows, %s\n", r.Path, state, r.Files, r.Format, r.Rows, catalog.Size(r.Bytes))
	if !r.New && r.More+r.Gone > 0 {
		fmt.Fprintf(w, "  files new or changed: %d, gone: %d\n", r.More, r.Gone)
	}
	if r.Others > 0 {
		fmt.Fprintf(w, "  files passed over, which by their names are no data: %d\n", r.Others)
	}
	if r.Malformed > 0 {
		fmt.Fprintf(w, "  rows that are no JSON object, with their text in the column _malformed: %d\n", r.Malformed)
	}
	if len(r.Keys) > 0 {
		names := make([]string, len(r.Keys))
		for i, k := range r.Keys {
			names[i] = fmt.Sprintf("%s (%s)", k.Name, k.Kind)
		}
		fmt.Fprintf(w, "  folders: %s\n", strings.Join(names, ", "))
	}
	return printChanges(w, r.Changes, func(x catalog.ColumnChange) string {
		if x.Applied {
			return ""
		}
		return "\tstays as it is"
	})
}

// printChanges prints how columns differ, with what else is to be said of each.
func printChanges(w io.Writer, all []catalog.ColumnChange, more func(catalog.ColumnChange) string) error {
	t := newTable(w)
	for _, x := range all {
		sign, what := "+", x.To
		switch x.Change {
		case "changed":
			sign, what = "~", x.From+" -> "+x.To
		case "gone":
			sign, what = "-", x.From
		}
		fmt.Fprintf(t, "  %s %s\t%s%s\n", sign, x.Column, what, more(x))
	}
	return t.Flush()
}
