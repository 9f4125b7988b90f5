package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/parquet"
)

// rewriteRows is how many bytes of JSON a rewrite holds at once.
const rewriteRows = 256 << 20

func lakeRewriteCommand(s Streams) *cobra.Command {
	o := catalog.RewriteOptions{Memory: rewriteRows}
	large, asJSON, columns := 512, false, "infer"
	var partitions, types []string
	c := &cobra.Command{
		Use: "rewrite DATASET NEW", Short: "Make a new dataset of another one's rows, with other types or partitions",
		Long: `Make the dataset NEW of all rows of DATASET, which stays as it is: with other types of fields
(--type amount=double, where amount and amount__double become one column), with other partitions, or of
files that a crawl has adopted.

NEW is empty until all of it is there, and then whole. A rewrite that is killed leaves it empty, and can be
begun again. A row that cannot have a partition, since it has no time, ends it before anything is
written. What lands in DATASET meanwhile is no part of NEW: stop the pipeline before, and give it NEW as its path behind.`,
		Example: "  weir lake rewrite lake lake2 --type amount=double --partition-by year,month --time-field created_at",
		Args:    exactly(2, "a dataset, and a folder or an address for the new one"),
		RunE: func(c *cobra.Command, args []string) error {
			if large < 1 || large > 4096 {
				return usagef("--large must be MiB from 1 to 4096, not %d", large)
			}
			if columns != "infer" && columns != "strict" {
				return usagef("--columns must be infer or strict, not %q", columns)
			}
			o.Closed = columns == "strict"
			o.Large = int64(large) << 20
			if err := rewriteOptions(&o, partitions, types); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			r, err := catalog.Rewrite(ctx, args[0], args[1], o)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(s.Out).Encode(r)
			}
			verb := "wrote"
			if o.DryRun {
				verb = "would write"
			}
			fmt.Fprintf(s.Out, "%s %d rows in %d files of %d partitions\n", verb, r.Rows, r.Files, r.Partitions)
			return printChanges(s.Out, r.Changes, func(catalog.ColumnChange) string { return "" })
		},
	}
	c.Flags().StringSliceVar(&partitions, "partition-by", nil, "levels of folders: year, month, day and hour, or the first of them; none by default")
	c.Flags().StringVar(&o.TimeField, "time-field", "", "field with the time of an event, which partitions are by")
	c.Flags().StringVar(&o.DedupField, "dedup-field", "", "field with the id of an event, by which a pipeline recognises in NEW what comes again")
	c.Flags().StringArrayVar(&types, "type", nil, "field=type, for a field that shall have another; may be repeated")
	c.Flags().StringVar(&columns, "columns", columns, "infer, or strict: no columns but those of DATASET; what does not fit the type that a field is given goes to the column _rest")
	c.Flags().IntVar(&large, "large", large, "MiB that a file has at most, about")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be written, and write nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// rewriteOptions reads partitions and types.
func rewriteOptions(o *catalog.RewriteOptions, partitions, types []string) error {
	units := catalog.Units()
	for i, p := range partitions {
		if i >= len(units) || p != string(units[i]) {
			return usagef("--partition-by must be year,month,day,hour or the first of them, not %s", strings.Join(partitions, ","))
		}
	}
	o.Layout = slices.Clone(units[:len(partitions)])
	if len(partitions) > 0 && o.TimeField == "" {
		return usagef("--partition-by needs --time-field, the field with the time of an event")
	}
	o.Types = map[string]parquet.Type{}
	for _, text := range types {
		field, name, ok := strings.Cut(text, "=")
		declared, known := parquet.ParseType(name)
		if !ok || !known || field == "" {
			return usagef("--type must be FIELD=TYPE with one of %s, not %q", strings.Join(parquet.Declarable(), ", "), text)
		}
		o.Types[field] = declared
	}
	return nil
}
