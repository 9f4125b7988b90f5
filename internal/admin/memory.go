package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/meter"
)

// memoryLimit is how much memory the process may take, and whether it is short.
func memoryLimit() prometheus.Collector {
	return meter.Memory(func() (limit int64, short bool) {
		return memorylimit.Current().Bytes, memorylimit.Short() != nil
	})
}
