package lease

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/postgres"
)

func dynamoAt(endpoint string) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		Retryer: aws.NopRetryer{},
	})
}

// newName is a name that no other test or process has.
func newName(t *testing.T) string {
	t.Helper()
	c, err := New(Settings{Table: NewMemory(), Stream: newRiver(1), Start: Start{Position: Latest}})
	if err != nil {
		t.Fatal(err)
	}
	return "lease-test-" + c.Worker()[len(c.Worker())-16:]
}

// tables are all tables that there are, empty and open.
func tables(t *testing.T) map[string]func(t *testing.T) Table {
	return map[string]func(t *testing.T) Table{
		"memory": func(*testing.T) Table { return NewMemory() },
		"KCL": func(t *testing.T) Table {
			return NewKCL(dynamoAt(enginetest.DynamoDB(t)), KCLOptions{Name: newName(t)})
		},
		"Snowbridge": func(t *testing.T) Table {
			client, name := dynamoAt(enginetest.DynamoDB(t)), newName(t)
			makeKinsumer(t, client, name)
			return NewKinsumer(client, KinsumerOptions{Name: name, Client: "test"})
		},
		"embedded": func(t *testing.T) Table { return NewStore(embeddedStore(t), newName(t)+"/a%b") },
		"PostgreSQL": func(t *testing.T) Table {
			return NewStore(postgresStore(t, enginetest.Postgres(t)), newName(t))
		},
	}
}

func embeddedStore(t *testing.T) func() queue.Store {
	t.Helper()
	s, err := embedded.Open(t.TempDir(), embedded.Options{})
	return closing(t, s, err)
}

func postgresStore(t *testing.T, dsn string) func() queue.Store {
	t.Helper()
	s, err := postgres.New(postgres.Options{DSN: dsn})
	if err == nil {
		err = s.Open(t.Context())
	}
	return closing(t, s, err)
}

func closing(t *testing.T, s queue.Store, err error) func() queue.Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return func() queue.Store { return s }
}

// TestTables: every table keeps what it is given, changes rows on their conditions only, and has
// one winner where two want the same.
func TestTables(t *testing.T) {
	t.Parallel()
	for name, open := range tables(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := open(t)
			if err := table.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := table.Open(t.Context()); err != nil {
				t.Fatalf("a table that is there: %v", err)
			}
			lives(t, table)
			wins(t, table)
			ends(t, table)
		})
	}
}

func get(t *testing.T, table Table, shard string) Row {
	t.Helper()
	r, err := table.Get(t.Context(), shard)
	if err != nil {
		t.Fatalf("get %s: %v", shard, err)
	}
	return r
}

func moved(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrMoved) {
		t.Errorf("%s: %v, want it refused", what, err)
	}
}

// lives takes a row through its life.
func lives(t *testing.T, table Table) {
	ctx := t.Context()
	if _, err := table.Get(ctx, "none"); !errors.Is(err, errNoRow) {
		t.Errorf("a row that is not there: %v", err)
	}
	whole := Row{Shard: "shard-1", Position: TrimHorizon, Parents: []string{"shard-0", "shard-00"}, Range: HashRange{From: "0", To: lastHashKey}}
	for range 2 {
		if err := table.Create(ctx, whole); err != nil {
			t.Fatal(err)
		}
	}
	seen := get(t, table, "shard-1")
	if seen.Owner != "" || seen.Shard != "shard-1" {
		t.Errorf("a new row is %+v", seen)
	}
	if table.SubSequences() {
		if diff := cmp.Diff(whole, seen); diff != "" {
			t.Error(diff)
		}
	}
	held, err := table.Take(ctx, seen, "weir/a/1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = table.Take(ctx, seen, "weir/b/2")
	moved(t, "take a row as it was before", err)
	if held.Owner != "weir/a/1" || held.Counter <= seen.Counter {
		t.Errorf("taken it is %+v", held)
	}
	renewed, err := table.Renew(ctx, held)
	if err != nil || renewed.Counter <= held.Counter {
		t.Fatalf("renewed it is %+v (%v)", renewed, err)
	}
	_, err = table.Renew(ctx, held)
	moved(t, "renew a row as it was before", err)
	_, err = table.Save(ctx, held, Position{Sequence: "5"}, nil)
	moved(t, "save in a row as it was before", err)
	saved, err := table.Save(ctx, renewed, Position{Sequence: "49612345678901234567890123456789012345678901234567890123", Sub: 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Position{Sequence: "49612345678901234567890123456789012345678901234567890123", Sub: 3}
	if !table.SubSequences() {
		want.Sub = 0
	}
	if got := get(t, table, "shard-1"); got.Position != want || got.Owner != "weir/a/1" || got.Counter != saved.Counter {
		t.Errorf("the position is %+v, want %+v", got, want)
	}
	stolen, err := table.Take(ctx, get(t, table, "shard-1"), "weir/b/2")
	if err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"renew":   func() error { _, err := table.Renew(ctx, saved); return err },
		"save":    func() error { _, err := table.Save(ctx, saved, Position{Sequence: "9"}, nil); return err },
		"release": func() error { return table.Release(ctx, saved) },
	} {
		moved(t, what+" what another holds", call())
	}
	if err := table.Describe(ctx, "shard-1", []string{"shard-2"}, HashRange{From: "1", To: "2"}); err != nil {
		t.Error(err)
	}
	if err := table.Describe(ctx, "none", []string{"shard-2"}, HashRange{From: "1", To: "2"}); err != nil {
		t.Errorf("describe a row that is not there: %v", err)
	}
	if _, err := table.Renew(ctx, stolen); err != nil {
		t.Errorf("a description is no change of the holder's: %v", err)
	}
	if err := table.Release(ctx, stolen); err != nil {
		t.Error(err)
	}
	moved(t, "release twice", table.Release(ctx, stolen))
	if got := get(t, table, "shard-1"); got.Owner != "" || got.Position != want || got.Counter <= stolen.Counter {
		t.Errorf("released it is %+v", got)
	}
}

// wins has many want one row.
func wins(t *testing.T, table Table) {
	ctx := t.Context()
	if err := table.Create(ctx, Row{Shard: "shard-7", Position: Latest}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		seen := get(t, table, "shard-7")
		var mu sync.Mutex
		var winners []string
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				worker := fmt.Sprintf("weir/w/%d", i)
				if r, err := table.Take(ctx, seen, worker); err == nil {
					mu.Lock()
					winners = append(winners, r.Owner)
					mu.Unlock()
				} else if !errors.Is(err, ErrMoved) {
					t.Errorf("take: %v", err)
				}
			})
		}
		all.Wait()
		if len(winners) != 1 || get(t, table, "shard-7").Owner != winners[0] {
			t.Errorf("the winners are %v, and the row belongs to %s", winners, get(t, table, "shard-7").Owner)
		}
	}
}

