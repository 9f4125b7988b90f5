// Package file reads lines from files: one message a line, files in the order of their
// names. Files compressed with gzip or zstd are recognised by their first bytes.
//
// # Contents
//
// What is read is a content: the bytes that a file had, or has, from its beginning on. A file
// is an inode, by the time it was made where the file system tells; it has one content after
// another when it is truncated or rewritten. A content is the one that was read before when it
// begins with the same bytes (up to 1024), and has the same bytes (up to 1024) before where
// reading has come to. The latter are read again, at the same moment, with everything that is
// read, so that no content is continued with another; only one that has the same kilobyte at
// the same place cannot be told from what was there.
//
// A content is one state: its name as a partition, what of it is settled, and these digests.
// The states of a pipeline's files are the same with and without a position_file. They outlive
// a start after a failure and a reload; with a position_file they outlive the process.
//
// # Positions
//
// The position of a message is the offset of its line in the (decompressed) content. What is
// settled is a set of offsets: all before one, and parts beyond it. So each line that is settled
// stays so, whatever became of those before it, and one that is not is read again at the next
// start: after a clean end nothing is read twice, after a kill what was in flight may be. The
// position file is replaced as a whole and synced before an acknowledgement returns.
//
// # What happens to a file
//
// With follow, the files are looked at five times a second, without end.
//
//   - It grows: the lines are read that have an end. NULs at the end of a file are room that
//     somebody made and has not filled; they are no part of a line before something follows.
//   - It is renamed, to whatever name: it is read on, and found again by its inode when nothing
//     was running meanwhile, in the directory where it was. When path does not match it any more
//     it is closed after five seconds without growth, and what is left of it then counts as a
//     line; it is watched for as long as it is there, and read on when it grows.
//   - It is removed: it is read to its end, for as long as it grows within five seconds.
//   - It is truncated, rewritten or replaced: another content begins. NULs at its beginning, which
//     a writer makes that does not append, are passed over.
//   - It gets another name too (a link): it is read once.
//   - It is compressed, or copied and then truncated: the new file has the content that is known,
//     and is read on where that was. It is taken for that when it lies in the same directory, has
//     the content up to where it was read, and its name begins with the other's, or that is more
//     than 256 bytes. While the file it was made of is there, it waits.
//   - It begins with a byte order mark of UTF-8: that is no part of the first line.
//   - It cannot be read, or not restored from what it is compressed to: that is said once, the
//     others are read on, and so is this one when that is mended. A line that is too long, and what
//     is left of one where a compressed file is damaged, are messages that are refused.
//
// Without follow each file is read once, in the same states.
//
// # Invariants
//
//   - A line is settled only by the acknowledgement of its message.
//   - Only Read changes which states there are; acknowledgements change what in them is settled.
//   - An acknowledgement settles nothing after Close.
//   - Files that are open: those that path matches, and those gone from it for five seconds. At
//     most 100 are watched, and 100 contents are remembered that are gone.
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
	// Where to keep which lines were delivered, so that a restart continues after them. A
	// relative path means from the directory of the config file. Without it every start of the
	// process reads the files from their beginning; a reload, and a pipeline that is started
	// again after a failure, go on where they were in any case. One pipeline, one position file.
	PositionFile string `hcl:"position_file,optional"`
	// Longest line accepted, in bytes (default 64 MiB). A longer one goes to the failure target,
	// as far as it is accepted, with its place; the lines after it are read on.
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
		s := &Source{config: c, pipeline: d.Pipeline, log: logger(d), poll: 200 * time.Millisecond, grace: 5 * time.Second}
		if d.Kept != nil {
			s.kept, _ = d.Kept("files of pipeline "+d.Pipeline, func() any { return &kept{} }).(*kept)
		}
		return s, nil
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
	what, fix := misfit(fi)
	if what == "" {
		return ""
	}
	return what + "; " + fix
}

// misfit is what is wrong with reading fi as a file, and what to do.
func misfit(fi fs.FileInfo) (what, fix string) {
	switch {
	case fi.IsDir():
		return "it is a directory", "name the files in it, as in path/*"
	case !fi.Mode().IsRegular():
		return "it is not a regular file", "use the stdin source for pipes"
	}
	return "", ""
}
