package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/catalog"
)

// compactRows is how many bytes of rows a compaction holds at once.
const compactRows = 128 << 20

func lakeCompactCommand(s Streams) *cobra.Command {
	small, large, asJSON := 128, 512, false
	o := catalog.CompactOptions{Settled: time.Hour, Memory: compactRows}
	c := &cobra.Command{
		Use: "compact DATASET", Short: "Put the rows of many small files into few large ones",
		Long: `Put the rows of files below --small into files of up to --large, in each partition that has been over
for --settled, in the order of the time of their events. A pipeline may land in the dataset
meanwhile, and what it recognises when it comes again it still does.

Weir's own readers see the files before or those after, never both. What else lists the folder sees
both for the moment between the creation of the new ones and the removal of the old ones. These are
kept beside the dataset for readers that had listed them, until "weir lake expire" removes them.

With --dedup, of several events of a partition with one id in that field the one that landed first
stays. A compaction that is killed is made good by the next one.`,
		Example: "  weir lake compact lake --dry-run\n  weir lake compact lake --dedup event_uuid",
		Args:    exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			if small < 1 || large < small || large > 4096 {
				return usagef("--small and --large are MiB from 1 to 4096, the first not above the second, and not %d and %d", small, large)
			}
			if o.Settled < 0 {
				return usagef("--settled must not be below 0, but is %s", o.Settled)
			}
			o.Small, o.Large = int64(small)<<20, int64(large)<<20
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return compactLake(ctx, s, args[0], o, asJSON)
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would become of which files, and change nothing")
	c.Flags().StringVar(&o.Dedup, "dedup", "", "field with the id of an event; of several with one id the first stays. Default: all stay")
	c.Flags().StringVar(&o.Sort, "sort", "", "field of a time or a number that rows are sorted by. Default: the time of the events")
	c.Flags().DurationVar(&o.Settled, "settled", o.Settled, "how long a partition must be over; without partitions, how old a file must be")
	c.Flags().IntVar(&small, "small", small, "MiB below which a file is small")
	c.Flags().IntVar(&large, "large", large, "MiB that a new file has at most, about")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each compaction")
	return c
}

func compactLake(ctx context.Context, s Streams, path string, o catalog.CompactOptions, asJSON bool) error {
	t := newTable(s.Out)
	fmt.Fprintln(t, "PARTITION\tFILES\tINTO\tROWS\tDUPLICATES\tSIZE\tINTO SIZE")
	var files, into int
	var encoding error
	o.Done = func(c catalog.Compaction) {
		files, into = files+c.Files, into+c.Into
		if asJSON {
			encoding = errors.Join(encoding, json.NewEncoder(s.Out).Encode(c))
			return
		}
		size := catalog.Size(c.IntoSize)
		if o.DryRun {
			size = "-"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", c.Partition, c.Files, c.Into, c.Rows, c.Duplicates, catalog.Size(c.Bytes), size)
	}
	err := errors.Join(catalog.Compact(ctx, path, o), encoding)
	if asJSON {
		return err
	}
	if files == 0 && err == nil {
		fmt.Fprintln(s.Out, "nothing to compact: no partition that is over has two small files")
		return nil
	}
	if files > 0 {
		err = errors.Join(err, t.Flush())
	}
	return err
}

func lakeExpireCommand(s Streams) *cobra.Command {
	keep, dryRun := 24*time.Hour, false
	c := &cobra.Command{
		Use: "expire DATASET", Short: "Remove files that compactions have replaced",
		Long: `Remove the files that compactions have replaced longer ago than --keep. They are no part of the
dataset any more, and there for readers that had listed them before.`,
		Args: exactly(1, "the directory of one dataset"),
		RunE: func(c *cobra.Command, args []string) error {
			if keep < 0 {
				return usagef("--keep must not be below 0, but is %s", keep)
			}
			e, err := catalog.Expire(c.Context(), args[0], time.Now().Add(-keep), dryRun)
			if err != nil {
				return err
			}
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			_, err = fmt.Fprintf(s.Out, "%s %d replaced files, %s\n", verb, e.Files, catalog.Size(e.Bytes))
			return err
		},
	}
	c.Flags().DurationVar(&keep, "keep", keep, "how long what was replaced is kept")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	return c
}
