package kafkasource

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// TestFetchSizeFollowsCompression: whatever batches there were, a fetch is asked for within its
// limits; and once batches are of one kind, for what comes to fetch_max_bytes of them.
func TestFetchSizeFollowsCompression(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := Config{FetchMaxBytes: rapid.IntRange(1024, 64<<20).Draw(t, "most")}
		c.FetchMaxPartitionBytes = rapid.IntRange(1024, c.FetchMaxBytes).Draw(t, "part")
		f := newFetchSize(c)
		batch := func(stored, unpacked int) {
			f.OnFetchBatchRead(kgo.BrokerMetadata{}, "events", 0, kgo.FetchBatchMetrics{CompressedBytes: stored, UncompressedBytes: unpacked})
			most, part := f.limits()
			if least := min(leastFetch, c.FetchMaxBytes); int(most) > c.FetchMaxBytes || int(most) < least || part > most || int(part) > c.FetchMaxPartitionBytes {
				t.Fatalf("a fetch of %d bytes, %d of a partition: of %d to %d, and at most %d", most, part, least, c.FetchMaxBytes, c.FetchMaxPartitionBytes)
			}
		}
		for range rapid.IntRange(0, 20).Draw(t, "batches") {
			batch(rapid.IntRange(-1, 1<<20).Draw(t, "stored"), rapid.IntRange(-1, 8<<20).Draw(t, "unpacked"))
		}
		ratio := rapid.IntRange(1, 50).Draw(t, "ratio")
		const stored = 100_000
		for range 20 * fetchMemory / stored / ratio {
			batch(stored, stored*ratio)
		}
		most, _ := f.limits()
		if want := min(max(c.FetchMaxBytes/ratio, leastFetch), c.FetchMaxBytes); float64(most) < 0.9*float64(want) || float64(most) > 1.1*float64(want)+1 {
			t.Fatalf("a fetch of %d bytes where %d times as much comes of it, for %d", most, ratio, c.FetchMaxBytes)
		}
	})
}
