package queue_test

import (
	"testing"

	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/queue"
)

// TestWriteBytes: where memory is limited, Updates are smaller, but hold what is worth one.
func TestWriteBytes(t *testing.T) {
	defer memorylimit.Set(memorylimit.Current())
	for limit, want := range map[int64]int{0: 32 << 20, 64 << 20: 4 << 20, 256 << 20: 8 << 20, 512 << 20: 16 << 20, 16 << 30: 32 << 20} {
		memorylimit.Set(memorylimit.Limit{Bytes: limit})
		if got := queue.WriteBytes(); got != want {
			t.Errorf("with a limit of %d: %d, want %d", limit, got, want)
		}
	}
}
