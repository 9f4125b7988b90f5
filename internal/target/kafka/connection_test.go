package kafkatarget_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// network is where a cluster listens, whose connections a test cuts, freezes and slows down.
type network struct {
	mu     sync.Mutex
	open   map[*conn]bool
	frozen atomic.Bool
	delay  atomic.Int64 // before each answer
	lost   atomic.Bool  // answers are dropped, and their connections cut
}

type listener struct {
	net.Listener
	n *network
}

type conn struct {
	net.Conn
	n      *network
	closed chan struct{}
	once   sync.Once
}

func (n *network) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return listener{l, n}, err
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	x := &conn{Conn: c, n: l.n, closed: make(chan struct{})}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.open == nil {
		l.n.open = map[*conn]bool{}
	}
	l.n.open[x] = true
	return x, nil
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.n.mu.Lock()
	delete(c.n.open, c)
	c.n.mu.Unlock()
	return c.Conn.Close()
}

// Write is an answer of the cluster.
func (c *conn) Write(p []byte) (int, error) {
	if c.n.lost.Load() {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	for c.n.frozen.Load() {
		select {
		case <-c.closed:
			return 0, io.ErrClosedPipe
		case <-time.After(10 * time.Millisecond):
		}
	}
	if d := c.n.delay.Load(); d > 0 {
		select {
		case <-c.closed:
			return 0, io.ErrClosedPipe
		case <-time.After(time.Duration(d)):
		}
	}
	return c.Conn.Write(p)
}

// cut ends every connection.
func (n *network) cut() {
	n.mu.Lock()
	var all []*conn
	for c := range n.open {
		all = append(all, c)
	}
	n.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// TestTroubleOnTheNetwork: whatever connections do, a message is written once, in the order of
// its key, and nothing is lost; answers that are lost are waited for, or asked for again.
func TestTroubleOnTheNetwork(t *testing.T) {
	t.Parallel()
	n := &network{}
	c := cluster(t, kfake.SeedTopics(3, "events"), kfake.ListenFn(n.listen))
	to := opened(t, connector.Deps{}, config(brokers(c), "events"))
	stop := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() {
		for {
			pause := rand.N(100 * time.Millisecond)
			switch rand.IntN(4) {
			case 0:
				n.cut()
			case 1:
				n.frozen.Store(true)
			case 2:
				n.delay.Store(int64(20 * time.Millisecond))
			case 3:
				n.lost.Store(true)
			}
			select {
			case <-stop:
				pause = 0
			case <-time.After(pause):
			}
			n.frozen.Store(false)
			n.delay.Store(0)
			n.lost.Store(false)
			if pause == 0 {
				return
			}
			select {
			case <-stop:
			case <-time.After(rand.N(60 * time.Millisecond)):
			}
		}
	})
	const writers, batches, size = 4, 25, 20
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for k := range batches {
				var b event.Batch
				for i := range size {
					m := message(fmt.Sprintf("%d %06d", w, k*size+i))
					m.Key = fmt.Sprintf("writer %d", w)
					b = append(b, m)
				}
				for len(b) > 0 { // as the engine does
					failed := failures(write(t, to, b...))
					var again event.Batch
					for i, m := range b {
						if err := failed[i]; err != nil {
							if fault.Of(err) != fault.Transient {
								t.Errorf("write: %v", err)
							}
							again = append(again, m)
						}
					}
					b = again
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	trouble.Wait()
	next := map[byte]int{}
	seen := map[string]bool{}
	for _, r := range records(t, brokers(c), "events", writers*batches*size) {
		text := string(r.Value)
		if seen[text] {
			t.Errorf("%q was written twice", text)
		}
		seen[text] = true
		if want := fmt.Sprintf("%c %06d", text[0], next[text[0]]); text != want {
			t.Fatalf("%q came in the place of %q", text, want)
		}
		next[text[0]]++
	}
	high := int64(0)
	for _, p := range c.PartitionInfos("events") {
		high += p.HighWatermark
	}
	if high != writers*batches*size {
		t.Errorf("the topic has %d records, want %d", high, writers*batches*size)
	}
}

// TestNobodyThere: what cannot be sent fails after delivery_timeout_ms, so that the engine
// takes over, and is written once somebody is there again.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	n := &network{}
	c := cluster(t, kfake.SeedTopics(1, "events"), kfake.ListenFn(n.listen))
	conf := config(brokers(c), "events")
	conf.DeliveryTimeoutMillis = 1000
	to := opened(t, connector.Deps{}, conf)
	n.lost.Store(true)
	n.cut()
	failed := failures(write(t, to, message("a"), message("b")))
	if len(failed) != 2 || fault.Of(failed[0]) != fault.Transient {
		t.Errorf("failures %v", failed)
	}
	n.lost.Store(false)
	for failures(write(t, to, message("a"))) != nil {
	}
	if high := c.PartitionInfo("events", 0).HighWatermark; high != 1 {
		t.Errorf("the topic has %d records, want 1", high)
	}
}
