package meter

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The store. A [Measured] store leaves the label store out, which is added for it.
var (
	storeInfo    = gauge("weir_store_info", "The store that is open. Where shared is true, all processes on it show the same numbers of queues and of the store: take max by (store, ...) before any sum.", "store", "shared")
	StoreBytes   = gauge("weir_store_bytes", "Bytes that the store takes. With PostgreSQL every process shows those of the whole schema: take max by (store).", "store")
	StoreLimit   = gauge("weir_store_limit_bytes", "max_bytes of the store, beyond which it refuses new messages; not there without one.", "store")
	StoreFree    = gauge("weir_store_free_bytes", "Bytes free on the disk of an embedded store.", "store")
	StoreMinFree = gauge("weir_store_min_free_bytes", "Bytes that must stay free on the disk of an embedded store; below, it refuses new messages.", "store")
	StoreFull    = gauge("weir_store_full", "1 while the store refuses new messages.", "store")
	storeUp      = gauge("weir_store_up", "1 when the queues could be counted at this scrape, 0 when the store did not answer: then their metrics are not there.", "store")
)

// PostgreSQL.
var (
	postgresBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	postgresSeconds = histogram(postgresBuckets, "weir_postgres_seconds", "Time an operation took in PostgreSQL, successful or not: commit (of a group of updates), follow (of the log of others), read (of messages), heartbeat.", "operation")

	PostgresErrors     = counter("weir_postgres_errors_total", "Operations that PostgreSQL did not do, or did not answer. Commits that another process forestalled are among them, and are repeated.", "store", "operation")
	PostgresReconnects = counter("weir_postgres_reconnects_total", "Connections to PostgreSQL that broke and were made again: of writers, readers or the listener.", "store", "session")
	PostgresHeartbeat  = gauge("weir_postgres_heartbeat_age_seconds", "How long ago PostgreSQL took a heartbeat of this process; beyond lease_seconds, others take over what it had.", "store")
	PostgresOwned      = gauge("weir_postgres_owned_partitions", "Partitions from which this process leases something. The sum over processes is at least the number of partitions, if all queues are read.", "store")
	PostgresPartitions = gauge("weir_postgres_partitions", "Partitions of the store: the same from every process.", "store")
	PostgresTaken      = counter("weir_postgres_takeovers_total", "Partitions that this process took over, from others or from nobody.", "store")
	PostgresLost       = counter("weir_postgres_lost_partitions_total", "Partitions that another process took from this one, which had not given them up: its heartbeat was late.", "store")
)

// Operation names what PostgreSQL is asked for.
type Operation int

// The operations that are timed.
const (
	Commit Operation = iota
	Follow
	ReadJobs
	Heartbeat
	operations
)

func (o Operation) String() string {
	return [...]string{"commit", "follow", "read", "heartbeat"}[o]
}

// Operations times operations in PostgreSQL. Make it with NewOperations.
type Operations struct {
	took   [operations]prometheus.Histogram
	failed [operations]moment // its number, not a time
}

// NewOperations makes histograms of all operations.
func NewOperations() *Operations {
	o := &Operations{}
	for i := range o.took {
		o.took[i] = postgresSeconds.Histogram(Operation(i).String())
	}
	return o
}

// Took notes an operation that began then.
func (o *Operations) Took(op Operation, began time.Time, err error) {
	o.took[op].Observe(time.Since(began).Seconds())
	if err != nil {
		o.failed[op].at.Add(1)
	}
}

// Measure shows the errors.
func (o *Operations) Measure(emit Emit) {
	for i := range o.failed {
		emit(PostgresErrors, float64(o.failed[i].at.Load()), Operation(i).String())
	}
}

// Histograms implements [Timed].
func (o *Operations) Histograms() []prometheus.Histogram { return o.took[:] }

// Timed is a store with histograms of its own.
type Timed interface{ Histograms() []prometheus.Histogram }

// Bool is 1 for true.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Totals of all processes that share a store, or of the one that has it alone.
var (
	clusterJobs   = gauge("weir_cluster_queue_jobs", "Messages in a queue, by state: open (neither done nor dead) and, of those, retrying; and dead. The total of the store, the same from every process on it: sum by (queue, state) (max by (store, queue, state) (...)).", "store", "queue", "state")
	clusterBytes  = gauge("weir_cluster_queue_bytes", "Bytes that the open and dead messages of a queue hold. The total of the store, the same from every process on it.", "store", "queue")
	clusterOldest = gauge("weir_cluster_queue_oldest_seconds", "How long ago the oldest open message came into a queue. On PostgreSQL each process knows the partitions that it keeps: take max by (store, queue).", "store", "queue")
	byDestination = lane{
		jobs:   gauge("weir_cluster_destination_jobs", "The same as weir_cluster_queue_jobs for each destination that has some; those beyond 1000 of a queue, the smallest, share the label other.", "store", "queue", "destination", "state"),
		oldest: gauge("weir_cluster_destination_oldest_seconds", "How long ago the oldest open message for a destination came into a queue: take max by (store, queue, destination).", "store", "queue", "destination"),
	}
	bySource = lane{
		jobs:   gauge("weir_cluster_source_jobs", "The same as weir_cluster_queue_jobs for each source of the workspace config that has some; those beyond 1000 of a queue share the label other.", "store", "queue", "source", "state"),
		oldest: gauge("weir_cluster_source_oldest_seconds", "How long ago the oldest open message of a source came into a queue: take max by (store, queue, source).", "store", "queue", "source"),
	}
)

