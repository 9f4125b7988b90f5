package kafkasource

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// leastFetch is the least that a fetch is asked for, where fetch_max_bytes is not less.
	leastFetch = 64 << 10
	// firstFetch is the first one: what the batches come to is not known yet.
	firstFetch = 512 << 10
	// fetchMemory is how many bytes of batches, decompressed, the ratio is of.
	fetchMemory = 8 << 20
)

// fetchSize asks brokers for as much as comes to fetch_max_bytes once it is decompressed, by how
// the batches of late were compressed. Brokers count what they store, and what a fetch takes in
// memory is many times that where messages are alike. A batch is never cut: a fetch has at least
// one, whatever its size.
type fetchSize struct {
	most, part int // of a fetch, and of one partition in it

	mu               sync.Mutex
	client           *kgo.Client
	stored, unpacked float64 // of the batches of late
}

func newFetchSize(c Config) *fetchSize {
	return &fetchSize{most: c.FetchMaxBytes, part: c.FetchMaxPartitionBytes}
}

// options are those of a client whose fetches it sizes.
func (f *fetchSize) options() []kgo.Opt {
	most, part := f.limits()
	return []kgo.Opt{kgo.WithHooks(f), kgo.FetchMaxBytes(most), kgo.FetchMaxPartitionBytes(part)}
}

// limits are what the next fetch asks for.
func (f *fetchSize) limits() (most, part int32) {
	n := min(f.most, firstFetch)
	if f.unpacked > 0 {
		ratio := max(f.unpacked/max(f.stored, 1), 1)
		n = min(f.most, max(int(float64(f.most)/ratio), leastFetch))
	}
	return int32(n), int32(min(n, f.part))
}

// OnNewClient implements kgo.HookNewClient.
func (f *fetchSize) OnNewClient(cl *kgo.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client = cl
}

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (f *fetchSize) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.learn(m.CompressedBytes, m.UncompressedBytes)
	if f.client != nil {
		f.client.UpdateFetchMaxBytes(f.limits())
	}
}

// learn notes a batch. What is known of older ones counts for less with each.
func (f *fetchSize) learn(stored, unpacked int) {
	if stored <= 0 || unpacked <= 0 {
		return
	}
	f.stored, f.unpacked = f.stored+float64(stored), f.unpacked+float64(unpacked)
	if f.unpacked > fetchMemory {
		f.stored, f.unpacked = f.stored*fetchMemory/f.unpacked, fetchMemory
	}
}

var (
	_ kgo.HookNewClient      = (*fetchSize)(nil)
	_ kgo.HookFetchBatchRead = (*fetchSize)(nil)
)
