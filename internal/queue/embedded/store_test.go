package embedded

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/queue/storetest"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// backend opens stores in directories of the test. Every reopening is followed by a
// check of the whole store. recent is Options.RecentBytes.
func backend(recent int) storetest.Backend {
	opt := func(c storetest.Config) Options {
		return Options{Now: c.Now, Window: c.Window, SegmentBytes: 64 << 10, RecentBytes: recent}
	}
	var dirs sync.Map // of the stores
	open := func(t testing.TB, dir string, c storetest.Config) storetest.Store {
		t.Helper()
		s, err := Open(dir, opt(c))
		if err != nil {
			t.Fatal(err)
		}
		dirs.Store(s, dir)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	return storetest.Backend{
		Open: func(t testing.TB, c storetest.Config) storetest.Store { return open(t, t.TempDir(), c) },
		Reopen: func(t testing.TB, st storetest.Store, c storetest.Config) storetest.Store {
			t.Helper()
			s := st.(*Store)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			dir, _ := dirs.Load(s)
			again := open(t, dir.(string), c)
			if _, err := again.(*Store).Check(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			return again
		},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, recent := range map[string]int{"from memory": 0, "from the log": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, backend(recent))
		})
	}
}

func TestTurns(t *testing.T) {
	t.Parallel()
	storetest.Turns(t, backend(-1))
}

// TestModel runs random histories; WEIR_MODEL_RUNS says how many.
func TestModel(t *testing.T) {
	t.Parallel()
	runs := envInt(t, "WEIR_MODEL_RUNS", 6)
	for seed := range uint64(runs) {
		window := 0
		if seed%2 == 1 {
			window = 1 + int(seed%40)
		}
		t.Run(fmt.Sprintf("seed=%d/window=%d", seed, window), func(t *testing.T) {
			t.Parallel()
			storetest.Model(t, backend([]int{0, 2000, -1}[seed%3]), seed, 400, window)
		})
	}
}

// envInt reads a number from the environment.
func envInt(t testing.TB, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, v)
	}
	return n
}
