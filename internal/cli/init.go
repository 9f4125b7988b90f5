package cli

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/spelling"
)

// begun are the files that weir init writes, a folder for each kind.
//
//go:embed init
var begun embed.FS

// beginnings are the kinds of config that weir init writes, and what to do with each then.
var beginnings = []struct{ name, what, try string }{
	{"collect", "collect events from SDKs over HTTP", `curl -u website: -d '{"userId":"me","event":"Hello"}' http://127.0.0.1:8080/v1/track; sleep 1; cat events.jsonl`},
	{"machine", "work through a state machine for each event", `curl -d '{"id":"7","items":[{"price":2,"count":3}]}' http://127.0.0.1:8080; sleep 1; cat valid/7.json`},
	{"lake", "land JSON events as Parquet files", `curl -d '{"id":"7","time":"2026-01-01T00:00:00Z","score":1.5}' http://127.0.0.1:8080; sleep 7; weir lake head lake`},
	{"replicate", "replicate a stream", `echo hello >>in.log; sleep 1; cat out.log`},
}

func initCommand(s Streams) *cobra.Command {
	var names, lines []string
	for _, b := range beginnings {
		names = append(names, b.name)
		lines = append(lines, fmt.Sprintf("  %-10s %s", b.name, b.what))
	}
	return &cobra.Command{
		Use:   "init " + strings.Join(names, "|") + " [DIRECTORY]",
		Short: "Write a small config to begin with",
		Long: `Write a small config to begin with, and the files that it needs, into DIRECTORY or the working
directory. A file that is there already is not touched.

` + strings.Join(lines, "\n"),
		Example:   "  weir init collect\n  weir run collect.hcl",
		ValidArgs: names,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("%s takes the kind of config: %s", c.CommandPath(), strings.Join(names, ", "))
			case len(args) > 2:
				return usagef("%s takes a kind of config and at most one directory; see %q", c.CommandPath(), c.CommandPath()+" --help")
			}
			i := slices.Index(names, args[0])
			if i < 0 {
				return unknownName("kind of config", args[0], names)
			}
			dir := "."
			if len(args) == 2 {
				dir = args[1]
			}
			written, err := lay(names[i], dir)
			if err != nil {
				return err
			}
			for _, path := range written {
				fmt.Fprintf(s.Out, "wrote %s\n", path)
			}
			in := ""
			if dir != "." {
				in = "cd " + quoted(dir) + "\n  "
			}
			fmt.Fprintf(s.Out, "\nThen:\n  %sweir run %s.hcl\nand in another terminal:\n  %s%s\n", in, names[i], in, beginnings[i].try)
			return nil
		},
	}
}

// quoted is a path as a shell takes it for one word.
func quoted(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool { return strings.ContainsRune(" \t\n'\"\\$`&|;<>()*?[]#~!{}", r) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// lay writes the files of a kind into dir: all of them, or none where one is there already.
func lay(kind, dir string) (written []string, err error) {
	from := "init/" + kind
	files, err := begun.ReadDir(from)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if _, err := os.Lstat(path); err == nil {
			return nil, fmt.Errorf("%s is there already, and is not overwritten: name another directory", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	for _, f := range files {
		data, err := begun.ReadFile(from + "/" + f.Name())
		if err != nil {
			return written, err
		}
		path := filepath.Join(dir, f.Name())
		if err := create(path, data); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

// create writes a file that was not there.
func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// unknownName is the error of a word that is none of names.
func unknownName(what, word string, names []string) error {
	text := fmt.Sprintf("unknown %s %q; there are %s", what, word, strings.Join(names, ", "))
	if near := spelling.Nearest(word, names); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return usagef("%s", text)
}
