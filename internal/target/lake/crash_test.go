package lake

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
)

// TestMain is also the child that is killed; see crash.
func TestMain(m *testing.M) {
	if path := os.Getenv("WEIR_TEST_CRASH"); path != "" {
		if err := crash(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv("WEIR_TEST_RESENT"); path != "" {
		if err := deliver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// crashEvents is how many events there are; the i-th is crashEvent(i), in one of 5 hours.
const crashEvents = 160

func crashEvent(i int) string {
	return fmt.Sprintf(`{"event_uuid":"event %d","created_at":%d,"kind%d":%d}`, i, 1712512800+(i*7%5)*3600+i, i%3, i)
}

func crashConfig(path string) Config {
	return config(path, func(c *Config) {
		c.TimeField, c.TimeFormat, c.DedupField, c.MaxOpenPartitions = "created_at", "epoch_s", "event_uuid", 3
		if catalog := os.Getenv("WEIR_TEST_CATALOG"); catalog != "" {
			c.Table = &Table{Name: "lake.events", SQLite: &SQLite{Path: catalog}, SnapshotsKept: 3}
		}
	})
}

// crash writes events from the first that is not acknowledged, in cuts drawn with the seed,
// and prints the number of events acknowledged after each write. It kills itself, as kill -9
// does, at the n-th step of the commits.
func crash(path string) error {
	number := func(name string) int { n, _ := strconv.Atoi(os.Getenv(name)); return n }
	at, steps := number("WEIR_TEST_FROM"), number("WEIR_TEST_STEPS")
	r := rand.New(rand.NewPCG(uint64(number("WEIR_TEST_SEED")), 0))
	target, err := New(connector.Deps{}, crashConfig(path))
	if err != nil {
		return err
	}
	target.unsent = make(chan struct{}, 1) // steps one after the other
	target.step = func(string) {
		if steps--; steps < 0 {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			panic(fmt.Sprintf("still alive: %v", err))
		}
	}
	if err := target.Open(context.Background()); err != nil {
		return err
	}
	for at < crashEvents {
		end := min(at+1+r.IntN(40), crashEvents)
		var b event.Batch
		for i := at; i < end; i++ {
			b = append(b, event.New([]byte(crashEvent(i))))
		}
		if err := target.Write(context.Background(), b); err != nil {
			return err
		}
		at = end
		fmt.Fprintln(os.Stdout, at)
	}
	return target.Close(context.Background())
}

// TestKilled kills the writer at every kind of step, many times, and delivers what was not
// acknowledged again in other cuts. At each stop every acknowledged event is there, no
// event is there twice and every file is whole; in the end every event is there once. DuckDB
// has the last word.
func TestKilled(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	path := filepath.Join(t.TempDir(), "lake")
	killed(t, path, func(seed int) int { return seed%37 + seed/4 }) // more, as looking at what is there takes more
	got := duck.Query(t, fmt.Sprintf(`SELECT count(*) AS n, count(DISTINCT event_uuid) AS ids, count(DISTINCT hour) AS hours,
		count(*) FILTER (date_part('hour', created_at) != hour) AS misplaced
		FROM read_parquet('%s/**/*.parquet', hive_partitioning = true, union_by_name = true)`, path))
	if want := fmt.Sprintf("map[hours:5 ids:%d misplaced:0 n:%d]", crashEvents, crashEvents); fmt.Sprint(got[0]) != want {
		t.Errorf("DuckDB finds %v, want %s", got[0], want)
	}
}

// TestKilledWithATable does the same to a dataset with a table, and PyIceberg has the last word.
func TestKilledWithATable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	// Landing by plans, and a table, are more steps, and plans are looked at by every opening.
	killed(t, path, func(seed int) int { return 23 * seed }, "WEIR_TEST_CATALOG="+filepath.Join(filepath.Dir(path), "catalog.db"))
	seen := map[string]int{}
	for _, r := range table(t, path, "").Rows {
		seen[fmt.Sprint(r["event_uuid"])]++
	}
	for i := range crashEvents {
		if n := seen[fmt.Sprint("event ", i)]; n != 1 {
			t.Errorf("PyIceberg finds event %d %d times", i, n)
		}
	}
	if len(seen) != crashEvents {
		t.Errorf("PyIceberg finds %d events", len(seen))
	}
}

// killed has the events written to the dataset at path by writers that are killed, each after
// some steps, and with the variables.
func killed(t *testing.T, path string, steps func(seed int) int, env ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	acked, kills := 0, 0
	for seed := 1; acked < crashEvents; seed++ {
		if seed > 500 {
			t.Fatalf("after %d kills only %d events are acknowledged", kills, acked)
		}
		c := exec.Command(self)
		c.Env = append(append(os.Environ(), env...), "WEIR_TEST_CRASH="+path, fmt.Sprint("WEIR_TEST_SEED=", seed),
			fmt.Sprint("WEIR_TEST_FROM=", acked), fmt.Sprint("WEIR_TEST_STEPS=", steps(seed)))
		var stderr strings.Builder
		c.Stderr = &stderr
		out, _ := c.Output() // how it ended is asked below
		lines := bufio.NewScanner(strings.NewReader(string(out)))
		for lines.Scan() {
			if acked, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		switch state := c.ProcessState; {
		case state.ExitCode() == -1: // killed
			kills++
		case state.ExitCode() != 0:
			t.Fatalf("the writer failed: %s", stderr.String())
		}
		checkLanded(t, path, acked)
	}
	if kills < 12 {
		t.Errorf("only %d kills: the test shows little", kills)
	}
}

// checkLanded asserts that the first acked events are in the dataset, and none twice.
func checkLanded(t *testing.T, path string, acked int) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		if acked > 0 {
			t.Fatal(err)
		}
		return
	}
	seen := map[string]int{}
	if err := catalog.Rows(t.Context(), path, func(_ string, row []byte) error {
		_, rest, _ := strings.Cut(string(row), `"event_uuid":"event `)
		id, _, _ := strings.Cut(rest, `"`)
		seen[id]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range crashEvents {
		n := seen[strconv.Itoa(i)]
		if n > 1 || n == 0 && i < acked {
			t.Fatalf("event %d is there %d times; %d are acknowledged", i, n, acked)
		}
	}
}
