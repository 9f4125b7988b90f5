// Package place opens the bucket that an address names: the one way from a text in a config or
// on a command line to a [blob.Bucket].
//
// # Addresses
//
//	/var/lake, lake/events       a folder of the local file system (package directory)
//	s3://BUCKET/PREFIX           Amazon S3, or what speaks its protocol (package s3)
//	gs://BUCKET/PREFIX           Google Cloud Storage (package gcs)
//	azblob://CONTAINER/PREFIX    Azure Blob storage (package azure); its account is in the config or
//	                             the environment, or in the address:
//	https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX
//
// Whatever has a scheme in front (NAME://) is never a folder: a scheme that is not known is
// refused by its name, so that no typing error makes a folder called "s3:".
//
// Behind the bucket stands the prefix of the names of all objects in it, as a folder: it has a
// slash at its end, whether the address has one or not.
package place

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/azure"
	"github.com/weirdata/weir/internal/blob/directory"
	"github.com/weirdata/weir/internal/blob/gcs"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// The schemes of addresses.
const (
	schemeS3    = "s3"
	schemeGCS   = "gs"
	schemeAzure = "azblob"
)

// azureHost is what the host of a storage account ends in.
const azureHost = ".blob.core.windows.net"

// Place is where a bucket is.
type Place struct {
	// Scheme is which store it is in; empty for a folder.
	Scheme string
	// Path is that of a folder, as it was written.
	Path string
	// Bucket and Prefix are those of a store. The prefix has no slash at its ends.
	Bucket, Prefix string
	// Account is the storage account of a container, where the address says it.
	Account string
}

// kinds are what an address may be, for whoever wrote another one.
const kinds = `write the path of a folder, "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX" or "azblob://CONTAINER/PREFIX"`

// Parse reads an address. Its error says what is wrong, and what could be written.
func Parse(address string) (Place, error) {
	if address == "" {
		return Place{}, wrong(kinds, errors.New("the address of a place for objects is empty"))
	}
	scheme := blob.Scheme(address)
	switch scheme {
	case "":
		return Place{Path: address}, nil
	case schemeS3, schemeGCS, schemeAzure, "https":
	default:
		return Place{}, wrong(kinds, fmt.Errorf("%s:// is not a place for objects that this version knows", scheme))
	}
	_, rest, _ := strings.Cut(address, "://")
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		return Place{}, wrong("leave out what begins with "+rest[i:i+1], fmt.Errorf("%s is an address with options, which have no meaning", address[:len(address)-len(rest)+i]))
	}
	if host, _, _ := strings.Cut(rest, "/"); strings.Contains(host, "@") {
		return Place{}, wrong("leave out what stands before the @: credentials come from the environment", fmt.Errorf("an address of %s:// has credentials in it", scheme))
	}
	p := Place{Scheme: scheme}
	if scheme == "https" {
		host, path, _ := strings.Cut(rest, "/")
		account, ok := strings.CutSuffix(strings.ToLower(host), azureHost)
		if !ok {
			return Place{}, wrong(kinds, fmt.Errorf("https://%s is not a place for objects that this version knows", host))
		}
		p.Scheme, p.Account, rest = schemeAzure, account, path
	}
	p.Bucket, p.Prefix, _ = strings.Cut(rest, "/")
	p.Prefix = strings.Trim(p.Prefix, "/")
	if err := remote.CheckPrefix(p.Prefix); err != nil {
		return Place{}, wrong("correct what stands behind the bucket", err)
	}
	check := map[string]func(string) error{schemeS3: s3.CheckBucket, schemeGCS: gcs.CheckBucket, schemeAzure: azure.CheckContainer}[p.Scheme]
	if err := check(p.Bucket); err != nil {
		return Place{}, wrong("correct what stands behind "+p.Scheme+"://", err)
	}
	return p, nil
}

func wrong(fix string, err error) error { return connector.Blame("", fix, err) }

// Local reports whether it is a folder of this machine.
func (p Place) Local() bool { return p.Scheme == "" }

// In is the place with a relative path of a folder taken from where resolve says, such as
// connector.Deps.Path; an address of a store stays as it is.
func (p Place) In(resolve func(string) string) Place {
	if p.Local() {
		p.Path = resolve(p.Path)
	}
	return p
}

// String is the address, in one spelling for each place.
func (p Place) String() string {
	if p.Local() {
		return p.Path
	}
	at := p.Scheme + "://" + p.Bucket
	if p.Account != "" {
		at = "https://" + p.Account + azureHost + "/" + p.Bucket
	}
	if p.Prefix != "" {
		at += "/" + p.Prefix
	}
	return at
}

// DuckDB is the address in the form of DuckDB, which has one of its own for Azure.
func (p Place) DuckDB() string {
	rest, ok := strings.CutPrefix(p.String(), schemeAzure+"://")
	switch {
	case ok:
		return "az://" + rest
	case p.Account != "":
		return "az://" + strings.TrimPrefix(p.String(), "https://")
	}
	return p.String()
}

