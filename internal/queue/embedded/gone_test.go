package embedded

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// logged is a log that several write to.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestFolderGone: a store whose folder disappears says so, closes with an error, and neither
// hangs nor fills the log.
func TestFolderGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	log := &logged{}
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("x"))})
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err == nil {
			t.Error("Close returned nil although the state could not be written")
		}
	case <-time.After(3 * time.Minute):
		t.Fatal("Close does not return")
	}
	if n := strings.Count(log.String(), "\n"); n > 50 || n == 0 {
		t.Errorf("%d lines were logged:\n%.2000s", n, log)
	}
}
