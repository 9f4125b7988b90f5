// Package versioned reads documents that are named by a version: the code of a transformation, a
// tracking plan. They are files of a directory, or a control plane is asked for them.
//
// # Invariants
//
//   - A name never leaves the directory, and a document is never larger than [Most].
//   - What a control plane gave for a version is kept, where there is a directory for it, whole or
//     not at all, and is not asked for again.
//   - That a document does not exist is an error of the kind invalid that is [ErrUnknown]; any other
//     may pass.
package versioned

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/weirdata/weir/internal/fault"
)

// Most bounds the bytes of a document.
const Most = 8 << 20

// ErrUnknown is the error of a document that there is not.
var ErrUnknown = errors.New("not found")

// fileName is what a version may be called: it names a file.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`)

// Directory is documents in files. Whoever writes them may change them.
type Directory string

// Read is the first of the files called name and one of endings that is there, and its ending.
func (d Directory) Read(name string, endings ...string) (text []byte, ending string, err error) {
	if !fileName.MatchString(name) {
		return nil, "", fault.New(fault.Invalid, fmt.Errorf("%w: %q is no name of a file: use letters, digits, \"_\", \"-\" and \".\"", ErrUnknown, name))
	}
	for _, ending = range endings {
		text, err = readFile(filepath.Join(string(d), name+ending))
		if !errors.Is(err, fs.ErrNotExist) {
			return text, ending, err
		}
	}
	return nil, "", fault.New(fault.Invalid, fmt.Errorf("%w: there is no file %s%s in %s", ErrUnknown, name, strings.Join(endings, " or "+name), string(d)))
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > Most {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", path, info.Size(), Most)
	}
	return os.ReadFile(path)
}

// Client asks a server for what is at an address, with a user name where that is not empty.
type Client interface {
	Get(ctx context.Context, address, user string, limit int64) (status int, body []byte, err error)
}

// ControlPlane is documents that are asked for over HTTP.
type ControlPlane struct {
	Base   string
	Secret string // the user name; empty for none
	Client Client
	Cache  string // directory; empty for none
}

// Get is the document at path, kept under key. read makes something of its text; what it refuses is
// neither kept nor taken from where it was kept.
func (c *ControlPlane) Get(ctx context.Context, key, path string, read func(text []byte) error) error {
	kept := ""
	if c.Cache != "" && fileName.MatchString(key) {
		kept = filepath.Join(c.Cache, key+".json")
		if text, err := readFile(kept); err == nil && read(text) == nil {
			return nil
		}
	}
	address := strings.TrimSuffix(c.Base, "/") + path
	shown := address
	if u, err := url.Parse(address); err == nil {
		shown = u.Redacted()
	}
	status, text, err := c.Client.Get(ctx, address, c.Secret, Most)
	switch {
	case err != nil:
		return fmt.Errorf("ask for %s: %w", key, err)
	case status == http.StatusNotFound:
		return fault.New(fault.Invalid, fmt.Errorf("%w at %s", ErrUnknown, shown))
	case status != http.StatusOK:
		return fmt.Errorf("ask %s for %s: it answers %d %s", shown, key, status, http.StatusText(status))
	}
	if err := read(text); err != nil {
		return fmt.Errorf("read what %s answers: %w", shown, err)
	}
	if kept != "" {
		if err := keep(kept, text); err != nil {
			return fmt.Errorf("keep %s: %w", key, err)
		}
	}
	return nil
}

// keep writes a file whole or not at all.
func keep(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