// ends reads a shard to its end.
func ends(t *testing.T, table Table) {
	ctx := t.Context()
	if err := table.Create(ctx, Row{Shard: "shard-8", Position: TrimHorizon}); err != nil {
		t.Fatal(err)
	}
	held, err := table.Take(ctx, get(t, table, "shard-8"), "weir/a/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Delete(ctx, held); err != nil {
		t.Fatal(err)
	}
	if got := get(t, table, "shard-8"); got.Ended() {
		t.Errorf("it ended by itself: %+v", got)
	}
	end, err := table.Save(ctx, held, End, []string{"shard-9", "shard-10"})
	if err != nil || !end.Ended() {
		t.Fatalf("at its end it is %+v (%v)", end, err)
	}
	got := get(t, table, "shard-8")
	if !got.Ended() || table.SubSequences() && !cmp.Equal(got.Children, []string{"shard-9", "shard-10"}, cmpopts.SortSlices(func(a, b string) bool { return a < b })) {
		t.Errorf("at its end it is %+v", got)
	}
	rows, err := table.Scan(ctx, true)
	if err != nil || len(rows.Rows) != 3 || len(rows.Broken) != 0 {
		t.Fatalf("the table has %+v (%v)", rows, err)
	}
	if err := table.Delete(ctx, got); err != nil {
		t.Fatal(err)
	}
	_, err = table.Get(ctx, "shard-8")
	if _, stays := table.(*Kinsumer); stays != (err == nil) {
		t.Errorf("after it was deleted: %v", err)
	}
	if err := table.Delete(ctx, got); err != nil {
		t.Errorf("delete twice: %v", err)
	}
}

// TestCoordinatorsOnTables: three instances share a stream on every table that processes share;
// one dies, one comes, a shard is split, and everything is read.
func TestCoordinatorsOnTables(t *testing.T) {
	t.Parallel()
	for name, open := range tables(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := open(t)
			w := newWorld(t, 6, nil)
			w.table = newBook(t, table)
			w.tune = func(s *Settings) { s.Failover, s.Scan = 4*time.Second, 500*time.Millisecond }
			w.join("a")
			b := w.join("b")
			w.join("c")
			patiently(t, w)
			b.die()
			w.river.split(w.river.open()[0].ID)
			patiently(t, w)
			w.join("d")
			patiently(t, w)
			w.end()
		})
	}
}

// patiently waits until every open shard is read and the shares are level, on any machine.
func patiently(t *testing.T, w *world) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if len(w.unread()) == 0 && level(w.shares()) {
			t.Logf("after %s", time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > 4*time.Minute {
			rows, err := w.table.Scan(t.Context(), true)
			t.Fatalf("nobody reads %v, and the shares are %v; the table has %+v (%v)", w.unread(), w.shares(), rows, err)
		}
	}
}
