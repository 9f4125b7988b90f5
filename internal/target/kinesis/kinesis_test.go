package kinesistarget

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
)

// users are the user records of a record of the stream.
func users(r stored) []aggregate.Record {
	if rs, kind := aggregate.Read(nil, r.Data); kind == aggregate.Aggregate {
		return rs
	}
	return []aggregate.Record{{Key: *r.PartitionKey, Data: r.Data}}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := defaults()
	good.StreamName = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a.b_c-D"
	if ps := good.Validate(); len(ps) > 0 {
		t.Error(ps)
	}
	for _, row := range []struct {
		change func(*Config)
		field  string
	}{
		{func(c *Config) { c.StreamName = "" }, "stream_name"},
		{func(c *Config) { c.StreamName = "a b" }, "stream_name"},
		{func(c *Config) { c.StreamName = "arn:aws:sqs:eu-west-1:123456789012:stream/x" }, "stream_name"},
		{func(c *Config) { c.Region = "nowhere!" }, "region"},
		{func(c *Config) { c.RoleARN = "the writer" }, "role_arn"},
		{func(c *Config) { c.CustomAWSEndpoint = "localhost" }, "custom_aws_endpoint"},
		{func(c *Config) { c.PartitionKey = "source" }, "partition_key"},
		{func(c *Config) { c.RequestTimeoutInMillis = 0 }, "request_timeout_in_millis"},
		{func(c *Config) { c.Aggregate, c.AggregateMaxBytes = true, 5 }, "aggregate_max_bytes"},
		{func(c *Config) { c.Batching.MaxBatchMessages = 501 }, "batching.max_batch_messages"},
		{func(c *Config) { c.Batching.MaxBatchBytes = 10<<20 + 1 }, "batching.max_batch_bytes"},
		{func(c *Config) { c.Batching.MaxMessageBytes = 10<<20 + 1 }, "batching.max_message_bytes"},
		{func(c *Config) { c.Batching.FlushPeriodMillis = 0 }, "batching.flush_period_millis"},
	} {
		c := defaults()
		c.StreamName = "s"
		row.change(&c)
		if ps := c.Validate(); !slices.ContainsFunc(ps, func(p connector.Problem) bool { return p.Field == row.field && p.Fix != "" }) {
			t.Errorf("%s: %v", row.field, ps)
		}
	}
}

// TestParts: a part that has enough is left alone, longer each time and at most a second, until
// it takes something; one that nobody asked for a while is as new.
func TestParts(t *testing.T) {
	t.Parallel()
	var p parts
	now := time.Unix(1000, 0)
	if p.wait(1, now) != 0 || !p.idle() {
		t.Error("nothing was refused")
	}
	want := []time.Duration{50, 100, 200, 400, 800, 1000, 1000}
	for i, d := range want {
		wait, barren, tell := p.refused(1, "", now)
		if wait != d*time.Millisecond || tell != (i == 0) {
			t.Errorf("refusal %d: %s, %t", i, wait, tell)
		}
		if again, _, _ := p.refused(1, "", now.Add(10*time.Millisecond)); again != wait-10*time.Millisecond {
			t.Errorf("a refusal that was on its way makes it %s", again)
		}
		if i > 0 && barren == 0 || p.idle() || p.wait(1, now) != wait || p.wait(2, now) > 0 {
			t.Errorf("refusal %d: barren %s, waits %s", i, barren, p.wait(1, now))
		}
		now = now.Add(wait)
	}
	p.taken(2, "s", now)
	p.taken(1, "s", now)
	if !p.idle() {
		t.Error("it takes something")
	}
	if wait, barren, _ := p.refused(1, "", now); wait != leastWait || barren != 0 {
		t.Errorf("after a record that was taken: %s, %s", wait, barren)
	}
	if _, barren, tell := p.refused(1, "", now.Add(patience)); barren != patience || !tell {
		t.Errorf("a minute later: %s, %t", barren, tell)
	}
	if p.taken(3, "s", now.Add(patience)); p.idle() {
		t.Error("another part of the shard takes something")
	}
	if _, barren, _ := p.refused(1, "s", now.Add(patience+time.Second)); barren != time.Second {
		t.Errorf("the shard took something a second ago: %s", barren)
	}
	if _, barren, _ := p.refused(1, "other", now.Add(patience+time.Second)); barren != patience+time.Second {
		t.Errorf("another shard did: %s", barren)
	}
	if _, barren, _ := p.refused(1, "", now.Add(time.Hour)); barren != 0 {
		t.Errorf("an hour later: %s", barren)
	}
	if p.wait(1, now.Add(2*time.Hour)) > 0 || !p.idle() {
		t.Error("what was known two hours ago is kept")
	}
}

