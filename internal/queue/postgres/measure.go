package postgres

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/meter"
)

// figures is what the metrics say of the store beside its queues.
type figures struct {
	operations *meter.Operations
	beat       atomic.Int64 // when a heartbeat was taken last; ns since born
	taken      atomic.Int64 // partitions
	lost       atomic.Int64
	writers    atomic.Int64 // connections of writers that were made again
	listens    atomic.Int64 // connections of the listener
	readers    atomic.Int64 // the most that were seen to have broken
	bytes      atomic.Int64 // of the store; 0 before it was measured
}

// timed notes an operation that ends now.
func (s *Store) timed(op meter.Operation, began time.Time, err error) {
	s.figures.operations.Took(op, began, err)
}

// Histograms implements meter.Timed.
func (s *Store) Histograms() []prometheus.Histogram { return s.figures.operations.Histograms() }

// Measure implements meter.Measured.
func (s *Store) Measure(emit meter.Emit) {
	if s.state.Load() != stateOpen {
		return
	}
	f := &s.figures
	f.operations.Measure(emit)
	emit(meter.PostgresHeartbeat, max(time.Since(s.born)-time.Duration(f.beat.Load()), 0).Seconds())
	emit(meter.PostgresPartitions, float64(len(s.owned)))
	owned := 0
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil && len(o.queues()) > 0 && !o.leaving.Load() {
			owned++
		}
	}
	emit(meter.PostgresOwned, float64(owned))
	emit(meter.PostgresTaken, float64(f.taken.Load()))
	emit(meter.PostgresLost, float64(f.lost.Load()))
	emit(meter.PostgresReconnects, float64(f.writers.Load()), "writer")
	emit(meter.PostgresReconnects, float64(max(f.listens.Load()-1, 0)), "listener")
	emit(meter.PostgresReconnects, float64(s.brokenReaders()), "reader")
	if n := f.bytes.Load(); n > 0 {
		emit(meter.StoreBytes, float64(n))
	}
	if s.tuned().MaxBytes > 0 {
		emit(meter.StoreLimit, float64(s.tuned().MaxBytes))
	}
	emit(meter.StoreFull, meter.Bool(s.full.Load()))
}

// brokenReaders is how many connections of the pool have broken: those that were made, but for
// those that are there and those that the pool itself has ended. A sum of numbers of different
// moments may go back a little, which a counter does not.
func (s *Store) brokenReaders() int64 {
	st := s.pool.Stat()
	n := st.NewConnsCount() - st.MaxLifetimeDestroyCount() - st.MaxIdleDestroyCount() - int64(st.TotalConns())
	for {
		was := s.figures.readers.Load()
		if n <= was {
			return was
		}
		if s.figures.readers.CompareAndSwap(was, n) {
			return n
		}
	}
}
