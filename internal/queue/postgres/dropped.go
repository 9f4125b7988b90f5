package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/queue"
)

// drop takes the requests out of g that cannot be committed because of err, and reports
// whether the others can be tried again at once.
func (w *writer) drop(ctx context.Context, g *group, a *attempt, err error) bool {
	failing := func(which func(r *request) error) (some bool) {
		before := len(g.requests)
		g.requests = slices.DeleteFunc(g.requests, func(r *request) bool {
			cause := which(r)
			if cause != nil {
				r.fail(cause)
			}
			return cause != nil
		})
		return len(g.requests) < before
	}
	code := sqlState(err)
	switch code {
	case "", codeMoved, codeUndefinedTab, codeUndefinedFunc, codeRestored, codeDeadlock, codeSerialization, codeLockTimeout:
		return false
	case codeLost:
		// Another process has taken something of these partitions: what is committed here
		// need not be of that.
		if rerr := w.s.reconsider(ctx, detail(err)); rerr != nil {
			w.s.o.Log.Warn("partitions whose epoch was refused could not be looked at; it will be tried again", "error", rerr)
			return false
		}
		return true
	case codeConflict:
		changed := map[*request]bool{}
		for _, ord := range detail(err) {
			if ord >= 1 && ord <= len(a.readers) {
				changed[a.readers[ord-1]] = true
			}
		}
		return failing(func(r *request) error {
			if changed[r] {
				return errAgain
			}
			return nil
		})
	}
	if len(g.requests) > 1 {
		// One of them is to blame: each for itself.
		for _, r := range g.requests {
			w.run(ctx, &group{requests: []*request{r}})
		}
		g.requests = nil
		return true
	}
	failing(func(r *request) error {
		if code == codeSide {
			return w.sideMoved(r, err)
		}
		return fmt.Errorf("commit an update: %w", meaning(err))
	})
	return true
}

// dropLost answers the requests whose partitions have gone to another owner. This process
// may own such a partition again by now, under a later epoch, and requests of that time
// may be in the same group: those of before must not be committed under it. The others are
// committed under the epoch as it was before that was looked at.
func (g *group) dropLost() {
	g.requests = slices.DeleteFunc(g.requests, func(r *request) bool {
		for i := range r.changes {
			ch := &r.changes[i]
			if ch.o == nil {
				continue
			}
			if ch.epoch = ch.o.epoch.Load(); ch.o.gone.Load() {
				r.fail(fmt.Errorf("commit an update: another process has taken over partition %d: %w", ch.part, queue.ErrLeaseLost))
				return true
			}
		}
		return false
	})
}

// dropPast answers the requests that were made from another history than h: with what is
// remembered of h the caller makes them anew.
func (g *group) dropPast(h *history) {
	g.requests = slices.DeleteFunc(g.requests, func(r *request) bool {
		if r.h == h {
			return false
		}
		r.fail(fmt.Errorf("%w: %w", errPast, errAgain))
		return true
	})
}

// errSide says that dead jobs were requeued or dropped by somebody else meanwhile.
var errSide = errors.New("jobs of the side table have changed")

// sideMoved judges a request whose side rows are not what they were. For an owner that
// is damage: what it remembers is made anew from the database.
func (w *writer) sideMoved(r *request, err error) error {
	out := errSide
	for i := range r.changes {
		if o := r.changes[i].o; o != nil {
			w.s.o.Log.Error("the memory of a partition differs from the database: it is read anew", "partition", o.part, "error", err)
			w.s.disown(o)
			out = fmt.Errorf("commit an update: %w: %w", queue.ErrLeaseLost, err)
		}
	}
	return out
}

// detail reads the numbers in the DETAIL of an error of our own.
func detail(err error) []int {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return nil
	}
	var out []int
	for word := range strings.SplitSeq(pg.Detail, ",") {
		if n, err := strconv.Atoi(word); err == nil {
			out = append(out, n)
		}
	}
	return out
}
