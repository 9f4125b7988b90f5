package kafkasource_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TestRecordsKeepEverything: no value is not an empty one, nor is no key; headers keep their
// order, the names that repeat and values that are nil; the time is the record's (F12, F13).
func TestRecordsKeepEverything(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"))
	at := time.UnixMilli(1_700_000_000_123).UTC()
	records := []*kgo.Record{
		{Topic: "events", Key: []byte("k\x00\xff"), Value: []byte("v"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "b", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "b", Value: []byte{}}, {Key: "b", Value: []byte("2")}}},
		{Topic: "events", Key: []byte("tombstone"), Value: nil, Timestamp: at},
		{Topic: "events", Key: []byte{}, Value: []byte{}, Timestamp: at},
		{Topic: "events", Key: nil, Value: []byte("w"), Timestamp: at},
	}
	send(t, brokers(c), records...)
	conf := config(brokers(c), "events")
	conf.PartitionKey = "source"
	b := read(t, opened(t, conf, nil), len(records), true)
	keyed := []event.Keyed{event.KeyOpen, event.KeyOpen, event.KeyEmpty, event.KeyNone}
	for i, m := range b {
		r := records[i]
		if !bytes.Equal(m.Data, r.Value) || (m.Data == nil) != (r.Value == nil) || m.Key != string(r.Key) || m.Keyed != keyed[i] {
			t.Errorf("record %d: data %q (nil %t), key %q %v", i, m.Data, m.Data == nil, m.Key, m.Keyed)
		}
		var want event.Headers
		for _, h := range r.Headers {
			want = append(want, event.Header{Name: h.Key, Value: h.Value})
		}
		if diff := cmp.Diff(want, m.Meta.Headers); diff != "" {
			t.Errorf("record %d: headers (-want +got):\n%s", i, diff)
		}
		o := m.Meta.Origin
		if !m.Times.Created.Equal(at) || !o.At.Equal(at) || o.Stream != "events" || o.Partition != "0" || binary.BigEndian.Uint64(o.Position) != uint64(i) || m.Meta.ID != fmt.Sprintf("events/0/%d", i) {
			t.Errorf("record %d: created %s, origin %+v, id %q", i, m.Times.Created, o, m.Meta.ID)
		}
	}
	conf = config(brokers(c), "events")
	for i, m := range read(t, opened(t, conf, nil), len(records), true) {
		if m.Key != "" || m.Keyed != event.KeyOpen {
			t.Errorf("record %d has the key %q, and partition_key is random", i, m.Key)
		}
	}
}

// TestOutOfRange: the option decides where a partition goes on whose messages are gone, and
// the log counts them (F7).
func TestOutOfRange(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"earliest", "latest", "fail"} {
		for _, when := range []string{"at the start", "on the way"} {
			t.Run(policy+" "+when, func(t *testing.T) {
				t.Parallel()
				c := cluster(t, kfake.SeedTopics(1, "events"))
				put(t, brokers(c), "events", 0, numbered(0, 10)...)
				conf := config(brokers(c), "events")
				conf.OffsetOutOfRange, conf.MaxPollRecords = policy, 10
				log := &notes{}
				s := opened(t, conf, log.log())
				read(t, s, 10, true)
				if when == "at the start" {
					if err := s.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				put(t, brokers(c), "events", 0, numbered(10, 50)...)
				if when == "on the way" { // what it has fetched already is read first
					eventually(t, "it is behind", func() bool {
						lags, err := s.Lag(t.Context())
						return err == nil && len(lags) == 1 && lags[0].Messages == 50
					})
					if err := s.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.DeleteRecords("events", 0, 40); err != nil {
					t.Fatal(err)
				}
				s = opened(t, conf, log.log())
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if policy == "latest" {
					go func() {
						eventually(t, "it goes on at the end", func() bool { return strings.Contains(log.String(), "messages_passed_over=50") })
						put(t, brokers(c), "events", 0, numbered(60, 1)...)
					}()
				}
				b, _, err := s.Read(ctx, connector.Room{})
				switch policy {
				case "earliest":
					if err != nil || string(b[0].Data) != "payload 000040" || !strings.Contains(log.String(), "messages_passed_over=30") {
						t.Errorf("it goes on with %v, %v; the log says %s", texts(b), err, log)
					}
				case "latest":
					if err != nil || string(b[0].Data) != "payload 000060" {
						t.Errorf("it goes on with %v, %v; the log says %s", texts(b), err, log)
					}
				case "fail":
					if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "has no offset 10 any more, its messages are 40 to 59") {
						t.Errorf("it fails with %v", err)
					}
				}
			})
		}
	}
}

