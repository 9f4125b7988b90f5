package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/queue"
)

func storeCommand(s Streams) *cobra.Command {
	var flags storeFlags
	c := &cobra.Command{
		Use:   "store",
		Short: "Look after the store that queues are kept in",
		Long: `Look after the store that queues are kept in. The store is found through the config. While a
process has it open, its admin server is asked, so its config needs an admin block.`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	flags.add(c)
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(storeCheck(s, &flags), storeStats(s, &flags), storeCompact(s, &flags), storeBackup(s, &flags), storeSalvage(s, &flags))
	return c
}

func storeCheck(s Streams, flags *storeFlags) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "check",
		Short: "Read the whole store and verify every checksum",
		Long: `Read the whole store and verify every checksum, place and number. Nothing is changed. The
exit code is 1, and the error names the first thing that is damaged, when something is.`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				p := begin(s, "checking the store")
				figures, err := o.Verify(c.Context(), p.bytes("checking the store"))
				p.stop()
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(s.Out, figures)
				}
				if err := printFigures(s, figures); err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "ok: %s is not damaged\n", o.Identity())
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func storeStats(s Streams, flags *storeFlags) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "stats",
		Short: "Say how much disk space the store takes",
		Args:  exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				usage, err := o.Usage(c.Context())
				if err != nil {
					return err
				}
				all, err := o.Queues(c.Context(), "")
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(s.Out, struct {
						Identity string           `json:"identity"`
						Usage    map[string]int64 `json:"usage"`
						admin.Overview
					}{o.Identity(), usage, all})
				}
				fmt.Fprintf(s.Out, "%s\n\n", o.Identity())
				if err := printFigures(s, usage); err != nil {
					return err
				}
				if len(usage) > 0 {
					fmt.Fprintln(s.Out)
				}
				return printQueues(s, all, "")
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func storeCompact(s Streams, flags *storeFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "compact",
		Short: "Give back the disk space of messages that are gone",
		Long: `Give back the disk space of messages that are gone. A running process does so by itself;
this does it now, and more thoroughly.`,
		Args: exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				before, err := o.Usage(c.Context())
				if err != nil {
					return err
				}
				p := begin(s, "compacting the store")
				err = o.Compact(c.Context())
				p.stop()
				if err != nil {
					return err
				}
				after, err := o.Usage(c.Context())
				if err != nil {
					return err
				}
				was, is := before["log_bytes"]+before["state_bytes"], after["log_bytes"]+after["state_bytes"]
				fmt.Fprintf(s.Out, "%s: %s before, %s now\n", o.Identity(), size(was), size(is))
				return nil
			})
		},
	}
	return c
}

// salvager is what the opener of a store can do that may be damaged.
type salvager interface {
	Salvage(ctx context.Context, progress func(done, total int64)) (summary string, figures map[string]int64, err error)
}

func storeSalvage(s Streams, flags *storeFlags) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "salvage",
		Short: "Make a store that is damaged usable again, with what can be read",
		Long: `Make a store that is damaged usable again, with everything that can still be read. What
cannot be read is left out and counted; messages whose delivery is not known any more are
delivered again. No process may have the store open.

An embedded store that was damaged is kept beside the new one, as it was found, until you
remove it. In PostgreSQL what is left out goes to the table "salvaged" of the schema: dump
the schema before, if you want to keep it as it was.

The exit code is 0 when the store can be used, whether anything was lost or not. Restoring
it from a backup loses less: do that first where you can.`,
		Example: "  weir store check --config pipeline.hcl || weir store salvage --config pipeline.hcl",
		Args:    exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			_, opener, err := flags.opener(c.Context(), s)
			if err != nil {
				return err
			}
			o, ok := opener.(salvager)
			if !ok {
				return explain(fmt.Errorf("salvage the store %s: %w", opener.Identity(), admin.ErrUnsupported))
			}
			p := begin(s, "salvaging the store")
			summary, figures, err := o.Salvage(c.Context(), p.bytes("checking what was salvaged"))
			p.stop()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("there is no store (%s)", opener.Identity())
			case errors.Is(err, queue.ErrInUse):
				return fmt.Errorf("%s is in use by another process: stop it first", opener.Identity())
			case err != nil:
				return err
			}
			if asJSON {
				return writeJSON(s.Out, struct {
					Summary string           `json:"summary"`
					Figures map[string]int64 `json:"figures"`
				}{summary, figures})
			}
			if err := printFigures(s, figures); err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s can be used again: %s\n", opener.Identity(), summary)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// printFigures prints numbers by name; those that are bytes as a person reads them.
func printFigures(s Streams, figures map[string]int64) error {
	t := newTable(s.Out)
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		n := strconv.FormatInt(figures[name], 10)
		what, bytes := strings.CutSuffix(name, "_bytes")
		if bytes {
			n = size(figures[name])
		}
		fmt.Fprintf(t, "%s\t%s\n", strings.ReplaceAll(what, "_", " "), n)
	}
	return t.Flush()
}
