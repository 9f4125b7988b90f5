package kafkatarget_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/faultproxy"
	"github.com/weirdata/weir/internal/kafka"
)

// TestGuardedBroker: a broker of Apache Kafka that wants TLS and a signature takes messages, or
// says why not; and whatever becomes of the connections to it, each message is there once.
func TestGuardedBroker(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.NewTCP(t, "")
	b := enginetest.GuardedKafka(t, proxy.Address)
	proxy.To(b.Through)
	t.Run("signed", func(t *testing.T) { signedWrites(t, b) })
	t.Run("idempotent", func(t *testing.T) { writesThrough(t, b, proxy) })
	t.Run("transactional", func(t *testing.T) { movesThrough(t, b, proxy) })
}

func signedWrites(t *testing.T, b *enginetest.GuardedBroker) {
	name := topic(t, b.Plain, 1, nil)
	signed := kafka.Connection{Brokers: b.Signed, EnableTLS: true, CAFile: b.Authority, EnableSASL: true, SASLUsername: b.User, SASLPassword: b.Password}
	var connections []kafka.Connection
	for _, algorithm := range []string{"plaintext", "sha256", "sha512"} {
		signed.SASLAlgorithm = algorithm
		connections = append(connections, signed)
	}
	connections = append(connections, kafka.Connection{Brokers: b.Mutual, EnableTLS: true, CAFile: b.Authority, CertFile: b.Certificate, KeyFile: b.Key, SASLAlgorithm: "sha512"})
	var want []string
	for i, c := range connections {
		conf := config("", name)
		conf.Connection = c
		want = append(want, fmt.Sprint("message ", i))
		if failed := failures(write(t, opened(t, connector.Deps{}, conf), message(want[i]))); len(failed) > 0 {
			t.Errorf("%s: %v", c.SASLAlgorithm, failed)
		}
	}
	var got []string
	for _, r := range records(t, b.Plain, name, len(want)) {
		got = append(got, string(r.Value))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	conf := config("", name)
	conf.Connection = signed
	conf.Connection.SASLAlgorithm, conf.Connection.SASLUsername = "plaintext", b.Stranger
	if err := newTarget(t, connector.Deps{}, conf).Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "give the user the permission") {
		t.Errorf("somebody who may nothing: %v", err)
	}
	// Who may see a topic may not write to it yet.
	acl := kadm.NewACLs().Allow("User:" + b.Stranger).AllowHosts().Topics(name).Operations(kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
	plain, err := kgo.NewClient(kgo.SeedBrokers(b.Plain))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := kadm.NewClient(plain).CreateACLs(t.Context(), acl); err != nil {
		t.Fatal(err)
	}
	writes := fmt.Sprintf("the user may not write to topic %q", name)
	for end := time.Now().Add(3 * time.Minute); !strings.Contains(fmt.Sprint(err), writes) && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		err = newTarget(t, connector.Deps{}, conf).Check(t.Context()) // the broker has the permission a moment after it was given
	}
	if fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), writes) || !strings.Contains(err.Error(), "--operation Write") {
		t.Errorf("somebody who may only look: %v", err)
	}
	conf.Transactional = true
	if err := newTarget(t, connector.Deps{}, conf).Check(t.Context()); !strings.Contains(fmt.Sprint(err), "transactional id") {
		t.Errorf("somebody who may use no transactional id: %v", err)
	}
}

// disturb does to the connections of a proxy what networks do, until it is stopped.
func disturb(p *faultproxy.TCP) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			switch rand.IntN(6) {
			case 0:
				p.Cut()
			case 1:
				p.Freeze()
			case 2:
				p.Delay(20 * time.Millisecond)
			case 3:
				p.CutAfter(faultproxy.ToClient, 0) // an answer is lost
			case 4:
				p.Refuse()
				p.Cut()
			case 5:
				p.FreezeTo(faultproxy.ToClient)
			}
			wait(ctx, rand.N(150*time.Millisecond))
			p.Thaw()
			p.Delay(0)
			p.Accept()
			p.CutAfter(faultproxy.ToClient, -1)
			wait(ctx, rand.N(150*time.Millisecond))
		}
	})
	return sync.OnceFunc(func() { cancel(); busy.Wait() })
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// writesThrough writes with answers lost and connections cut: the idempotent producer has each
// message once, those of a key in their order.
func writesThrough(t *testing.T, b *enginetest.GuardedBroker, proxy *faultproxy.TCP) {
	name := topic(t, b.Plain, 3, nil)
	to := opened(t, connector.Deps{}, config(proxy.Address, name))
	stop := disturb(proxy)
	defer stop()
	const keys, enough = 7, 25 // connections
	var batch event.Batch
	flush := func() {
		for end := time.Now().Add(patience); len(batch) > 0; {
			err := write(t, to, batch...)
			failed := failures(err)
			if time.Now().After(end) || err != nil && failed == nil {
				t.Fatalf("%d messages are not written: %v", len(batch), err)
			}
			var again event.Batch
			for i, m := range batch {
				if err := failed[i]; err != nil {
					if k := fault.Of(err); k == fault.Invalid || k == fault.Setup || k == fault.Fatal {
						t.Fatalf("%s: %v", m.Data, err)
					}
					again = append(again, m)
				}
			}
			batch = again
		}
	}
	n := 0
	for before := proxy.Opened(); n < 1500 || proxy.Opened() < before+enough; n++ {
		m := message(fmt.Sprintf("%08d", n))
		m.Key = fmt.Sprint("key ", n%keys)
		if batch = append(batch, m); len(batch) == 50 {
			flush()
		}
	}
	flush()
	stop()
	last := map[string]string{}
	seen := map[string]int{}
	for _, r := range records(t, b.Plain, name, n) {
		seen[string(r.Value)]++
		if string(r.Value) <= last[string(r.Key)] {
			t.Errorf("%s: %s comes behind %s", r.Key, r.Value, last[string(r.Key)])
		}
		last[string(r.Key)] = string(r.Value)
	}
	if len(seen) != n {
		t.Errorf("%d of %d messages are there", len(seen), n)
	}
	t.Logf("%d messages, %d connections were opened", n, proxy.Opened())
}

// movesThrough reads and writes in transactions while connections break: each message is in the
// other topic once.
func movesThrough(t *testing.T, b *enginetest.GuardedBroker, proxy *faultproxy.TCP) {
	from, to := topic(t, b.Plain, 3, nil), topic(t, b.Plain, 2, nil)
	const n = 3000
	want := feed(t, b.Plain, from, n, 500, 0)
	m := newMover(t, proxy.Address, "group-"+from, from, to, func() error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	stop := disturb(proxy)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.run(ctx)
	}()
	once(t, b.Plain, to, want)
	stop()
	cancel()
	<-done
	t.Logf("%d connections were opened", proxy.Opened())
}
