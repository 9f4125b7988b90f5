package kafkasource_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	kafkasource "github.com/weirdata/weir/internal/source/kafka"
)

// instance is a member of a group that reads all the time. What it read it settles after a
// while, in its own time, or never, where hold is set.
type instance struct {
	source *kafkasource.Source
	got    *tally
	name   string
	stop   context.CancelFunc
	ended  sync.WaitGroup
	hold   bool
	late   time.Duration
}

// tally counts what instances have read.
type tally struct {
	mu    sync.Mutex
	count map[string]int    // by payload
	by    map[string]int    // by instance
	last  map[string]string // instance that read it last
}

func newTally() *tally {
	return &tally{count: map[string]int{}, by: map[string]int{}, last: map[string]string{}}
}

func (c *tally) add(name string, b event.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[name] += len(b)
	for _, m := range b {
		c.count[string(m.Data)]++
		c.last[string(m.Data)] = name
	}
}

func (c *tally) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[name]
}

// seen is how many payloads were read, and how many reads were more than the first of one.
func (c *tally) seen() (different, again int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.count {
		again += n - 1
	}
	return len(c.count), again
}

func (c *tally) missing(want [][]byte) (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range want {
		if c.count[string(p)] == 0 {
			out = append(out, string(p))
		}
	}
	return out
}

func (x *instance) run(t *testing.T, c kafkasource.Config) {
	t.Helper()
	x.source = opened(t, c, nil)
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	x.ended.Go(func() {
		var acks sync.WaitGroup
		defer acks.Wait()
		for ctx.Err() == nil {
			b, ack, err := x.source.Read(ctx, connector.Room{Messages: 50})
			if err != nil {
				if ctx.Err() == nil && fault.Of(err) != fault.Transient {
					return
				}
				continue
			}
			x.got.add(x.name, b)
			if x.hold {
				continue
			}
			acks.Go(func() {
				if x.late > 0 {
					time.Sleep(x.late)
				}
				_ = ack(context.Background(), nil)
			})
		}
	})
	t.Cleanup(func() { x.end(t) })
}

// end stops it in order, once what it read has settled.
func (x *instance) end(t *testing.T) {
	x.stop()
	x.ended.Wait()
	if err := x.source.Close(context.Background()); err != nil {
		t.Errorf("%s: %v", x.name, err)
	}
}

// TestARebalanceLosesNothingAndRepeatsNothing: a partition that goes elsewhere is drained and
// committed first (F1, F4, F9), and who stays goes on with the rest (F2).
func TestARebalanceLosesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	const partitions, each = 6, 30
	c := cluster(t, kfake.SeedTopics(partitions, "events"))
	var want [][]byte
	fill := func(from int) {
		for p := range partitions {
			ps := numbered(from+p*each, each)
			want = append(want, ps...)
			put(t, brokers(c), "events", int32(p), ps...)
		}
	}
	fill(0)
	got := newTally()
	conf := config(brokers(c), "events")
	conf.PartitionKey, conf.MaxPollRecords = "source", 20
	first := &instance{got: got, name: "first", late: 20 * time.Millisecond}
	first.run(t, conf)
	eventually(t, "the first one reads", func() bool { return got.of("first") > 0 })
	second := &instance{got: got, name: "second", late: 20 * time.Millisecond}
	second.run(t, conf)
	third := &instance{got: got, name: "third", late: 20 * time.Millisecond}
	third.run(t, conf)
	next := 0
	more := func() {
		next += 10_000
		fill(next)
	}
	eventually(t, "all have a share", func() bool {
		more()
		return got.of("second") > 0 && got.of("third") > 0
	})
	before := got.of("first")
	more()
	eventually(t, "the first one goes on with the rest", func() bool { return got.of("first") > before })
	second.end(t)
	more()
	eventually(t, "everything is read", func() bool { return len(got.missing(want)) == 0 })
	if _, again := got.seen(); again > 0 {
		t.Errorf("%d messages were read again, and every partition was drained before it went", again)
	}
}

