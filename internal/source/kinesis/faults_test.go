package kinesissource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

// lines is a log that can be looked at while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

func (s *Source) logTo(l *lines) *Source {
	s.log = slog.New(slog.NewTextHandler(l, nil))
	return s
}

// proxied is a stream behind a proxy, and the proxy.
func proxied(t *testing.T, engine string, shards int) (*testStream, *faultproxy.AWS) {
	t.Helper()
	p := faultproxy.NewAWS(t, engine)
	s := makeStream(t, engine, shards)
	s.endpoint = p.URL
	return s, p
}

// often meets the n-th call, and one in n by chance from then on: by counting, two shards can
// take turns in such a way that one of them meets every fault.
func often(n int, a faultproxy.Action) faultproxy.Rule {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	return func(c *faultproxy.Call) faultproxy.Action {
		if c.N == n || c.N > n && r.IntN(n) == 0 {
			return a
		}
		return nil
	}
}

func forShard(id string, a faultproxy.Action) faultproxy.Rule {
	return func(c *faultproxy.Call) faultproxy.Action {
		if c.Text("ShardId") == id {
			return a
		}
		return nil
	}
}

var (
	expired = faultproxy.Error(0, expiredIterator, "Iterator expired")
	broken  = faultproxy.Error(500, "InternalFailure", "oops")
	denied  = faultproxy.Error(0, "AccessDeniedException", "not you")
)

// TestFaultsOfReading: whatever requests meet, every record comes, and once: reading goes on at a
// place of its own (K9, K10).
func TestFaultsOfReading(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 2)
	p.On("GetRecords", often(3, faultproxy.Cut))
	p.On("GetRecords", often(5, faultproxy.Lost))
	p.On("GetRecords", often(7, expired))
	p.On("GetRecords", often(11, faultproxy.Throttled))
	p.On("GetRecords", often(13, broken))
	p.On("GetRecords", often(17, faultproxy.Error(0, invalidArgument, "Invalid ShardIterator.")))
	p.On("GetRecords", often(19, faultproxy.FrozenAnswer))
	p.On("GetShardIterator", often(2, broken))
	want := texts("payload", 2000)
	src := s.source(newDesk(), func(c *Config) { c.GetRecordsLimit, c.ReadThrottleDelayMs = 97, 5 })
	src.patience.answer = 5 * time.Second // a busy machine answers later than in one or two
	opened(t, src)
	s.put(t, func(i int) string { return fmt.Sprint(i % 7) }, want...)
	rs := reads(t, src, len(want))
	got := payloadsOf(rs)
	slices.Sort(got)
	if d := cmp.Diff(joined(want), strings.Join(got, "\n")+"\n"); d != "" {
		t.Error(d)
	}
	ackAll(t, rs)
}

// TestIteratorExpiresBeforeTheFirstRecord: a shard that begins at what comes from now on goes on
// from the instant of that, not from a later one, and does not go back to what was before (K10).
func TestIteratorExpiresBeforeTheFirstRecord(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 1)
	s.put(t, nil, texts("before", 10)...)
	if err := pause(t.Context(), 3*time.Second); err != nil { // Kinesis tells the time in seconds
		t.Fatal(err)
	}
	src := opened(t, s.source(newDesk(), func(c *Config) { c.StartingPosition = startLatest }))
	eventually(t, "a read", func() bool { return p.Calls("GetRecords") > 0 })
	p.On("GetRecords", faultproxy.Always(expired))
	asked := p.Calls("GetShardIterator")
	want := texts("after", 20)
	s.put(t, nil, want...)
	eventually(t, "the iterator to expire", func() bool { return p.Calls("GetShardIterator") > asked })
	p.Heal()
	if d := cmp.Diff(joined(want), strings.Join(payloadsOf(reads(t, src, len(want))), "\n")+"\n"); d != "" {
		t.Error(d)
	}
}

