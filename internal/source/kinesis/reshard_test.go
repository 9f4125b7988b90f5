package kinesissource

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

const middle = "170141183460469231731687303715884105728" // of all keys, and a quarter
const quarter = "85070591730234615865843651857942052864"

// split splits a shard, and merge merges two; both wait until it is done.
func (s *testStream) split(t testing.TB, shard, at string) {
	t.Helper()
	if _, err := s.client.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &s.name, ShardToSplit: &shard, NewStartingHashKey: &at}); err != nil {
		t.Fatal(err)
	}
	s.active(t)
}

func (s *testStream) merge(t testing.TB, a, b string) {
	t.Helper()
	if _, err := s.client.MergeShards(t.Context(), &kinesis.MergeShardsInput{StreamName: &s.name, ShardToMerge: &a, AdjacentShardToMerge: &b}); err != nil {
		t.Fatal(err)
	}
	s.active(t)
}

// load puts numbered payloads with some keys, one at a time for each, until it is stopped.
type load struct {
	stop context.CancelFunc
	busy sync.WaitGroup
	put  atomic.Int64
	mu   sync.Mutex
	last map[string]int
}

func (s *testStream) load(t testing.TB, keys int) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, last: map[string]int{}}
	for k := range keys {
		key := fmt.Sprint("key", k)
		l.busy.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, err := s.client.PutRecord(context.WithoutCancel(ctx), &kinesis.PutRecordInput{StreamName: &s.name, PartitionKey: &key, Data: fmt.Appendf(nil, "%s %d", key, i)})
				if err != nil { // while the stream changes
					i--
					_ = pause(ctx, 50*time.Millisecond)
					continue
				}
				l.put.Add(1)
				l.mu.Lock()
				l.last[key] = i
				l.mu.Unlock()
				_ = pause(ctx, 10*time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { stop(); l.busy.Wait() })
	return l
}

// end stops the load, and is the last number of each key.
func (l *load) end() map[string]int {
	l.stop()
	l.busy.Wait()
	return l.last
}

// TestReshard: splits and merges under load: every record comes, in the order of its key, parents
// before children, and the ends of shards are written (K1 to K4, K6, K7).
func TestReshard(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"polled", "pushed"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s, p := proxied(t, enginetest.KinesisLocal(t), 1)
			p.InitialResponse()
			consumer := ""
			if way == "pushed" {
				consumer = "weir"
			}
			d := newDesk()
			src := s.source(d, func(c *Config) { c.ConsumerName = consumer })
			src.patience.closed = 500 * time.Millisecond
			opened(t, src)
			l := s.load(t, 6)
			ctx, stop := context.WithCancel(t.Context())
			next, over := map[string]int{}, make(chan struct{})
			var read atomic.Int64
			go func() {
				defer close(over)
				for {
					b, ack, err := src.Read(ctx, connector.Room{Messages: 40})
					if err != nil {
						if ctx.Err() == nil {
							t.Errorf("Read: %v", err)
						}
						return
					}
					for _, m := range b {
						key, number, _ := strings.Cut(string(m.Data), " ")
						if i, _ := strconv.Atoi(number); i != next[key] {
							t.Errorf("%s: message %d came when %d was due (shard %s)", key, i, next[key], m.Meta.Origin.Partition)
							next[key] = i
						}
						next[key]++
					}
					read.Add(int64(len(b)))
					if err := ack(ctx, nil); err != nil {
						t.Errorf("ack: %v", err)
					}
				}
			}()
			more := func() {
				n := read.Load()
				eventually(t, "more records", func() bool { return read.Load() > n+20 })
			}
			more()
			s.split(t, "shardId-000000000000", middle)
			more()
			s.split(t, "shardId-000000000001", quarter)
			more()
			s.merge(t, "shardId-000000000004", "shardId-000000000002")
			more()
			last := l.end()
			eventually(t, "all records", func() bool { return read.Load() >= l.put.Load() })
			ended := []string{"shardId-000000000000", "shardId-000000000001", "shardId-000000000002", "shardId-000000000004"}
			for _, shard := range ended {
				eventually(t, "the end of "+shard, func() bool { return d.position(shard) == lease.End })
			}
			calls := p.Calls("GetShardIterator") + p.Calls("SubscribeToShard")
			stop()
			<-over
			for key, i := range last {
				if next[key] != i+1 {
					t.Errorf("%s: %d messages came of %d", key, next[key], i+1)
				}
			}
			if err := src.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			// What has ended stays so: a restart asks for the open shards only.
			again := opened(t, s.source(d, func(c *Config) { c.ConsumerName = consumer }))
			eventually(t, "both open shards", func() bool {
				lags, err := again.Lag(t.Context())
				return err == nil && len(lags) == 2 && p.Calls("GetShardIterator")+p.Calls("SubscribeToShard") >= calls+2
			})
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, id := range slices.Sorted(maps.Keys(d.rows)) {
				if r := d.rows[id]; slices.Contains(ended, id) == (r.at != lease.End) {
					t.Errorf("shard %s is at %s", id, r.at)
				}
			}
		})
	}
}