// TestWhatIsNotSettledIsNotCommitted: whatever is in flight when a partition goes, or when the
// process ends, is read again by its next owner (F1, F8).
func TestWhatIsNotSettledIsNotCommitted(t *testing.T) {
	t.Parallel()
	for _, leave := range []string{"revoked", "closed"} {
		t.Run(leave, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.SeedTopics(4, "events"))
			var want [][]byte
			for p := range 4 {
				ps := numbered(p*100, 100)
				want = append(want, ps...)
				put(t, brokers(c), "events", int32(p), ps...)
			}
			conf := config(brokers(c), "events")
			conf.RebalanceTimeoutMillis = 1000
			got := newTally()
			hangs := &instance{got: newTally(), name: "hangs", hold: true}
			hangs.run(t, conf)
			eventually(t, "everything is in flight", func() bool { return hangs.got.of("hangs") == len(want) })
			next := &instance{got: got, name: "next"}
			if leave == "closed" {
				hangs.end(t)
			}
			next.run(t, conf)
			if leave == "revoked" {
				eventually(t, "what went is read again", func() bool { n, _ := got.seen(); return n >= 200 })
				hangs.end(t)
			}
			eventually(t, "everything is read again", func() bool { return len(got.missing(want)) == 0 })
		})
	}
}

// TestErrorsOfTheGroupPass: the source goes on after errors of every request that a membership
// is made of (F3), and reads nothing twice that was settled.
func TestErrorsOfTheGroupPass(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		key kmsg.Key
		err *kerr.Error
	}{
		{kmsg.OffsetCommit, kerr.RebalanceInProgress}, {kmsg.OffsetCommit, kerr.CoordinatorNotAvailable}, {kmsg.OffsetCommit, kerr.UnknownServerError},
		{kmsg.Heartbeat, kerr.RebalanceInProgress}, {kmsg.Heartbeat, kerr.UnknownMemberID}, {kmsg.Heartbeat, kerr.IllegalGeneration},
		{kmsg.JoinGroup, kerr.CoordinatorLoadInProgress}, {kmsg.SyncGroup, kerr.RebalanceInProgress}, {kmsg.OffsetFetch, kerr.NotCoordinator},
		{kmsg.Fetch, kerr.NotLeaderForPartition}, {kmsg.Fetch, kerr.UnknownServerError}, {kmsg.FindCoordinator, kerr.CoordinatorNotAvailable},
	} {
		t.Run(fmt.Sprint(x.key, " ", x.err.Message), func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.SeedTopics(2, "events"))
			conf := config(brokers(c), "events")
			conf.SessionTimeoutMillis = 6000
			got := newTally()
			one := &instance{got: got, name: "one"}
			at := c.Fault(kfake.Fault{Keys: []kmsg.Key{x.key}, Err: x.err, Count: 2})
			one.run(t, conf)
			want := numbered(0, 400)
			put(t, brokers(c), "events", 0, want[:200]...)
			put(t, brokers(c), "events", 1, want[200:]...)
			eventually(t, "everything is read", func() bool { return len(got.missing(want)) == 0 })
			eventually(t, "a request is met by the fault", func() bool { return at.Hits() > 0 })
			more := numbered(1000, 100)
			put(t, brokers(c), "events", 1, more...)
			eventually(t, "it goes on", func() bool { return len(got.missing(more)) == 0 })
		})
	}
}

// TestATopicThatComesLater is waited for, and said to be missing (F6).
func TestATopicThatComesLater(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	log := &notes{}
	s := opened(t, config(brokers(c), "events"), log.log())
	if !strings.Contains(log.String(), "no such topic") {
		t.Errorf("the log says %q", log)
	}
	checked := s.Check(t.Context())
	if fault.Of(checked) != fault.Setup || !strings.Contains(checked.Error(), "kafka-topics.sh --create --topic events") {
		t.Errorf("the check says %v", checked)
	}
	if err := c.CreateTopic("events", 3, nil); err != nil {
		t.Fatal(err)
	}
	put(t, brokers(c), "events", 2, numbered(0, 10)...)
	read(t, s, 10, true)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestATopicPattern reads what matches as a whole, and what comes to match.
func TestATopicPattern(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events-a", "events-b", "old-events-c"))
	conf := config(brokers(c), "events-.")
	conf.TopicPattern = true
	put(t, brokers(c), "events-a", 0, []byte("a"))
	put(t, brokers(c), "old-events-c", 0, []byte("c"))
	put(t, brokers(c), "events-b", 0, []byte("b"))
	s := opened(t, conf, nil)
	seen := strings.Join(texts(read(t, s, 2, true)), "")
	if seen != "ab" && seen != "ba" {
		t.Errorf("read %q, want a and b", seen)
	}
}

// TestOneInstanceID: of two processes with one instance_id, the older ends, and says why.
func TestOneInstanceID(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, "events"))
	conf := config(brokers(c), "events")
	conf.InstanceID, conf.SessionTimeoutMillis = "one", 6000
	put(t, brokers(c), "events", 0, numbered(0, 10)...)
	old := opened(t, conf, nil)
	read(t, old, 10, true)
	opened(t, conf, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, _, err := old.Read(ctx, connector.Room{})
		if err != nil && ctx.Err() != nil {
			t.Fatal("the older of two with one instance_id goes on")
		}
		if fault.Of(err) == fault.Fatal {
			if !errors.Is(err, kerr.FencedInstanceID) || !strings.Contains(err.Error(), "another process has the same instance_id") {
				t.Errorf("it ends with %v", err)
			}
			return
		}
	}
}

