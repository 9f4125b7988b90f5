package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/config"
)

func explainCommand(s Streams) *cobra.Command {
	drawn := false
	c := &cobra.Command{
		Use:   "explain FILE...",
		Short: "Write out the pipelines and queues that a config stands for, or draw them",
		Long: `Print a config with what its blocks stand for written out: a collect block as the pipelines
and queues that it is. The result means what the config means. To do one of them differently, copy
it into the config and change it there: it takes the place of the one that the block stands for.

Expressions such as env("NAME") stay as they are, and so does everything that was written by
hand, passwords too.

With --svg it is a drawing instead: sources, pipelines with their transforms, queues, machines and
targets, as an SVG file that shows no option and so no secret. A line of dashes leads to a failure
target, one of dots to a filter target.`,
		Example: "  weir explain weir.hcl\n  weir explain conf.d > weir.hcl\n  weir explain --svg weir.hcl > weir.svg",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			files, ds := config.Read(args)
			if ds.HasErrors() {
				return report(ds, s)
			}
			if drawn {
				return draw(args, s)
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
	c.Flags().BoolVar(&drawn, "svg", false, "draw the pipelines and queues, as SVG")
	return c
}

// draw prints a drawing of what the config comes to.
func draw(paths []string, s Streams) error {
	cfg, found := config.Load(paths, builder().Options(s.Env))
	if found.HasErrors() {
		return report(found, s)
	}
	g := cfg.Plan().Drawing()
	g.Place()
	_, err := s.Out.Write(g.SVG("Pipelines and queues of " + strings.Join(paths, " ")))
	return err
}
