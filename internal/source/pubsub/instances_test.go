package pubsubsource_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/connector"
	pubsubsource "github.com/weirdata/weir/internal/source/pubsub"
)

// asInstance is the variable that makes this program an instance that receives from an endpoint.
const asInstance = "WEIR_PUBSUB_INSTANCE"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(asInstance); endpoint != "" {
		if err := instance(endpoint); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// outstanding is how many messages an instance has at most.
const outstanding = 50

// instance receives until its standard input ends. A message is durable once its line is written.
func instance(endpoint string) error {
	made, err := pubsubsource.Entry.Build(context.Background(), connector.Deps{}, func(into any) error {
		c := into.(*pubsubsource.Config)
		c.ProjectID, c.SubscriptionID, c.Endpoint = pubsubtest.Project, "events", endpoint
		c.MaxOutstandingMessages, c.MinExtensionPeriodSeconds, c.StreamingPullGoroutines = outstanding, 10, 2
		return nil
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		stop()
	}()
	if err := made.Open(ctx); err != nil {
		return err
	}
	for {
		b, ack, err := made.Read(ctx, connector.Room{Messages: outstanding})
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		for _, m := range b {
			if _, err := fmt.Fprintln(os.Stdout, string(m.Data)); err != nil {
				return err
			}
		}
		if err := ack(context.Background(), nil); err != nil {
			return err
		}
	}
	return made.Close(context.Background())
}

// TestInstances: three processes share a subscription; under load one is killed and another comes,
// which has its share, and everything is there. No more comes twice than the one had.
func TestInstances(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	type line struct {
		of   int
		text string
	}
	lines := make(chan line, 1000)
	start := func(n int) (kill func(), stop func() error) {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), asInstance+"="+s.Endpoint())
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			for sc := bufio.NewScanner(out); sc.Scan(); {
				lines <- line{n, sc.Text()}
			}
		}()
		kill = func() { _ = cmd.Process.Kill(); <-read; _ = cmd.Wait() }
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return kill, func() error {
			_ = in.Close()
			<-read
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("%w: %s", err, said.String())
			}
			return nil
		}
	}
	kill, _ := start(0)
	_, stop := start(1)
	_, stopOther := start(2)
	var stopNew func() error
	var published, received atomic.Int64
	enough, done := make(chan struct{}), make(chan struct{})
	go func() { // no more at a time than a little beyond what all have room for, so that each new one finds some
		defer close(done)
		for n := int64(0); ; {
			select {
			case <-enough:
				return
			case <-time.After(time.Millisecond):
			}
			for ; n < received.Load()+6*outstanding; n++ {
				s.Publish(pubsubtest.Topic("events"), fmt.Appendf(nil, "message %06d", n), nil)
				published.Store(n + 1)
			}
		}
	}()
	seen, of := map[string]int{}, map[int]int{}
	take := func() {
		l := <-lines
		seen[l.text]++
		of[l.of]++
		received.Store(int64(len(seen)))
	}
	for of[0] <= 200 || of[1] <= 200 || of[2] <= 200 {
		take()
	}
	killed := make(chan struct{})
	go func() { kill(); close(killed) }() // what it has said by then is taken meanwhile
	_, stopNew = start(3)
	for of[3] <= 200 {
		take()
	}
	close(enough)
	<-done
	n := int(published.Load())
	for len(seen) < n {
		take()
	}
	<-killed
	// What the killed instance wrote and did not acknowledge comes to another one again.
	for patience := time.NewTimer(2 * time.Minute); acknowledged(s) < n; {
		select {
		case l := <-lines:
			seen[l.text]++
			of[l.of]++
		case <-time.After(10 * time.Millisecond):
		case <-patience.C:
			t.Fatalf("%d of %d messages are acknowledged", acknowledged(s), n)
		}
	}
	if err := errors.Join(stop(), stopOther(), stopNew()); err != nil {
		t.Error(err)
	}
	twice := 0
	for _, times := range seen {
		twice += times - 1
	}
	if twice > outstanding {
		t.Errorf("%d messages came twice, more than the %d that were in flight", twice, outstanding)
	}
	t.Logf("%v messages by instance, %d twice", of, twice)
}

// acknowledged is how many messages have been acknowledged at least once.
func acknowledged(s *pubsubtest.Server) int {
	n := 0
	for _, m := range s.Published("events") {
		n += min(m.Acks, 1)
	}
	return n
}
