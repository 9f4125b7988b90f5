package postgres

import (
	"fmt"
	"testing"

	"github.com/weirdata/weir/internal/queue/storetest"
)

func TestModel(t *testing.T) {
	t.Parallel()
	tests := []struct {
		o      Options
		window int
	}{
		{Options{}, 0},
		{Options{Partitions: 4}, 8},
		{Options{Partitions: 3, CacheBytes: -1, SegmentBytes: 16 << 10}, 0},
		{Options{Partitions: 1, CacheBytes: -1, SegmentBytes: 16 << 10}, 8},
	}
	for i, tt := range tests {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%d/seed=%d", i, seed), func(t *testing.T) {
				t.Parallel()
				storetest.Model(t, backend(tt.o), 10*uint64(i)+seed, 300, tt.window)
			})
		}
	}
}
