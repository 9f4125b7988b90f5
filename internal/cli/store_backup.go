package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/admin"
)

func storeBackup(s Streams, flags *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the store while it is used, into a folder that it makes",
		Long: `Copy the store while it is used, into a folder that it makes. The copy is a store: all that
was acknowledged before the command began is in it, and opening it is like a start after the
process was killed. DIR is there when it is complete; while it is written it has ".part"
behind its name. On the file system of the store most of it are links, which take no space:
copy it away, to a disk that fails for itself.

To restore, stop the process, and put the copy in the place of the folder that the config
names. What was open when it was made is delivered again.`,
		Example: "  weir store backup /backup/weir-monday --config pipeline.hcl",
		Args:    exactly(1, "the folder to make"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return fmt.Errorf("find %s: %w", args[0], err)
			}
			return flags.operate(c.Context(), s, mustExist, func(o admin.Operator) error {
				p := begin(s, "backing up the store")
				err := o.Backup(c.Context(), dir, p.bytes("backing up the store"))
				p.stop()
				if err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "%s is backed up in %s\n", o.Identity(), dir)
				return nil
			})
		},
	}
}