// TestAStaticMemberKeepsItsPartitions while it is started again: nobody else gets them, and it
// goes on where it was.
func TestAStaticMemberKeepsItsPartitions(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(2, "events"))
	conf := config(brokers(c), "events")
	conf.InstanceID = "one"
	put(t, brokers(c), "events", 0, numbered(0, 10)...)
	s := opened(t, conf, nil)
	read(t, s, 10, true)
	joins := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.LeaveGroup}, Observe: true, Count: -1})
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := joins.Hits(); n > 0 {
		t.Errorf("a static member left its group %d times", n)
	}
	put(t, brokers(c), "events", 1, numbered(10, 10)...)
	if got := texts(read(t, opened(t, conf, nil), 10, true)); got[0] != "payload 000010" {
		t.Errorf("it goes on with %q", got[0])
	}
}

// idleListener closes connections on which nothing came for a while, as load balancers do.
type idleListener struct {
	net.Listener
	after time.Duration
}

type idleConn struct {
	net.Conn
	after time.Duration
}

func (l idleListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return idleConn{c, l.after}, nil
}

func (c idleConn) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(c.after))
	return c.Conn.Read(p)
}

// TestConnectionsThatAreDroppedWhileIdle are made again without a word (F14).
func TestConnectionsThatAreDroppedWhileIdle(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return idleListener{l, 300 * time.Millisecond}, err
	}))
	conf := config(brokers(c), "events")
	conf.FetchMaxWaitMillis = 1000 // so that a fetch outlasts a connection
	log := &notes{}
	s := opened(t, conf, log.log())
	for i := range 3 {
		put(t, brokers(c), "events", 0, numbered(10*i, 10)...)
		read(t, s, 10, true)
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		if b, _, err := s.Read(ctx, connector.Room{}); len(b) > 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a read without messages: %d, %v", len(b), err)
		}
		cancel()
	}
	if text := log.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
		t.Errorf("the log says:\n%s", text)
	}
}

// TestAPipelineThatHangs leaves the group for another, and fails so that it is started again.
func TestAPipelineThatHangs(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"))
	conf := config(brokers(c), "events")
	conf.MaxProcessingMillis = 200
	put(t, brokers(c), "events", 0, numbered(0, 20)...)
	s := opened(t, conf, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, settled, err := s.Read(ctx, connector.Room{Messages: 10})
	if err != nil || len(b) != 10 {
		t.Fatal(len(b), err)
	}
	if err := settled(ctx, nil); err != nil {
		t.Fatal(err)
	}
	_, late, err := s.Read(ctx, connector.Room{Messages: 5})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil || fault.Of(err) == fault.Transient {
		if _, _, err = s.Read(ctx, connector.Room{Messages: 1}); err != nil && ctx.Err() != nil {
			t.Fatal("a source whose messages hang reads on")
		}
	}
	if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "max_processing_ms") || !strings.Contains(err.Error(), `topic "events", partition 0`) {
		t.Errorf("it fails with %v", err)
	}
	// Another takes over while the process is still there, after what was settled.
	conf.MaxProcessingMillis = 0
	if got := texts(read(t, opened(t, conf, nil), 10, true)); got[0] != "payload 000010" {
		t.Errorf("another goes on with %q", got[0])
	}
	if err := late(ctx, nil); err != nil {
		t.Errorf("what settles late: %v", err)
	}
}
