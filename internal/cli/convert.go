package cli

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/config/snowbridge"
)

func convertCommand(s Streams) *cobra.Command {
	write, fromEnv := false, false
	c := &cobra.Command{
		Use:   "convert FILE...",
		Short: "Write a config of an older Snowbridge in the present form",
		Long: `Write a config of Snowbridge 2.0 to 5.2 in the present form. The file is printed, or with -w
changed. It means what it meant, and its comments stay; a file in the present form comes out
as it is. What was changed is reported on standard error.

With --env there is no file: what is printed is the file that the environment variables of
Snowbridge up to 2.4.2 stand for (SOURCE_NAME, TARGET_NAME, TARGET_HTTP_URL, ...).

A relative path in a file means from the directory of that file, where Snowbridge took the
working directory. A warning names each path that leads to a file from there only.`,
		Example: "  weir convert snowbridge.hcl > weir.hcl\n  weir convert -w conf.d/*.hcl\n  weir convert --env > weir.hcl",
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case fromEnv && (len(args) > 0 || write):
				return usagef("--env takes no file and no -w: it prints one; see %q", c.CommandPath()+" --help")
			case fromEnv:
				return convertEnvironment(s)
			case len(args) == 0:
				return usagef("%s takes a file, or --env; see %q", c.CommandPath(), c.CommandPath()+" --help")
			case len(args) > 1 && !write:
				return usagef("only one file can be printed; add -w to change %d files", len(args))
			}
			var failed error
			for _, path := range args {
				if err := convertFile(path, write, s); err != nil {
					failed = err
				}
			}
			return failed
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "change the files instead of printing")
	c.Flags().BoolVar(&fromEnv, "env", false, "print the file that environment variables stand for")
	return c
}

func convertEnvironment(s Streams) error {
	text, found := snowbridge.FromEnvironment(s.Env)
	if err := report(found, s); err != nil {
		return err
	}
	if text == nil {
		return usagef("there is no config in the environment: none of SOURCE_NAME, TARGET_NAME, FAILURE_TARGET_NAME, STATS_RECEIVER_NAME and TRANSFORM_CONFIG_B64 is set")
	}
	_, err := s.Out.Write(text)
	return err
}

// convertFile converts one file; what is wrong with it is reported before it returns.
func convertFile(path string, write bool, s Streams) error {
	fail := func(err error) error {
		fmt.Fprintf(s.Err, "weir: convert %s: %v\n", path, err)
		return errReported
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	text, found := snowbridge.Convert(path, src)
	if err := report(append(found, snowbridge.Misplaced(path, text)...), s); err != nil {
		return err
	}
	if !write {
		_, err := s.Out.Write(text)
		return err
	}
	if bytes.Equal(src, text) {
		return nil
	}
	if err := replaceFile(path, text); err != nil {
		return fail(err)
	}
	fmt.Fprintln(s.Err, "changed", path)
	return nil
}

// replaceFile writes a file as a whole or not at all. A link stays one.
func replaceFile(path string, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".weir-convert-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // there is none once it is renamed
	if err := fill(f, text, info.Mode()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func fill(f *os.File, text []byte, mode fs.FileMode) error {
	_, err := f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
