// Package embedded is the queue store that lives in a directory: rows on the log in files
// of this machine (queue/log/disk), with the index of the one beside the other.
//
//	FORMAT, LOCK, MARK, log/   the log
//	state/                     what the log amounts to
//	CLOCK                      where the clock goes on that waits for a next attempt go by
package embedded

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/log/disk"
	"github.com/weirdata/weir/internal/queue/rows"
)

// Options are how a store is opened. The zero value is right for production.
type Options = rows.Options

// Store is an open store. It implements queue.Store and queue.Admin.
type Store = rows.Store

// Salvaged is what Salvage kept of a damaged store, and what it could not.
type Salvaged = rows.Salvaged

// Open opens the store in dir, making it when there is none.
func Open(dir string, opt Options) (*Store, error) {
	opt = opt.WithDefaults()
	l, err := openLog(dir, opt, nil)
	if err != nil {
		return nil, err
	}
	return rows.Open(context.Background(), l, dir, opt)
}

// openLog opens the log of the store in dir; lost notes what it passes over, or is nil.
func openLog(dir string, opt Options, lost *log.Lost) (*disk.Log, error) {
	l, err := disk.Open(dir, disk.Options{Log: opt.Log, SegmentBytes: opt.SegmentBytes, FS: opt.FS, Lost: lost})
	if err != nil {
		return nil, fmt.Errorf("open the queue store %s: %w", dir, err)
	}
	return l, nil
}