// TestOldIteratorIsNotUsed: one that was waited with for long is made anew (1.8).
func TestOldIteratorIsNotUsed(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 1)
	src := s.source(newDesk(), func(c *Config) { c.GetRecordsLimit, c.ReadThrottleDelayMs = 20, 1000 })
	src.patience.iterator = 100 * time.Millisecond // less than there is between two reads
	opened(t, src)
	want := texts("payload", 60)
	s.put(t, nil, want...)
	if d := cmp.Diff(joined(want), strings.Join(payloadsOf(reads(t, src, len(want))), "\n")+"\n"); d != "" {
		t.Error(d)
	}
	if p.Calls("GetShardIterator") < 2 {
		t.Errorf("one iterator for %d reads a second apart", p.Calls("GetRecords"))
	}
}

// TestOneShardFails: a shard that cannot be read, or whose position is none of it, holds up no
// other, and is said (K13).
func TestOneShardFails(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]faultproxy.Action{"throttled": faultproxy.Throttled, "denied": denied, "no position of it": faultproxy.Error(0, invalidArgument, "StartingSequenceNumber is invalid")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := proxied(t, enginetest.Kinesalite(t), 2)
			want := texts("payload", 100)
			s.put(t, func(i int) string { return fmt.Sprint(i) }, want...)
			d := newDesk()
			first := reads(t, opened(t, s.source(d, nil)), len(want))
			byShard := map[string]int{}
			for _, r := range first {
				for _, m := range r.batch {
					byShard[m.Meta.Origin.Partition]++
				}
			}
			stuck, fine := "shardId-000000000000", "shardId-000000000001"
			p.On("GetShardIterator", forShard(stuck, bad))
			log := &lines{}
			d2 := newDesk()
			src := s.source(d2, nil).logTo(log)
			src.patience.astray = 50 * time.Millisecond
			opened(t, src)
			rs := reads(t, src, byShard[fine])
			for _, r := range rs {
				for _, m := range r.batch {
					if m.Meta.Origin.Partition != fine {
						t.Errorf("a message of shard %s", m.Meta.Origin.Partition)
					}
				}
			}
			if name != "throttled" { // which is said when it lasts
				eventually(t, "the log", func() bool { return log.has("what=\"read the shard\"") && log.has(stuck) })
			}
			p.Heal()
			reads(t, src, byShard[stuck])
		})
	}
}

// TestInvalidPosition: a position that is none of its shard is not passed over in silence; with
// invalid_position = "trim_horizon" the shard is read from its oldest record (K13).
func TestInvalidPosition(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"kinesalite", "kinesis-local"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			endpoint := enginetest.Kinesalite
			if engine == "kinesis-local" {
				endpoint = enginetest.KinesisLocal
			}
			s, want := makeStream(t, endpoint(t), 2), texts("payload", 20)
			s.put(t, func(i int) string { return fmt.Sprint(i) }, want...)
			d := newDesk()
			src := s.source(d, nil)
			rs := reads(t, opened(t, src), len(want))
			ackAll(t, rs)
			if err := src.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			a, b := "shardId-000000000000", "shardId-000000000001"
			d.change(func() { d.rows[a].at = d.rows[b].at }) // somebody has edited the row
			log := &lines{}
			src = s.source(d, nil).logTo(log)
			src.patience.astray = 50 * time.Millisecond
			opened(t, src)
			more := texts("more", 20)
			s.put(t, func(i int) string { return fmt.Sprint(i) }, more...)
			ofB := 0
			for _, r := range rs {
				for _, m := range r.batch {
					if m.Meta.Origin.Partition == b {
						ofB++
					}
				}
			}
			reads(t, src, ofB) // the keys are the same
			eventually(t, "the log", func() bool { return log.has("none of its positions") && log.has(a) })
			if err := src.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			src = opened(t, s.source(d, func(c *Config) { c.InvalidPosition = invalidTrimHorizon }).logTo(log))
			for ofA := 0; ofA < 2*(len(want)-ofB); {
				for _, m := range reads(t, src, 1)[0].batch {
					if m.Meta.Origin.Partition == a {
						ofA++
					}
				}
			}
			if !log.has("from its oldest record") {
				t.Error("it is not said that the shard is read again")
			}
		})
	}
}

