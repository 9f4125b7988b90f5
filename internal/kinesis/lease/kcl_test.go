package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
)

// plainItem is an item as text: "S:..", "N:..", "SS:[..]".
func plainItem(it item) map[string]string {
	m := map[string]string{}
	for name, v := range it {
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			m[name] = "S:" + v.Value
		case *types.AttributeValueMemberN:
			m[name] = "N:" + v.Value
		case *types.AttributeValueMemberSS:
			m[name] = fmt.Sprintf("SS:%v", v.Value)
		case *types.AttributeValueMemberNULL:
			m[name] = "NULL"
		default:
			m[name] = fmt.Sprintf("%T", v)
		}
	}
	return m
}

func openKCL(t *testing.T) (*KCL, *dynamodb.Client) {
	t.Helper()
	client := dynamoAt(enginetest.DynamoDB(t))
	k := NewKCL(client, KCLOptions{Name: newName(t), Quiet: 2 * time.Second})
	if err := k.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k, client
}

func (t *table) force(ctx context.Context, it item) error {
	_, err := t.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &t.name, Item: it})
	return err
}

func rawItem(t *testing.T, table *table, key string) map[string]string {
	t.Helper()
	it, err := table.get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return plainItem(it)
}

// TestColumnsOfTheLibrary: the items are those of the Kinesis Client Library, attribute by
// attribute, in each state of a lease.
func TestColumnsOfTheLibrary(t *testing.T) {
	t.Parallel()
	k, _ := openKCL(t)
	ctx := t.Context()
	expect := func(what string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, rawItem(t, &k.t, "shardId-2")); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	must := func(r Row, err error) Row {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := k.Create(ctx, Row{Shard: "shardId-2", Position: TrimHorizon, Parents: []string{"shardId-0"}, Range: HashRange{From: "0", To: "99"}}); err != nil {
		t.Fatal(err)
	}
	base := map[string]string{
		"leaseKey": "S:shardId-2", "leaseCounter": "N:0", "ownerSwitchesSinceCheckpoint": "N:0", "checkpoint": "S:TRIM_HORIZON",
		"checkpointSubSequenceNumber": "N:0", "parentShardId": "SS:[shardId-0]", "startingHashKey": "S:0", "endingHashKey": "S:99",
	}
	expect("created", base)
	with := func(pairs ...string) map[string]string {
		for i := 0; i < len(pairs); i += 2 {
			if base[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
				delete(base, pairs[i])
			}
		}
		return base
	}
	a := must(k.Take(ctx, must(k.Get(ctx, "shardId-2")), "weir/a/1"))
	expect("taken from nobody", with("leaseOwner", "S:weir/a/1", "leaseCounter", "N:1"))
	b := must(k.Take(ctx, a, "weir/b/2"))
	expect("taken from another", with("leaseOwner", "S:weir/b/2", "leaseCounter", "N:2", "ownerSwitchesSinceCheckpoint", "N:1"))
	b = must(k.Renew(ctx, b))
	expect("renewed", with("leaseCounter", "N:3"))
	// What a worker of the library prepared before it died is void with the next position.
	if _, err := k.t.update(ctx, "shardId-2", "SET pendingCheckpoint = :s, pendingCheckpointSubSequenceNumber = :n, pendingCheckpointState = :s, somebodyElses = :s", "attribute_exists(leaseKey)", item{":s": text("7"), ":n": number(7)}); err != nil {
		t.Fatal(err)
	}
	b = must(k.Save(ctx, b, record(t, "4961", 2), nil))
	expect("saved (and L9: what others keep there stays)", with("leaseCounter", "N:4", "ownerSwitchesSinceCheckpoint", "N:0", "checkpoint", "S:4961", "checkpointSubSequenceNumber", "N:2", "somebodyElses", "S:7"))
	must(k.Save(ctx, b, End, []string{"shardId-3", "shardId-4"}))
	expect("ended", with("leaseCounter", "N:5", "checkpoint", "S:SHARD_END", "checkpointSubSequenceNumber", "N:0", "childShardIds", "SS:[shardId-3 shardId-4]"))
	if err := k.Release(ctx, b); err != nil {
		t.Fatal(err)
	}
	expect("released", with("leaseOwner", "", "leaseCounter", "N:6"))
}

// TestOddItems: items that are no lease are passed over, those that cannot be understood are said,
// and the others are read.
func TestOddItems(t *testing.T) {
	t.Parallel()
	k, _ := openKCL(t)
	ctx := t.Context()
	put := func(key string, it item) {
		t.Helper()
		it[kclKey] = text(key)
		if err := k.t.force(ctx, it); err != nil {
			t.Fatal(err)
		}
	}
	lease := func(more item) item {
		it := item{kclCounter: number(4), kclSequence: text("77"), kclSub: number(0), kclSwitches: number(0)}
		maps.Copy(it, more)
		return it
	}
	put("good", lease(nil))
	put("older, without keys", lease(item{kclOwner: text("java")}))
	put("of 3.x", lease(item{kclEntity: text("LEASE"), "throughputKBps": number(3)}))
	put("least", item{kclCounter: number(4), kclSequence: text("LATEST")})
	put("NULL", lease(item{kclOwner: &types.AttributeValueMemberNULL{Value: true}, kclParents: &types.AttributeValueMemberNULL{Value: true}}))
	put("pending fault", lease(item{"pendingCheckpointState": number(3)}))
	put("worker", item{kclEntity: text("WORKER_METRIC_STATS")})
	put("stream", lease(item{kclStream: text("1:s:2"), "shardId": text("shardId-0")}))
	broken := map[string]item{
		"no counter": {kclSequence: text("77")}, "no position": {kclCounter: number(1)}, "garbage": lease(item{kclSequence: text("soon")}),
		"empty": {}, "owner is a number": lease(item{kclOwner: number(3)}), "counter is text": lease(item{kclCounter: text("3")}),
		"counter is a fraction": lease(item{kclCounter: &types.AttributeValueMemberN{Value: "1.5"}}), "sub below zero": lease(item{kclSub: number(-1)}),
		"parents are text": lease(item{kclParents: text("x")}),
	}
	for key, it := range broken {
		put(key, it)
	}
	rows, err := k.Scan(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	var good []string
	for _, r := range rows.Rows {
		good = append(good, r.Shard)
	}
	if diff := cmp.Diff([]string{"NULL", "good", "least", "of 3.x", "older, without keys", "pending fault"}, good, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Error(diff)
	}
	for _, b := range rows.Broken {
		if _, ok := broken[b.Shard]; !ok || b.Err == nil {
			t.Errorf("%s is broken: %v", b.Shard, b.Err)
		}
		if _, err := k.Get(ctx, b.Shard); err == nil || errors.Is(err, errNoRow) {
			t.Errorf("%s is read as a lease: %v", b.Shard, err)
		}
	}
	if len(rows.Broken) != len(broken) {
		t.Errorf("%d items are broken, want %d", len(rows.Broken), len(broken))
	}
}

// syncBuffer is a log that many write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestBrokenRowStopsNothingElse (K13): its shard is not read, which is said with the way out, and
// the others are read; mended, it is read as well.
func TestBrokenRowStopsNothingElse(t *testing.T) {
	t.Parallel()
	k, _ := openKCL(t)
	w := newWorld(t, 3, nil)
	w.table = newBook(t, k)
	log := &syncBuffer{}
	w.tune = func(s *Settings) { s.Log = slog.New(slog.NewTextHandler(log, nil)); s.Scan = 300 * time.Millisecond }
	id := w.river.open()[1].ID
	if err := k.t.force(t.Context(), item{kclKey: text(id), kclCounter: number(3), kclSequence: text("garbage"), kclSub: number(0)}); err != nil {
		t.Fatal(err)
	}
	w.join("a")
	until(t, "the others are read", func() bool { return len(w.unread()) == 1 })
	if left := w.unread(); left[0] != id {
		t.Errorf("nobody reads %v", left)
	}
	if said := log.String(); !strings.Contains(said, id) || !strings.Contains(said, "garbage") || !strings.Contains(said, "mend the row") {
		t.Errorf("the log says %s", said)
	}
	if _, err := k.t.update(t.Context(), id, "SET checkpoint = :s", "attribute_exists(leaseKey)", item{":s": text("12")}); err != nil {
		t.Fatal(err)
	}
	patiently(t, w)
	w.end()
}

// until waits for something on any machine.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick, patience := time.NewTicker(20*time.Millisecond), time.After(4*time.Minute)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// TestShardOfOneKey: the library takes no lease any more once it has read hash keys that are one.
func TestShardOfOneKey(t *testing.T) {
	t.Parallel()
	k, _ := openKCL(t)
	one := HashRange{From: "7", To: "7"}
	if err := k.Create(t.Context(), Row{Shard: "s", Position: Latest, Range: one}); err != nil {
		t.Fatal(err)
	}
	if err := k.Describe(t.Context(), "s", nil, one); err != nil {
		t.Fatal(err)
	}
	if got := rawItem(t, &k.t, "s"); got[kclFrom] != "" || got[kclTo] != "" {
		t.Errorf("the row is %v", got)
	}
}

func TestTableOfSomethingElse(t *testing.T) {
	t.Parallel()
	client := dynamoAt(enginetest.DynamoDB(t))
	other := table{client: client, name: newName(t), key: "id", fault: plainFault}
	if err := other.open(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	err := NewKCL(client, KCLOptions{Name: other.name}).Open(t.Context())
	if err == nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), other.name) {
		t.Errorf("open is %v", err)
	}
}

// TestBesideVersion3 (L12): beside live workers of 3.x it is refused and the worker named; what
// stopped ones have left is taken over; those that work as 2.x are joined.
func TestBesideVersion3(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, version string
		inTable       bool // the state is kept in the lease table itself
		alive         bool
		handed        bool
		refused       bool
	}{
		{name: "3.x, alive", version: "CLIENT_VERSION_3X", alive: true, refused: true},
		{name: "3.x with roll-back, alive", version: "CLIENT_VERSION_3X_WITH_ROLLBACK", alive: true, refused: true},
		{name: "3.x, state in the table, alive", version: "CLIENT_VERSION_3X", inTable: true, alive: true, refused: true},
		{name: "3.x, stopped", version: "CLIENT_VERSION_3X"},
		{name: "as 2.x, alive", version: "CLIENT_VERSION_UPGRADE_FROM_2X", alive: true},
		{name: "2.x again, alive", version: "CLIENT_VERSION_2X", alive: true},
		{name: "no state, a hand-over under way", handed: true, refused: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			k, client := openKCL(t)
			ctx := t.Context()
			w := newWorld(t, 2, nil)
			w.table = newBook(t, k)
			w.tune = func(s *Settings) {
				s.Failover, s.ForeignFailover, s.Scan = 3*time.Second, 5*time.Second, 300*time.Millisecond
				if row.alive {
					s.ForeignFailover = time.Minute // however slow this machine is
				}
			}
			state := item{kclVersion: text(row.version), "mb": text("java"), "mts": number(1)}
			if row.version != "" && row.inTable {
				state[kclKey], state[kclEntity] = text(kclMigrationKey), text("CLIENT_VERSION_MIGRATION")
				if err := k.t.force(ctx, state); err != nil {
					t.Fatal(err)
				}
			} else if row.version != "" {
				states := table{client: client, name: k.t.name + "-CoordinatorState", key: "key", fault: plainFault}
				if err := states.open(ctx, true); err != nil {
					t.Fatal(err)
				}
				state["key"] = text(kclMigrationKey)
				if err := states.force(ctx, state); err != nil {
					t.Fatal(err)
				}
			}
			shard := w.river.open()[0].ID
			it := item{kclKey: text(shard), kclOwner: text("java-worker-1"), kclCounter: number(7), kclSequence: text("12"), kclSub: number(0), kclSwitches: number(0)}
			if row.handed {
				it[kclHandedFrom] = text("java-worker-1")
			}
			if err := k.t.force(ctx, it); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var java sync.WaitGroup
			if row.alive {
				java.Go(func() {
					tick := time.NewTicker(300 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
						}
						r, err := k.Get(context.Background(), shard)
						if err == nil && r.Owner == "java-worker-1" {
							_, _ = k.Renew(context.Background(), r)
						}
					}
				})
			}
			a := w.join("a")
			if row.refused {
				_, err := a.Next(t.Context())
				for err == nil {
					_, err = a.Next(t.Context())
				}
				if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "java-worker-1") || !strings.Contains(err.Error(), "3.x") {
					t.Errorf("it ends with %v", err)
				}
			} else {
				want := 2
				if row.alive {
					want = 1
				}
				until(t, "shards are read", func() bool { return len(w.unread()) == 2-want })
			}
			close(stop)
			java.Wait()
			w.end()
		})
	}
}