// lane is what is told of each value of a part of the scope.
type lane struct{ jobs, oldest *Definition }

// Backlog is what a queue holds for a destination and source.
type Backlog struct {
	Queue, Source, Destination string
	Open, Retrying, Dead       int64
	Bytes                      int64
	Age                        time.Duration // of the oldest open message; below 0: not known
}

func (b *Backlog) join(o *Backlog) {
	b.Open, b.Retrying, b.Dead, b.Bytes = b.Open+o.Open, b.Retrying+o.Retrying, b.Dead+o.Dead, b.Bytes+o.Bytes
	b.Age = max(b.Age, o.Age)
}

// Store is what a scrape shows of the store that is open.
type Store struct {
	Name   string
	Shared bool
	Up     bool
	Counts []Backlog
	// Own has numbers of its own; nil when it has not.
	Own any
}

// Stores shows the store at each scrape. Its value finds it; false when none is open.
type Stores func() (Store, bool)

// Describe implements prometheus.Collector.
func (s Stores) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s Stores) Collect(ch chan<- prometheus.Metric) {
	st, open := s()
	if !open {
		return
	}
	emit := func(d *Definition, v float64, labels ...string) {
		ch <- d.metric(v, append([]string{st.Name}, labels...)...)
	}
	shared := "false"
	if st.Shared {
		shared = "true"
	}
	emit(storeInfo, 1, shared)
	emit(storeUp, Bool(st.Up))
	if m, can := st.Own.(Measured); can {
		m.Measure(emit)
	}
	if t, can := st.Own.(Timed); can {
		for _, h := range t.Histograms() {
			ch <- h
		}
	}
	byQueue := map[string][]Backlog{}
	for _, b := range st.Counts {
		byQueue[b.Queue] = append(byQueue[b.Queue], b)
	}
	for q, all := range byQueue {
		total := Backlog{Age: -1}
		for i := range all {
			total.join(&all[i])
		}
		total.emit(func(d *Definition, v float64, labels ...string) { emit(d, v, append([]string{q}, labels...)...) }, lane{clusterJobs, clusterOldest})
		emit(clusterBytes, float64(total.Bytes), q)
		byDestination.emit(emit, q, all, func(b *Backlog) string { return b.Destination })
		bySource.emit(emit, q, all, func(b *Backlog) string { return b.Source })
	}
}

func (b *Backlog) emit(emit Emit, as lane) {
	emit(as.jobs, float64(b.Open), "open")
	emit(as.jobs, float64(b.Retrying), "retrying")
	emit(as.jobs, float64(b.Dead), "dead")
	if b.Open > 0 && b.Age >= 0 {
		emit(as.oldest, b.Age.Seconds())
	}
}

// emit shows the backlog of each value, the largest if there are many.
func (l lane) emit(emit Emit, q string, all []Backlog, of func(*Backlog) string) {
	at := map[string]int{}
	var sums []Backlog
	for i := range all {
		name := Label(of(&all[i]))
		if name == "" {
			continue
		}
		k, known := at[name]
		if !known {
			k = len(sums)
			at[name] = k
			sums = append(sums, Backlog{Destination: name, Age: -1})
		}
		sums[k].join(&all[i])
	}
	slices.SortFunc(sums, func(a, b Backlog) int {
		if n := (b.Open + b.Dead) - (a.Open + a.Dead); n != 0 {
			return int(max(min(n, 1), -1))
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	if len(sums) > MaxLabels {
		other := Backlog{Destination: Other, Age: -1}
		kept := sums[:0]
		for i := range sums {
			if len(kept) < MaxLabels && sums[i].Destination != Other {
				kept = append(kept, sums[i])
				continue
			}
			other.join(&sums[i])
		}
		sums = append(kept, other)
	}
	for i := range sums {
		s := &sums[i]
		s.emit(func(d *Definition, v float64, labels ...string) {
			emit(d, v, append([]string{q, s.Destination}, labels...)...)
		}, l)
	}
}