// TestTrimmed: it shows when the stream does not hold the record any more up to which was read.
func TestTrimmed(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	s.put(t, nil, texts("payload", 3)...)
	d, log := newDesk(), &lines{}
	src := s.source(d, nil)
	shards := func() []lease.Shard {
		n, err := src.newSession(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer n.hangUp()
		shards, err := n.Shards(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return shards
	}()
	d.rows[shards[0].ID] = &deskRow{shard: shards[0], at: lease.Position{Sequence: shards[0].First}}
	reads(t, opened(t, src.logTo(log)), 3)
	if !log.has("may have been trimmed") {
		t.Error("the log does not say it")
	}
}

// TestLostLease: it stops its shard only; what was fetched of it is dropped, acks for what was
// handed on have no effect, and who has it next reads on behind what was written (L1, L4).
func TestLostLease(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 2)
	want := texts("payload", 400)
	s.put(t, func(i int) string { return fmt.Sprint(i) }, want...)
	d := newDesk()
	src := opened(t, s.source(d, nil))
	a, b := "shardId-000000000000", "shardId-000000000001"
	eventually(t, "records of both shards", func() bool {
		n := src.current()
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.ready) == 2
	})
	rs := reads(t, src, 10)
	d.take(a, false)
	d.take(b, false)
	ackAll(t, rs)
	if err := pause(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if n := len(d.history(a)) + len(d.history(b)); n != 0 {
		t.Errorf("%d positions were written without a lease", n)
	}
	d.change(func() { d.rows[b].late = false })
	got := map[string]bool{}
	ofB := 0
	n := src.current()
	eventually(t, "shard b again", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.ready) == 1 })
	for ctx, stop := context.WithTimeout(t.Context(), longest); ; {
		batch, _, err := src.Read(ctx, connector.Room{Messages: 50})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range batch {
			if m.Meta.Origin.Partition != b {
				t.Fatalf("a message of shard %s, which is not held", m.Meta.Origin.Partition)
			}
			got[string(m.Data)] = true
			ofB++
		}
		n.mu.Lock()
		rest := len(n.ready)
		n.mu.Unlock()
		if rest == 0 {
			stop()
			break
		}
	}
	if ofB != len(got) || ofB < 100 {
		t.Errorf("%d messages of shard b, %d different ones", ofB, len(got))
	}
	n.mu.Lock()
	held := len(n.held)
	n.mu.Unlock()
	if held != 1 {
		t.Errorf("%d shards are held", held)
	}
}

// TestPositionsOnlyGrow: acks in any order write nothing that is not settled, and nothing behind
// what was written (L4, L5).
func TestPositionsOnlyGrow(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	want := texts("payload", 1000)
	s.put(t, nil, want...)
	d := newDesk()
	src := opened(t, s.source(d, func(c *Config) { c.CheckpointIntervalMs, c.MaxBatchMessages = 1, 7 }))
	rs := reads(t, src, len(want))
	const shard = "shardId-000000000000"
	settled := make([]bool, len(rs))
	order := make([]int, len(rs))
	for i := range order {
		order[i] = (i*61 + 17) % len(rs)
		if i >= len(rs) || slices.Contains(order[:i], order[i]) {
			order[i] = slices.Index(settledOrder(order[:i], len(rs)), false)
		}
	}
	for _, i := range order {
		if err := rs[i].ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		settled[i] = true
		first := slices.Index(settled, false)
		if at := d.position(shard); at.IsRecord() && first >= 0 {
			next := rs[first].batch[0].Meta.ID
			if compareSequences(at.Sequence, next) >= 0 {
				t.Fatalf("position %s is written, and the record %s is not settled", at, next)
			}
		}
	}
	last := rs[len(rs)-1].batch
	eventually(t, "the last position", func() bool { return d.position(shard).Sequence == last[len(last)-1].Meta.ID })
	if h := d.history(shard); !slices.IsSortedFunc(h, lease.Position.Compare) {
		t.Errorf("positions went back: %v", h)
	}
}

func settledOrder(order []int, n int) []bool {
	taken := make([]bool, n)
	for _, i := range order {
		taken[i] = true
	}
	return taken
}