// TestUnreadClosedShard: a shard that was split before it was read is read to its end first, and
// its end waits for the last message of it (K3).
func TestUnreadClosedShard(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]func(testing.TB) string{"kinesis-local": enginetest.KinesisLocal, "kinesalite": enginetest.Kinesalite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := makeStream(t, engine(t), 1)
			s.put(t, nil, texts("before", 20)...)
			s.split(t, onlyShard, middle)
			s.put(t, nil, texts("after", 5)...)
			d := newDesk()
			src := opened(t, s.source(d, nil))
			rs := reads(t, src, 20)
			if got := payloadsOf(rs); got[0] != "before 00000" || got[19] != "before 00019" {
				t.Fatalf("it begins with %q", got)
			}
			ackAll(t, rs[:len(rs)-1])
			eventually(t, "the shard's end to be known", func() bool {
				n := src.current()
				n.mu.Lock()
				defer n.mu.Unlock()
				for sh := range n.held {
					sh.mu.Lock()
					ended := sh.ended
					sh.mu.Unlock()
					if ended {
						return true
					}
				}
				return false
			})
			if len(rs) > 1 || len(rs[0].batch) > 0 {
				if at := d.position(onlyShard); at == lease.End {
					t.Error("the shard's end is written, and a message of it is not settled")
				}
			}
			ackAll(t, rs[len(rs)-1:])
			if got := payloadsOf(reads(t, src, 5)); got[0] != "after 00000" {
				t.Errorf("it goes on with %q", got)
			}
		})
	}
}

// TestFanOut: records are pushed, whatever becomes of subscriptions: cut, refused because one is
// there, silent (L3, L13).
func TestFanOut(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.KinesisLocal(t), 1)
	p.InitialResponse()
	d, log := newDesk(), &lines{}
	src := s.source(d, func(c *Config) { c.ConsumerName = "weir" }).logTo(log)
	src.patience.silence = 4 * time.Second
	opened(t, src)
	n := 0
	take := func(what string) {
		t.Helper()
		want := texts(what, 20)
		s.put(t, nil, want...)
		got := payloadsOf(reads(t, src, len(want)))
		if joined(want) != strings.Join(got, "\n")+"\n" {
			t.Errorf("%s: %q", what, got)
		}
		n += len(want)
	}
	take("first")
	p.CutStreams(nil)
	take("cut")
	subscribed := p.Calls("SubscribeToShard")
	p.On("SubscribeToShard", faultproxy.Times(3, faultproxy.Error(0, inUse, "Another active subscription exists for this consumer")))
	p.CutStreams(nil)
	eventually(t, "the subscription to be refused", func() bool { return p.Calls("SubscribeToShard") >= subscribed+3 })
	take("refused")
	if log.has(inUse) {
		t.Error("that a subscription is still there is no error to report")
	}
	subscribed = p.Calls("SubscribeToShard")
	p.Freeze(nil)
	eventually(t, "another subscription", func() bool { return p.Calls("SubscribeToShard") > subscribed })
	take("frozen")
	if p.Calls("GetRecords") > 0 {
		t.Error("a shard was polled")
	}
}

// TestDeadSubscription: a lease is not kept alive while its subscription is dead (L13).
func TestDeadSubscription(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.KinesisLocal(t), 1)
	p.InitialResponse()
	p.On("SubscribeToShard", func(*faultproxy.Call) faultproxy.Action { p.Freeze(nil); return nil })
	d := newDesk()
	src := s.source(d, func(c *Config) { c.ConsumerName = "weir" })
	src.patience.silence = 500 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			p.Freeze(nil)
			_ = pause(ctx, 5*time.Millisecond)
		}
	}()
	opened(t, src)
	var first *deskLease
	eventually(t, "the lease", func() bool { d.mu.Lock(); defer d.mu.Unlock(); first = d.rows[onlyShard].held; return first != nil })
	select {
	case <-first.lost:
	case <-time.After(longest):
		t.Error("the lease is kept")
	}
}
