package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// sweepEvery is how often ended executions are looked through for those that were kept long
// enough.
const sweepEvery = 10 * time.Minute

// sweepAtOnce is how many ended executions are looked at, and forgotten, at once.
const sweepAtOnce = 500

// sweeps forgets ended executions until ctx ends.
func (m *Machine) sweeps(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := m.sweep(ctx); err != nil && ctx.Err() == nil {
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
func (m *Machine) sweep(ctx context.Context) error {
	prefix := m.endedPrefix()
	err := m.forgetOld(ctx, prefix, func(r queue.Record) bool {
		_, x, err := m.decode(ctx, string(r.Key[len(prefix):]), r.Value)
		if errors.Is(err, errElsewhere) || errors.Is(err, machine.ErrVersion) {
			return false
		}
		return err != nil || time.Since(x.Stopped) >= m.keep(string(r.Key[len(prefix):]))
	})
	if err != nil {
		return fmt.Errorf("forget executions that ended: %w", err)
	}
	return m.forgetStarts(ctx)
}

// forgetOld deletes the records below prefix that are old, some at once.
func (m *Machine) forgetOld(ctx context.Context, prefix []byte, isOld func(queue.Record) bool) error {
	for after := []byte(nil); ; {
		var page []queue.Record
		err := m.o.Store().View(ctx, func(r queue.Reader) error {
			page = page[:0]
			for rec, err := range r.Scan(prefix, after) {
				if err != nil {
					return err
				}
				if page = append(page, rec); len(page) == sweepAtOnce {
					break
				}
			}
			return nil
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].Key
		var old [][]byte
		for _, r := range page {
			if isOld(r) {
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
			return err
		}
	}
}