// TestSeveralStreams: the table of an application that reads several streams has another key.
func TestSeveralStreams(t *testing.T) {
	t.Parallel()
	k, _ := openKCL(t)
	if err := k.t.force(t.Context(), item{kclKey: text("1:s:2:shardId-0"), kclCounter: number(1), kclSequence: text("LATEST"), kclStream: text("1:s:2")}); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 1, nil)
	w.table = newBook(t, k)
	a := w.join("a")
	if _, err := a.Next(t.Context()); err == nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "several streams") {
		t.Errorf("it ends with %v", err)
	}
	w.end()
}

// TestOlderRowsGetTheirKeys: rows of versions that did not keep hash keys are completed.
func TestOlderRowsGetTheirKeys(t *testing.T) {
	t.Parallel()
	k, _ := openKCL(t)
	w := newWorld(t, 2, nil)
	w.table = newBook(t, k)
	s := w.river.open()[1]
	if err := k.t.force(t.Context(), item{kclKey: text(s.ID), kclCounter: number(1), kclSequence: text("5"), kclSub: number(0), kclSwitches: number(0)}); err != nil {
		t.Fatal(err)
	}
	w.join("a")
	patiently(t, w)
	until(t, "the row has its hash keys", func() bool { return get(t, k, s.ID).Range == s.Range })
	w.end()
}
