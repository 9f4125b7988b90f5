//go:build !unix

package enginetest

import (
	"context"
	"errors"
	"time"
)

// Running is an engine that this process started; there is none on this system.
type Running struct{ Address string }

// Stop does nothing.
func (*Running) Stop() error { return nil }

func (*Running) endedWithin(time.Duration) bool { return true }
func (*Running) said() string                   { return "" }

type workspace struct{ dir string }

var errNoStart = errors.Join(ErrMissing, errors.New("engines are started on Unix systems only"))

func newWorkspace(string) (*workspace, error)                        { return nil, errNoStart }
func (*workspace) remove() error                                     { return nil }
func (*workspace) unowned()                                          { /* nothing is started here */ }
func (*workspace) run(context.Context, string, ...string) error      { return errNoStart }
func (*workspace) start(string, string, ...string) (*Running, error) { return nil, errNoStart }
