//go:build unix

package parquet_test

import (
	"syscall"
	"testing"
	"time"
)

// cpu is the time that the process has had on all cores.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkJSONToParquetCPU reports the processor time of one event, which a busy machine
// does not stretch as it does ns/op.
func BenchmarkJSONToParquetCPU(b *testing.B) {
	begin := cpu(b)
	benchmark(b, true)
	b.ReportMetric(float64(cpu(b)-begin)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(limit, "limit-ns/op")
}
