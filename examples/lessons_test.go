package examples

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/produce"
)

// TestLessons lands lesson events, is killed while it does, gets all of them again, and DuckDB
// finds every event once, in the folder of its hour.
func TestLessons(t *testing.T) {
	t.Parallel()
	duck := enginetest.DuckDB(t)
	binary, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	const n = 60_000
	var events bytes.Buffer
	start := time.Date(2024, 4, 7, 16, 30, 0, 0, time.UTC)
	if err := produce.Run(t.Context(), &events, produce.Options{Count: n, Seed: 5, Rate: 0, Start: start}); err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(in, append(events.Bytes(), `{"event_name":"nothing"}`+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	landed := func() int {
		found, err := filepath.Glob(filepath.Join(out, "lake", "year=*", "*", "*", "*", "*.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}

	killed, said := lessons(t, binary, in, out)
	tick, patience := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for landed() == 0 {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("nothing landed: %s", said)
		}
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := killed.Wait(); err == nil {
		t.Fatalf("the run ended before it was killed: %s", said)
	}
	before := landed()

	again, said := lessons(t, binary, in, out)
	if err := again.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if before == 0 || landed() <= before {
		t.Errorf("%d files before the kill, %d after the second run: the test shows nothing", before, landed())
	}
	files := fmt.Sprintf("read_parquet('%s/lake/**/*.parquet', hive_partitioning = true, union_by_name = true)", out)
	got := duck.Query(t, `SELECT count(*) AS n, count(DISTINCT event_uuid) AS ids,
		count(*) FILTER (event_name != event_type || ':' || event_subtype) AS misnamed,
		count(*) FILTER (created_datetime != created_at) AS mistimed,
		count(*) FILTER (strftime(created_datetime, '%Y-%-m-%-d %-H') != format('{}-{}-{} {}', year::INT, month::INT, day::INT, hour::INT)) AS misplaced,
		count(DISTINCT payload.session_id) > 59000 AS sessions FROM `+files)
	if want := fmt.Sprintf("map[ids:%d misnamed:0 misplaced:0 mistimed:0 n:%d sessions:true]", n, n); fmt.Sprint(got[0]) != want {
		t.Errorf("DuckDB finds %v, want %s", got[0], want)
	}
	if failed := lines(t, filepath.Join(out, "failed.jsonl")); len(failed) == 0 {
		t.Error("the event without a time did not fail")
	}
}

// lessons starts the example with the events in the file in.
func lessons(t *testing.T, binary, in, out string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := exec.Command(binary, "run", "lessons/pipeline.hcl")
	c.Stdin = f
	c.Env = append(os.Environ(), "OUT="+out)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
	return c, &said
}
