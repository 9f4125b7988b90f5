package executor

import (
	"context"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// sweepEvery is how often ended executions are looked through for those that were kept long
// enough.
const sweepEvery = 10 * time.Minute

// sweeps forgets ended executions until ctx ends.
func (m *Machine) sweeps(ctx context.Context) {
	records, ok := m.o.Store().(queue.Admin)
	if !ok {
		return // a store of a test
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := m.sweep(ctx, records); err != nil && ctx.Err() == nil {
			m.o.Log.Warn("cannot forget executions that ended, trying again", meter.KeyError, err, meter.KeyDelay, sweepEvery)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweep forgets the ended executions that were kept long enough.
func (m *Machine) sweep(ctx context.Context, records queue.Admin) error {
	prefix := m.endedPrefix()
	for after := []byte(nil); ; {
		page, err := records.Records(ctx, prefix, after, 500)
		if err != nil {
			return fmt.Errorf("list executions that ended: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		after = page[len(page)-1].Key
		var old [][]byte
		for _, r := range page {
			_, x, err := m.decode(ctx, r.Value)
			if err != nil || time.Since(x.Stopped) >= m.keep(string(r.Key[len(prefix):])) {
				old = append(old, r.Key)
			}
		}
		if len(old) == 0 {
			continue
		}
		if err := m.o.Store().Update(ctx, func(tx queue.Tx) error {
			for _, key := range old {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("forget executions that ended: %w", err)
		}
	}
}