// TestFailedMessageHoldsItsShard: what was not settled is read again, and what came behind it.
func TestFailedMessageHoldsItsShard(t *testing.T) {
	t.Parallel()
	s := makeStream(t, enginetest.Kinesalite(t), 1)
	s.put(t, nil, texts("payload", 30)...)
	d := newDesk()
	src := opened(t, s.source(d, func(c *Config) { c.MaxBatchMessages = 10 }))
	rs := reads(t, src, 30)
	for i, r := range rs {
		o := make(event.Outcomes, len(r.batch))
		if i == 1 {
			o[3] = event.ErrUnsettled
		}
		if err := r.ack(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := src.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := payloadsOf(reads(t, opened(t, s.source(d, nil)), 20))
	if again[0] != "payload 00010" || again[19] != "payload 00029" {
		t.Errorf("read again from %s to %s", again[0], again[19])
	}
}

// TestEverythingIsRefused: what no shard gets past ends the source, so that it is seen, with what
// to do; what passes does not.
func TestEverythingIsRefused(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 2)
	src := s.source(newDesk(), nil)
	src.patience.setup = 300 * time.Millisecond
	opened(t, src)
	p.On("GetRecords", faultproxy.Always(denied))
	ctx, stop := context.WithTimeout(t.Context(), longest)
	defer stop()
	_, _, err := src.Read(ctx, connector.Room{})
	if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "kinesis:GetRecords") {
		t.Errorf("Read: %v", err)
	}
}

// TestCloseIsSoon: whatever Kinesis does, a source is closed soon (L14).
func TestCloseIsSoon(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 2)
	src := opened(t, s.source(newDesk(), nil))
	eventually(t, "both shards to be read", func() bool { return p.Calls("GetRecords") > 2 })
	p.On("", faultproxy.Always(faultproxy.Frozen))
	calls := p.Calls("GetRecords")
	eventually(t, "a request that hangs", func() bool { return p.Calls("GetRecords") > calls })
	begin := time.Now()
	if err := src.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("Close took %s", took)
	}
}

// TestNoStream: Open and Check say what is missing and what to do.
func TestNoStream(t *testing.T) {
	t.Parallel()
	s := &testStream{name: "nobody-made-it", endpoint: enginetest.Kinesalite(t)}
	src := s.source(newDesk(), nil)
	for what, err := range map[string]error{"Open": src.Open(t.Context()), "Check": src.Check(t.Context())} {
		if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "aws kinesis create-stream") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := src.Read(t.Context(), connector.Room{}); !errors.Is(err, errClosed) {
		t.Errorf("Read of a source that is not open: %v", err)
	}
}

// TestMemoryIsFlat: what is fetched and not read is bounded, however much there is.
func TestMemoryIsFlat(t *testing.T) {
	t.Parallel()
	s, p := proxied(t, enginetest.Kinesalite(t), 4)
	big := make([][]byte, 160)
	for i := range big {
		big[i] = bytes.Repeat([]byte{byte(i)}, 50_000)
	}
	for i := 0; i < len(big); i += 40 {
		s.put(t, func(i int) string { return fmt.Sprint(i) }, big[i:i+40]...)
	}
	const most = 1 << 20
	src := opened(t, s.source(newDesk(), func(c *Config) { c.MaxBufferBytes, c.GetRecordsLimit = most, 10 }))
	n := src.current()
	worst := 0
	look := func() {
		n.budget.mu.Lock()
		worst = max(worst, n.budget.used)
		n.budget.mu.Unlock()
	}
	last, since := 0, time.Now()
	for time.Since(since) < time.Second { // until nothing is asked any more
		look()
		if c := p.Calls("GetRecords"); c != last {
			last, since = c, time.Now()
		}
		if err := pause(t.Context(), 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < len(big); look() {
		got += len(payloadsOf(reads(t, src, 1)))
	}
	if worst > 2*most {
		t.Errorf("%d bytes were fetched and not read, more than twice %d", worst, most)
	}
	eventually(t, "the budget to be whole again", func() bool {
		n.budget.mu.Lock()
		defer n.budget.mu.Unlock()
		return n.budget.used < most/2
	})
}
