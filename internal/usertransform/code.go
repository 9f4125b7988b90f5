package usertransform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/versioned"
)

// version is a version of a transformation or a library, as the control plane gives it.
type version struct {
	Name        string `json:"name"`
	Code        string `json:"code"`
	CodeVersion string `json:"codeVersion"`
	Language    string `json:"language"`
}

// unknown says of an error of a version that there is not what is not found, in RudderStack's words.
func unknown(err error) error {
	if errors.Is(err, versioned.ErrUnknown) {
		return fmt.Errorf("Transformation %w", err)
	}
	return err
}

// library finds code by version. What it returns for a version is always the same, but in a
// directory, where whoever writes the code may change it.
type library interface {
	transformation(ctx context.Context, id string) (version, error)
	library(ctx context.Context, id string) (version, error)
	// shared is a library of RudderStack's own, by its name and version.
	shared(ctx context.Context, name, v string) (version, error)
}

// directory is code in files.
type directory struct{ versioned.Directory }

func (d directory) find(id string) (v version, err error) {
	text, ending, err := d.Read(id, ".json", ".js")
	if err != nil {
		return v, unknown(err)
	}
	if ending == ".json" {
		if err := json.Unmarshal(text, &v); err != nil {
			return v, fault.New(fault.Invalid, fmt.Errorf("read %s.json in %s: %w", id, d.Directory, err))
		}
		return v, nil
	}
	v = version{Name: id, Code: string(text), CodeVersion: "1"}
	if !exports.MatchString(v.Code) {
		v.CodeVersion = "0"
	}
	return v, nil
}

// exports tells a module from a script.
var exports = regexp.MustCompile(`\bexport\s*(\{|\*|(async|function|const|let|var|default|class)\b)`)

func (d directory) transformation(_ context.Context, id string) (version, error) { return d.find(id) }
func (d directory) library(_ context.Context, id string) (version, error)        { return d.find(id) }
func (d directory) shared(_ context.Context, name, v string) (version, error) {
	return d.find("rs-" + name + "-" + v)
}

// controlPlane is code that is asked for over HTTP.
type controlPlane struct {
	versioned.ControlPlane
	client *httpclient.Client
}

func newControlPlane(base, secret, cache string) *controlPlane {
	client := httpclient.New(httpclient.Options{Timeout: loadTimeout})
	return &controlPlane{versioned.ControlPlane{Base: base, Secret: secret, Client: client, Cache: cache}, client}
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
	err = c.Get(ctx, key, path, func(text []byte) error {
		v = version{}
		return json.Unmarshal(text, &v)
	})
	return v, unknown(err)
}
