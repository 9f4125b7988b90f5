package meter

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Type is what kind of numbers a metric has.
type Type string

// The types of metrics.
const (
	TypeCounter   Type = "counter"
	TypeGauge     Type = "gauge"
	TypeHistogram Type = "histogram"
)

// Definition is a metric: what the page about all of them says. Names and meaning last;
// dashboards and alerts are built on them.
type Definition struct {
	Name   string
	Type   Type
	Labels []string
	// Help is what it counts, and, where every process that shares a store shows the same
	// number, how they are put together.
	Help string

	desc    *prometheus.Desc
	buckets []float64
}

// units are the ends of names that say a unit, longest first.
var units = []struct{ end, unit string }{
	{"_timestamp_seconds", "seconds since 1970"}, {"_seconds", "seconds"}, {"_bytes", "bytes"}, {"_messages", "messages"},
	{"_jobs", "messages"}, {"_unread", "messages"}, {"_rows", "rows"}, {"_files", "files"}, {"_partitions", "partitions"}, {"_info", "always 1"},
}

// Unit is what it is counted in; "" where the name says what is counted.
func (d *Definition) Unit() string {
	name := strings.TrimSuffix(d.Name, "_total")
	for _, u := range units {
		if strings.HasSuffix(name, u.end) {
			return u.unit
		}
	}
	return ""
}

// metric is a value of a counter or a gauge.
func (d *Definition) metric(v float64, labels ...string) prometheus.Metric {
	kind := prometheus.GaugeValue
	if d.Type == TypeCounter {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(d.desc, kind, v, labels...)
}

// Histogram is a histogram of the metric, with fixed values of its labels. It may be observed
// by many goroutines at once.
func (d *Definition) Histogram(labels ...string) prometheus.Histogram {
	fixed := prometheus.Labels{}
	for i, name := range d.Labels {
		fixed[name] = labels[i] //nolint:gosec // as many as there are names, as for every metric
	}
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: d.buckets, ConstLabels: fixed})
}

// Emit takes a number of a metric, with the values of its labels.
type Emit func(d *Definition, v float64, labels ...string)

// Measured is what has numbers of its own: a connector, whose metrics have the labels pipeline
// and component before its own, which it leaves out, or a store. Measure is called at each
// scrape, by several goroutines; it returns soon and waits for no network.
type Measured interface{ Measure(emit Emit) }

// Definitions are all metrics, by name, but for those of Go and the process, which are the
// Prometheus client's.
func Definitions() []*Definition {
	all := slices.Clone(definitions)
	slices.SortFunc(all, func(a, b *Definition) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// definitions are those below, and in the files beside this one, which [define] adds.
var definitions []*Definition

func define(t Type, name, help string, labels ...string) *Definition {
	d := &Definition{Name: name, Type: t, Help: help, Labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
	definitions = append(definitions, d)
	return d
}

func counter(name, help string, labels ...string) *Definition {
	return define(TypeCounter, name, help, labels...)
}

func gauge(name, help string, labels ...string) *Definition {
	return define(TypeGauge, name, help, labels...)
}

func histogram(buckets []float64, name, help string, labels ...string) *Definition {
	d := define(TypeHistogram, name, help, labels...)
	d.buckets = buckets
	return d
}
