package examples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/produce"
)

// kinesisReader is one who has the examples, the command line of Amazon, and the variables by which
// that and Weir find stand-ins.
func kinesisReader(t *testing.T, kinesis string) *reader {
	t.Helper()
	r := newReader(t, "AWS_ENDPOINT_URL_KINESIS="+kinesis, "AWS_ENDPOINT_URL_DYNAMODB="+enginetest.DynamoDB(t),
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_DEFAULT_REGION=eu-west-1", "AWS_CONFIG_FILE="+os.DevNull, "AWS_PAGER=")
	r.program("aws", enginetest.AWSCLI(t))
	if err := os.CopyFS(filepath.Join(r.dir, "examples"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestKinesisOrders puts orders on a stream as the page says, and finds them where it says.
func TestKinesisOrders(t *testing.T) {
	t.Parallel()
	kinesisReader(t, enginetest.KinesisLocal(t)).follow("kinesis-orders/README.md")
}

// TestKinesisLake puts events on a stream as the page says, twice, and finds each once.
func TestKinesisLake(t *testing.T) {
	t.Parallel()
	t.Run("page", func(t *testing.T) {
		r := kinesisReader(t, enginetest.KinesisLocal(t))
		r.duckdb()
		r.follow("kinesis-lake/README.md")
	})
	t.Run("killed", testKinesisLakeKilled)
}

// aws runs the command line of Amazon, and is what it prints.
func (r *reader) aws(args ...string) string {
	r.t.Helper()
	c := exec.Command(filepath.Join(r.bin, "aws"), args...)
	c.Dir, c.Env = r.dir, r.env
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		r.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// stream makes one that is gone with the test.
func (r *reader) stream(name string, shards int) {
	r.t.Helper()
	r.aws("kinesis", "create-stream", "--stream-name", name, "--shard-count", strconv.Itoa(shards))
	for r.aws("kinesis", "describe-stream-summary", "--stream-name", name, "--query", "StreamDescriptionSummary.StreamStatus") != `"ACTIVE"` {
		r.t.Logf("the stream %s is being made", name)
	}
	r.t.Cleanup(func() { r.aws("kinesis", "delete-stream", "--stream-name", name) })
}

// put puts records on a stream, a request for each 500, until it has all of them.
func (r *reader) put(stream string, records []string) {
	r.t.Helper()
	for some := range slices.Chunk(records, 500) {
		type record struct{ Data, PartitionKey string }
		var batch []record
		for i, data := range some {
			batch = append(batch, record{data, strconv.Itoa(i)})
		}
		text, err := json.Marshal(batch)
		if err != nil {
			r.t.Fatal(err)
		}
		lay(r.t, filepath.Join(r.dir, "batch.json"), string(text), 0o600)
		if failed := r.aws("kinesis", "put-records", "--stream-name", stream, "--records", "file://batch.json", "--query", "FailedRecordCount"); failed != "0" {
			r.t.Fatalf("%s records were not put", failed)
		}
	}
}

// TestKinesisOrdersKilled kills the process again and again while it works on many orders: each
// ends where it belongs, and one that fails is put back no more often than it was tried.
func TestKinesisOrdersKilled(t *testing.T) {
	t.Parallel()
	r := kinesisReader(t, enginetest.Kinesalite(t))
	const stream = "pipeline_spike_stream"
	r.stream(stream, 1)
	const n, kills = 1500, 2
	want, orders := map[string][]string{}, []string(nil)
	for i := range n {
		id, country, folder := fmt.Sprintf("o-%05d", i), "GB", "valid"
		switch i % 20 {
		case 7:
			country, folder = "FR", "error"
		case 13:
			country, folder = "PANIC", "orphan"
		}
		want[folder] = append(want[folder], id)
		orders = append(orders, fmt.Sprintf(`{"id":%q,"country_code":%q}`, id, country))
	}
	r.put(stream, orders)

	o := newOrders(t, r.env...)
	o.config = "kinesis-orders"
	for kill, least := range []int{1, n / 3} {
		o.start()
		o.until("orders before a kill", func() bool { return o.files("valid") >= least })
		o.kill()
		if kill+1 < kills && o.files("valid") == len(want["valid"]) {
			t.Fatalf("all %d orders were done before kill %d: the test shows nothing", n, kill+1)
		}
	}
	o.start()
	o.until("all orders", func() bool {
		return o.files("valid") >= len(want["valid"]) && o.files("error") >= len(want["error"]) && o.files("orphan") >= len(want["orphan"])
	})
	o.stop()
	for folder, ids := range want {
		if got := o.files(folder); got != len(ids) {
			t.Errorf("%s has %d orders, want %d", folder, got, len(ids))
		}
		for _, id := range ids {
			if p := o.order(folder, id); p.ID != id || folder == "orphan" && p.Attempt != 3 {
				t.Errorf("%s/%s is %+v", folder, id, p)
			}
		}
	}

	iterator := r.aws("kinesis", "get-shard-iterator", "--stream-name", stream, "--shard-id", "shardId-000000000000", "--shard-iterator-type", "TRIM_HORIZON", "--query", "ShardIterator", "--output", "text")
	var got struct{ Records []struct{ Data []byte } }
	if err := json.Unmarshal([]byte(r.aws("kinesis", "get-records", "--shard-iterator", iterator)), &got); err != nil {
		t.Fatal(err)
	}
	back := map[putOrder]int{}
	for _, rec := range got.Records {
		var p putOrder
		if err := json.Unmarshal(rec.Data, &p); err != nil {
			t.Fatalf("%v: %s", err, rec.Data)
		}
		back[p]++
	}
	repeated := 0
	for _, id := range want["orphan"] {
		for attempt := 1; attempt <= 3; attempt++ {
			p := putOrder{ID: id, CountryCode: "PANIC", Attempt: attempt}
			if back[p] == 0 {
				t.Errorf("%+v is not in the stream", p)
			}
			repeated += back[p] - 1
			delete(back, p)
		}
		delete(back, putOrder{ID: id, CountryCode: "PANIC"})
	}
	for p := range back {
		if p.Attempt != 0 {
			t.Errorf("%+v was put back", p)
		}
	}
	t.Logf("%d records, %d of them put back twice", len(got.Records), repeated)
	if most := 3 * kills * len(want["orphan"]); repeated > most {
		t.Errorf("%d were put back more than once, more than the %d that can have been under way", repeated, most)
	}
}

// testKinesisLakeKilled kills the process while events land, puts all of them on the stream once
// more, and finds each once.
func testKinesisLakeKilled(t *testing.T) {
	r := kinesisReader(t, enginetest.Kinesalite(t))
	duck := enginetest.DuckDB(t)
	r.stream("lesson_events", 2)
	t.Cleanup(func() { r.aws("dynamodb", "delete-table", "--table-name", "lesson_lake") })
	const n = 2000
	var made bytes.Buffer
	if err := produce.Run(t.Context(), &made, produce.Options{Count: n, Seed: 9, Start: time.Date(2024, 4, 7, 16, 30, 0, 0, time.UTC)}); err != nil {
		t.Fatal(err)
	}
	events := strings.Split(strings.TrimSpace(made.String()), "\n")
	landed := func() map[string]any {
		files, err := filepath.Glob(filepath.Join(r.dir, "examples", "kinesis-lake", "lake", "year=*", "*", "*", "*", "*.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			return map[string]any{}
		}
		return duck.Query(t, fmt.Sprintf(`SELECT count(*)::VARCHAR AS n, count(DISTINCT event_uuid)::VARCHAR AS ids
			FROM read_parquet('%s/examples/kinesis-lake/lake/**/*.parquet', hive_partitioning = true, union_by_name = true)`, r.dir))[0]
	}
	until := func(what string, done func() bool) {
		t.Helper()
		tick, patience := time.NewTicker(time.Second), time.After(3*time.Minute)
		defer tick.Stop()
		for !done() {
			select {
			case <-tick.C:
			case <-patience:
				t.Fatalf("%s: not within three minutes; %v landed", what, landed())
			}
		}
	}
	start := func() (*exec.Cmd, *locked) {
		c, _, said := r.command(step{commands: "weir run examples/kinesis-lake", how: running})
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, said
	}

	r.put("lesson_events", events[:n/2])
	killed, said := start()
	until("the first file", func() bool { return len(landed()) > 0 })
	r.put("lesson_events", events[n/2:]) // these are read, and wait for their file
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := killed.Wait(); err == nil {
		t.Fatalf("the run ended before it was killed: %s", said)
	}
	again, said := start()
	r.put("lesson_events", events)
	r.put("lesson_events", []string{`{"event_name":"nothing:at:all"}`})
	failed := filepath.Join(r.dir, "examples", "kinesis-lake", "failed.jsonl")
	until("the event without a time to fail", func() bool { data, err := os.ReadFile(failed); return err == nil && len(data) > 0 })
	until("all events", func() bool { return landed()["ids"] == strconv.Itoa(n) })
	if err := again.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("the run did not end cleanly: %v\n%s", err, said)
	}
	if got := landed(); got["n"] != strconv.Itoa(n) || got["ids"] != strconv.Itoa(n) {
		t.Errorf("%v landed, want %d, each once\n%s", got, n, said)
	}
}
