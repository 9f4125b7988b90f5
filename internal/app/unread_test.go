package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// backlogs is a store whose unread queues are given.
type backlogs struct {
	queue.Store
	mu    sync.Mutex
	found []queue.Backlog
	err   error
}

func (b *backlogs) Subscribe(string) func() { return func() {} }

func (b *backlogs) Unread(context.Context) ([]queue.Backlog, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.found, b.err
}

// TestUnreadIsToldOnce: a queue that nobody reads is named once, and once more when it is read
// again; one that is unread for a moment is not.
func TestUnreadIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &backlogs{}
		a := &App{Log: slog.New(slog.NewTextHandler(&log, nil)), Builder: &Builder{Store: s}}
		stop := a.overseeQueues(t.Context())
		said := func(found []queue.Backlog, err error, over time.Duration) []string {
			s.mu.Lock()
			s.found, s.err = found, err
			s.mu.Unlock()
			time.Sleep(over)
			synctest.Wait()
			text := strings.TrimSpace(log.String())
			log.Reset()
			if text == "" {
				return nil
			}
			return strings.Split(text, "\n")
		}
		orders := []queue.Backlog{{Queue: "orders", Open: 7}}
		if got := said(nil, nil, time.Minute); got != nil {
			t.Errorf("with every queue read: %q", got)
		}
		if got := said(orders, nil, unreadEvery); got != nil {
			t.Errorf("after one look: %q", got)
		}
		if got := said(nil, nil, unreadEvery); got != nil {
			t.Errorf("after a moment: %q", got)
		}
		if got := said(orders, nil, time.Hour); len(got) != 1 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], "queue=orders messages=7") {
			t.Errorf("unread for an hour: %q", got)
		}
		if got := said(nil, errors.New("away"), unreadEvery); len(got) != 1 || !strings.Contains(got[0], "away") {
			t.Errorf("with the store away: %q", got)
		}
		if got := said(nil, nil, time.Hour); len(got) != 1 || !strings.Contains(got[0], "level=INFO") || !strings.Contains(got[0], "queue=orders") {
			t.Errorf("read again: %q", got)
		}
		stop()
	})
}

// sharedBacklogs is a store whose queues others read too.
type sharedBacklogs struct {
	backlogs
	others map[string]bool
	open   map[string]int64
}

func (s *sharedBacklogs) ReadByOthers(context.Context) (func(string) bool, error) {
	return func(q string) bool { return s.others[q] }, nil
}

func (s *sharedBacklogs) Stats(_ context.Context, f queue.Filter) (queue.Stats, error) {
	return queue.Stats{Waiting: s.open[f.Queue]}, nil
}

// TestOrphansAreNobodys: of the queues that a config declares, fills and does not read, those with
// messages are told of, but for those that another process reads.
func TestOrphansAreNobodys(t *testing.T) {
	t.Parallel()
	for others, want := range map[string]string{"": "events", "events": "", "orders": "events"} {
		var log bytes.Buffer
		s := &sharedBacklogs{others: map[string]bool{others: true}, open: map[string]int64{"events": 3}}
		a := &App{Log: slog.New(slog.NewTextHandler(&log, nil)), store: s}
		a.warnOrphans(t.Context(), nil, &Built{Plan: &config.Plan{Process: config.Process{}, Queues: []connector.Queue{{Name: "events"}, {Name: "orders"}}}}, nil)
		if got := log.String(); strings.Contains(got, "queue=events") != (want != "") || strings.Contains(got, "queue=orders") {
			t.Errorf("others read %q: %s", others, got)
		}
	}
}
