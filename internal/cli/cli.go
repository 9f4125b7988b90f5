// Package cli is Weir's command line: init, run, check, convert, test, queue, store, failures, list, docs,
// completion, version.
//
// Exit codes: 0 when everything asked for was done (for run: everything that was read was
// settled), 1 when something failed, 2 when the command line itself is wrong. What a user
// asked for is written to standard output; logs, progress and errors to standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/spelling"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Streams is where a command reads and writes.
type Streams struct {
	Out, Err io.Writer
	// In is what `weir queue import` reads, and answers of a person; nil means os.Stdin.
	In io.Reader
	// Env looks up an environment variable.
	Env func(string) (string, bool)
}

// Standard is the process's own streams.
func Standard() Streams {
	return Streams{Out: os.Stdout, Err: os.Stderr, In: os.Stdin, Env: os.LookupEnv}
}

// errReported is an error that the user has been told of already.
var errReported = errors.New("reported")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// Main runs the command line and returns the exit code.
func Main(args []string, s Streams) int {
	keepFromOthers()
	root := command(s)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(s.Err, "weir: %v\n", err)
		return exitUsage
	}
	last := newSteady(s.Err, plainDropped)
	fmt.Fprintf(last, "weir: %s\n", secret.Text(err.Error()))
	last.flush() // nobody may be reading any more
	return exitFailed
}

// command is the tree of commands.
func command(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "Weir moves events from where they are made to where they are needed, and never loses one",
		Long: `Weir moves events from where they are made to where they are needed, and never loses one.

A config file says from where, through which transforms, to where. A config file of
Snowbridge runs unchanged:

    weir run pipeline.hcl`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       Version(),
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	// A command that is not given a config, or has not read it yet, keeps to the limit of the container.
	root.PersistentPreRun = func(*cobra.Command, []string) {
		_ = limitMemory(s, config.Process{}) // as below
	}
	root.SetVersionTemplate(versionLine())
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %q", err, c.CommandPath()+" --help")
	})
	root.AddCommand(initCommand(s), runCommand(s), checkCommand(s), explainCommand(s), convertCommand(s), testCommand(s), queueCommand(s), storeCommand(s), failuresCommand(s), tapCommand(s), topCommand(s), listCommand(s), lakeCommand(s), produceCommand(s), docsCommand(s), versionCommand(s))
	root.SetHelpCommand(helpCommand(s))
	completes(root)
	return root
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := spelling.Nearest(args[0], commands(c))
	if more := c.SuggestionsFor(args[0]); near == "" && len(more) > 0 {
		near = more[0] // letters that are swapped
	}
	if near != "" {
		return usagef("unknown command %q; did you mean %q?", args[0], near)
	}
	return usagef("unknown command %q; see %q", args[0], c.CommandPath()+" --help")
}

// commands are the names of the commands below c.
func commands(c *cobra.Command) (names []string) {
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			names = append(names, sub.Name())
		}
	}
	return names
}

// atLeast and exactly are argument checks that speak of what is missing.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %s; see %q", c.CommandPath(), what, c.CommandPath()+" --help")
		}
		return nil
	}
}

func atMost(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s takes %s; see %q", c.CommandPath(), what, c.CommandPath()+" --help")
		}
		return nil
	}
}

// configPaths is the config named on the command line, or by SNOWBRIDGE_CONFIG_FILE.
func configPaths(args []string, s Streams) []string {
	if len(args) > 0 {
		return args
	}
	if path, ok := s.Env("SNOWBRIDGE_CONFIG_FILE"); ok && path != "" {
		return []string{path}
	}
	return nil
}

// load reads a config and prints what is wrong with it. Without paths it is the built-in
// config of Snowbridge: standard input to standard output.
func load(paths []string, b *app.Builder, s Streams) (*config.Config, error) {
	cfg, found := config.Load(paths, b.Options(s.Env))
	if cfg != nil {
		_ = limitMemory(s, cfg.Process) // a container whose limit is not known is told of by weir run
	}
	return cfg, report(found, s)
}

// limitMemory has the process keep to its memory limit, and tells why it is not known.
func limitMemory(s Streams, p config.Process) error {
	limit, err := memorylimit.Find(s.Env, int64(p.MemoryLimitBytes))
	memorylimit.Set(limit)
	return err
}

// report prints diagnostics; it returns errReported when one is an error.
func report(found config.Diagnostics, s Streams) error {
	if len(found) > 0 {
		fmt.Fprint(s.Err, found.Text())
	}
	if found.HasErrors() {
		return errReported
	}
	return nil
}

func builder() *app.Builder {
	return &app.Builder{Set: all.Connectors(), Version: Version()}
}