// Identity is a text that is equal for equal places that are reached as a says.
func (p Place) Identity(a Access) string {
	endpoint := ""
	switch {
	case p.Scheme == schemeS3 && a.S3 != nil:
		endpoint = a.S3.CustomAWSEndpoint
	case p.Scheme == schemeGCS && a.GCS != nil:
		endpoint = a.GCS.Endpoint
	case p.Scheme == schemeAzure && a.AzBlob != nil:
		endpoint = a.AzBlob.Account + " " + a.AzBlob.Endpoint
	}
	if endpoint == "" {
		return p.String()
	}
	return p.String() + " at " + endpoint
}

// Access is how stores are reached: the blocks of a config, each for its scheme. A block that is
// not set stands for its defaults, and for the credentials of the environment.
type Access struct {
	S3     *s3.Access
	GCS    *gcs.Access
	AzBlob *azure.Access
}

func (a Access) s3() s3.Access {
	if a.S3 == nil {
		return s3.Access{}.Filled()
	}
	return a.S3.Filled()
}

// Problems are what is wrong with the address that the attribute field of a config holds, and
// with the blocks, as far as can be known without a network.
func (a Access) Problems(field, address string) []connector.Problem {
	var ps []connector.Problem
	p, err := Parse(address)
	if err != nil {
		ps = append(ps, connector.Problem{Field: field, What: field + ": " + err.Error(), Fix: connector.Remedy(err, kinds)})
	}
	block := func(name, scheme string, problems []connector.Problem) {
		if err == nil && p.Scheme != scheme {
			ps = append(ps, useless(name, field, scheme))
		}
		ps = append(ps, connector.Under(name, problems)...)
	}
	if a.S3 != nil {
		block("s3", schemeS3, a.S3.Problems())
	}
	if a.GCS != nil {
		block("gcs", schemeGCS, a.GCS.Problems())
	}
	if a.AzBlob != nil {
		block("azblob", schemeAzure, a.AzBlob.Problems())
	}
	return ps
}

func useless(block, field, scheme string) connector.Problem {
	return connector.Problem{Field: block, What: fmt.Sprintf("the block %s is of use with %s = \"%s://...\" only", block, field, scheme), Fix: "leave the block out, or correct " + field}
}

// Options are how a place is opened.
type Options struct {
	// Access is how a store is reached.
	Access Access
	// Make makes a folder that is not there. Buckets of stores are never made.
	Make bool
	// Staging and Step are those of a folder; see package directory.
	Staging string
	Step    func(step, name string)
	// Properties are those of the objects that are written to a store; a folder has none.
	Properties remote.Properties
	// Resolve finds a file that a block names, as connector.Deps.Path does; nil takes paths as they are.
	Resolve func(string) string
	// Version and Log are the product's version, for the user agent, and who takes what a client
	// has to say; both may be missing.
	Version string
	Log     *slog.Logger
}

// Open opens the bucket. A store is not asked for anything yet: [remote.Bucket.Check] does that.
func (p Place) Open(ctx context.Context, o Options) (blob.Bucket, error) {
	switch p.Scheme {
	case "":
		return p.folder(o)
	case schemeS3:
		return s3.Open(ctx, p.Bucket, p.Prefix, o.Access.s3(), o.Properties, aws.Access{Version: o.Version, Log: o.Log})
	case schemeGCS:
		access := gcs.Access{}
		if o.Access.GCS != nil {
			access = *o.Access.GCS
		}
		return gcs.Open(ctx, p.Bucket, p.Prefix, access, o.Properties, o.path)
	case schemeAzure:
		access := azure.Access{}
		if o.Access.AzBlob != nil {
			access = *o.Access.AzBlob
		}
		name, err := access.Container(p.Account, p.Bucket)
		if err != nil {
			return nil, err
		}
		return azure.Open(name, p.Prefix, o.Properties)
	}
	return nil, fault.New(fault.Setup, fmt.Errorf("open %s: %s:// is not a place for objects that this version knows", p, p.Scheme))
}

// Inspect says what keeps the files from being used that the access to the place names. It asks
// nobody.
func (p Place) Inspect(o Options) error {
	if p.Local() {
		if err := connector.LookForFolder(p.Path, o.Make); err != nil {
			return connector.Blame("path", "name a folder, or one that can be made", err)
		}
		return nil
	}
	if p.Scheme != schemeGCS || o.Access.GCS == nil {
		return nil
	}
	return o.Access.GCS.Inspect(o.path)
}

func (o Options) path(name string) string {
	if o.Resolve == nil {
		return name
	}
	return o.Resolve(name)
}

func (p Place) folder(o Options) (blob.Bucket, error) {
	if blob.Scheme(p.Path) != "" {
		return nil, fault.New(fault.Setup, fmt.Errorf("open %s: it is an address, and no folder", p.Path))
	}
	open := directory.Open
	if o.Make {
		open = directory.Make
	}
	return open(p.Path, directory.Options{Staging: o.Staging, Step: o.Step})
}

// Check tries whether objects can be written: what a `check` that may touch the network asks.
func (p Place) Check(ctx context.Context, o Options) error {
	if p.Local() {
		if err := directory.Check(p.Path); err != nil {
			return err
		}
		return connector.TryFolder(p.Path, o.Make)
	}
	b, err := p.Open(ctx, o)
	if err != nil {
		return err
	}
	if c, ok := b.(connector.Checker); ok {
		err = c.Check(ctx)
	}
	return errors.Join(err, b.Close())
}
