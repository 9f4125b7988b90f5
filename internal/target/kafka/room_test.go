package kafkatarget

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// TestRoomToSend: what is more than there is room for to send waits, from several writes at once, and
// all of it arrives.
func TestRoomToSend(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "events"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	c := defaults()
	c.Connection.Brokers, c.TopicName = strings.Join(cluster.ListenAddrs(), ","), "events"
	to, err := New(connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	if most := c.Batching.MaxMessageBytes; to.room < 2*most {
		t.Fatalf("there is room for %d bytes, and messages may have %d", to.room, most)
	}
	to.room = 4 << 10
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := to.Open(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = to.Close(context.WithoutCancel(ctx)) }()
	const writes, each = 5, 40
	var wg sync.WaitGroup
	for range writes {
		wg.Go(func() {
			b := make(event.Batch, each)
			for i := range b {
				b[i] = event.New([]byte(strings.Repeat("x", 1000)))
			}
			if err := to.Write(ctx, b); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for n := 0; n < writes*each; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", n, writes*each, err)
		}
		n += fetches.NumRecords()
	}
}

// TestTopicNames: topics may be called what brokers allow.
func TestTopicNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("x", 249): true, strings.Repeat("x", 250): false, "": false, "a b": false, "ä": false, "a/b": false, "a\n": false,
	} {
		if isTopic(name) != want {
			t.Errorf("the topic %.40q: %t", name, !want)
		}
	}
}
