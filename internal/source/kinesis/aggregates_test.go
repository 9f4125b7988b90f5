package kinesissource

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

// together is an aggregate of payloads, each with the key that key gives it.
func together(key func(i int) string, payloads ...[]byte) []byte {
	var b aggregate.Builder
	for i, p := range payloads {
		b.Add(aggregate.Record{Key: key(i), Data: p})
	}
	return b.Finish()
}

func named(key string) func(int) string { return func(int) string { return key } }

const onlyShard = "shardId-000000000000"

// TestResumeWithinAggregate: every place in a stream of aggregates and plain records is one to
// stop at and go on from, without loss and without repeating (K11).
func TestResumeWithinAggregate(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	want := texts("payload", 12)
	s.put(t, nil, together(named("key"), want[0:3]...), want[3], together(named("key"), want[4:9]...), together(named("key"), want[9:11]...), want[11])
	for stop := range len(want) + 1 {
		d := newDesk()
		src := opened(t, s.source(d, nil))
		var rs []readOf
		if stop > 0 {
			rs = reads(t, src, stop)
		}
		ackAll(t, rs)
		if err := src.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := payloadsOf(rs)
		if stop < len(want) {
			got = append(got, payloadsOf(reads(t, opened(t, s.source(d, nil)), len(want)-stop))...)
		}
		if d := cmp.Diff(joined(want), strings.Join(got, "\n")+"\n"); d != "" {
			t.Errorf("stopped after %d: %s", stop, d)
		}
	}
}

// TestAggregatesWithoutSubSequences: in Snowbridge's tables a position is the end of a record:
// what of an aggregate was delivered before a stop is delivered again, and nothing is lost.
func TestAggregatesWithoutSubSequences(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	want := texts("payload", 9)
	s.put(t, nil, together(named("key"), want[0:3]...), want[3], together(named("key"), want[4:9]...))
	begins := map[int]int{1: 0, 2: 0, 3: 3, 4: 4, 5: 4, 8: 4}
	for stop, begin := range begins {
		d := newDesk()
		d.subs = false
		apart := func(c *Config) { c.Deaggregation = splitOn }
		src := opened(t, s.source(d, apart))
		ackAll(t, reads(t, src, stop))
		if err := src.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := d.position(onlyShard); at.Sub != 0 {
			t.Errorf("a position within a record is written: %s", at)
		}
		got := payloadsOf(reads(t, opened(t, s.source(d, apart)), len(want)-begin))
		if diff := cmp.Diff(joined(want[begin:]), strings.Join(got, "\n")+"\n"); diff != "" {
			t.Errorf("stopped after %d: %s", stop, diff)
		}
	}
	d := newDesk()
	d.subs = false
	whole := payloadsOf(reads(t, opened(t, s.source(d, nil)), 3))
	if whole[1] != "payload 00003" || len(whole[0]) < 60 {
		t.Errorf("without sub-sequences aggregates are passed on as they are: %q", whole)
	}
}

// TestAggregatesLeftWhole: with deaggregation = "off" a position counts as all of an aggregate for
// who takes them apart later; one within an aggregate that somebody else has written is respected.
func TestAggregatesLeftWhole(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	want := texts("payload", 5)
	s.put(t, nil, together(named("key"), want[0:3]...), want[3], want[4])
	d := newDesk()
	off := func(c *Config) { c.Deaggregation = splitOff }
	src := opened(t, s.source(d, off))
	ackAll(t, reads(t, src, 1))
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := d.position(onlyShard)
	if at.Sub != 2 {
		t.Errorf("the position after an aggregate of three is %s", at)
	}
	for _, change := range []func(*Config){off, nil} {
		other := newDesk()
		other.rows[onlyShard] = &deskRow{shard: lease.Shard{ID: onlyShard}, at: at}
		src := opened(t, s.source(other, change))
		if got := payloadsOf(reads(t, src, 2)); got[0] != "payload 00003" {
			t.Errorf("it goes on with %q", got)
		}
	}
	at.Sub = 0 // a consumer that takes them apart has had the first of three, or this one all of a plain one
	other := newDesk()
	other.rows[onlyShard] = &deskRow{shard: lease.Shard{ID: onlyShard}, at: at}
	if got := payloadsOf(reads(t, opened(t, s.source(other, nil)), 4)); got[0] != "payload 00001" {
		t.Errorf("it goes on with %q", got)
	}
	at.Sub = 1
	other = newDesk()
	other.rows[onlyShard] = &deskRow{shard: lease.Shard{ID: onlyShard}, at: at}
	if got := payloadsOf(reads(t, opened(t, s.source(other, off)), 3)); len(got[0]) < 40 {
		t.Errorf("the rest of an aggregate that is not taken apart is not delivered: %q", got)
	}
}

