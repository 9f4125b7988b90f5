package postgres

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue/storetest"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// testLog writes what a store logs to the log of a test.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Helper()
	l.t.Logf("%s", p)
	return len(p), nil
}

func logTo(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// open opens a store that is closed when the test ends.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Committers == 0 {
		o.Committers, o.Readers = 2, 3
	}
	if o.Log == nil {
		o.Log = logTo(t)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// backend opens stores in databases of the test.
func backend(o Options) storetest.Backend {
	opt := func(c storetest.Config) Options {
		o := o
		o.Now, o.Window = c.Now, c.Window
		return o
	}
	return storetest.Backend{
		Open: func(t testing.TB, c storetest.Config) storetest.Store {
			o := opt(c)
			o.DSN = enginetest.Postgres(t)
			return open(t, o)
		},
		Reopen: func(t testing.TB, st storetest.Store, c storetest.Config) storetest.Store {
			t.Helper()
			s := st.(*Store)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			o := opt(c)
			o.DSN = s.o.DSN
			return open(t, o)
		},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, backend(Options{}))
}

func TestTurns(t *testing.T) {
	t.Parallel()
	storetest.Turns(t, backend(Options{Partitions: 1}))
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
