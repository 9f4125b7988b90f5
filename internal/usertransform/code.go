package usertransform

import (
	"context"
	"encoding/json"
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
	"github.com/weirdata/weir/internal/httpclient"
)

// maxCode bounds the bytes of a version's document.
const maxCode = 8 << 20

// version is a version of a transformation or a library, as the control plane gives it.
type version struct {
	Name        string `json:"name"`
	Code        string `json:"code"`
	CodeVersion string `json:"codeVersion"`
	Language    string `json:"language"`
}

// errUnknown is the error of a version that there is not.
var errUnknown = errors.New("Transformation not found")

// library finds code by version. What it returns for a version is always the same, but in a
// directory, where whoever writes the code may change it.
type library interface {
	transformation(ctx context.Context, id string) (version, error)
	library(ctx context.Context, id string) (version, error)
	// shared is a library of RudderStack's own, by its name and version.
	shared(ctx context.Context, name, v string) (version, error)
}

// fileName is what a version may be called: it names a file.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`)

// directory is code in files.
type directory string

func (d directory) find(id string) (version, error) {
	if !fileName.MatchString(id) {
		return version{}, fault.New(fault.Invalid, fmt.Errorf("%w: %q is no name of a file: use letters, digits, \"_\", \"-\" and \".\"", errUnknown, id))
	}
	text, err := readFile(filepath.Join(string(d), id+".json"))
	if err == nil {
		var v version
		if err := json.Unmarshal(text, &v); err != nil {
			return v, fault.New(fault.Invalid, fmt.Errorf("read %s.json in %s: %w", id, string(d), err))
		}
		return v, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return version{}, fmt.Errorf("read the code of %s: %w", id, err)
	}
	text, err = readFile(filepath.Join(string(d), id+".js"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return version{}, fault.New(fault.Invalid, fmt.Errorf("%w: there is neither %s.js nor %s.json in %s", errUnknown, id, id, string(d)))
	case err != nil:
		return version{}, fmt.Errorf("read the code of %s: %w", id, err)
	}
	v := version{Name: id, Code: string(text), CodeVersion: "1"}
	if !exports.MatchString(v.Code) {
		v.CodeVersion = "0"
	}
	return v, nil
}

// exports tells a module from a script.
var exports = regexp.MustCompile(`\bexport\s*(\{|\*|(async|function|const|let|var|default|class)\b)`)

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCode {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", path, info.Size(), maxCode)
	}
	return os.ReadFile(path)
}

func (d directory) transformation(_ context.Context, id string) (version, error) { return d.find(id) }
func (d directory) library(_ context.Context, id string) (version, error)        { return d.find(id) }
func (d directory) shared(_ context.Context, name, v string) (version, error) {
	return d.find("rs-" + name + "-" + v)
}

// controlPlane is code that is asked for over HTTP.
type controlPlane struct {
	base   string
	auth   string
	client *httpclient.Client
	cache  string // directory; empty for none
}

func (c *controlPlane) transformation(ctx context.Context, id string) (version, error) {
	return c.get(ctx, "transformation-"+id, "/transformation/getByVersionId?versionId="+url.QueryEscape(id))
}

func (c *controlPlane) library(ctx context.Context, id string) (version, error) {
	return c.get(ctx, "library-"+id, "/transformationLibrary/getByVersionId?versionId="+url.QueryEscape(id))
}

func (c *controlPlane) shared(ctx context.Context, name, v string) (version, error) {
	return c.get(ctx, "rs-"+name+"-"+v, "/rudderstackTransformationLibraries/"+url.PathEscape(name)+"?version="+url.QueryEscape(v))
}

func (c *controlPlane) get(ctx context.Context, key, path string) (v version, err error) {
	kept := ""
	if c.cache != "" && fileName.MatchString(key) {
		kept = filepath.Join(c.cache, key+".json")
		if text, err := readFile(kept); err == nil && json.Unmarshal(text, &v) == nil && v.Code != "" {
			return v, nil
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.base, "/")+path, nil)
	if err != nil {
		return v, fmt.Errorf("ask for code: %w", err)
	}
	if c.auth != "" {
		req.SetBasicAuth(c.auth, "")
	}
	resp, err := c.client.Do(req, nil)
	if err != nil {
		return v, fmt.Errorf("ask for code: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := httpclient.Body(resp, maxCode)
	switch {
	case err != nil:
		return v, fmt.Errorf("read code of %s: %w", req.URL.Redacted(), err)
	case resp.StatusCode == http.StatusNotFound:
		return v, fault.New(fault.Invalid, fmt.Errorf("%w at %s", errUnknown, req.URL.Redacted()))
	case resp.StatusCode != http.StatusOK:
		return v, fmt.Errorf("ask %s for code: it answers %s", req.URL.Redacted(), resp.Status)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("read code of %s: %w", req.URL.Redacted(), err)
	}
	if kept != "" {
		if err := keep(kept, text); err != nil {
			return v, fmt.Errorf("keep code: %w", err)
		}
	}
	return v, nil
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
