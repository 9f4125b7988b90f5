package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/weirdata/weir/internal/blob"
)

// Change is one commit to a dataset that its logs still have.
type Change struct {
	At       time.Time `json:"at"`
	What     string    `json:"what"` // "landing" or "compaction"
	Number   uint64    `json:"number"`
	Files    []string  `json:"files"` // that came to be part of the dataset
	Replaced []string  `json:"replaced,omitempty"`
	Rows     int64     `json:"rows"` // of a landing without those that were told apart by dedup_field
	// Duplicates are rows that a compaction has left out.
	Duplicates int64 `json:"duplicates,omitempty"`
}

// History lists what the logs of the dataset at path have, the oldest first. Old landings are
// forgotten when what they are recognised by is, and compactions when they are expired; files that
// landed by themselves are in no log.
func History(ctx context.Context, path string) (all []Change, err error) {
	d, err := look(ctx, path)
	if err != nil {
		return nil, err
	}
	defer d.close()
	for e, err := range objects(ctx, d.bucket, within(commits)) {
		n, ok := numberOf(e.Name, recSuffix)
		if err != nil {
			return nil, fmt.Errorf("list the commits of %s: %w", path, err)
		}
		if !ok {
			continue
		}
		o, _, err := readOutcome(ctx, d.bucket, path, n, false)
		if errors.Is(err, blob.ErrNotFound) || err == nil && len(o.Files) == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, Change{At: e.Modified.UTC(), What: "landing", Number: n, Files: o.Files, Rows: int64(o.IDs)})
	}
	for e, err := range objects(ctx, d.bucket, within(compactions)) {
		if err != nil {
			return nil, fmt.Errorf("list the compactions of %s: %w", path, err)
		}
		n, ok := numberOf(e.Name, doneSuffix)
		if !ok {
			continue
		}
		var o compacted
		if err := readLog(ctx, d.bucket, path, e.Name, &o); errors.Is(err, blob.ErrNotFound) || err == nil && len(o.Replaced) == 0 {
			continue
		} else if err != nil {
			return nil, err
		}
		all = append(all, Change{At: o.At, What: "compaction", Number: n, Files: o.Files, Replaced: o.Replaced, Rows: o.Rows, Duplicates: o.Duplicates})
	}
	slices.SortStableFunc(all, func(a, b Change) int { return a.At.Compare(b.At) })
	return all, nil
}

// Snapshots prints the history of the dataset at path: a table, or JSON.
func Snapshots(ctx context.Context, w io.Writer, path string, asJSON bool) error {
	all, err := History(ctx, path)
	if err != nil {
		return err
	}
	if asJSON {
		if all == nil {
			all = []Change{}
		}
		return printJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "AT\tCHANGE\tNUMBER\tFILES\tREPLACED\tROWS\tDUPLICATES")
	for _, c := range all {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", instant(c.At), c.What, c.Number, len(c.Files), len(c.Replaced), c.Rows, c.Duplicates)
	}
	return t.Flush()
}

// Size is a number of bytes as people read it.
func Size(n int64) string { return size(n) }