func TestPartOf(t *testing.T) {
	t.Parallel()
	last, _ := aggregate.ParseHash("340282366920938463463374607431768211455")
	half, _ := aggregate.ParseHash("170141183460469231731687303715884105728")
	if partOf(aggregate.Hash{}) != 0 || partOf(last) != 1023 || partOf(half) != 512 {
		t.Error(partOf(last), partOf(half))
	}
}

// TestPack: aggregates hold records of one identity, in their order, within the size, and every
// message once.
func TestPack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		c := defaults()
		c.AggregateMaxBytes = rapid.IntRange(1024, 3000).Draw(r, "most")
		k := Target{c: c}
		var s stream
		s.most.Store(5000)
		type user struct {
			key, hash string
			data      []byte
		}
		var in []record
		var all []user
		for i := range rapid.IntRange(0, 60).Draw(r, "n") {
			u := user{rapid.SampledFrom([]string{"a", "b", "longer key"}).Draw(r, "key"), rapid.SampledFrom([]string{"", "7"}).Draw(r, "hash"), bytes.Repeat([]byte{byte(i)}, rapid.IntRange(0, 1500).Draw(r, "size"))}
			all = append(all, u)
			in = append(in, record{key: u.key, hash: u.hash, data: u.data, index: i})
		}
		last := map[identity]int{}
		seen := 0
		for _, out := range k.pack(&s, in) {
			indexes := append([]int{out.index}, out.more...)
			got, kind := aggregate.Read(nil, out.data)
			if kind != aggregate.Aggregate {
				got = []aggregate.Record{{Key: out.key, ExplicitHash: out.hash, Data: out.data}}
			} else if out.size() > c.AggregateMaxBytes {
				r.Fatalf("an aggregate of %d bytes", out.size())
			}
			if len(got) != len(indexes) {
				r.Fatalf("%d records stand for %d messages", len(got), len(indexes))
			}
			for j, i := range indexes {
				id := identity{out.key, out.hash}
				if u := all[i]; got[j].Key != u.key || got[j].ExplicitHash != u.hash || !bytes.Equal(got[j].Data, u.data) || id != (identity{u.key, u.hash}) {
					r.Fatalf("message %d is not what it was", i)
				}
				if before, has := last[id]; has && before >= i {
					r.Fatalf("message %d comes after %d", i, before)
				}
				last[id] = i
				seen++
			}
		}
		if seen != len(all) {
			r.Fatalf("%d of %d messages", seen, len(all))
		}
	})
}

func TestFirsts(t *testing.T) {
	t.Parallel()
	var in []record
	for i, key := range strings.Split("a b a c b a", " ") {
		in = append(in, record{key: key, index: i})
	}
	first, others := firsts(in)
	var got []int
	for _, r := range append(first, others...) {
		got = append(got, r.index)
	}
	if !slices.Equal(got, []int{0, 1, 3, 2, 4, 5}) {
		t.Errorf("%v", got)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.StreamName = "s"
	k, err := New(t.Context(), connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Write(t.Context(), event.Batch{event.New(nil)}); err == nil {
		t.Error("a target that is not open takes messages")
	}
}