// TestOffsetsInitial is where a group begins that has committed nothing.
func TestOffsetsInitial(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"))
	for i, text := range []string{"a", "b", "c"} {
		send(t, brokers(c), &kgo.Record{Topic: "events", Value: []byte(text), Timestamp: time.UnixMilli(int64(1_700_000_000_000 + 1000*i))})
	}
	for initial, want := range map[int]string{-2: "a", 1_700_000_000_500: "b", -1: "d"} {
		conf := config(brokers(c), "events")
		conf.OffsetsInitial = initial
		s := opened(t, conf, nil)
		if initial == -1 {
			eventually(t, "it is at the end", func() bool {
				lags, err := s.Lag(t.Context())
				return err == nil && len(lags) == 1 && lags[0].Messages == 0
			})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, _, _ = s.Read(ctx, connector.Room{})
			cancel()
			put(t, brokers(c), "events", 0, []byte("d"))
		}
		if got := texts(read(t, s, 1, true))[0]; got != want {
			t.Errorf("offsets_initial %d begins with %q, want %q", initial, got, want)
		}
	}
}

// TestLag is the distance from what was read to what can be, and says why a transaction of
// somebody else makes it larger (F16).
func TestLag(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, "events"))
	put(t, brokers(c), "events", 0, numbered(0, 10)...)
	conf := config(brokers(c), "events")
	log := &notes{}
	s := opened(t, conf, log.log())
	read(t, s, 4, true)
	lag := func(want ...int64) {
		t.Helper()
		eventually(t, fmt.Sprint("the lag is ", want), func() bool {
			lags, err := s.Lag(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for _, l := range lags {
				got[l.Partition] = l.Messages
			}
			return len(lags) == 2 && got["0"] == want[0] && got["1"] == want[1]
		})
	}
	lag(6, 0)
	open := client(t, brokers(c), kgo.TransactionalID(fresh("open")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := open.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Partition: 1, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	put(t, brokers(c), "events", 1, numbered(100, 3)...)
	lag(6, 4)
	if !strings.Contains(log.String(), "a transaction of another producer is open") || !strings.Contains(log.String(), "messages=4") {
		t.Errorf("the log says %s", log)
	}
	if err := open.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	read(t, s, 9, true)
	reading, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // as an engine does: behind the messages is the mark of the transaction
		defer close(ended)
		_, _, _ = s.Read(reading, connector.Room{})
	}()
	lag(0, 0)
	stop()
	<-ended
}

// TestSeek reads any range again as it was read, whatever has been read or settled since.
func TestSeek(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, "events"))
	var records []*kgo.Record
	for i := range 200 {
		r := &kgo.Record{Topic: "events", Partition: int32(i % 2), Key: fmt.Appendf(nil, "key %d", i%7), Value: fmt.Appendf(nil, "payload %d", i), Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}}}
		if i%10 == 3 {
			r.Value = nil
		}
		records = append(records, r)
	}
	send(t, brokers(c), records...)
	conf := config(brokers(c), "events")
	conf.PartitionKey = "source"
	s := opened(t, conf, nil)
	was := map[string]event.Batch{}
	for _, m := range read(t, s, len(records), true) {
		was[m.Meta.Origin.Partition] = append(was[m.Meta.Origin.Partition], m)
	}
	view := func(b event.Batch) (out []string) {
		for _, m := range b {
			out = append(out, fmt.Sprintf("%q %t %q %v %q % x %s", m.Data, m.Data == nil, m.Key, m.Keyed, m.Meta.Headers, m.Meta.Origin.Position, m.Times.Created))
		}
		return out
	}
	position := func(m *event.Message) connector.Position {
		return connector.Position{Bytes: m.Meta.Origin.Position, Sub: m.Meta.Origin.Sub}
	}
	for partition, all := range was {
		for _, at := range [][2]int{{0, len(all) - 1}, {5, 5}, {17, 60}, {len(all) - 1, len(all) - 1}} {
			for _, room := range []connector.Room{{}, {Messages: 1}, {Bytes: 30}} {
				replay, err := s.Seek(t.Context(), connector.Range{Stream: "events", Partition: partition, First: position(all[at[0]]), Last: position(all[at[1]])})
				if err != nil {
					t.Fatal(err)
				}
				var again event.Batch
				for {
					b, err := replay.Read(t.Context(), room)
					again = append(again, b...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(view(all[at[0]:at[1]+1]), view(again)); diff != "" {
					t.Fatalf("partition %s, %v, %+v (-want +got):\n%s", partition, at, room, diff)
				}
				if err := replay.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if err := c.DeleteRecords("events", 0, 10); err != nil {
		t.Fatal(err)
	}
	all := was["0"]
	_, err := s.Seek(t.Context(), connector.Range{Stream: "events", Partition: "0", First: position(all[9]), Last: position(all[20])})
	if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "does not hold offsets 9 to 20 any more: it has 10 to 99") {
		t.Errorf("a range that is gone: %v", err)
	}
	for _, bad := range []connector.Range{{Stream: "events", Partition: "x"}, {Stream: "events", Partition: "0", First: connector.Position{Bytes: []byte{1}}}} {
		if _, err := s.Seek(t.Context(), bad); fault.Of(err) != fault.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestOpenWhereNobodyIs says so, within what the context allows, and can be tried again.
func TestOpenWhereNobodyIs(t *testing.T) {
	t.Parallel()
	s := newSource(t, config("127.0.0.1:1", "events"), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := s.Open(ctx)
	if err == nil || fault.Of(err) != fault.Transient {
		t.Errorf("open: %v", err)
	}
	if _, _, err := s.Read(t.Context(), connector.Room{}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
