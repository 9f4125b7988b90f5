package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/memorylimit"
)

// memoryLimit is how much memory the process may take, and whether it is short.
func memoryLimit() prometheus.Collector { return limits{} }

var (
	limitDesc = prometheus.NewDesc("weir_memory_limit_bytes", "Memory that the process may take, as GOMEMLIMIT, memory_limit_bytes or the container says; 0 is no limit.", nil, nil)
	shortDesc = prometheus.NewDesc("weir_memory_short", "1 while new work is put off or refused, since what is in use comes near the memory limit.", nil, nil)
)

type limits struct{}

// Describe implements prometheus.Collector.
func (limits) Describe(ch chan<- *prometheus.Desc) { ch <- limitDesc; ch <- shortDesc }

// Collect implements prometheus.Collector.
func (limits) Collect(ch chan<- prometheus.Metric) {
	short := 0.0
	if memorylimit.Short() != nil {
		short = 1
	}
	ch <- prometheus.MustNewConstMetric(limitDesc, prometheus.GaugeValue, float64(memorylimit.Current().Bytes))
	ch <- prometheus.MustNewConstMetric(shortDesc, prometheus.GaugeValue, short)
}
