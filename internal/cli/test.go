package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/pipetest"
)

func testCommand(s Streams) *cobra.Command {
	update, verbose := false, false
	c := &cobra.Command{
		Use:   "test DIRECTORY|FILE",
		Short: "Run cases: a config, input, and the output it should give",
		Long: `Run every case (*.txtar) of a directory and below: each holds a config, input, and what
should come out at the target, the filter target and the failure target. The config's own
source and targets are not opened. A difference is printed line by line.

A case in its shortest form:

    -- config.hcl --
    transform {
      use "base64Decode" {}
    }
    -- in --
    aGVsbG8=
    -- out --
    hello

Instead of config.hcl, a file "config" may name the files you run: "../pipeline.hcl".
Other files: pipeline, env, in.jsonl, out.jsonl, filtered, failed, diagnostics.`,
		Args: exactly(1, "one directory or file"),
		RunE: func(c *cobra.Command, args []string) error {
			return test(c.Context(), args[0], update, verbose, s)
		},
	}
	c.Flags().BoolVar(&update, "update", false, "rewrite the cases to expect what comes out now")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "name the cases that pass as well")
	return c
}

func test(ctx context.Context, path string, update, verbose bool, s Streams) error {
	cases, err := pipetest.Find(path)
	if err != nil {
		return err
	}
	failed := 0
	for _, c := range cases {
		name, begin := c.Path, time.Now()
		if rel, err := filepath.Rel(path, c.Path); err == nil && rel != "." {
			name = rel
		}
		difference, err := c.Run(ctx, *builder(), update)
		took := time.Since(begin).Round(time.Millisecond)
		switch {
		case err != nil:
			failed++
			fmt.Fprintf(s.Out, "FAIL  %s (%s)\n%v\n", name, took, err)
		case difference != "":
			failed++
			fmt.Fprintf(s.Out, "FAIL  %s (%s)\n%s", name, took, difference)
		case verbose:
			fmt.Fprintf(s.Out, "ok    %s (%s)\n", name, took)
		}
	}
	fmt.Fprintf(s.Out, "%d passed, %d failed\n", len(cases)-failed, failed)
	if failed > 0 {
		return errReported
	}
	return nil
}
