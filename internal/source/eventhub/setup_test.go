package eventhubsource_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/queue"
	eventhubsource "github.com/weirdata/weir/internal/source/eventhub"
)

// options is a source in a test.
type options struct {
	hub       enginetest.EventHub
	store     queue.Store
	container string // URL; empty keeps checkpoints in store
	log       *slog.Logger
}

// source makes a source that is as quick as it can be.
func (o options) source(t testing.TB, change func(c *eventhubsource.Config)) *eventhubsource.Source {
	t.Helper()
	s, err := eventhubsource.Entry.Build(context.Background(), connector.Deps{Store: func() queue.Store { return o.store }, Log: o.log}, func(into any) error {
		c := into.(*eventhubsource.Config)
		c.Namespace, c.Name = "emulator", o.hub.Name
		c.Credentials = &azure.Credentials{ConnectionString: o.hub.ConnectionString()}
		c.BalanceIntervalMillis, c.OwnershipExpiryMillis, c.CheckpointIntervalMillis = 200, 3000, 50
		if o.container != "" {
			_, key := enginetest.AzuriteAccount()
			c.Checkpoints = &eventhubsource.Checkpoints{ContainerURL: o.container, AccountKey: key}
		}
		if change != nil {
			change(c)
		}
		var ps []string
		for _, p := range c.Validate() {
			ps = append(ps, p.Field+": "+p.What)
		}
		if len(ps) > 0 {
			return errors.New(strings.Join(ps, "; "))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*eventhubsource.Source)
}

// newContainer makes a container of a test's own and returns its URL.
func newContainer(t testing.TB) string {
	t.Helper()
	account, key := enginetest.AzuriteAccount()
	at := fmt.Sprintf("%s/%s/test-%x", enginetest.Azurite(t), account, rand.Uint64())
	requests := httpclient.New(httpclient.Options{})
	defer requests.Close()
	c, err := azure.ContainerName{URL: at, AccountKey: key, Client: requests.HTTP()}.Container()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return at
}

// put sends payloads to the first partition with the SDK, in their order.
func put(t testing.TB, hub enginetest.EventHub, payloads [][]byte) {
	t.Helper()
	if len(payloads) == 0 {
		return
	}
	events := make([]*azeventhubs.EventData, len(payloads))
	for i, p := range payloads {
		events[i] = &azeventhubs.EventData{Body: p}
	}
	send(t, hub, &azeventhubs.EventDataBatchOptions{PartitionID: new("0")}, events...)
}

// send sends events with the SDK.
func send(t testing.TB, hub enginetest.EventHub, o *azeventhubs.EventDataBatchOptions, events ...*azeventhubs.EventData) {
	t.Helper()
	p, err := azeventhubs.NewProducerClientFromConnectionString(hub.ConnectionString(), hub.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(context.Background()) }()
	for len(events) > 0 {
		b, err := p.NewEventDataBatch(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for n < len(events) {
			if err := b.AddEventData(events[n], nil); err != nil {
				break
			}
			n++
		}
		if err := p.SendEventDataBatch(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
		events = events[n:]
	}
}

// patience is for a slow machine.
const patience = 3 * time.Minute

// opened opens a source, and closes it at the end of the test.
func opened(t testing.TB, s *eventhubsource.Source) *eventhubsource.Source {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// got is messages that were read, with what acknowledges them.
type got struct {
	batch event.Batch
	ack   connector.Ack
}

// read reads n messages.
func read(t testing.TB, s *eventhubsource.Source, n int) (gots []got) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for have := 0; have < n; {
		b, ack, err := s.Read(ctx, connector.Room{Messages: 500})
		if ctx.Err() != nil {
			t.Fatalf("read %d of %d messages: %v", have, n, err)
		}
		if err != nil {
			t.Logf("read: %v", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		have += len(b)
		gots = append(gots, got{b, ack})
	}
	return gots
}

func acked(t testing.TB, gots []got) {
	t.Helper()
	for _, g := range gots {
		if err := g.ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func texts(gots []got) (ps []string) {
	for _, g := range gots {
		for _, m := range g.batch {
			ps = append(ps, string(m.Data))
		}
	}
	return ps
}

// until waits until something is so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}
