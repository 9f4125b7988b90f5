package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/config"
)

func explainCommand(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "explain FILE...",
		Short: "Write out the pipelines and queues that a config stands for",
		Long: `Print a config with what its blocks stand for written out: a collect block as the pipelines
and queues that it is. The result means what the config means. To do one of them differently, copy
it into the config and change it there: it takes the place of the one that the block stands for.

Expressions such as env("NAME") stay as they are, and so does everything that was written by
hand, passwords too.`,
		Example: "  weir explain weir.hcl\n  weir explain conf.d > weir.hcl",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, ds := config.Read(args)
			if ds.HasErrors() {
				return report(ds, s)
			}
			explained, ds := config.Explain(files, s.Env)
			if err := report(ds, s); err != nil {
				return err
			}
			for i, f := range explained {
				if len(explained) > 1 {
					fmt.Fprintf(s.Out, "%s# %s\n\n", map[bool]string{true: "\n"}[i > 0], filepath.Base(f.Name))
				}
				if _, err := s.Out.Write(f.Src); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
