// Package place opens the bucket that an address names: the one way from a text in a config or
// on a command line to a [blob.Bucket].
//
// # Addresses
//
//	/var/lake, lake/events       a folder of the local file system (package directory)
//
// Whatever has a scheme in front (NAME://) is never a folder: a scheme that is not known is
// refused by its name, so that no typing error makes a folder called "s3:".
//
// Behind the bucket stands the prefix of the names of all objects in it, as a folder: it has a
// slash at its end, whether the address has one or not.
package place

import (
	"context"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/directory"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// Place is where a bucket is.
type Place struct {
	// Scheme is which store it is in; empty for a folder.
	Scheme string
	// Path is that of a folder, as it was written.
	Path string
}

// kinds are what an address may be, for whoever wrote another one.
const kinds = `write the path of a folder`

// Parse reads an address. Its error says what is wrong, and what could be written.
func Parse(address string) (Place, error) {
	if address == "" {
		return Place{}, connector.Blame("", kinds, fmt.Errorf("the address of a place for objects is empty"))
	}
	if scheme := blob.Scheme(address); scheme != "" {
		return Place{}, connector.Blame("", kinds, fmt.Errorf("%s:// is not a place for objects that this version knows", scheme))
	}
	return Place{Path: address}, nil
}

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
func (p Place) String() string { return p.Path }

// Options are how a place is opened.
type Options struct {
	// Make makes a folder that is not there. Buckets of stores are never made.
	Make bool
	// Staging and Step are those of a folder; see package directory.
	Staging string
	Step    func(step, name string)
}

// Problems are what is wrong with the address that the attribute field holds, as far as can be
// known without a network.
func Problems(field, address string) []connector.Problem {
	_, err := Parse(address)
	if err == nil {
		return nil
	}
	return []connector.Problem{{Field: field, What: field + ": " + err.Error(), Fix: connector.Remedy(err, kinds)}}
}

// Open opens the bucket. Stores are not asked for anything yet.
func (p Place) Open(_ context.Context, o Options) (blob.Bucket, error) {
	if strings.Contains(p.Path, "://") && blob.Scheme(p.Path) != "" {
		return nil, fault.New(fault.Setup, fmt.Errorf("open %s: it is an address, and no folder", p.Path))
	}
	open := directory.Open
	if o.Make {
		open = directory.Make
	}
	return open(p.Path, directory.Options{Staging: o.Staging, Step: o.Step})
}
