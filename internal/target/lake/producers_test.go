package lake

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
)

// Three producers send events of two hours, and each sends one of twenty again, up to 45 minutes later
// and so often in the next hour: with another body, which says which time it is.
const (
	producers   = 3
	perProducer = 400
	batchOf     = 60
)

// deliveries are what arrives, in order.
func deliveries() (all []string) {
	type delivery struct {
		second int
		event  string
	}
	r := rand.New(rand.NewPCG(6, 11))
	var sent []delivery
	start := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC).Unix()
	for i := range perProducer {
		for p := range producers {
			second := i * 7200 / perProducer
			text := func(n int) string {
				return fmt.Sprintf(`{"event_uuid":"p%d-%d","created_at":%d,"sent":%d,"body":{"producer":%d,"tags":["a%d"]}}`, p, i, start+int64(second), n, p, i%7)
			}
			sent = append(sent, delivery{second, text(1)})
			if (i*producers+p)%20 == 7 {
				sent = append(sent, delivery{second + 1 + r.IntN(2700), text(2)})
			}
		}
	}
	slices.SortStableFunc(sent, func(a, b delivery) int { return cmp.Compare(a.second, b.second) })
	for _, d := range sent {
		all = append(all, d.event)
	}
	return all
}

func producersConfig(path string) Config {
	return config(path, func(c *Config) {
		c.TimeField, c.TimeFormat, c.DedupField = "created_at", "epoch_s", os.Getenv("WEIR_TEST_DEDUP")
		if catalog := os.Getenv("WEIR_TEST_CATALOG"); catalog != "" {
			c.Table = &Table{Name: "lake.events", SQLite: &SQLite{Path: catalog}, SnapshotsKept: 3}
		}
	})
}

// deliver writes what arrives from the first that is not acknowledged, and kills itself at the n-th step of
// the commits, as kill -9 does.
func deliver(path string) error {
	at, steps := 0, 0
	for name, to := range map[string]*int{"WEIR_TEST_FROM": &at, "WEIR_TEST_STEPS": &steps} {
		n, err := strconv.Atoi(os.Getenv(name))
		if err != nil {
			return err
		}
		*to = n
	}
	target, err := New(connector.Deps{}, producersConfig(path))
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
	all := deliveries()
	for at < len(all) {
		end := min(at+batchOf, len(all))
		var b event.Batch
		for _, e := range all[at:end] {
			b = append(b, event.New([]byte(e)))
		}
		if err := target.Write(context.Background(), b); err != nil {
			return err
		}
		at = end
		fmt.Fprintln(os.Stdout, at)
	}
	return target.Close(context.Background())
}

// delivered has everything delivered by processes that are killed, and says how many were.
func delivered(t *testing.T, path string, env ...string) (kills int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := len(deliveries())
	for acked, run := 0, 1; acked < all; run++ {
		if run > 300 {
			t.Fatalf("after %d kills only %d of %d are acknowledged", kills, acked, all)
		}
		c := exec.Command(self)
		c.Env = append(append(os.Environ(), env...), "WEIR_TEST_RESENT="+path, fmt.Sprint("WEIR_TEST_FROM=", acked), fmt.Sprint("WEIR_TEST_STEPS=", 11*run))
		var stderr strings.Builder
		c.Stderr = &stderr
		out, _ := c.Output() // how it ended is asked below
		if lines := strings.Fields(string(out)); len(lines) > 0 {
			if acked, err = strconv.Atoi(lines[len(lines)-1]); err != nil {
				t.Fatal(err)
			}
		}
		switch state := c.ProcessState; {
		case state.ExitCode() == -1: // killed
			kills++
		case state.ExitCode() != 0:
			t.Fatalf("the writer failed: %s", stderr.String())
		}
	}
	if kills < 3 {
		t.Errorf("only %d kills: the test shows little", kills)
	}
	return kills
}

const distinctEvents = producers * perProducer

// TestProducersThatSendAgain lands what comes twice, and more of it by kills; compaction leaves the first of
// each in its hour, and counts the others.
func TestProducersThatSendAgain(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	path := filepath.Join(t.TempDir(), "lake")
	delivered(t, path)
	count := func() map[string]any {
		return duck.Query(t, fmt.Sprintf(`SELECT count(*) AS n, count(DISTINCT event_uuid) AS ids, count(*) FILTER (sent = 2) AS again, count(DISTINCT hour) AS hours
			FROM read_parquet('%s/*/*/*/*/*.parquet', hive_partitioning = true, union_by_name = true)`, path))[0]
	}
	before := count()
	number := func(v any) (n int64) { n, _ = strconv.ParseInt(fmt.Sprint(v), 10, 64); return n }
	if number(before["n"]) < int64(len(deliveries())) || number(before["again"]) == 0 {
		t.Fatalf("before the compaction there are %v, of %d deliveries", before, len(deliveries()))
	}
	duplicates := int64(0)
	err := catalog.Compact(t.Context(), path, catalog.CompactOptions{Small: 1 << 30, Large: 1 << 30, Settled: time.Hour, Dedup: "event_uuid", Memory: 1 << 20,
		Done: func(c catalog.Compaction) { duplicates += c.Duplicates }})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(count()), fmt.Sprintf("map[again:0 hours:2 ids:%d n:%[1]d]", distinctEvents); got != want {
		t.Errorf("after the compaction there are %s, want %s", got, want)
	}
	if duplicates != number(before["n"])-distinctEvents {
		t.Errorf("%d duplicates were counted of %v", duplicates, before)
	}
}

// TestProducersOfATable lands each once in an Iceberg table, whatever is killed, and keeps the first.
func TestProducersOfATable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake")
	delivered(t, path, "WEIR_TEST_DEDUP=event_uuid", "WEIR_TEST_CATALOG="+filepath.Join(filepath.Dir(path), "catalog.db"))
	found := table(t, path, "")
	seen := map[string]bool{}
	for _, r := range found.Rows {
		if id := fmt.Sprint(r["event_uuid"]); seen[id] || fmt.Sprint(r["sent"]) != "1" {
			t.Errorf("PyIceberg finds %v, and %t before", r, seen[id])
		} else {
			seen[id] = true
		}
	}
	if len(seen) != distinctEvents {
		t.Errorf("PyIceberg finds %d events of %d", len(seen), distinctEvents)
	}
}