// TestForeignRecords: records of an aggregate that belong to another shard are delivered and
// counted, or dropped; the valid ones beside them are never.
func TestForeignRecords(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 2)
	keys := []string{"a", "key", "foo", "x1", "b", "c", "d"}
	want := texts("payload", len(keys))
	zero := "0" // the first shard
	if _, err := s.client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &s.name, ExplicitHashKey: &zero, PartitionKey: sdk.String("a"),
		Data: together(func(i int) string { return keys[i] }, want...)}); err != nil {
		t.Fatal(err)
	}
	var native []string
	for i, k := range keys {
		if h := aggregate.HashOf(k); h[0] < 0x80 {
			native = append(native, string(want[i]))
		}
	}
	if len(native) == 0 || len(native) == len(keys) {
		t.Fatal("the keys are all of one shard")
	}
	log := &lines{}
	src := opened(t, s.source(newDesk(), nil).logTo(log))
	if d := cmp.Diff(joined(want), strings.Join(payloadsOf(reads(t, src, len(want))), "\n")+"\n"); d != "" {
		t.Error(d)
	}
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !log.has(fmt.Sprintf("total=%d", len(keys)-len(native))) {
		t.Errorf("the log does not say how many: %s", log.b.String())
	}
	d := newDesk()
	src = opened(t, s.source(d, func(c *Config) { c.ForeignRecords = foreignDrop }).logTo(log))
	rs := reads(t, src, len(native))
	if diff := cmp.Diff(native, payloadsOf(rs)); diff != "" {
		t.Error(diff)
	}
	first, last := rs[0].batch[0].Meta.Origin, rs[len(rs)-1].batch[len(rs[len(rs)-1].batch)-1].Meta.Origin
	again, err := src.Seek(t.Context(), connector.Range{Stream: s.name, Partition: first.Partition,
		First: connector.Position{Bytes: first.Position, Sub: first.Sub}, Last: connector.Position{Bytes: last.Position, Sub: last.Sub}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Read(t.Context(), connector.Room{}); err != nil || len(got) != len(native) {
		t.Errorf("%d messages again: %v", len(got), err)
	}
	ackAll(t, rs)
	eventually(t, "the position of the aggregate's end, dropped or not", func() bool { return d.position(onlyShard).Sub > 0 || keysEnd(native, want) })
}

func keysEnd(native []string, want [][]byte) bool {
	return native[len(native)-1] == string(want[len(want)-1])
}

// TestAggregateAtTimestamp: a start at a time goes by when the record came (K12).
func TestAggregateAtTimestamp(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	s.put(t, nil, []byte("before"))
	if err := pause(t.Context(), 1200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	want := texts("payload", 6)
	s.put(t, nil, together(named("key"), want[:3]...), together(named("key"), want[3:]...))
	src := opened(t, s.source(newDesk(), func(c *Config) { c.StartTimestamp = now.Add(-600 * time.Millisecond).Format("2006-01-02 15:04:05.000") }))
	if d := cmp.Diff(joined(want), strings.Join(payloadsOf(reads(t, src, len(want))), "\n")+"\n"); d != "" {
		t.Error(d)
	}
}

// TestKeys: with partition_key = "source" a message has the key of its record, or its own in an
// aggregate; the name of a message and when it came are those of its record.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	s.put(t, named("outer"), []byte("plain"), together(func(i int) string { return fmt.Sprint("inner", i) }, []byte("x"), []byte("y")))
	src := opened(t, s.source(newDesk(), func(c *Config) { c.PartitionKey = keySource }))
	var keys, ids []string
	for _, r := range reads(t, src, 3) {
		for _, m := range r.batch {
			keys = append(keys, m.Key)
			ids = append(ids, m.Meta.ID)
			if age := time.Since(m.Times.Created); m.Times.Created != m.Meta.Origin.At || age < -time.Minute || age > time.Hour {
				t.Errorf("created %s, came %s", m.Times.Created, m.Meta.Origin.At)
			}
		}
	}
	if d := cmp.Diff([]string{"outer", "inner0", "inner1"}, keys); d != "" {
		t.Error(d)
	}
	if !strings.HasSuffix(ids[1], "/0") || !strings.HasSuffix(ids[2], "/1") || strings.Contains(ids[0], "/") {
		t.Errorf("names %q", ids)
	}
	random := reads(t, opened(t, s.source(newDesk(), nil)), 3)
	if m := random[0].batch[0]; m.Key != "" || len(m.PartitionKey()) != 36 {
		t.Errorf("the key is %q", m.Key)
	}
}

// TestBrokenAggregate: what has the checksum of an aggregate and is none is delivered as it is.
func TestBrokenAggregate(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	good := together(named("key"), []byte("one"), []byte("two"))
	cut := good[:len(good)-1]
	s.put(t, nil, cut, good)
	if got := payloadsOf(reads(t, opened(t, s.source(newDesk(), nil)), 3)); !slices.Equal(got, []string{string(cut), "one", "two"}) {
		t.Errorf("%q", got)
	}
}
