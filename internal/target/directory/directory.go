// Package directory is the target "directory": it puts each message into a file of its own,
// as an object store does into a bucket.
//
// # Invariants
//
//   - When Write returns nil, every message of the batch is on the disk in a file of its
//     name.
//   - A file is there whole or not at all: it is written under a name that begins with a dot
//     and renamed. A process that was killed may leave such a file; nobody reads it, and Open
//     removes those that are older than an hour.
//   - A message whose name another had replaces it, so that writing it again changes nothing.
//   - A name never leads out of the directory: of what the payload says, letters, digits,
//     "-", "_" and "." stay and every other byte is written as % and two digits.
package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
)

// Config is the HCL of the directory target.
type Config struct {
	// The directory to put files into. A relative path means from the directory of the config
	// file.
	Path string `hcl:"path"`
	// Path of the field of a JSON payload whose text or number is the name of its file, as
	// "id" or "order.id". Messages with one name replace one another; a message without the
	// field is invalid. When left out, each file has a new name, a UUID that grows with time.
	NameField string `hcl:"name_field,optional"`
	// What every file name ends in (default ".json").
	Extension string `hcl:"extension,optional"`
	// Make the directory, and those on the way to it, where they are missing (default true).
	CreateDirectories bool `hcl:"create_directories,optional"`
	// Bring every file to the disk before it counts as delivered (default true). Without it a
	// power failure may lose what was delivered in the last half minute or so.
	Sync bool `hcl:"sync,optional"`
	// How messages are grouped into writes. A batch leaves as soon as nothing more waits to
	// join it.
	Batching *connector.Batching `hcl:"batching,block"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	if c.Path == "" {
		ps = append(ps, connector.Problem{Field: "path", What: "path is empty", Fix: `name a directory: path = "/var/lib/weir/orders"`})
	}
	if "x"+c.Extension != safe("x"+c.Extension) || len(c.Extension) > maxExtension {
		ps = append(ps, connector.Problem{Field: "extension", What: fmt.Sprintf("extension %q is no end of a file name", c.Extension),
			Fix: fmt.Sprintf(`use letters, digits, "-", "_" and ".", at most %d: extension = ".json"`, maxExtension)})
	}
	return append(ps, connector.Under("batching", c.Batching.Validate())...)
}

// Entry is the directory target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "directory", Summary: "Puts each message into a file of its own in a directory.", Stability: connector.Stable, Whole: true,
	Default: func() Config {
		return Config{Extension: ".json", CreateDirectories: true, Sync: true,
			Batching: &connector.Batching{MaxBatchMessages: 100, MaxBatchBytes: 16 << 20, MaxMessageBytes: 16 << 20, MaxConcurrentBatches: 2, FlushPeriodMillis: 200}}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		c.Path = d.Path(c.Path)
		return &Target{config: c, path: jsontext.Path(c.NameField)}, nil
	},
})

const (
	maxName      = 200 // bytes of a file name
	maxExtension = 30
	writers      = 8 // files of one batch written at once
	temporary    = ".weir-"
	leftOver     = time.Hour
)

// Target puts files into a directory.
type Target struct {
	config Config
	path   []string // of NameField
}

var (
	_ connector.Limiter   = (*Target)(nil)
	_ connector.Inspector = (*Target)(nil)
	_ connector.Checker   = (*Target)(nil)
)

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits {
	l := t.config.Batching.Limits()
	l.Eager = true
	return l
}

// Inspect implements connector.Inspector.
func (t *Target) Inspect() error {
	if err := connector.LookForFolder(t.config.Path, t.config.CreateDirectories); err != nil {
		return connector.Blame("path", "name a directory that is there, or one that can be made with create_directories = true", err)
	}
	return nil
}

// Check implements connector.Checker.
func (t *Target) Check(context.Context) error {
	if err := t.look(); err != nil {
		return err
	}
	if err := connector.TryFolder(t.config.Path, t.config.CreateDirectories); err != nil {
		return explain("try the directory", err)
	}
	return nil
}

// look finds out whether the directory is there, where it has to be.
func (t *Target) look() error {
	info, err := os.Stat(t.config.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && t.config.CreateDirectories:
		return nil
	case err != nil:
		return explain("look for the directory", err)
	case !info.IsDir():
		return fault.New(fault.Setup, fmt.Errorf("%s is no directory", t.config.Path))
	}
	return nil
}

// Open implements connector.Target.
func (t *Target) Open(context.Context) error {
	if t.config.CreateDirectories {
		if err := os.MkdirAll(t.config.Path, 0o750); err != nil {
			return explain("make the directory", err)
		}
	}
	if err := t.look(); err != nil {
		return err
	}
	t.sweep()
	return nil
}

// sweep removes what a killed process left. A failure does no harm.
func (t *Target) sweep() {
	left, err := filepath.Glob(filepath.Join(t.config.Path, temporary+"*"))
	if err != nil {
		return
	}
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > leftOver {
			_ = os.Remove(name)
		}
	}
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error { return nil }

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	errs := make([]error, len(b))
	names := make([]string, len(b))
	last := map[string]int{} // of messages with one name the last one counts
	for i, m := range b {
		if names[i], errs[i] = t.name(m); errs[i] == nil {
			last[names[i]] = i
		}
	}
	var g errgroup.Group
	g.SetLimit(writers)
	for i, m := range b {
		if errs[i] == nil && last[names[i]] == i {
			g.Go(func() error { errs[i] = t.put(ctx, names[i], m.Data); return nil })
		}
	}
	_ = g.Wait() // the errors are in errs
	for i := range b {
		if n, named := last[names[i]]; named && errs[i] == nil {
			errs[i] = errs[n]
		}
	}
	if err := t.syncDirectory(); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
	}
	failed := map[int]error{}
	for i, err := range errs {
		if err != nil {
			failed[i] = err
		}
	}
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

// name is the name of m's file.
func (t *Target) name(m *event.Message) (string, error) {
	if t.config.NameField == "" {
		return fresh(time.Now()) + t.config.Extension, nil
	}
	text := jsontext.Field(m.Data, t.path)
	if text == "" {
		return "", fault.New(fault.Invalid, fmt.Errorf("the payload has no text or number in the field %q to name its file after", t.config.NameField))
	}
	name := safe(text)
	if len(name)+len(t.config.Extension) > maxName {
		return "", fault.New(fault.Invalid, fmt.Errorf("the field %q has %d bytes: a file name has at most %d", t.config.NameField, len(name), maxName-len(t.config.Extension)))
	}
	return name + t.config.Extension, nil
}

// fresh is a name that nothing else has: a UUID of version 7.
func fresh(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (8 * (5 - i)))
	}
	b[6], b[8] = b[6]&0x0f|0x70, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// safe is s as a part of a file name. A dot at its beginning would hide the file, or name the
// directory above.
func safe(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// put writes one file.
func (t *Target) put(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	f, err := os.CreateTemp(t.config.Path, temporary+"*")
	if err != nil {
		return explain("make a file", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err == nil && t.config.Sync {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(t.config.Path, name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return explain(fmt.Sprintf("write %q", name), err)
	}
	return nil
}

// syncDirectory makes the names durable.
func (t *Target) syncDirectory() error {
	if !t.config.Sync {
		return nil
	}
	d, err := os.Open(t.config.Path)
	if err != nil {
		return explain("open the directory", err)
	}
	err = syncDir(d)
	if e := d.Close(); err == nil {
		err = e
	}
	if err != nil {
		return explain("bring the directory to the disk", err)
	}
	return nil
}

// explain gives an error of the file system its meaning: a missing or forbidden directory
// needs somebody, a full disk may be emptied.
func explain(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrExist) || errors.Is(err, errNotDirectory) {
		return fault.New(fault.Setup, err)
	}
	return err
}
