package kafkasource_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestFetchesAreOfWhatTheyComeTo: messages that are alike are fetched in small pieces, so that
// what they come to in memory is what the config says, and others in large ones.
func TestFetchesAreOfWhatTheyComeTo(t *testing.T) {
	t.Parallel()
	const n, size = 4000, 1000
	for _, alike := range []bool{true, false} {
		t.Run(fmt.Sprintf("alike %t", alike), func(t *testing.T) {
			t.Parallel()
			topic := fresh("fetches")
			c := cluster(t, kfake.SeedTopics(1, topic))
			cl := client(t, brokers(c), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.ProducerBatchMaxBytes(50_000))
			random := rand.NewChaCha8([32]byte{1})
			for i := range n {
				value := bytes.Repeat([]byte("x"), size)
				if !alike {
					if _, err := random.Read(value); err != nil {
						t.Fatal(err)
					}
				}
				cl.Produce(t.Context(), &kgo.Record{Value: append(value, fmt.Sprint(i)...)}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error(err)
					}
				})
			}
			if err := cl.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var asked []int32
			c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, r.(*kmsg.FetchRequest).MaxBytes)
				return nil, nil, false
			})
			conf := config(brokers(c), topic)
			s := opened(t, conf, nil)
			if b := read(t, s, n, true); len(b) != n {
				t.Fatalf("%d messages of %d", len(b), n)
			}
			put(t, brokers(c), topic, 0, []byte("one more")) // in a fetch of its own
			read(t, s, 1, true)
			mu.Lock()
			defer mu.Unlock()
			if len(asked) < 2 {
				t.Fatalf("%d fetches", len(asked))
			}
			last, most := asked[len(asked)-1], int32(conf.FetchMaxBytes)
			if alike && last > most/8 || !alike && last < most*9/10 {
				t.Errorf("fetches were asked for with %d bytes, of %d", asked, most)
			}
		})
	}
}
