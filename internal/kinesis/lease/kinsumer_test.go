package lease

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
)

// makeKinsumer makes the tables that a Snowbridge makes.
func makeKinsumer(t *testing.T, client *dynamodb.Client, name string) {
	t.Helper()
	for suffix, key := range map[string]string{"_checkpoints": "Shard", "_clients": "ID", "_metadata": "Key"} {
		table := table{client: client, name: name + suffix, key: key, fault: plainFault}
		if err := table.open(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
}

var null = &types.AttributeValueMemberNULL{Value: true}

// snowbridgeRow is a row of a Snowbridge as it writes it, whole.
func snowbridgeRow(shard, sequence, owner string, updated time.Time) item {
	it := item{
		"Shard": text(shard), "SequenceNumber": text(sequence), "LastUpdate": number(updated.UnixNano()), "LastUpdateRFC": text(updated.UTC().Format(time.RFC1123Z)),
		"OwnerID": text(owner), "OwnerName": text("host-1"), "Finished": null, "FinishedRFC": null,
	}
	if sequence == "" {
		it["SequenceNumber"] = null
	}
	if owner == "" {
		it["OwnerID"], it["OwnerName"] = null, null
	}
	return it
}

func openKinsumer(t *testing.T, stale time.Duration) *Kinsumer {
	t.Helper()
	client, o := dynamoAt(enginetest.DynamoDB(t)), KinsumerOptions{Name: newName(t), Client: "host-2", Stale: stale}
	if has, err := HasKinsumer(t.Context(), client, o); err != nil || has {
		t.Fatalf("there are tables: %t, %v", has, err)
	}
	makeKinsumer(t, client, o.Name)
	if has, err := HasKinsumer(t.Context(), client, o); err != nil || !has {
		t.Fatalf("there are tables: %t, %v", has, err)
	}
	return NewKinsumer(client, o)
}

// TestTakeOverFromSnowbridge: nothing is taken while a client lives; then every shard is read from
// where it was, parents first, and what has ended is not read.
func TestTakeOverFromSnowbridge(t *testing.T) {
	t.Parallel()
	const stale = 4 * time.Second
	k := openKinsumer(t, stale)
	ctx := t.Context()
	r := newRiver(4)
	first := r.open()
	done := r.split(first[0].ID) // its parent is read
	half := r.split(first[1].ID) // its parent is not, and a child was begun: a Snowbridge does not wait
	var last time.Time
	beat := func() {
		last = time.Now()
		client := item{"ID": text("uuid-1"), "Name": text("host-1"), "LastUpdate": number(last.UnixNano()), "LastUpdateRFC": text("")}
		if err := k.clients.force(ctx, client); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	ended := snowbridgeRow(first[0].ID, "100", "uuid-1", time.Now())
	ended["Finished"], ended["FinishedRFC"] = number(time.Now().UnixNano()), text("then")
	for _, it := range []item{
		ended, snowbridgeRow(done[0], "7", "uuid-1", time.Now()), snowbridgeRow(first[1].ID, "20", "uuid-1", time.Now()),
		snowbridgeRow(half[0], "30", "uuid-1", time.Now()), snowbridgeRow(first[2].ID, "", "uuid-1", time.Now()), snowbridgeRow(first[3].ID, "40", "", time.Now()),
	} {
		if err := k.t.force(ctx, it); err != nil {
			t.Fatal(err)
		}
	}
	log := &syncBuffer{}
	c, err := New(Settings{
		Table: k, Stream: r, Name: "host-2", Start: Start{Position: AtTimestamp, Time: last}, Log: slog.New(slog.NewTextHandler(log, nil)),
		Failover: 3 * time.Second, ForeignFailover: 3 * time.Second, Scan: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Open(ctx); err != nil {
		t.Fatal(err)
	}
	// It lives until it was seen to.
	until(t, "the Snowbridge is waited for", func() bool { beat(); return strings.Contains(log.String(), "stop them") })
	if rows, err := k.Scan(ctx, true); err != nil || slices.ContainsFunc(rows.Rows, func(r Row) bool { return isOurs(r.Owner) }) {
		t.Errorf("while a Snowbridge lives the rows are %+v (%v)", rows, err)
	}
	starts := map[string]string{}
	for len(starts) < 5 {
		l, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if since := time.Since(last); since < stale {
			t.Errorf("%s was taken after %s, while the Snowbridge may live", l.Shard().ID, since)
		}
		starts[l.Shard().ID] = l.Position().String()
		if l.Shard().ID == first[1].ID {
			if _, ok := starts[half[0]]; ok {
				t.Error("a child was read before its parent has ended")
			}
		}
	}
	want := map[string]string{
		done[0]: "7", done[1]: "TRIM_HORIZON", first[1].ID: "20", first[2].ID: "AT_TIMESTAMP", first[3].ID: "40",
	}
	if diff := cmp.Diff(want, starts); diff != "" {
		t.Error(diff)
	}
	if said := log.String(); !strings.Contains(said, "uuid-1") || !strings.Contains(said, "stop them") {
		t.Errorf("while it waits it says %s", said)
	}
	for _, l := range c.holding() {
		if l.Shard().ID == first[1].ID {
			if err := l.Finish(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		l, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		starts[l.Shard().ID] = l.Position().String()
	}
	if starts[half[0]] != "30" || starts[half[1]] != "TRIM_HORIZON" {
		t.Errorf("the children begin at %s and %s", starts[half[0]], starts[half[1]])
	}
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
	it := rawItem(t, &k.t, first[0].ID)
	if it["OwnerID"] != "S:uuid-1" || it["SequenceNumber"] != "S:100" {
		t.Errorf("the row of a shard that had ended was touched: %v", it)
	}
}

// TestColumnsOfSnowbridge: what is written has the columns and types of a Snowbridge's, and what it
// writes later by its own rules is refused while we hold the shard, and taken when we do not.
func TestColumnsOfSnowbridge(t *testing.T) {
	t.Parallel()
	k := openKinsumer(t, time.Minute)
	ctx := t.Context()
	old := time.Now().Add(-2 * time.Minute)
	it := snowbridgeRow("s1", "5", "uuid-1", old)
	it["Extra"] = text("kept")
	if err := k.t.force(ctx, it); err != nil {
		t.Fatal(err)
	}
	held, err := k.Take(ctx, get(t, k, "s1"), "weir/a/1")
	if err != nil {
		t.Fatal(err)
	}
	row := rawItem(t, &k.t, "s1")
	updated, err := strconv.ParseInt(strings.TrimPrefix(row["LastUpdate"], "N:"), 10, 64)
	if err != nil || time.Since(time.Unix(0, updated)).Abs() > time.Minute {
		t.Errorf("LastUpdate is %s, which is not now in nanoseconds", row["LastUpdate"])
	}
	if at, err := time.Parse(time.RFC1123Z, strings.TrimPrefix(row["LastUpdateRFC"], "S:")); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("LastUpdateRFC is %s: %v", row["LastUpdateRFC"], err)
	}
	delete(row, "LastUpdate")
	delete(row, "LastUpdateRFC")
	if diff := cmp.Diff(map[string]string{"Shard": "S:s1", "SequenceNumber": "S:5", "OwnerID": "S:weir/a/1", "OwnerName": "S:host-2", "Finished": "NULL", "FinishedRFC": "NULL", "Extra": "S:kept"}, row); diff != "" {
		t.Error(diff)
	}
	// A Snowbridge takes what has no owner, or was not written for long.
	capture := func() error {
		_, err := k.t.client.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: &k.t.name, Item: snowbridgeRow("s1", "5", "uuid-2", time.Now()),
			ConditionExpression:       new("attribute_not_exists(OwnerID) OR attribute_type(OwnerID, :nullType) OR LastUpdate <= :cutoff"),
			ExpressionAttributeValues: item{":nullType": text("NULL"), ":cutoff": number(time.Now().Add(-time.Minute).UnixNano())},
		})
		return k.t.moved("capture", err)
	}
	moved(t, "take from us while we hold it", capture())
	if held, err = k.Save(ctx, held, record(t, "9", 0), nil); err != nil {
		t.Fatal(err)
	}
	if row := rawItem(t, &k.t, "s1"); row["SequenceNumber"] != "S:9" {
		t.Errorf("the position is %s", row["SequenceNumber"])
	}
	if err := k.Release(ctx, held); err != nil {
		t.Fatal(err)
	}
	if row := rawItem(t, &k.t, "s1"); row["OwnerID"] != "" || row["OwnerName"] != "" || row["SequenceNumber"] != "S:9" {
		t.Errorf("released it is %v", row)
	}
	if err := capture(); err != nil {
		t.Errorf("a Snowbridge cannot take what we released: %v", err)
	}
	_, err = k.Take(ctx, get(t, k, "s1"), "weir/a/1")
	moved(t, "take from a Snowbridge that wrote just now", err)
	moved(t, "release what a Snowbridge has", k.Release(ctx, held))
	// Its end, without anything and with something read in it.
	empty := snowbridgeRow("s0", "", "", time.Now())
	empty["Finished"] = number(1)
	if err := k.t.force(ctx, empty); err != nil {
		t.Fatal(err)
	}
	if r := get(t, k, "s0"); !r.Ended() || !r.Unread {
		t.Errorf("a shard that ended empty is %+v", r)
	}
	if err := k.t.force(ctx, snowbridgeRow("s1", "9", "", time.Now())); err != nil {
		t.Fatal(err)
	}
	if held, err = k.Take(ctx, get(t, k, "s1"), "weir/a/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Save(ctx, held, End, []string{"s2"}); err != nil {
		t.Fatal(err)
	}
	row = rawItem(t, &k.t, "s1")
	if !strings.HasPrefix(row["Finished"], "N:") || !strings.HasPrefix(row["FinishedRFC"], "S:") || row["SequenceNumber"] != "S:9" || len(row) != 8 {
		t.Errorf("at its end it is %v", row)
	}
}

// TestRowsOfSnowbridge: what means none, and what cannot be understood.
func TestRowsOfSnowbridge(t *testing.T) {
	t.Parallel()
	k := openKinsumer(t, time.Minute)
	for shard, it := range map[string]item{
		"absent": {}, "null": {"SequenceNumber": null, "OwnerID": null, "Finished": null, "LastUpdate": number(4)}, "empty": {"SequenceNumber": text(""), "OwnerID": text("")},
		"latest": {"SequenceNumber": text("LATEST")}, "garbage": {"SequenceNumber": text("soon")}, "owner": {"OwnerID": number(4)}, "update": {"LastUpdate": text("now")},
	} {
		it["Shard"] = text(shard)
		if err := k.t.force(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := k.Scan(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range rows.Rows {
		got[r.Shard] = r.Position.String() + " of " + r.Owner
		if _, err := k.Take(t.Context(), r, "weir/a/1"); err != nil {
			t.Errorf("take %s: %v", r.Shard, err)
		}
	}
	for _, b := range rows.Broken {
		got[b.Shard] = "broken"
	}
	want := map[string]string{"absent": "none of ", "null": "none of ", "empty": "none of ", "latest": "LATEST of ", "garbage": "broken", "owner": "broken", "update": "broken"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
