package gcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// Link is a client whose connections are made anew when one does not answer any more: a peer
// that has vanished without a word is otherwise asked for minutes.
//
// Invariants: a client that was given up is not given out again; it is closed when the last who
// uses it has ended, and no later than the link.
type Link[C io.Closer] struct {
	dial func(context.Context) (C, error)

	mu     sync.Mutex
	now    *Use[C]
	all    map[*Use[C]]bool // not closed yet
	closed bool
}

// Use is a client that is in use.
type Use[C io.Closer] struct {
	Client C
	// Stale is closed when the client was given up, for those who would use it for long.
	Stale chan struct{}
	users int
	stale bool
}

// NewLink is a link whose clients are made by dial.
func NewLink[C io.Closer](dial func(context.Context) (C, error)) *Link[C] {
	return &Link[C]{dial: dial, all: map[*Use[C]]bool{}}
}

var errClosed = errors.New("the connection is closed")

// Take gives out the client until it is given back.
func (l *Link[C]) Take(ctx context.Context) (*Use[C], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.now == nil {
		c, err := l.dial(ctx)
		if err != nil {
			return nil, dialled(err)
		}
		l.now = &Use[C]{Client: c, Stale: make(chan struct{})}
		l.all[l.now] = true
	}
	l.now.users++
	return l.now, nil
}

// Give gives u back. With stale its client is given up.
func (l *Link[C]) Give(u *Use[C], stale bool) {
	l.mu.Lock()
	u.users--
	if stale && !u.stale {
		u.stale = true
		close(u.Stale)
		if l.now == u {
			l.now = nil
		}
	}
	done := u.stale && u.users == 0 && l.all[u]
	if done {
		delete(l.all, u)
	}
	l.mu.Unlock()
	if done {
		_ = u.Client.Close() // nobody uses it, and what it would say is known
	}
}

// Close closes every client. What is under way ends with an error.
func (l *Link[C]) Close() error {
	l.mu.Lock()
	l.closed, l.now = true, nil
	all := l.all
	l.all = map[*Use[C]]bool{}
	l.mu.Unlock()
	var errs []error
	for u := range all {
		errs = append(errs, u.Client.Close())
	}
	return errors.Join(errs...)
}

// dialled is the error of a client that could not be made, which touches no service: what it
// needs is not there.
func dialled(err error) error {
	text := secret.Text(err.Error())
	if strings.Contains(text, "default credentials") {
		text += ": name a file with credentials_path, set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login"
	}
	return fault.New(fault.Setup, &failure{fmt.Sprintf("connect to Google Cloud: %s", text), err})
}
