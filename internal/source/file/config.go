// Package file reads lines from files: one message a line, files in the order of their
// names. Files compressed with gzip or zstd are recognised by their first bytes.
//
// # Following
//
// With follow, the files are looked at five times a second, without end. A file that is
// renamed is read on under its new name; one that disappeared is read to its end and let
// go after five seconds without growth; one that was truncated is read again from its
// beginning. A line counts when its line end is there; what is left of a file that is
// gone counts as a line. Compressed files are read once. Each followed file holds one
// file descriptor.
//
// # Positions
//
// With a position_file, what was acknowledged is not read again after a restart. The file
// holds, for each file, device, inode, the offset in the (decompressed) content up to
// which every message is settled, and a digest of the first bytes, so that a new file that
// was given the inode of an old one is read from its beginning. It is replaced as a whole
// and synced before an acknowledgement returns. Without a position_file all of that holds in
// memory: a pipeline that is started again in the same process goes on where it was, and the
// next process reads everything from the beginning.
//
// # Invariants
//
//   - An offset is committed only when everything read before it, in any of the files, is
//     settled. A message that was not settled is read again after a restart.
//   - A file that was renamed while nothing was running is found again by its inode.
package file

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weirdata/weir/internal/connector"
)

// Config is the HCL of the file source.
type Config struct {
	// The file to read, or a pattern of files: "*" stands for any characters of a name, "?"
	// for one, "[ab]" for one of those. A relative path means from the directory of the
	// config file.
	Path string `hcl:"path"`
	// Keep reading what is appended, and files that appear later, instead of ending when all
	// files are read (default false).
	Follow bool `hcl:"follow,optional"`
	// Where to keep how far each file was read and delivered, so that a restart continues
	// there. A relative path means from the directory of the config file. Without it every
	// start of the process reads the files from their beginning. One pipeline, one position
	// file.
	PositionFile string `hcl:"position_file,optional"`
	// Longest line accepted, in bytes (default 64 MiB). A longer one ends the pipeline with an
	// error that says where it is.
	MaxLineBytes int `hcl:"max_line_bytes,optional"`
	// Most lines handed to the transforms at once (default 1000).
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.Path == "" {
		ps = append(ps, connector.Problem{Field: "path", What: "path is empty", Fix: `name a file or a pattern: path = "/var/log/app/*.log"`})
	} else if _, err := filepath.Match(c.Path, ""); err != nil {
		ps = append(ps, connector.Problem{Field: "path", What: fmt.Sprintf("path is not a valid pattern: %s", c.Path), Fix: `close every "[", or write "\\[" for the character itself`})
	}
	for _, n := range []struct {
		field string
		value int
	}{{"max_line_bytes", c.MaxLineBytes}, {"max_batch_messages", c.MaxBatchMessages}} {
		if n.value < 1 {
			ps = append(ps, connector.Problem{Field: n.field, What: fmt.Sprintf("%s must be at least 1, not %d", n.field, n.value), Fix: "leave it out to use the default"})
		}
	}
	return ps
}

// Entry is the file source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "file", Summary: "Reads lines from files, once or as they grow, one message a line.", Stability: connector.Stable,
	Default: func() Config { return Config{MaxLineBytes: 64 << 20, MaxBatchMessages: 1000} },
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
		var err error
		if c.Path, err = d.File("path", c.Path); err != nil {
			return nil, err
		}
		// What is kept of a file names it for a start from elsewhere too, and who else wants the
		// positions may have come to them by another way.
		if c.Path, err = filepath.Abs(c.Path); err != nil {
			return nil, fmt.Errorf("find %s: %w", c.Path, err)
		}
		if c.PositionFile != "" {
			if c.PositionFile, err = d.File("position_file", c.PositionFile); err != nil {
				return nil, err
			}
			if c.PositionFile, err = filepath.Abs(c.PositionFile); err != nil {
				return nil, fmt.Errorf("find %s: %w", c.PositionFile, err)
			}
		}
		return &Source{config: c, log: logger(d), poll: 200 * time.Millisecond, grace: 5 * time.Second}, nil
	},
})

// matches lists the files that pattern names, in the order of their names.
func matches(pattern string) ([]string, error) {
	if _, err := os.Lstat(pattern); err == nil {
		return []string{pattern}, nil // also a name that looks like a pattern
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("match %s: %w", pattern, err)
	}
	return names, nil
}

// fileID is what a file keeps when it is renamed.
type fileID struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// irregular is what is wrong with reading fi as a file, or empty.
func irregular(fi fs.FileInfo) string {
	switch {
	case fi.IsDir():
		return "it is a directory; name the files in it, as in path/*"
	case !fi.Mode().IsRegular():
		return "it is not a regular file; use the stdin source for pipes"
	}
	return ""
}
