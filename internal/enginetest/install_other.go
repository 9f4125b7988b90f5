//go:build !linux

package enginetest

import (
	"context"
	"errors"
	"io"
)

var errNoInstall = errors.New("packages are installed without asking on Debian and Ubuntu only")

func installPostgres(context.Context, io.Writer) error { return errNoInstall }

// InstallCompiler installs the C compiler that the race detector needs.
func InstallCompiler(context.Context, io.Writer) error { return errNoInstall }
