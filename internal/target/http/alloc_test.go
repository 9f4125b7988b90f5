//go:build !race

package httptarget

import "testing"

// The race detector makes pools forget, so allocations are counted without it.
func TestPrepareDoesNotAllocate(t *testing.T) {
	d := &delivery{t: &Target{}, batch: benchBatch()}
	if n := testing.AllocsPerRun(100, func() { d.prepare(0, len(d.batch)).release() }); n > 1 {
		t.Errorf("%v allocations for a batch of 50", n)
	}
}
