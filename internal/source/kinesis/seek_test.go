package kinesissource

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func positionOf(m *event.Message) connector.Position {
	return connector.Position{Bytes: m.Meta.Origin.Position, Sub: m.Meta.Origin.Sub}
}

// again reads a range to its end.
func again(t *testing.T, src *Source, r connector.Range, room connector.Room) (b event.Batch, err error) {
	t.Helper()
	p, err := src.Seek(t.Context(), r)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	for {
		part, err := p.Read(t.Context(), room)
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if room.Messages > 0 && len(part) > room.Messages || len(part) > 1 && room.Bytes > 0 && part.Bytes() > room.Bytes {
			t.Errorf("%d messages of %d bytes in room for %+v", len(part), part.Bytes(), room)
		}
		b = append(b, part...)
	}
}

// TestSeek: any range of what was read comes again, exactly, beside reading and whatever else is
// read and settled.
func TestSeek(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	var puts [][]byte
	for i := range 60 {
		if i%3 == 0 {
			puts = append(puts, together(named("key"), texts(fmt.Sprint("inner ", i), 1+i%5)...))
			continue
		}
		puts = append(puts, fmt.Appendf(nil, "plain %d", i))
	}
	s.put(t, nil, puts...)
	total := 40
	for i := 0; i < 60; i += 3 {
		total += 1 + i%5
	}
	src := opened(t, s.source(newDesk(), func(c *Config) { c.PartitionKey, c.GetRecordsLimit, c.ReadThrottleDelayMs = keySource, 7, 1 }))
	var all event.Batch
	for _, r := range reads(t, src, total) {
		all = append(all, r.batch...)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 25 {
		i := random.IntN(len(all))
		j := i + random.IntN(len(all)-i)
		rg := connector.Range{Stream: s.name, Partition: onlyShard, First: positionOf(all[i]), Last: positionOf(all[j])}
		room := []connector.Room{{}, {Messages: 1}, {Messages: 5}, {Bytes: 40}}[random.IntN(4)]
		got, err := again(t, src, rg, room)
		if err != nil || len(got) != j-i+1 {
			t.Fatalf("from %d to %d: %d messages: %v", i, j, len(got), err)
		}
		for k, m := range got {
			was := all[i+k]
			if !bytes.Equal(m.Data, was.Data) || m.Key != was.Key || m.Meta.ID != was.Meta.ID || m.Meta.Origin.Compare(was.Meta.Origin) != 0 || m.Meta.Origin.At != was.Meta.Origin.At {
				t.Fatalf("message %d is %s at %s, and was %s at %s", i+k, m.Data, m.Meta.ID, was.Data, was.Meta.ID)
			}
		}
	}
	more := texts("more", 5)
	s.put(t, nil, more...)
	if d := cmp.Diff(joined(more), strings.Join(payloadsOf(reads(t, src, len(more))), "\n")+"\n"); d != "" {
		t.Errorf("reading after seeking: %s", d)
	}
}

// TestSeekWhatIsNotThere: less than a range is an error, and never silence.
func TestSeekWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	s.put(t, nil, texts("payload", 5)...)
	src := opened(t, s.source(newDesk(), nil))
	var all event.Batch
	for _, r := range reads(t, src, 5) {
		all = append(all, r.batch...)
	}
	whole := connector.Range{Stream: s.name, Partition: onlyShard, First: positionOf(all[0]), Last: positionOf(all[4])}
	n := src.current()
	shards, err := n.Shards(t.Context(), timeZero)
	if err != nil {
		t.Fatal(err)
	}
	before, err := putSequence(nil, shards[0].First)
	if err != nil {
		t.Fatal(err)
	}
	behind := append([]byte{}, whole.Last.Bytes...)
	behind[len(behind)-12]++ // a number that no record has
	for name, change := range map[string]func(*connector.Range){
		"before the oldest record": func(r *connector.Range) { r.First.Bytes = before },
		"behind the last record":   func(r *connector.Range) { r.Last.Bytes = behind },
		"another stream":           func(r *connector.Range) { r.Stream = "other" },
		"another shard":            func(r *connector.Range) { r.Partition = "shardId-000000000007" },
		"no position":              func(r *connector.Range) { r.First.Bytes = []byte("x") },
	} {
		r := whole
		change(&r)
		if got, err := again(t, src, r, connector.Room{}); fault.Of(err) != fault.Invalid {
			t.Errorf("%s: %d messages and %v", name, len(got), err)
		}
	}
	if got, err := again(t, src, whole, connector.Room{}); err != nil || len(got) != 5 {
		t.Errorf("the whole range: %d messages, %v", len(got), err)
	}
	whole.First, whole.Last = whole.Last, whole.First
	if got, err := again(t, src, whole, connector.Room{}); fault.Of(err) != fault.Invalid {
		t.Errorf("a range that ends before it begins: %d messages, %v", len(got), err)
	}
}
