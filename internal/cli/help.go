package cli

import (
	"github.com/spf13/cobra"
)

// helpCommand is help about a command, or about a connector or block as weir list gives it.
func helpCommand(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND|NAME]",
		Short: "Help about a command, a connector or a block",
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			at, _, err := c.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			names := commands(at)
			if len(args) == 0 {
				names = append(names, listed()...)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			switch {
			case err == nil && len(rest) == 0:
				about.InitDefaultHelpFlag()
				return about.Help()
			case len(args) == 1 && len(named(args[0])) > 0:
				return list(s, args[0], false)
			case err == nil && about != c.Root():
				return unknownCommand(about, rest)
			}
			return unknownName("command, connector or block", args[0], append(commands(c.Root()), listed()...))
		},
	}
}

// completes has the shell complete the arguments of commands: config files where a config is
// wanted.
func completes(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = unknownCommand, func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			each(sub)
		}
		if f := c.Flags().Lookup("config"); f != nil {
			_ = c.MarkFlagFilename("config", "hcl") // there is such a flag
		}
		if c.HasSubCommands() || c.ValidArgs != nil || c.ValidArgsFunction != nil {
			return
		}
		c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt
		}
	}
	for _, name := range []string{"run", "check", "convert", "test"} {
		if c, _, err := root.Find([]string{name}); err == nil {
			each(c)
		}
	}
}
